"""What several kinds of metrics read from the events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from time import monotonic, time

from mmsclient.observe.around_calls import OrdersDue
from mmsclient.observe.beginnings import EventStarted
from mmsclient.observe.events import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    CallWaited,
    CampaignContinued,
    CampaignEnded,
    CampaignPaused,
    CampaignReopened,
    CampaignWaiting,
    Event,
    EventSettled,
    Outcome,
)

__all__ = [
    "EVENT_KINDS",
    "MESSAGE_KINDS",
    "ORDER_STATES",
    "SECONDS",
    "CallsUnderWay",
    "CampaignsHeld",
    "EventsUnderWay",
    "OutboxesCounted",
    "kind_of",
    "messages_by_outcome",
]

EVENT_KINDS = ("delivery_report", "inbound_message", "unreadable")

MESSAGE_KINDS = ("mms", "sms")

ORDER_STATES = ("accepted", "refused", "unknown", "waiting")
"""Those that the end of a call may bring an order of an outbox into."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Bounds of the buckets of durations."""


class CallsUnderWay:
    """Counts the calls that have begun and not ended, and knows since when the server owes an answer to each."""

    def __init__(self) -> None:
        self._calls: dict[str, None] = {}
        self._left_at: dict[str, float] = {}

    def __call__(self, event: Event, /) -> None:
        """Notes `event`."""
        match event:
            case CallStarted():
                self._calls[event.call] = None
            case CallWaited() if event.left:
                self._left_at[event.call] = monotonic()
            case AttemptEnded():
                self._left_at.pop(event.call, None)
            case CallEnded():
                self._calls.pop(event.call, None)

    @property
    def waiting(self) -> int:
        """Calls that wait in the queue, for a connection, for a token, or before another attempt."""
        return max(0, len(self._calls) - len(self._left_at))

    @property
    def unanswered(self) -> int:
        """Calls that have left and were not answered yet."""
        return len(self._left_at)

    @property
    def longest_unanswered(self) -> float:
        """Seconds since the oldest of them left; 0 without any. For any thread."""
        oldest = min(list(self._left_at.values()), default=None)  # a copy, while the event loop goes on
        return 0.0 if oldest is None else monotonic() - oldest


class CampaignsHeld:
    """Which runs of campaigns start nothing for now, and why."""

    def __init__(self) -> None:
        self._paused: set[str] = set()
        self._closed: set[str] = set()

    def __call__(self, event: Event, /) -> None:
        """Notes `event`."""
        match event:
            case CampaignPaused() if event.from_outside:
                self._paused.add(event.campaign.id)
            case CampaignContinued():
                self._paused.discard(event.campaign.id)
            case CampaignWaiting():
                self._closed.add(event.campaign.id)
            case CampaignReopened():
                self._closed.discard(event.campaign.id)
            case CampaignEnded():
                self._paused.discard(event.campaign.id)
                self._closed.discard(event.campaign.id)

    @property
    def by_reason(self) -> Mapping[str, int]:
        """How many, by the reason: `paused` by another process, or outside their `hours`."""
        return {"paused": len(self._paused), "hours": len(self._closed)}


class EventsUnderWay:
    """Counts the events of callbacks whose handling goes on, by kind."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()

    def __call__(self, event: Event, /) -> None:
        """Notes `event`."""
        match event:
            case EventStarted():
                self._kinds[event.kind] += 1
            case EventSettled() if event.event:
                self._kinds[event.kind] -= 1

    @property
    def by_kind(self) -> Mapping[str, int]:
        """How many."""
        return {kind: self._kinds[kind] for kind in EVENT_KINDS}


class OutboxesCounted:
    """What is due in each outbox, by its last `OrdersDue`, and when that was counted."""

    def __init__(self) -> None:
        self._due: dict[str, OrdersDue] = {}
        self._at: dict[str, float] = {}

    def __call__(self, event: OrdersDue, /) -> None:
        """Notes `event`."""
        self._due[event.outbox] = event
        if event.orders is not None:
            self._at[event.outbox] = time()
        elif event.error is not None:
            self._at.setdefault(event.outbox, time())  # since when it is not counted, where it never was
        else:  # it was stopped: nobody waits for a count
            self._at.pop(event.outbox, None)

    @property
    def due(self) -> list[OrdersDue]:
        """What is known. For any thread, as the times are."""
        return [due for due in list(self._due.values()) if due.orders is not None]

    @property
    def at(self) -> Mapping[str, float]:
        """When, as Unix seconds, each one was counted whose worker was not stopped."""
        return dict(self._at)


def messages_by_outcome(event: CallEnded) -> Iterator[tuple[Outcome, int]]:
    """The recipients of a call by what became of them: an accepted call may have refused some."""
    others = Outcome.REFUSED if event.outcome is Outcome.ACCEPTED else event.outcome
    for outcome, count in ((Outcome.ACCEPTED, event.accepted), (others, event.recipients - event.accepted)):
        if count:
            yield outcome, count


def kind_of(name: str) -> str:
    """What a send of the API sends, by the name of its call."""
    return "mms" if name == "send-mms" else "sms"
