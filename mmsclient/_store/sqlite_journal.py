"""The journal that a campaign sends with, in SQLite.

Every commit is flushed to the disk (`synchronous=FULL`). One process writes, others may read. Not for network
filesystems: SQLite's write-ahead log needs memory that its readers share.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import compress

from mmsclient._store import sqlite_evidence
from mmsclient._store.errors import JournalError
from mmsclient._store.evidence import PROVEN, RESENT, Silent
from mmsclient._store.models import Claim, Exclusion, ListEntry, Owner, Picked, RecipientResult, Selection
from mmsclient._store.models import RecipientState as State
from mmsclient._store.sqlite_database import Database, storable
from mmsclient._store.sqlite_files import OpenFiles
from mmsclient._store.sqlite_listing import ListWriter, exclude_noted
from mmsclient._store.sqlite_messages import TEMPLATE, PersonalQueue, PlainQueue, Queue
from mmsclient._store.sqlite_reader import SQLiteReader
from mmsclient._store.sqlite_recorder import SQLiteRecorder
from mmsclient._store.sqlite_steering import SQLiteSteering
from mmsclient._store.states import CLAIM, END, LOSE, RELEASE, REOPEN, SUPPRESS

__all__ = ["SQLiteJournal", "end_dead_run"]

log: logging.Logger = logging.getLogger(__name__)

_DIED = "it was being sent when the process ended"
_CHANGED = "another program changed it during the campaign; nothing more is sent"

_CLAIM = (
    "UPDATE recipient SET state = 'sending', batch = ?, reason = NULL, message_id = NULL"  # noqa: S608
    f" WHERE id = ? AND {CLAIM.guard}"
)
_END = f"UPDATE recipient SET state = ?, message_id = ?, reason = ? WHERE id = ? AND batch = ? AND {END.guard}"  # noqa: S608
_FORMER = "FROM former_call WHERE former_call.recipient = recipient.id"
_AS_BEFORE = (
    f"state = 'pending', (batch, reason) = (SELECT max(batch), CASE WHEN count(*) > 0 THEN '{RESENT}' END {_FORMER})"
)
_RELEASE = f"UPDATE recipient SET {_AS_BEFORE} WHERE id = ? AND batch = ? AND {RELEASE.guard}"  # noqa: S608
_REOPEN = (
    f"UPDATE recipient SET {_AS_BEFORE}, exclusion = NULL WHERE {REOPEN.guard}"  # noqa: S608
    f" AND exclusion = '{Exclusion.NO_MESSAGE}' AND phone NOT IN (SELECT phone FROM excluded)"
)
_SUPPRESS = (
    f"UPDATE recipient SET state = 'excluded', batch = (SELECT max(batch) {_FORMER}), exclusion = ?, reason = ?"  # noqa: S608
    f" WHERE id = ? AND batch = ? AND {SUPPRESS.guard}"
)
_OF_IDS = (
    "SELECT id, phone, state FROM recipient"  # noqa: S608
    f" WHERE id IN ({{ids}}) AND NOT (state = 'accepted' AND reason IS '{PROVEN}') ORDER BY id"
)
_LOSE = f"UPDATE recipient SET state = 'unknown', reason = ? WHERE {LOSE.guard}"  # noqa: S608


def end_dead_run(database: Database) -> int:
    """What a dead process was sending is `unknown`, unless there is proof. How many recipients evidence settled."""
    database.execute(_LOSE, (_DIED,))
    return sqlite_evidence.settle_all(database)


class SQLiteJournal:
    """The journal of the one campaign that is sent with it. Not for several threads at once.

    What was `sending` when the last process died is `unknown` once it is made.

    Args:
        database: A connection.
        files: Its files, None where it is in memory or a copy.
        resend_unknown: Those whose outcome is unknown become pending, or those of whom nothing was heard.
        is_copy: Nothing is sent from it, so that a claim may be of several messages.
    """

    def __init__(
        self,
        database: Database,
        files: OpenFiles | None = None,
        *,
        resend_unknown: bool | Silent = False,
        is_copy: bool = False,
    ) -> None:
        self._database = database
        self._files = files
        self.may_send = True  # its lock ends with the process
        self.reader = SQLiteReader(database)
        self.recorder = SQLiteRecorder(database)
        self.steering = SQLiteSteering(database)
        self.counts: Counter[State] = Counter()
        self.credits_used = Decimal(0)
        self.list_read = False
        self.ready = 0
        self._run = 0
        is_personal = database.meta(TEMPLATE) is not None and not is_copy
        self._queue: Queue = PersonalQueue(database) if is_personal else PlainQueue(database)
        self._last = (0, 0)  # how far the queue was claimed: nobody is claimed twice in one run
        self._last_batch = 0  # one that was released is deleted, and its number is not given again
        self.begin_run(resend_unknown=resend_unknown)

    @property
    def path(self) -> str:
        """The journal's file, "" for one in memory."""
        return self._database.path

    def begin_run(self, *, resend_unknown: bool | Silent) -> None:
        """Begin a new run.

        What an earlier one was sending is `unknown`, unless there is proof, and what it left pending or failed is sent.
        """
        self._last = (0, 0)
        with self._database.transaction():
            if self._database.meta(TEMPLATE) is not None:  # before evidence of those is acted on
                self._database.execute(_REOPEN)
            end_dead_run(self._database)
            objection = sqlite_evidence.resend(self._database, resend_unknown)
            exclude_noted(self._database)  # they were unknown when they were excluded
            self._run = self._database.meta("runs") + 1
            self._database.set_meta("runs", self._run)
            self._database.execute(
                "INSERT INTO run (id, first_batch) SELECT ?, ifnull(max(id), 0) + 1 FROM batch", (self._run,)
            )
        self._list = ListWriter(self._database, self._run)
        self.count()
        if objection:
            log.warning("journal %s: sending again to silent unknown recipients: %s", self.path, objection)

    def note_balance(self, balance: Decimal, *, is_after: bool) -> None:
        """Note the account's balance before the first or after the last call of the run."""
        column = "balance_after" if is_after else "balance_before"
        with self._database.transaction():
            self._database.execute(f"UPDATE run SET {column} = ? WHERE id = ?", (str(balance), self._run))  # noqa: S608

    def belong_to(self, owner: Owner) -> None:
        """From now on the journal is for `owner` alone."""
        with self._database.transaction():
            for fact in owner.facts().items():
                self._database.set_meta(*fact)

    def close(self) -> None:
        """Close the journal and let others write it. May be called again."""
        if self._files is None:
            self._database.close()
            return
        self._files.close(self._database)
        self._files.release()
        self._files = None

    # The list ---------------------------------------------------------------------------------------------------------

    def exclude(self, phones: Iterable[int], why: Exclusion) -> None:
        """Never send to `phones`, in this run or a later one."""
        self._list.exclude(phones, why)
        self.count()

    def begin_list(self) -> None:
        """Note that a list is about to be read."""
        self._list.begin()
        self.list_read = False

    def end_list(self) -> None:
        """Note that the list was read to its end.

        One that is shorter than what was read of a list cut short is not that list.
        """
        self.list_read = self._list.end() or self.list_read

    def add(self, entries: Iterable[ListEntry]) -> None:
        """Take in rows of the list. A phone that is known from an earlier run keeps its state."""
        new, excluded, set_aside = self._list.add(entries)
        self.counts[State.PENDING] += new - excluded
        self.counts[State.EXCLUDED] += excluded + set_aside
        self.ready += new - excluded

    def add_unlisted(self, entries: Sequence[ListEntry]) -> None:
        """Take in recipients that stand in no list, in no run. One that is known stays as it is."""
        self._list.add_unlisted(entries)
        self.count()

    # Sending ----------------------------------------------------------------------------------------------------------

    def claim(self, limit: int, selection: Selection | None = None) -> Claim | None:
        """Set the next recipients to `sending`, at most `limit`, and return them; None if there are none at present.

        They are chosen and claimed in one transaction. When this returns, it is on the disk.
        """
        self._check_files()
        with self._database.transaction():
            picked = self._queue.next(self._last, limit, selection)
            batch = self._begin_call(picked.ids) if picked.rows else 0
        self._last = max([self._last, *picked.positions])
        if len(picked.rows) == min(limit, self.ready) or picked.is_of_one_group:
            self.counts.subtract(picked.states)
            self.counts[State.SENDING] += len(picked.rows)
            self.ready -= len(picked.rows)
        else:  # another program has taken some away
            self.count()
        return Claim(batch, picked.ids, picked.phones, picked.message) if picked.rows else None

    def claim_again(self, ids: Sequence[int]) -> Claim | None:
        """Set these recipients, which are surely not sent, to `sending` in a call of their own. See `SenderJournal`."""
        self._check_files()
        with self._database.transaction():
            picked = Picked(self._database.rows(_OF_IDS.format(ids=", ".join(map(str, ids)))))
            batch = self._begin_call(picked.ids) if picked.rows else 0
        if len(picked.rows) == len(ids):
            self.counts.subtract(picked.states)
            self.counts[State.SENDING] += len(ids)
            self.ready -= sum(position > self._last for position in picked.positions)
        else:  # evidence has settled some
            self.count()
        return Claim(batch, picked.ids, picked.phones) if picked.rows else None

    def _begin_call(self, ids: Sequence[int]) -> int:
        sql = "INSERT INTO batch (id, recipients, started) SELECT max(?, ifnull(max(id), 0)) + 1, ?, ? FROM batch"
        batch = self._database.execute(sql, (self._last_batch, len(ids), time.time())).lastrowid or 0
        if self._database.execute_many(_CLAIM, ((batch, each) for each in ids)) != len(ids):
            raise JournalError(self.path, _CHANGED)
        self._last_batch = batch
        return batch

    def finish(
        self,
        claim: Claim,
        results: Sequence[RecipientResult],
        *,
        accepted: int | None,
        credits_used: Decimal | None,
        error: str | None,
    ) -> None:
        """Record what became of a call and of each of its recipients, and act on what proves more."""
        if not {result.state for result in results} <= END.targets:
            raise ValueError(f"a call leaves its recipients {', '.join(sorted(END.targets))}")
        credit_text = None if credits_used is None else str(credits_used)
        with self._database.transaction():
            ends = (
                (result.state, storable(result.message_id), storable(result.reason), each, claim.batch)
                for each, result in zip(claim.ids, results, strict=True)
            )
            if self._database.execute_many(_END, ends) != len(claim.ids):
                raise JournalError(self.path, _CHANGED)
            self._database.execute(
                "UPDATE batch SET ended = ?, accepted = ?, credits = ?, error = ? WHERE id = ?",
                (time.time(), accepted, credit_text, storable(error), claim.batch),
            )
            proven = self._settle(claim, [result.is_open for result in results])
        self._count_ended((result.state for result in results), proven)
        self.credits_used += credits_used or 0

    def release(self, claim: Claim) -> None:
        """Undo a claim: the call never left."""
        with self._database.transaction():
            released = self._database.execute_many(_RELEASE, ((each, claim.batch) for each in claim.ids))
            if released != len(claim.ids):
                raise JournalError(self.path, _CHANGED)
            self._database.execute("DELETE FROM batch WHERE id = ?", (claim.batch,))
            states = [State.PENDING] * released
            proven = self._settle(claim, [True] * released)
        self._count_ended(states, proven)

    def suppress(self, claim: Claim, reasons: Mapping[int, str], why: Exclusion = Exclusion.SUPPRESSED) -> None:
        """Exclude some of a claim whose call has not left: by their phones, which are in it, the reasons."""
        part = claim.only(reasons)
        with self._database.transaction():
            rows = (
                (why, storable(reasons[phone]), each, claim.batch)
                for each, phone in zip(part.ids, part.phones, strict=True)
            )
            if self._database.execute_many(_SUPPRESS, rows) != len(reasons):
                raise JournalError(self.path, _CHANGED)
            sql = "UPDATE batch SET recipients = recipients - ? WHERE id = ?"
            self._database.execute(sql, (len(reasons), claim.batch))
            self._database.execute("DELETE FROM batch WHERE id = ? AND recipients = 0", (claim.batch,))
            states = [State.EXCLUDED] * len(reasons)
            proven = self._settle(part, [True] * len(reasons))
        self._count_ended(states, proven)

    def _settle(self, claim: Claim, is_open: Sequence[bool]) -> Counter[State]:
        """Act on what proves more of those that a call has left open."""
        return sqlite_evidence.settle(self._database, compress(claim.phones, is_open))

    def _count_ended(self, states: Iterable[State], proven: Counter[State]) -> None:
        """Those of a call are in these states; of some of these, evidence proved that they were sent to."""
        ended = Counter(states)
        self.counts.update(ended - proven)
        self.counts.update({State.SENDING: -ended.total(), State.ACCEPTED: proven.total()})

    def _check_files(self) -> None:
        if self._files is not None:
            self._files.check()

    def reopened(self) -> bool:
        """See `SenderJournal`: a sender that is frozen keeps its lock."""
        return False

    def count(self) -> None:
        """Count anew what there is."""
        summary = self.reader.summary()
        self.counts = Counter(summary.counts)
        self.credits_used = summary.credits_used
        self.list_read = summary.list_read
        self.ready = self._queue.ready(self._last)
