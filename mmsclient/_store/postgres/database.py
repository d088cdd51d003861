"""A connection to PostgreSQL: transactions, repeated while the database is away, and its errors in our words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.types.array import ListDumper

from mmsclient._store.errors import JournalError, JournalUnavailableError
from mmsclient._store.postgres.address import Address

__all__ = ["LOCKED", "Database", "Transaction", "columns", "storable"]

log = logging.getLogger(__name__)

T = TypeVar("T")

AWAY = 60.0
"""Seconds that a sender waits for a database that is away, before that is an error."""
TRY_AGAIN = 0.5
"""Seconds between the attempts."""

DEADLOCKS = 5
"""Of one transaction, after each of which it is tried again at once: somebody else's has gone on."""

LOCKED = 10.0
"""Seconds that a write waits for a lock which others should hold for a moment only."""

IDLE = 3000
"""Milliseconds after which the server ends a transaction whose client is frozen or gone, and frees its locks."""

_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
"""What is raised where the connection or the server is gone, or is not the primary any more."""

_NO_TABLES = (
    "there are no tables of mmsclient for this role; `mmsclient store migrate` makes them, and so does a campaign"
)


class _GoneError(Exception):
    """What a transaction is about has been purged."""


class Transaction:
    """What may be done within a transaction."""

    def __init__(self, cursor: psycopg.Cursor[Any], *, is_repeated: bool) -> None:
        self._cursor = cursor
        self.is_repeated = is_repeated
        """An attempt before this one failed, maybe after it was committed."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        return self._cursor.execute(sql.encode(), values).fetchall()

    def row(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """The first row of a query, None where there is none."""
        return self._cursor.execute(sql.encode(), values).fetchone()

    def row_of_campaign(self, sql: str, values: Sequence[Any]) -> Any:
        """The row that each campaign has. Where this one has been purged, the transaction ends with `JournalError`."""
        found = self.row(sql, values)
        if found is None:
            raise _GoneError
        return found

    def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; how many rows it changed."""
        return self._cursor.execute(sql.encode(), values).rowcount

    def execute_all(self, sql: str, values: Sequence[Sequence[Any]]) -> int:
        """Run one statement with each of `values`, without waiting in between; how many rows they changed."""
        if len(values) == 1:
            return self.execute(sql, values[0])
        self._cursor.executemany(sql.encode(), values)
        return self._cursor.rowcount

    def script(self, sql: str) -> None:
        """Run statements without values."""
        self._cursor.execute(sql.encode())


