"""What operators ask of a campaign's sender, and what that says of itself: in the journal, for other processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, StrEnum, auto
from typing import Protocol

from attrs import frozen

from mmsclient._store.models import RecipientState

__all__ = [
    "FEW_FAILURES",
    "LATELY",
    "WAIT_LOOK",
    "Activity",
    "FailedCall",
    "Order",
    "Orders",
    "SenderSteering",
    "Standing",
    "WaitNotice",
    "Waiter",
    "sender_name",
    "with_rejected",
]

LATELY = 150
"""Calls whose ends a `Standing` holds."""

FEW_FAILURES = 5
"""Calls that went wrong which a `Standing` holds."""

WAIT_LOOK = 10.0
"""Seconds between two looks of a run that waits for delivery reports, at the most."""

THROTTLED = "RateLimitError:"
"""How the error of a call begins that the API refused as over the cap."""


def sender_name() -> str:
    """What others are told of this process."""
    return f"{socket.gethostname()}, process {os.getpid()}"


class Order(Enum):
    """What an operator asks for."""

    PAUSE = auto()
    UNPAUSE = auto()
    STOP = auto()


class Activity(StrEnum):
    """What the sender of a campaign is doing."""

    SENDING = "sending"
    """It sends."""
    WAITING = "waiting"
    """Nothing starts for a while: `CampaignStatus.why` says for what."""
    PAUSING = "pausing"
    """It has noticed the pause: nothing starts, and calls that had left are still under way."""
    PAUSED = "paused"
    """It waits for the end of the pause, and no call is under way."""
    IDLE = "idle"
    """There is no sender."""
    LOST = "lost"
    """The sender has gone without an end: killed, or its machine. What it was sending is unknown when it is resumed."""


@frozen
class Orders:
    """What was asked for so far. Times are Unix seconds."""

    paused: float | None = None
    """Since when it is paused, None where it is not."""
    paused_by: str = ""
    """The operator's machine and process."""
    stops: int = 0
    """How often a stop was asked for; a sender heeds those that come while it waits or sends."""
    stopped_by: str = ""
    """Who asked last."""

    @property
    def why_paused(self) -> str:
        """Since when and by whom, "" where it is not."""
        if self.paused is None:
            return ""
        return f"since {datetime.fromtimestamp(self.paused, UTC):%Y-%m-%d %H:%M:%S} UTC by {self.paused_by}"

    def beside(self, others: Orders) -> Orders:
        """These and `others`, where both hold."""
        paused = self if self.paused is not None else others
        stopped_by = others.stopped_by if others.stops else self.stopped_by
        return Orders(paused.paused, paused.paused_by, self.stops + others.stops, stopped_by)


@frozen
class Waiter:
    """A run that waits for delivery reports, to send an SMS where a message did not arrive."""

    name: str
    """Its machine and process."""
    since: float
    """In Unix seconds."""


@frozen
class FailedCall:
    """A call that failed, or of which the API took only a part."""

    batch: int
    """Its number in the journal."""
    recipients: int
    accepted: int | None
    """How many the API accepted, None where that is unknown."""
    error: str | None
    """What it failed with, None where the API took a part."""

    def __str__(self) -> str:
        said = f"{self.accepted or 0} of {self.recipients} accepted"
        return said if self.error is None else f"{said}: {self.error}"


@frozen
class Standing:
    """How a campaign stands at one moment. Times are Unix seconds, by the store's clock."""

    now: float
    orders: Orders
    sender: str | None
    """The last one, None where it has ended in good order."""
    is_alive: bool
    """That one is there."""
    since: float | None
    """When it began."""
    activity: Activity
    """As it said last."""
    why: str
    waiter: Waiter | None
    """Who waits for delivery reports at this moment."""
    counts: Mapping[RecipientState, int]
    without_picture: int
    """Of those who are excluded, the ones whose own picture was gone: the next run tries again."""
    list_read: bool
    calls: int
    credits_used: Decimal
    started: float | None
    """When the first call was about to leave."""
    ended: float | None
    """When the last answer was recorded."""
    ends: list[tuple[float, int]]
    """When the last calls ended, the latest first, and how many recipients they reached."""
    error: str | None
    """Of the last call that failed."""
    error_at: float | None
    throttled: int
    """Calls that the API refused as over the cap."""
    failures: list[FailedCall]
    """The last that went wrong, the latest first."""


def with_rejected(counts: Iterable[tuple[str, int]], rejected: int) -> dict[RecipientState, int]:
    """Counts of recipients in each state, with so many rows of the list that are no phone of their own."""
    found = dict.fromkeys(RecipientState, 0) | {RecipientState(state): count for state, count in counts}
    found[RecipientState.EXCLUDED] += rejected
    return found


class SenderSteering(Protocol):
    """The sender's side of the orders, beside its journal and in the same thread."""

    look_every: float
    """Seconds between two looks for orders."""

    def orders(self) -> Orders:
        """What was asked for so far."""
        ...

    def begin(self) -> None:
        """Note who sends from now on."""
        ...

    def note(self, activity: Activity, why: str) -> None:
        """Note what the sender is doing."""
        ...

    def end(self) -> None:
        """Note that the sender has ended."""
        ...

    async def listen(self, on_news: Callable[[], object]) -> None:
        """Call `on_news` when there may be an order, where the store tells, until it is cancelled; else return."""
        ...


class WaitNotice(Protocol):
    """Shows other processes that a run waits for delivery reports. Not for several threads at once."""

    def renew(self) -> None:
        """It waits, and shows that again within `WAIT_LOOK` seconds."""
        ...

    def end(self) -> None:
        """It waits no more. May be called again."""
        ...
