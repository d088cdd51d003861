"""What proves that the call of a keyed send or of an order was carried out. Pure; `evidence` has campaigns' rules.

A delivery report that names one of its phones, or a reply from it, under a message id that no answer named, which came
after it was claimed and within `PROOF_WINDOW` of that. One call is one request, so one such phone proves it of all
its recipients that the call was carried out, and of the others not that they were accepted. Where another call of the
store to the same phone may have caused what was heard, it proves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from mmsclient._store.evidence import PROOF_WINDOW

__all__ = ["HEARD_OF", "Evidence", "OtherCall", "calls_of", "proof", "proven"]

HEARD_OF = "heard_of"
"""Where the result of a send that evidence made accepted names each phone that was heard of, and its message id."""


@frozen(order=True)
class Evidence:
    """That something was heard of a message to a phone, under an id that no answer named."""

    at: float
    """Unix seconds, of the first time."""
    phone: int
    message_id: str


@frozen
class OtherCall:
    """A call to a phone that stands in the call in question, too."""

    phone: int
    began: float
    """Unix seconds."""
    state: str
    message_ids: tuple[str, ...]
    """Of its messages to the phone, as far as they are known."""
    last: float | None = None
    """Unix seconds of its last attempt, where it was made again although it may have been carried out before."""

    def may_have_caused(self, evidence: Evidence) -> bool:
        """It is not known to have caused something else, or nothing at all."""
        if evidence.phone != self.phone or not _is_in_time(self.began, self.last, evidence):
            return False
        if self.state == "accepted":
            return not self.message_ids or evidence.message_id in self.message_ids
        return self.state in {"sending", "unknown"}


def proof(began: float, heard: Iterable[Evidence], others: Iterable[OtherCall]) -> Mapping[str, Any] | None:
    """The result of an unknown send whose call is proven; None where it is not. Takes what `proven` takes."""
    found = proven(began, heard, others)
    return {HEARD_OF: [[phone, message_id] for phone, message_id in found.items()]} if found else None


def proven(
    began: float, heard: Iterable[Evidence], others: Iterable[OtherCall], *, last: float | None = None
) -> dict[int, str]:
    """The phones of a call for which it is proven, each with the id of its message.

    Args:
        began: Unix seconds at which it was claimed.
        heard: What was heard of its phones.
        others: Other calls to them.
        last: Unix seconds at which it was last claimed, where that was done more than once.
    """
    calls = list(others)
    found: dict[int, str] = {}
    for each in sorted(heard):
        if _is_in_time(began, last, each) and not any(call.may_have_caused(each) for call in calls):
            found.setdefault(each.phone, each.message_id)
    return found


def calls_of(rows: Iterable[tuple[str, int, float, str, str | None, str | None, float]]) -> list[OtherCall]:
    """Calls as the stores find them, each once.

    Args:
        rows: A name of the call, a phone, when it began, its state, its result where evidence proved it, the id of a
            message to the phone that its answer named, and when it was last tried; one row for each of these ids.
    """
    found: dict[tuple[str, int], tuple[float, str, list[str], float]] = {}
    for call, phone, began, state, result, message_id, last in rows:
        _, _, message_ids, _ = found.setdefault((call, phone), (began, state, _proven_ids(result, phone), last))
        if message_id is not None:
            message_ids.append(message_id)
    return [OtherCall(phone, began, state, tuple(ids), last) for (_, phone), (began, state, ids, last) in found.items()]


def _proven_ids(result: str | None, phone: int) -> list[str]:
    named = json.loads(result)[HEARD_OF] if result else []
    return [message_id for each, message_id in named if each == phone]


def _is_in_time(began: float, last: float | None, evidence: Evidence) -> bool:
    return began <= evidence.at <= (began if last is None else last) + PROOF_WINDOW
