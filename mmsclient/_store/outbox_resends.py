"""What is kept of an order that an operator sends again, whichever engine keeps it. Pure.

Only those of its recipients go into the next call of whom nothing is known. The others stay what they are, and the
answers to its former calls stay beside the end of its last one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import evolve

from mmsclient._store.models import RecipientState
from mmsclient._store.outbox import DIED, OrderEnd, OutboxState

__all__ = ["BEFORE", "died", "end_again", "is_answered", "set_aside", "taken_back", "told_of_each"]

BEFORE = "before"
"""Where the result of an order has the answers to its former calls, the first one first, each as in `sent`."""

_TAKEN_BACK = {
    "error": {
        "class": "OutcomeUnknownError",
        "description": "it was cancelled when it was to be sent again; its answer did not tell whom the API accepted",
        "call": "send-mms",
    }
}


def is_answered(result: Mapping[str, Any]) -> bool:
    """An answer came to one of its calls."""
    return "sent" in result or BEFORE in result


def set_aside(result: str | None) -> str:
    """The result of an order that is to be sent again: its answer, if there is one, is that of a former call."""
    told = _read(result)
    if "sent" in told:
        told[BEFORE] = [*told.get(BEFORE, ()), told.pop("sent")]
    return json.dumps(told)


def taken_back(result: str | None) -> str | None:
    """The result of an order that is unknown again, since it is not sent again after all; None where none answered."""
    told = _read(result)
    return json.dumps(_kept(told) | _TAKEN_BACK) if is_answered(told) else None


def died(result: str | None) -> str:
    """The result of an order whose worker has died."""
    return json.dumps(_kept(_read(result)) | json.loads(DIED))


def end_again(result: str | None, end: OrderEnd, *, is_accepted: bool) -> OrderEnd:
    """What the end of a call means for an order that was sent again.

    Args:
        result: What it was before this end.
        end: Of the call.
        is_accepted: One of its recipients is accepted, by this call or a former one.
    """
    kept = _kept(_read(result))
    told = {**kept, **end.result}
    if "sent" in told and kept.get(BEFORE, [None])[-1] == told["sent"]:  # recorded before, and again now
        told[BEFORE] = kept[BEFORE][:-1]
    if end.state is OutboxState.REFUSED and is_accepted:
        told.pop("error", None)
        return evolve(end, state=OutboxState.ACCEPTED, result=told)
    return evolve(end, result=told)


def told_of_each(end: OrderEnd, *, is_doubted: bool) -> list[tuple[RecipientState | None, str | None, bool]]:
    """State and message id of each recipient in a call, and whether one whom evidence has proven stays as he is.

    `is_doubted`: the order was sent again, so that evidence may be of a former call.
    """
    return [(*told, is_doubted and told[0] is not RecipientState.ACCEPTED) for told in end.recipients]


def _read(result: str | None) -> dict[str, Any]:
    return dict(json.loads(result or "{}"))


def _kept(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in (BEFORE,) if name in told}
