"""The journal of a campaign: a SQLite file that says of each recipient what became of it. All SQL stands here.

Recipients move between states only so:

    pending, failed  -> sending    a call is about to leave; committed, and on the disk, before it can
    sending          -> accepted, refused, failed, unknown     its answer
    sending          -> pending    the call was refused whole, for a reason that has nothing to do with its recipients
    sending          -> unknown    found when the journal is opened: the process died in between
    pending, failed  -> excluded   an exclusion that came later
    unknown          -> pending    only with `resend_unknown`

Every commit is flushed to the disk (`synchronous=FULL`). One process writes, others may read. Not for network
filesystems: SQLite's write-ahead log needs memory that its readers share.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from attrs import frozen

from mmsclient.bulk.errors import JournalBusyError, JournalError, JournalMismatchError
from mmsclient.bulk.lock import FileLock
from mmsclient.bulk.models import Exclusion, Recipient, RecipientState
from mmsclient.bulk.plan import Entry, number
from mmsclient.models import DeliveryStatus

APPLICATION_ID = 0x4D4D5363
"""What marks a SQLite file as a journal: "MMSc"."""
VERSION = 1

MEMORY = ""
"""The path of a journal in memory."""

PAGE = 1000
"""Rows read at a time."""

_SQLITE_HEADER = b"SQLite format 3\0"

_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE recipient (
    id INTEGER PRIMARY KEY,
    phone INTEGER NOT NULL UNIQUE, -- the digits of the number in E.164
    state TEXT NOT NULL CHECK (state IN ({", ".join(f"'{state}'" for state in RecipientState)})),
    line INTEGER NOT NULL,
    run INTEGER NOT NULL, -- in which its line was last read
    batch INTEGER, -- the last
    message_id TEXT,
    exclusion TEXT,
    reason TEXT
);
CREATE INDEX recipient_by_message ON recipient (message_id) WHERE message_id IS NOT NULL;
CREATE TABLE aside ( -- rows of the list without a phone of their own
    line INTEGER NOT NULL,
    number TEXT NOT NULL,
    exclusion TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (line, number)
) WITHOUT ROWID;
CREATE TABLE excluded (phone INTEGER PRIMARY KEY, exclusion TEXT NOT NULL);
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    recipients INTEGER NOT NULL,
    started REAL NOT NULL, -- Unix seconds
    ended REAL,
    accepted INTEGER,
    credits TEXT,
    error TEXT
);
CREATE TABLE delivery ( -- what delivery reports said, of other messages too: one may come before its call's answer
    message_id TEXT NOT NULL,
    phone INTEGER NOT NULL, -- 0 where the report names none
    status TEXT NOT NULL,
    final INTEGER NOT NULL,
    reported REAL NOT NULL, -- Unix seconds
    PRIMARY KEY (message_id, phone)
) WITHOUT ROWID;
CREATE VIEW told AS -- each recipient with what was reported of it
    SELECT recipient.*, delivery.status, delivery.reported FROM recipient LEFT JOIN delivery
    ON state = 'accepted' AND delivery.message_id = recipient.message_id AND delivery.phone IN (0, recipient.phone);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""  # noqa: S608 - only names of our own

State = RecipientState
_DIED = "it was being sent when the process ended"
_FOREIGN = "this is no journal of a campaign; it was left as it is. Choose another name"
_DAMAGED = "the file is damaged; it was left as it is. Restore it from a copy"


@frozen
class Message:
    """What a campaign sends. Two campaigns are the same where their messages are."""

    text: str
    """As it goes out."""
    subject: str
    """Empty for none."""
    image: bytes

    @property
    def image_sha256(self) -> str:
        return hashlib.sha256(self.image).hexdigest()

    def differences(self, other: Message) -> list[str]:
        """The names of the parts that differ."""
        return [name for name in ("text", "subject", "image") if getattr(self, name) != getattr(other, name)]


@frozen
class Taken:
    """Recipients that are `sending` in one call."""

    batch: int
    ids: tuple[int, ...]
    phones: tuple[int, ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        return tuple(map(number, self.phones))


@frozen
class Mark:
    """What became of one recipient of a call."""

    state: RecipientState
    message_id: str | None = None
    reason: str | None = None


@frozen
class Sums:
    """A journal in figures."""

    counts: Mapping[RecipientState, int]
    exclusions: Mapping[Exclusion, int]
    calls: int
    credits_used: Decimal
    started: float | None
    """Unix seconds at which the first call was about to leave."""
    ended: float | None
    """Unix seconds at which the last answer was recorded."""
    list_read: bool
    deliveries: Mapping[DeliveryStatus, int]
    """Of the accepted recipients, how many were last reported as what."""
    delivery_seconds: float | None
    """The median from a call to the report of a delivery."""


class Reader:
    """Reads a journal; several may, also while a campaign writes it."""

    def __init__(self, path: str, database: sqlite3.Connection) -> None:
        self.path = path
        self._database = database

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a journal for reading. Raises `JournalError` for a file that is none; nothing is written to it.

        SQLite itself looks at the file: if we opened and closed it, the locks that this process has on it would go.
        """
        shown = os.fspath(path)
        if not os.path.exists(shown):
            raise JournalError(shown, "there is no such file")
        database = _connect_read_only(shown)
        try:
            with errors_of(shown):
                ((application,),) = database.execute("PRAGMA application_id").fetchall()
                ((version,),) = database.execute("PRAGMA user_version").fetchall()
            _check_kind(shown, application, version)
            return cls(shown, database)
        except BaseException:
            database.close()
            raise

    def verify(self) -> None:
        """Read the whole file. Raises `JournalError` where it is damaged."""
        with errors_of(self.path):
            found = self._all("PRAGMA quick_check(1)")
        if found != [("ok",)]:
            raise JournalError(self.path, f"{_DAMAGED} ({found[0][0]})")

    def close(self) -> None:
        self._database.close()

    def message(self) -> Message:
        """The message that the journal belongs to."""
        found = dict(self._all("SELECT key, value FROM meta WHERE key IN ('text', 'subject', 'image', 'image_sha256')"))
        try:
            message = Message(found["text"], found["subject"], found["image"])
            if message.image_sha256 == found["image_sha256"]:
                return message
        except (KeyError, TypeError):
            pass
        raise JournalError(self.path, f"{_DAMAGED} (the message in it is not the one it was made with)")

    def sums(self) -> Sums:
        """Counts, credits and times. Walks through all recipients."""
        counts = dict.fromkeys(State, 0)
        exclusions = dict.fromkeys(Exclusion, 0)
        with self._snapshot():
            rows = self._all("SELECT state, exclusion, count(*) FROM recipient GROUP BY state, exclusion")
            rows += self._all("SELECT 'excluded', exclusion, count(*) FROM aside GROUP BY exclusion")
            for state, exclusion, count in rows:
                counts[State(state)] += count
                if exclusion is not None:
                    exclusions[Exclusion(exclusion)] += count
            ((calls, started, ended),) = self._all("SELECT count(*), min(started), max(ended) FROM batch")
            credits_used = sum(
                (Decimal(text) for (text,) in self._database.execute("SELECT credits FROM batch WHERE credits <> ''")),
                Decimal(0),
            )
            list_read = self._meta("list_read") == 1
            statuses = self._all("SELECT status, count(*) FROM told WHERE status IS NOT NULL GROUP BY status")
            deliveries = {DeliveryStatus(status): count for status, count in statuses}
            seconds = self._delivery_seconds(deliveries.get(DeliveryStatus.DELIVERED, 0))
        return Sums(counts, exclusions, calls, credits_used, started, ended, list_read, deliveries, seconds)

    def _delivery_seconds(self, delivered: int) -> float | None:
        rows = self._all(
            "SELECT reported - started AS took FROM told JOIN batch ON batch.id = told.batch"
            " WHERE status = 'Delivered' ORDER BY took LIMIT 1 OFFSET ?",
            (delivered // 2,),
        )
        return next((took for (took,) in rows), None)

    def recipients(self, state: RecipientState | None, after: int, limit: int = PAGE) -> list[tuple[int, Recipient]]:
        """Recipients beyond the id `after`, with their ids."""
        rows = self._all(
            "SELECT id, phone, state, line, message_id, exclusion, reason, batch, status, reported FROM told"
            " WHERE id > ? AND (? IS NULL OR state = ?) ORDER BY id LIMIT ?",
            (after, state, state, limit),
        )
        return [
            (
                row,
                Recipient(
                    number=number(phone),
                    state=State(state),
                    line=line,
                    message_id=message_id,
                    exclusion=None if exclusion is None else Exclusion(exclusion),
                    reason=reason,
                    batch=batch,
                    delivery=None if status is None else DeliveryStatus(status),
                    reported_at=None if reported is None else datetime.fromtimestamp(reported, UTC),
                ),
            )
            for row, phone, state, line, message_id, exclusion, reason, batch, status, reported in rows
        ]

    def set_aside(self, after: tuple[int, str], limit: int = PAGE) -> list[Recipient]:
        """Rows of the list that are no phone of their own, beyond the line and number `after`."""
        rows = self._all(
            "SELECT number, line, exclusion, reason FROM aside WHERE (line, number) > (?, ?)"
            " ORDER BY line, number LIMIT ?",
            (*after, limit),
        )
        return [
            Recipient(number=text, state=State.EXCLUDED, line=line, exclusion=Exclusion(exclusion), reason=reason)
            for text, line, exclusion, reason in rows
        ]

    def _meta(self, key: str) -> Any:
        return next((value for (value,) in self._all("SELECT value FROM meta WHERE key = ?", (key,))), None)

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._database.execute(sql, values).fetchall()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """What is read within was so at one moment."""
        self._database.execute("BEGIN")
        try:
            yield
        finally:
            self._database.execute("ROLLBACK")


class Journal(Reader):
    """Writes a journal. Not for several threads at once."""

    counts: Counter[RecipientState]
    """Recipients in each state."""
    credits_used: Decimal
    list_read: bool
    ready: int
    """Recipients that `take` has not come to yet."""

    def __init__(self, path: str, database: sqlite3.Connection, lock: FileLock | None = None) -> None:
        super().__init__(path, database)
        self._lock = lock
        self._last = 0  # the highest id that was taken: none is taken twice in one run
        self._run = 0

    @classmethod
    def for_campaign(
        cls, path: str | os.PathLike[str] | None, message: Message, *, resend_unknown: bool = False
    ) -> Journal:
        """Open the journal at `path`, or make it; None for one in memory.

        What was `sending` when the last process died becomes `unknown`. Raises `JournalBusyError`,
        `JournalMismatchError`, or `JournalError` for a file that is no journal, damaged or cannot be used.
        """
        if path is None:
            journal = cls(MEMORY, _connect(":memory:"))
            journal._make(message)
        else:
            journal = cls._of_file(Path(os.path.realpath(path)), message)
        try:
            with errors_of(journal.path):
                journal.begin_run(resend_unknown=resend_unknown)
            return journal
        except BaseException:
            journal.close()
            raise

    @classmethod
    def for_reports(cls, path: str | os.PathLike[str]) -> Journal:
        """Open the journal at `path` for `record` alone, also while a campaign writes it. Raises `JournalError`."""
        shown = os.fspath(path)
        Reader.open(shown).close()
        with errors_of(shown):
            return cls(shown, _connect(shown))

    def record(self, message_id: str, phone: int, status: DeliveryStatus) -> None:
        """Note what a delivery report said. A final status stays; the same report may come again."""
        with self._transaction():
            self._database.execute(
                "INSERT INTO delivery VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET status = excluded.status,"
                " final = excluded.final, reported = excluded.reported WHERE NOT final",
                (message_id, phone, status.value, status.is_final, time.time()),
            )

    @classmethod
    def rehearsal(cls, path: str | os.PathLike[str] | None, message: Message, *, resend_unknown: bool) -> Journal:
        """What `for_campaign` would open, as a temporary copy: the journal itself is only read."""
        journal = cls(MEMORY, _connect(""))
        try:
            if path is not None and os.path.lexists(path):
                reader = Reader.open(path)
                try:
                    _compare(reader, message)
                    with errors_of(reader.path):
                        reader._database.backup(journal._database)
                finally:
                    reader.close()
            else:
                journal._make(message)
            journal.begin_run(resend_unknown=resend_unknown)
            return journal
        except BaseException:
            journal.close()
            raise

    @classmethod
    def _of_file(cls, path: Path, message: Message) -> Journal:
        lock = _lock(path)
        try:
            if path.exists():
                _check_header(path)
                reader = Reader.open(path)
                try:
                    reader.verify()
                    _compare(reader, message)
                finally:
                    reader.close()
            else:
                _make_file(path, message)
            with errors_of(str(path)):
                database = _connect(str(path))
                database.execute("PRAGMA journal_mode = WAL")
                return cls(str(path), database, lock)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Close the journal and let others write it. May be called again."""
        with suppress(sqlite3.Error):
            super().close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # The list ---------------------------------------------------------------------------------------------------------

    def exclude(self, phones: Iterable[int], why: Exclusion) -> None:
        """Never send to `phones`, in this run or a later one."""
        with self._transaction():
            rows = ((phone, why) for phone in phones)
            self._database.executemany("INSERT OR IGNORE INTO excluded VALUES (?, ?)", rows)
            self._apply_exclusions(after=0)
        self._count()

    def begin_list(self) -> None:
        """A list is about to be read."""
        with self._transaction():
            self._set_meta("list_read", 0)
        self.list_read = False

    def end_list(self) -> None:
        """The list was read to its end."""
        with self._transaction():
            self._set_meta("list_read", 1)
        self.list_read = True

    def add(self, entries: Iterable[Entry]) -> None:
        """Take rows of the list in. A phone that is known from an earlier run keeps its state."""
        aside: list[tuple[int, str, Exclusion, str | None]] = []
        new = 0
        with self._transaction():
            ((last,),) = self._all("SELECT ifnull(max(id), 0) FROM recipient")
            for entry in entries:
                if entry.phone is None:
                    aside.append((entry.line, entry.given, Exclusion.INVALID, entry.problem))
                elif self._insert(entry.phone, entry.line):
                    new += 1
                elif not self._seen_again(entry.phone, entry.line):
                    aside.append((entry.line, entry.given, Exclusion.DUPLICATE, self._first_line(entry.phone)))
            excluded = self._apply_exclusions(after=last)
            asides = self._database.executemany("INSERT OR IGNORE INTO aside VALUES (?, ?, ?, ?)", aside).rowcount
        self.counts[State.PENDING] += new - excluded
        self.counts[State.EXCLUDED] += excluded + max(0, asides)
        self.ready += new - excluded

    def _insert(self, phone: int, line: int) -> bool:
        sql = "INSERT OR IGNORE INTO recipient (phone, state, line, run) VALUES (?, 'pending', ?, ?)"
        return self._database.execute(sql, (phone, line, self._run)).rowcount == 1

    def _seen_again(self, phone: int, line: int) -> bool:
        """The phone is known, from an earlier run and not from this list."""
        sql = "UPDATE recipient SET line = ?, run = ? WHERE phone = ? AND run <> ?"
        return self._database.execute(sql, (line, self._run, phone, self._run)).rowcount == 1

    def _first_line(self, phone: int) -> str:
        ((line,),) = self._all("SELECT line FROM recipient WHERE phone = ?", (phone,))
        return f"the same phone as in line {line}"

    def _apply_exclusions(self, *, after: int) -> int:
        return self._database.execute(
            "UPDATE recipient SET state = 'excluded', reason = NULL,"
            " exclusion = (SELECT exclusion FROM excluded WHERE excluded.phone = recipient.phone)"
            " WHERE id > ? AND state IN ('pending', 'failed') AND phone IN (SELECT phone FROM excluded)",
            (after,),
        ).rowcount

    # Sending ----------------------------------------------------------------------------------------------------------

    def take(self, limit: int) -> Taken | None:
        """The next recipients to be sent to, at most `limit`, as `sending`; None if there are none at present.

        When this returns, it is on the disk.
        """
        rows = self._all(
            "SELECT id, phone FROM recipient WHERE id > ? AND state IN ('pending', 'failed') ORDER BY id LIMIT ?",
            (self._last, limit),
        )
        if not rows:
            return None
        ids, phones = zip(*rows, strict=True)
        taken = self.begin(ids, phones)
        self._last = ids[-1]
        self.ready -= len(ids)
        return taken

    def begin(self, ids: tuple[int, ...], phones: tuple[int, ...]) -> Taken:
        """Set recipients that were taken before, and surely not sent, to `sending` in a call of their own."""
        with self._transaction():
            before = Counter(self._states(ids))
            if sum(before.values()) != len(ids) or not before.keys() <= {State.PENDING, State.FAILED}:
                raise JournalError(self.path, "another program changed it during the campaign; nothing more is sent")
            sql = "INSERT INTO batch (recipients, started) VALUES (?, ?)"
            batch = self._database.execute(sql, (len(ids), time.time())).lastrowid or 0
            self._database.executemany(
                "UPDATE recipient SET state = 'sending', batch = ?, reason = NULL, message_id = NULL WHERE id = ?",
                ((batch, each) for each in ids),
            )
        self.counts.subtract(before)
        self.counts[State.SENDING] += len(ids)
        return Taken(batch, ids, phones)

    def finish(
        self, taken: Taken, marks: Sequence[Mark], *, accepted: int, credits_used: Decimal | None, error: str | None
    ) -> None:
        """Record what became of a call and of each of its recipients."""
        with self._transaction():
            changed = self._database.executemany(
                "UPDATE recipient SET state = ?, message_id = ?, reason = ?"
                " WHERE id = ? AND batch = ? AND state = 'sending'",
                (
                    (mark.state, mark.message_id, mark.reason, each, taken.batch)
                    for each, mark in zip(taken.ids, marks, strict=True)
                ),
            ).rowcount
            if changed != len(taken.ids):
                raise JournalError(self.path, "another program changed it during the campaign; nothing more is sent")
            self._database.execute(
                "UPDATE batch SET ended = ?, accepted = ?, credits = ?, error = ? WHERE id = ?",
                (time.time(), accepted, None if credits_used is None else str(credits_used), error, taken.batch),
            )
        self.counts[State.SENDING] -= len(marks)
        self.counts.update(mark.state for mark in marks)
        self.credits_used += credits_used or 0

    def _states(self, ids: Sequence[int]) -> Iterator[State]:
        for (state,) in self._database.execute(
            f"SELECT state FROM recipient WHERE id IN ({','.join(map(str, ids))})"  # noqa: S608 - whole numbers
        ):
            yield State(state)

    # Opening ----------------------------------------------------------------------------------------------------------

    def _make(self, message: Message) -> None:
        """Fill an empty database."""
        self._database.executescript(_SCHEMA)
        facts = {
            "text": message.text,
            "subject": message.subject,
            "image": message.image,
            "image_sha256": message.image_sha256,
            "runs": 0,
            "list_read": 0,
        }
        self._database.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())

    def begin_run(self, *, resend_unknown: bool) -> None:
        """A new run: what an earlier one was sending is `unknown`, and what it left pending or failed is sent."""
        self._last = 0
        with self._transaction():
            self._database.execute(
                "UPDATE recipient SET state = 'unknown', reason = ? WHERE state = 'sending'", (_DIED,)
            )
            if resend_unknown:
                self._database.execute(
                    "UPDATE recipient SET state = 'pending', message_id = NULL WHERE state = 'unknown'"
                )
            self._run = self._meta("runs") + 1
            self._set_meta("runs", self._run)
        self._count()

    def _count(self) -> None:
        sums = self.sums()
        self.counts = Counter(sums.counts)
        self.credits_used = sums.credits_used
        self.list_read = sums.list_read
        sql = "SELECT count(*) FROM recipient WHERE id > ? AND state IN ('pending', 'failed')"
        ((self.ready,),) = self._all(sql, (self._last,))

    def _set_meta(self, key: str, value: Any) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself where the disk is full
                self._database.execute("ROLLBACK")
            raise


def _compare(reader: Reader, message: Message) -> None:
    with errors_of(reader.path):
        different = reader.message().differences(message)
    if different:
        problem = f"it belongs to a message with another {' and '.join(different)}; use a new file for this one"
        raise JournalMismatchError(reader.path, problem)


# Files --------------------------------------------------------------------------------------------------------------


def _lock(path: Path) -> FileLock:
    try:
        return FileLock(Path(f"{path}-lock"))
    except (BlockingIOError, PermissionError) as error:
        if isinstance(error, BlockingIOError) or not error.filename:
            problem = "a campaign is being sent with it; wait for that one to end, or stop it"
            raise JournalBusyError(path, problem) from None
        reason = error.strerror
    except OSError as error:
        reason = error.strerror
    raise JournalError(path, f"its lock file cannot be made ({reason}); choose a folder that can be written")


def _check_header(path: Path) -> None:
    """Raise `JournalError` unless the file says in its first bytes that it is a journal of this version.

    Before SQLite opens it, which may put files of its own beside it.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise JournalError(path, f"it cannot be read ({error.strerror})") from None
    if not header:
        raise JournalError(path, "the file is empty, so what was sent is not known; delete it if nothing was")
    application, version = (int.from_bytes(header[start : start + 4], "big") for start in (68, 60))
    _check_kind(path, application if header.startswith(_SQLITE_HEADER) else 0, version)


def _check_kind(path: str | Path, application: int, version: int) -> None:
    if application != APPLICATION_ID:
        raise JournalError(path, _FOREIGN)
    if version != VERSION:
        raise JournalError(path, f"it is of version {version}, and this package reads {VERSION}; use a newer mmsclient")


def _make_file(path: Path, message: Message) -> None:
    """Make a journal in one step: it is there whole or not at all. The lock is held."""
    draft = Path(f"{path}-new")
    if os.path.exists(f"{path}-wal"):  # SQLite would read it into the new file
        problem = f"it is gone, but {path.name}-wal, a part of it, is there; put it back, or remove that too"
        raise JournalError(path, problem)
    try:
        draft.unlink(missing_ok=True)  # of a process that died here
        with errors_of(str(path)):
            journal = Journal(str(path), _connect(str(draft)))
            try:
                journal._make(message)
            finally:
                journal.close()
        draft.rename(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise JournalError(path, f"it cannot be made ({error.strerror})") from None


def _flush_folder(folder: Path) -> None:
    """Let the name of a new file survive a power cut."""
    if os.name == "nt":  # no such call there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connect(path: str) -> sqlite3.Connection:
    """A connection that commits only when told to, and then to the disk."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.executescript("PRAGMA synchronous = FULL; PRAGMA cache_size = -16000; PRAGMA temp_store = FILE;")
    return database


def _connect_read_only(path: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise JournalError(path, f"it cannot be read ({error})") from None


@contextmanager
def errors_of(path: str) -> Iterator[None]:
    """What SQLite finds wrong within, as a `JournalError`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if str(error) == "file is not a database":
            raise JournalError(path, _FOREIGN) from None
        if type(error) is sqlite3.DatabaseError:  # malformed
            raise JournalError(path, f"{_DAMAGED} ({error})") from None
        raise JournalError(path, f"{error}; what was recorded before stays") from None
