"""Where a journal or a ledger may be, and what opens it there: the one place that knows all engines."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Protocol

from attrs import frozen

from mmsclient._extras import needed
from mmsclient._store.evidence import Silent
from mmsclient._store.handled_events import HandledEvents
from mmsclient._store.ledger import Ledger
from mmsclient._store.models import FALLBACK, Message, Owner
from mmsclient._store.outbox import OutboxStore
from mmsclient._store.protocol import JournalReader, ReportRecorder, SenderJournal
from mmsclient._store.sqlite_database import Database, translated_errors
from mmsclient._store.sqlite_events import events_in_file
from mmsclient._store.sqlite_fallback import RecorderWithFallback, check_fallback, fallback_file, note_fallback
from mmsclient._store.sqlite_ledger import SQLiteLedger
from mmsclient._store.sqlite_opening import open_copy, open_journal, settle_journal
from mmsclient._store.sqlite_outbox import SQLiteOutbox
from mmsclient._store.sqlite_reader import SQLiteReader
from mmsclient._store.sqlite_steering import SQLiteWaitNotice, give_order
from mmsclient._store.sqlite_suppression import suppression_in_file
from mmsclient._store.steering import Order, WaitNotice
from mmsclient._store.suppression import SuppressionStore
from mmsclient.errors import ConfigurationError, InvalidRequestError

__all__ = [
    "EXPECTED",
    "FALLBACK",
    "LONGEST_NAME",
    "FileStore",
    "JournalStore",
    "events_at",
    "is_known_place",
    "is_place",
    "is_url",
    "ledger_at",
    "outbox_at",
    "shown_place",
    "store_at",
    "suppression_at",
]

LONGEST_NAME = 200
EXPECTED = "the path of a file, or the URL of a PostgreSQL database"


class JournalStore(Protocol):
    """Where the journal of one campaign is."""

    @property
    def shown(self) -> str:
        """As errors, logs and reports name it: without a password."""
        ...

    @property
    def waits(self) -> bool:
        """A sender that finds another one waits for its end."""
        ...

    @property
    def fallback(self) -> JournalStore:
        """Where the SMS are journalled that those get whose MMS of this campaign did not arrive."""
        ...

    def exists(self) -> bool:
        """There is a journal. Raises `JournalError` where nobody can tell."""
        ...

    def note_fallback(self) -> None:
        """Note that its fallback has been begun."""
        ...

    def check_fallback(self) -> None:
        """Raise `JournalError` where its fallback has been begun, and is not there."""
        ...

    def open(
        self, message: Message, owner: Owner | None = None, *, resend_unknown: bool | Silent = False
    ) -> SenderJournal:
        """Open the journal to send with, or make it."""
        ...

    def open_copy(
        self, message: Message, owner: Owner | None = None, *, resend_unknown: bool | Silent
    ) -> SenderJournal:
        """What `open` would open, as a temporary copy: the journal itself is only read."""
        ...

    def settle(self) -> int:
        """Act on what is known of those whose call a dead sender left; how many recipients that settled."""
        ...

    def give_order(self, order: Order) -> None:
        """Note an order for the sender."""
        ...

    def wait_notice(self) -> WaitNotice:
        """What shows that a run waits for delivery reports."""
        ...

    def open_reader(self) -> JournalReader:
        """Open the journal for reading."""
        ...

    def open_lasting_reader(self) -> JournalReader:
        """As `open_reader`, for more than a moment."""
        ...

    def open_recorder(self) -> ReportRecorder:
        """Open the journal for delivery reports."""
        ...


@frozen
class FileStore:
    """A file of SQLite; memory where `path` is None."""

    path: str | None
    waits: bool = False

    @property
    def shown(self) -> str:
        """The path, "" for memory."""
        return self.path or ""

    @property
    def fallback(self) -> FileStore:
        """A file beside this one, whichever name led to it."""
        return FileStore(fallback_file(self.shown))

    def exists(self) -> bool:
        """The file is there."""
        return os.path.exists(self.shown)

    def note_fallback(self) -> None:
        """As the function of that name."""
        note_fallback(self.shown)

    def check_fallback(self) -> None:
        """As the function of that name."""
        check_fallback(self.shown)

    def open(
        self, message: Message, owner: Owner | None = None, *, resend_unknown: bool | Silent = False
    ) -> SenderJournal:
        """As `open_journal`."""
        return open_journal(self.path, message, owner, resend_unknown=resend_unknown)

    def open_copy(
        self, message: Message, owner: Owner | None = None, *, resend_unknown: bool | Silent
    ) -> SenderJournal:
        """As the function of that name."""
        return open_copy(self.path, message, owner, resend_unknown=resend_unknown)

    def settle(self) -> int:
        """As `settle_journal`."""
        return settle_journal(self.shown)

    def give_order(self, order: Order) -> None:
        """As the function of that name, in the file."""
        SQLiteReader.open(self.shown).close()  # it is a journal
        with translated_errors(self.shown), closing(Database.writable(self.shown)) as database:
            give_order(database, order)

    def wait_notice(self) -> WaitNotice:
        """As `SQLiteWaitNotice`."""
        return SQLiteWaitNotice(self.shown)

    def open_reader(self) -> JournalReader:
        """As `SQLiteReader.open`."""
        return SQLiteReader.open(self.shown)

    def open_lasting_reader(self) -> JournalReader:
        """As `SQLiteReader.open_lasting`."""
        return SQLiteReader.open_lasting(self.shown)

    def open_recorder(self) -> ReportRecorder:
        """As `RecorderWithFallback.open`."""
        return RecorderWithFallback.open(self.shown)


def is_place(place: object) -> bool:
    """It may be a path, or the URL of a database."""
    text = os.fspath(place) if isinstance(place, str | os.PathLike) else None
    return isinstance(text, str) and bool(text) and "\0" not in text


def is_known_place(place: str | os.PathLike[str]) -> bool:
    """As `is_place`, and no URL of anything else."""
    return is_place(place) and (is_url(place) or "://" not in os.fspath(place))


def shown_place(place: object) -> object:
    """As an error shows one that is wrong: a URL may hold a password."""
    return f"{place.partition('://')[0]}://…" if isinstance(place, str) and "://" in place else place


def is_url(journal: str | os.PathLike[str]) -> bool:
    """It is the URL of a database, and no path."""
    return isinstance(journal, str) and journal.startswith(("postgresql://", "postgres://"))


def _checked(argument: str, place: str | os.PathLike[str]) -> str:
    """A file's path, or the URL of a PostgreSQL database. Raises `InvalidRequestError`, which shows no other URL."""
    if not is_known_place(place):
        raise InvalidRequestError(argument, shown_place(place), EXPECTED)
    return os.fspath(place)


