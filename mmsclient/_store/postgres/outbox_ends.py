"""How orders come into a state that lasts, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from mmsclient._store.outbox import OutboxState
from mmsclient._store.postgres.database import Transaction, columns
from mmsclient._store.postgres.outbox_rows import CHANNEL

__all__ = ["end_orders"]

_NUMBERS = "UPDATE outbox_fact SET last_number = last_number + %s RETURNING last_number"
_END = """
UPDATE outbox SET state = given.state, ended = clock_timestamp(), number = given.number, result = given.result,
    proven = given.proven
FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::boolean[])
    AS given (id, state, number, result, proven)
WHERE outbox.id = given.id
"""


def end_orders(transaction: Transaction, ends: Sequence[tuple[int, OutboxState, str]], *, proven: bool = False) -> None:
    """Record the state and the result of orders. Ends have numbers in the order of their commits.

    From here on, others wait for this one's commit.

    Args:
        transaction: Where to.
        ends: Ids, states and results; the caller has locked these orders.
        proven: Evidence told, and no answer.
    """
    if ends:
        (last,) = transaction.row(_NUMBERS, (len(ends),))
        first = last - len(ends) + 1
        rows = [(id_, state, number, text, proven) for number, (id_, state, text) in enumerate(ends, first)]
        transaction.execute(_END, columns(rows, 5))
    transaction.execute("SELECT pg_notify(%s, current_schema)", (CHANNEL,))