class Database:
    """One connection, opened when it is needed, and again when it was lost. For one thread at a time.

    Args:
        address: Of the database.
        path: As errors show it.
    """

    def __init__(self, address: Address, path: str | None = None) -> None:
        self.address = address
        self.path = address.shown if path is None else path
        self.patience = 0.0
        """Seconds that `run` waits for a database that is away."""
        self.lock_timeout = 0.0
        """Seconds that a statement waits for a lock of another transaction, before that is an error; 0: no matter how
        many."""
        self._connection: psycopg.Connection[Any] | None = None

    def run(self, work: Callable[[Transaction], T], *, reads: bool = False) -> T:
        """Run `work` in a transaction of its own, and commit it: it is on the disk when this returns.

        Repeated where the connection is lost. `work` must bear that: the attempt that failed may have been committed.

        Args:
            work: What to do.
            reads: It writes nothing, and everything it reads was so at one moment.

        Raises:
            JournalUnavailableError: The database is away, for longer than `patience`.
            JournalError: It cannot do what `work` asks for.
        """
        give_up_at: float | None = None
        is_repeated = False
        while True:
            was_connected = self._connection is not None
            try:
                result = self._run_once(work, reads=reads, is_repeated=is_repeated)
            except JournalUnavailableError as problem:
                self.close()
                if isinstance(problem.__context__, psycopg.errors.LockNotAvailable) and not self.patience:
                    raise
                if is_repeated or not was_connected:  # else it may be this connection alone: again at once
                    now = time.monotonic()
                    if give_up_at is None and self.patience:
                        log.warning("%s; tried again for %g s", problem, self.patience)
                    give_up_at = now + self.patience if give_up_at is None else give_up_at
                    if now >= give_up_at:
                        raise
                    time.sleep(TRY_AGAIN)
            else:
                if give_up_at is not None:
                    log.warning("journal %s: the database is back", self.path)
                return result
            is_repeated = True

    def close(self) -> None:
        """Close the connection. May be called again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _run_once(self, work: Callable[[Transaction], T], *, reads: bool, is_repeated: bool) -> T:
        with _translated(self.path):
            if self._connection is None:
                self._connection = psycopg.connect(**self.address.conninfo, autocommit=True, prepare_threshold=None)
                self._connection.adapters.register_dumper(list, _QuickListDumper)
            with self._connection.cursor() as cursor:
                mode = "REPEATABLE READ, READ ONLY" if reads else "READ COMMITTED, READ WRITE"
                wait = f"SET LOCAL lock_timeout = {self.lock_timeout * 1000:.0f};" if self.lock_timeout else ""
                idle = "" if reads else f"SET LOCAL idle_in_transaction_session_timeout = {IDLE}"
                # Without statistics, queries look costly enough to be compiled, which takes seconds each time.
                begin = (
                    f"BEGIN ISOLATION LEVEL {mode}; SET LOCAL synchronous_commit = on; SET LOCAL jit = off;"
                    f' SET LOCAL search_path = "{self.address.schema}"; {wait} {idle}'
                )
                transaction = Transaction(cursor, is_repeated=is_repeated)
                for _ in range(DEADLOCKS):
                    with suppress(psycopg.errors.DeadlockDetected):  # it was surely not committed
                        return _committed(transaction, begin, work)
                return _committed(transaction, begin, work)


def _committed(transaction: Transaction, begin: str, work: Callable[[Transaction], T]) -> T:
    """What `work` returns in a transaction, which is committed."""
    transaction.script(begin)
    try:
        result = work(transaction)
        transaction.script("COMMIT")
    except BaseException:
        with suppress(psycopg.Error):
            transaction.script("ROLLBACK")
        raise
    return result


class _QuickListDumper(ListDumper):
    """Writes arrays of whole numbers, and of texts without quotes and escapes, in one piece: a thousand are common."""

    def dump(self, obj: list[Any]) -> Buffer | None:
        kinds = set(map(type, obj))
        if kinds == {int}:
            return f"{{{','.join(map(str, obj))}}}".encode()
        if kinds == {str}:
            text = '","'.join(obj)
            if "\\" not in text and text.count('"') == 2 * len(obj) - 2:
                return f'{{"{text}"}}'.encode()
        return super().dump(obj)


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Raise what psycopg raises within as a `JournalError`."""
    try:
        yield
    except _GoneError:
        raise JournalError(path, "it is gone: somebody has purged it") from None
    except (UnicodeError, OverflowError, psycopg.DataError, psycopg.errors.ProgramLimitExceeded) as error:
        raise JournalError(path, f"it cannot hold what is to be recorded ({_said(error)})") from None
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise JournalError(path, _NO_TABLES) from None
    except _PASSING as error:
        raise JournalUnavailableError(path, f"{_said(error)}; what was recorded before stays") from None
    except psycopg.Error as error:
        raise JournalError(path, f"{_said(error)}; what was recorded before stays") from None


def _said(error: Exception) -> str:
    """The first line of an error: those that follow may hold values of a row."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return primary or next(iter(str(error).splitlines()), type(error).__name__)


def storable(text: str | None) -> str | None:
    """`text` as PostgreSQL takes it: without lone surrogates and NUL."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def columns(rows: Iterable[Sequence[Any]], count: int) -> list[list[Any]]:
    """Rows as the `count` arrays that `unnest` makes them of again."""
    turned = [list(column) for column in zip(*rows, strict=True)]
    if turned and len(turned) != count:
        raise ValueError(f"expected rows of {count} values, got {len(turned)}")
    return turned or [[] for _ in range(count)]
