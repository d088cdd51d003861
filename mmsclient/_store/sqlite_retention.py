"""How long a ledger or an outbox in SQLite keeps what has ended: the longest that anybody who opened it asked for."""

from __future__ import annotations

import sqlite3

__all__ = ["ask", "kept_for"]

_ASK = "INSERT INTO meta VALUES ('keep', ?) ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)"


def ask(database: sqlite3.Connection, seconds: float | None) -> None:
    """Let it be kept so long, at least; None asks for nothing."""
    if seconds is not None:
        database.execute(_ASK, (seconds,))


def kept_for(database: sqlite3.Connection) -> float | None:
    """Seconds that it is kept; None where nobody has said, so that nothing may be forgotten."""
    return next((float(seconds) for (seconds,) in database.execute("SELECT value FROM meta WHERE key = 'keep'")), None)
