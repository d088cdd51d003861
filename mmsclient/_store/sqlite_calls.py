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
        closed: Is called once it is closed.
    """

    shared_failures = (sqlite3.OperationalError,)

    def __init__(self, connect: Callable[[], sqlite3.Connection], closed: Callable[[], object] = bool) -> None:
        self._closed = closed
        self._database = connect()

    def commit(self, calls: Sequence[Call], /) -> list[Any]:
        """Run them in their order, and commit."""
        with transaction(self._database):
            return [call(self._database) for call in calls]

    def close(self) -> None:
        """Close the connection."""
        self._database.close()
        self._closed()
