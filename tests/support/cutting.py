"""Connections to PostgreSQL that are lost at a commit."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from mmsclient._store.postgres.database import Transaction
from tests.support.postgres_server import Server


def _not_a_lease(thread: str) -> bool:
    return thread != "mmsclient-lease"


class Cutter:
    """Cuts the connection right before or right after a commit: whoever makes it hears of neither.

    Args:
        monkeypatch: Takes it back.
        postgres: Of the connections.
        concerns: Whether it cuts those of the thread with a name; else all but those that renew a lease.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, postgres: Server, concerns: Callable[[str], bool] = _not_a_lease
    ) -> None:
        self._times = 0
        self._is_after = False
        script = Transaction.script

        def cutting(transaction: Transaction, sql: str) -> None:
            if sql != "COMMIT" or not self._times or not concerns(threading.current_thread().name):
                script(transaction, sql)
                return
            self._times -= 1
            if self._is_after:
                script(transaction, sql)
            postgres.cut_connections()
            if self._is_after:
                raise psycopg.OperationalError("the connection was lost")
            script(transaction, sql)

        monkeypatch.setattr(Transaction, "script", cutting)

    def arm(self, times: int = 1, *, after: bool) -> None:
        """Cut so many of the commits that follow, after they are made, or before."""
        self._times, self._is_after = times, after
