"""What evidence makes of an order, whichever engine keeps it. Pure; `call_evidence` says what proves a call.

Several orders may go out in one call. What is heard of a phone speaks for its own order alone: another one of the same
call stays unknown until one of its own recipients is heard of, since the API may have refused them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from mmsclient._store.call_evidence import Evidence
from mmsclient._store.outbox import OrderEnd, OutboxState
from mmsclient._store.outbox_resends import is_answered

__all__ = ["IS_OPEN", "MAY_BE_PROVEN", "DoubtedOrder", "doubted_orders", "replaces_proof", "state_by_evidence"]

MAY_BE_PROVEN = "(state = 'unknown' OR proven OR state = 'waiting' AND doubted IS NOT NULL)"
"""Evidence may settle an order, or say more of it; also one that an operator has sent again, until that leaves.

The condition of an index."""
IS_OPEN = f"({MAY_BE_PROVEN} OR state = 'cancelled' AND doubted IS NOT NULL)"
"""The same, and one that was cancelled instead. Of orders that are looked up by their phones or ids."""


@frozen
class DoubtedOrder:
    """An order that evidence may settle."""

    id: int
    began: float
    """Unix seconds at which its first call was claimed that may have been carried out."""
    last: float
    """Unix seconds at which its last call was claimed."""
    heard: list[Evidence] = field(factory=list)
    """Of recipients of whom nothing is known."""


def doubted_orders(rows: Iterable[tuple[int, float, float, float, int, str]]) -> list[DoubtedOrder]:
    """Orders as the stores find them: id, began, last, and when, to whom and under which id something was heard."""
    found: dict[int, DoubtedOrder] = {}
    for id_, began, last, at, phone, message_id in rows:
        found.setdefault(id_, DoubtedOrder(id_, began, last)).heard.append(Evidence(at, phone, message_id))
    return list(found.values())


def state_by_evidence(
    state: OutboxState, result: Mapping[str, Any], left: int
) -> tuple[OutboxState, Mapping[str, Any], bool] | None:
    """State and result of an order after proof for one of its recipients, and whether no answer told; None: as it is.

    Args:
        state: What it was.
        result: What was to be told of it.
        left: Recipients of whom nothing is known.
    """
    if state is OutboxState.ACCEPTED:
        return None
    if not is_answered(result):
        return OutboxState.ACCEPTED, {}, True
    if left:  # its answer did not say whom the API had accepted
        return None
    return OutboxState.ACCEPTED, {name: told for name, told in result.items() if name != "error"}, False


def replaces_proof(end: OrderEnd, *, is_doubted: bool) -> bool:
    """The word of an order's own worker, which comes late, counts for more than evidence.

    Where the order was sent again, evidence may be of an earlier call, and only an answer that takes it says more.
    """
    if is_doubted:
        return end.state is OutboxState.ACCEPTED
    return end.state is not OutboxState.UNKNOWN
