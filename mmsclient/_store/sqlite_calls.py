"""Calls on a connection to SQLite, any number of them in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from mmsclient._store.private_files import transaction

__all__ = ["Call", "SQLiteCalls"]

Call: TypeAlias = Callable[[sqlite3.Connection], Any]


class SQLiteCalls:
    """A `Committer` of calls: each is given the connection, within the transaction.

    Args:
        connect: Opens the connection.
        close: Closes it, where that takes more than its `close`.
    """

    shared_failures = (sqlite3.OperationalError,)

    def __init__(self, connect: Callable[[], sqlite3.Connection], close: Callable[[], object] | None = None) -> None:
        self._database = connect()
        self._close = self._database.close if close is None else close

    def commit(self, calls: Sequence[Call], /) -> list[Any]:
        """Run them in their order, and commit."""
        with transaction(self._database):
            return [call(self._database) for call in calls]

    def close(self) -> None:
        """Close the connection."""
        self._close()
