"""Numbers with set endings trigger set behaviours, like a payment provider's test cards."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Ending(StrEnum):
    """The last four digits of a number, and what they do. Any other number: Queued, Dispatched, Delivered."""

    description: str

    def __new__(cls, digits: str, description: str) -> Ending:
        ending = str.__new__(cls, digits)
        ending._value_ = digits
        ending.description = description
        return ending

    REFUSED = "9901", "refused silently: missing from messages, success_number is lower"
    UNSUBSCRIBED = "9902", "has opted out: refused like 9901, and listed by get-optout"
    NO_CREDIT = "9903", "the whole call fails as out of credit"
    THROTTLED = "9904", "the whole call is throttled, every time"
    THROTTLED_ONCE = "9905", "the whole call is throttled the first time"
    FAILED = "9911", "ends as Failed"
    REJECTED = "9912", "ends as Rejected"
    EXPIRED = "9913", "ends as Expired"
    ABORTED = "9914", "ends as Aborted"
    UNKNOWN = "9915", "ends as Unknown"
    DISPATCHED = "9916", "stays Dispatched"
    REPLIES = "9921", 'is delivered and replies "Yes please"'
    REPLIES_STOP = "9922", 'is delivered, replies "STOP" and becomes an opt-out'


FINAL_STATUS: Mapping[Ending | None, str] = {
    Ending.FAILED: "Failed",
    Ending.REJECTED: "Rejected",
    Ending.EXPIRED: "Expired",
    Ending.ABORTED: "Aborted",
    Ending.UNKNOWN: "Unknown",
    Ending.DISPATCHED: "Dispatched",
}
"""Where it is not Delivered."""

REPLY_TEXT: Mapping[Ending | None, str] = {Ending.REPLIES: "Yes please", Ending.REPLIES_STOP: "STOP"}

_ENDINGS = {ending.value: ending for ending in Ending}


def ending_of(number: str) -> Ending | None:
    """The set behaviour of `number`, None for an ordinary one."""
    return _ENDINGS.get(number[-4:])