def ledger_at(ledger: str | os.PathLike[str], owner: Owner, *, keep: float | None) -> Ledger:
    """The ledger that the option of that name means; `keep`: seconds, None as others ask for.

    Raises:
        LedgerUnavailableError: The file cannot be used. A database is looked at when a key is claimed.
        ConfigurationError: A URL cannot be read, or the extra `postgres` is not installed.
    """
    if not is_url(ledger):
        return SQLiteLedger(ledger, owner, keep=keep)
    with needed("postgres", "a ledger in PostgreSQL"):
        from mmsclient._store.postgres.address import Address  # noqa: PLC0415
        from mmsclient._store.postgres.ledger import PostgresLedger  # noqa: PLC0415

    return PostgresLedger(Address.of(os.fspath(ledger)), owner, keep=keep)


def store_at(journal: str | os.PathLike[str], name: str | None = None) -> JournalStore:
    """The store that the options `journal` and `name` of a campaign mean.

    Raises:
        InvalidRequestError: They do not fit each other.
        ConfigurationError: A URL cannot be read, or the extra `postgres` is not installed.
    """
    place = _checked("journal", journal)
    if not is_url(journal):
        if name is not None:
            raise InvalidRequestError("name", name, "nothing beside a file, which holds one campaign")
        return FileStore(place)
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise InvalidRequestError(
            "name", name, f"what the campaign is called in the database, 1 to {LONGEST_NAME} characters"
        )
    with needed("postgres", "a store in PostgreSQL"):
        from mmsclient._store.postgres.address import Address  # noqa: PLC0415
        from mmsclient._store.postgres.opening import PostgresStore  # noqa: PLC0415

    return PostgresStore(Address.of(place), name)


def events_at(seen: str | os.PathLike[str]) -> HandledEvents:
    """The events that a receiver remembers at `seen`: a file, or the URL of a database, which is opened when needed.

    Raises:
        ConfigurationError: It is neither, the file cannot be used, a URL cannot be read, or the extra `postgres` is not
            installed.
    """
    try:
        place = _checked("seen", seen)
    except InvalidRequestError as error:
        raise ConfigurationError(str(error)) from None
    if not is_url(seen):
        return events_in_file(seen)
    with needed("postgres", "a store in PostgreSQL"):
        from mmsclient._store.postgres.address import Address  # noqa: PLC0415
        from mmsclient._store.postgres.events import events_in_database  # noqa: PLC0415

    return events_in_database(Address.of(place))


def outbox_at(store: str | os.PathLike[str], *, make: bool = True, keep: float | None = None) -> OutboxStore:
    """The outbox in a file or a database; made at its first use where it is not there, unless `make` is False.

    `keep`: seconds that orders are kept at least, after they have ended; None: as others ask for.

    Raises:
        InvalidRequestError: It is neither.
        ConfigurationError: A URL cannot be read, or the extra `postgres` is not installed.
    """
    place = _checked("store", store)
    if not is_url(store):
        return SQLiteOutbox(store, make=make, keep=keep)
    with needed("postgres", "an outbox in PostgreSQL"):
        from mmsclient._store.postgres.address import Address  # noqa: PLC0415
        from mmsclient._store.postgres.outbox import PostgresOutbox  # noqa: PLC0415

    return PostgresOutbox(Address.of(place), make=make, keep=keep)


def suppression_at(place: str | os.PathLike[str]) -> SuppressionStore:
    """The suppression list at `place`: a file, or the URL of a database, which is opened when needed.

    Raises:
        InvalidRequestError: It is no place.
        ConfigurationError: A URL cannot be read, or the extra `postgres` is not installed.
    """
    where = _checked("place", place)
    if not is_url(place):
        return suppression_in_file(place)
    with needed("postgres", "a store in PostgreSQL"):
        from mmsclient._store.postgres.address import Address  # noqa: PLC0415
        from mmsclient._store.postgres.suppression import suppression_in_database  # noqa: PLC0415

    return suppression_in_database(Address.of(where))
