"""What proves that the call of a keyed send was carried out. Pure; `evidence` has the rules for campaigns.

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

__all__ = ["HEARD_OF", "Evidence", "OtherCall", "calls_of", "proof"]

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

    def may_have_caused(self, evidence: Evidence) -> bool:
        """It is not known to have caused something else, or nothing at all."""
        if evidence.phone != self.phone or not _is_in_time(self.began, evidence):
            return False
        if self.state == "accepted":
            return not self.message_ids or evidence.message_id in self.message_ids
        return self.state in {"sending", "unknown"}


def proof(began: float, heard: Iterable[Evidence], others: Iterable[OtherCall]) -> Mapping[str, Any] | None:
    """The result of an unknown send whose call is proven; None where it is not.

    Args:
        began: Unix seconds at which its key was claimed.
        heard: What was heard of its phones.
        others: Other calls to them.
    """
    calls = list(others)
    found: dict[int, str] = {}
    for each in sorted(heard):
        if _is_in_time(began, each) and not any(call.may_have_caused(each) for call in calls):
            found.setdefault(each.phone, each.message_id)
    return {HEARD_OF: [[phone, message_id] for phone, message_id in found.items()]} if found else None


def calls_of(rows: Iterable[tuple[str, int, float, str, str | None, str | None]]) -> list[OtherCall]:
    """Calls as the stores find them, each once.

    Args:
        rows: A name of the call, a phone, when it began, its state, its result where evidence proved it, and the id of
            a message to the phone that its answer named; one row for each of these ids.
    """
    found: dict[tuple[str, int], tuple[float, str, list[str]]] = {}
    for call, phone, began, state, proven, message_id in rows:
        _, _, message_ids = found.setdefault((call, phone), (began, state, _proven_ids(proven, phone)))
        if message_id is not None:
            message_ids.append(message_id)
    return [OtherCall(phone, began, state, tuple(ids)) for (_, phone), (began, state, ids) in found.items()]


def _proven_ids(result: str | None, phone: int) -> list[str]:
    named = json.loads(result)[HEARD_OF] if result else []
    return [message_id for each, message_id in named if each == phone]


def _is_in_time(began: float, evidence: Evidence) -> bool:
    return began <= evidence.at <= began + PROOF_WINDOW
