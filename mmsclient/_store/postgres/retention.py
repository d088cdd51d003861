"""How long the ledger and the outbox of a schema keep what has ended: the longest that anybody who used it asked for.

Each is a row among the senders, where the other facts without a campaign are: its name is the time, and it never ends.
"""

from __future__ import annotations

from typing import Literal

from mmsclient._store.postgres.database import Transaction

__all__ = ["ask", "kept_for"]

Kept = Literal["ledger", "outbox"]

LONGEST = 1e11
"""Seconds; a timestamp so long ago can still be told."""

_ASK = """
INSERT INTO sender (id, name, until) VALUES ('keep:' || %s, %s, 'infinity')
ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE sender.name::float8 < excluded.name::float8
"""


def ask(transaction: Transaction, what: Kept, seconds: float | None) -> None:
    """Let it be kept so long, at least; None asks for nothing."""
    if seconds is not None:
        transaction.execute(_ASK, (what, str(min(seconds, LONGEST))))


def kept_for(transaction: Transaction, what: Kept) -> float | None:
    """Seconds that it is kept; None where nobody has said, so that nothing may be forgotten."""
    found = transaction.row("SELECT name::float8 FROM sender WHERE id = 'keep:' || %s", (what,))
    return None if found is None else float(found[0])
