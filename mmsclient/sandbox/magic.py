"""Numbers with set endings trigger set behaviours, like a payment provider's test cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from mmsclient.sandbox.answers import no_credit, over_limit
from mmsclient.sandbox.records import digits
from mmsclient.sandbox.settings import Settings


class Ending(StrEnum):
    """The last four digits of a number, and what they do. Any other number: Queued, Dispatched, Delivered."""

    REFUSED = "9901"
    UNSUBSCRIBED = "9902"
    NO_CREDIT = "9903"
    THROTTLED = "9904"
    THROTTLED_ONCE = "9905"
    FAILED = "9911"
    REJECTED = "9912"
    EXPIRED = "9913"
    ABORTED = "9914"
    UNKNOWN = "9915"
    DISPATCHED = "9916"
    REPLIES = "9921"
    REPLIES_STOP = "9922"

    @property
    def description(self) -> str:
        """What it does, in words."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Ending.REFUSED: "refused silently: missing from messages, success_number is lower",
    Ending.UNSUBSCRIBED: "has opted out: refused like 9901, and listed by get-optout",
    Ending.NO_CREDIT: "the whole call fails as out of credit",
    Ending.THROTTLED: "the whole call is throttled, every time",
    Ending.THROTTLED_ONCE: "the whole call is throttled the first time",
    Ending.FAILED: "ends as Failed",
    Ending.REJECTED: "ends as Rejected",
    Ending.EXPIRED: "ends as Expired",
    Ending.ABORTED: "ends as Aborted",
    Ending.UNKNOWN: "ends as Unknown",
    Ending.DISPATCHED: "stays Dispatched",
    Ending.REPLIES: 'is delivered and replies "Yes please"',
    Ending.REPLIES_STOP: 'is delivered, replies "STOP" and becomes an opt-out',
}

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


class Endings:
    """What the endings of numbers trigger, where they are switched on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._throttled_once: set[str] = set()

    def of(self, number: str) -> Ending | None:
        """The set behaviour of `number`, None for an ordinary one and where they are switched off."""
        return ending_of(number) if self._settings.magic else None

    def fail_if_asked(self, numbers: Iterable[str]) -> None:
        """Raise the `Refusal` that one of `numbers` asks for."""
        for number in numbers:
            match self.of(number):
                case Ending.NO_CREDIT:
                    raise no_credit()
                case Ending.THROTTLED:
                    raise over_limit()
                case Ending.THROTTLED_ONCE if digits(number) not in self._throttled_once:
                    self._throttled_once.add(digits(number))
                    raise over_limit()
                case _:
                    pass
