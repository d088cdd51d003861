"""What a receiver counts, logs and tells its observers of the callbacks and their events."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Mapping
from typing import Any

from attrs import define, evolve, field, frozen

from mmsclient._capacity import CapacityLimiter
from mmsclient.models import DeliveryReport, InboundMessage
from mmsclient.observe.beginnings import EventStarted
from mmsclient.observe.events import (
    CallbackAnswered,
    CallbackReceived,
    EventOutcome,
    EventSettled,
    SaturationBegan,
    SaturationEnded,
)
from mmsclient.observe.leases import LeasesLost
from mmsclient.observe.observer import Emit, shown_id
from mmsclient.webhooks.parse import Event, UnreadableCallback
from mmsclient.webhooks.throttled_log import ThrottledLog

NOUNS: dict[type[Any], str] = {
    DeliveryReport: "a delivery report",
    InboundMessage: "an inbound message",
    UnreadableCallback: "an unreadable callback",
}

KINDS: dict[type[Any], str] = {
    DeliveryReport: "delivery_report",
    InboundMessage: "inbound_message",
    UnreadableCallback: "unreadable",
}

_COUNTED = {
    EventOutcome.HANDLED: "handled",
    EventOutcome.DUPLICATE: "repeated",
    EventOutcome.FAILED: "failed",
    EventOutcome.UNCLAIMED: "unclaimed",
    EventOutcome.REFUSED: "refused",
}


@define
class ReceiverStats:
    """What a receiver has done so far, and is doing now."""

    handled: int = 0
    """Events that were handled."""
    repeated: int = 0
    """Events that came again after they were handled."""
    failed: int = 0
    """Events whose handler raised. They were answered 503, as those below, so that their sender posts them again."""
    unclaimed: int = 0
    """Events that nobody took in time."""
    refused: int = 0
    """Events whose turn did not come in time, or that came when too many waited."""
    unreadable: int = 0
    """Items that are neither a delivery report nor an inbound message."""
    without_handler: int = 0
    """Events that came while their kind had no handler and was not recorded, whoever took them then."""
    under_way: int = 0
    """Events that are being handled at present, or wait for somebody to take them."""
    unavailable: Mapping[str, int] = field(factory=dict)
    """Callbacks that were answered 503, by the reason: the value of an `EventOutcome`; `late`, where an event was not
    handled within the timeout, and goes on; `no_place`, where too many bodies were being read."""
    leases_lost: int = 0
    """Events whose reservation in the store was not renewed in time, since the store was away or the event loop stood
    still: another process may have handled them too."""


@frozen
class Began:
    """When the handling of an event began."""

    event: str
    """The id of the event."""
    at: float


class ReceiverWatch:
    """Counts what becomes of callbacks and their events, and tells it to the observers, if there are any."""

    def __init__(self, emit: Emit | None, log: ThrottledLog) -> None:
        self.emit: Emit | None = emit
        self.counts: ReceiverStats = ReceiverStats()
        self._log = log
        self._run = secrets.token_hex(3)
        self._numbers = itertools.count(1)
        self._events = itertools.count(1)
        self._saturated: dict[type[Any], float] = {}
        """Since when which kinds are."""
        self._leases_lost = 0

    def snapshot(self, *, under_way: int, leases_lost: int) -> ReceiverStats:
        """A copy of the counts."""
        unavailable = dict(self.counts.unavailable)
        return evolve(self.counts, under_way=under_way, leases_lost=leases_lost, unavailable=unavailable)

    def now(self) -> float:
        """The event loop's time, where anybody is told of it."""
        return 0.0 if self.emit is None else asyncio.get_running_loop().time()

    def new_callback(self) -> str:
        """The id of a callback, where anybody is told of it."""
        return "" if self.emit is None else f"{self._run}-{next(self._numbers)}"

    def received(self, callback: str, size: int, items: list[Event | UnreadableCallback]) -> None:
        """The body of a callback was read."""
        unreadable = sum(isinstance(item, UnreadableCallback) for item in items)
        self.counts.unreadable += unreadable
        if self.emit is not None:
            reports = sum(isinstance(item, DeliveryReport) for item in items)
            messages = len(items) - reports - unreadable
            self.emit(
                CallbackReceived(
                    callback=callback, bytes=size, reports=reports, messages=messages, unreadable=unreadable
                )
            )

    def answered(self, callback: str, status: int | None, reason: str, began: float) -> None:
        """A request was answered; by None where its sender had left. `reason`: why by 503."""
        if status == 503:
            unavailable = dict(self.counts.unavailable)
            unavailable[reason] = unavailable.get(reason, 0) + 1
            self.counts.unavailable = unavailable
        if self.emit is not None:
            code = 499 if status is None else status
            self.emit(CallbackAnswered(callback=callback, status=code, reason=reason, seconds=self.now() - began))

    def began(self, event: Event | UnreadableCallback, callback: str) -> Began | None:
        """The handling of an event begins, in the task that this is called in. None where nobody is told of it."""
        if self.emit is None:
            return None
        number = f"{callback}.{next(self._events)}"
        self.emit(
            EventStarted(
                callback=callback, kind=KINDS[type(event)], event=number, message_id=shown_id(_message_id(event))
            )
        )
        return Began(number, self.now())

    def settled(
        self, event: Event | UnreadableCallback, outcome: EventOutcome, callback: str, began: Began | None = None
    ) -> EventOutcome:
        """What becomes of an event is settled; `began`: of its handling, if that did."""
        if name := _COUNTED.get(outcome):
            setattr(self.counts, name, getattr(self.counts, name) + 1)
        if self.emit is not None:
            self.emit(
                EventSettled(
                    callback=callback,
                    kind=KINDS[type(event)],
                    event="" if began is None else began.event,
                    outcome=outcome,
                    message_id=shown_id(_message_id(event)),
                    seconds=0.0 if began is None else self.now() - began.at,
                )
            )
        return outcome

    def look_at_leases(self, lost: int) -> None:
        """So many were lost up to now."""
        if self.emit is not None and lost > self._leases_lost:
            self.emit(LeasesLost(events=lost - self._leases_lost))
        self._leases_lost = lost

    def look_before(self, kind: type[Any], places: CapacityLimiter) -> None:
        """An event is about to ask for a place among those of its kind."""
        if places.is_full and kind not in self._saturated:
            self._saturated[kind] = asyncio.get_running_loop().time()
            text = f"callbacks: saturated: %d events as {NOUNS[kind]} are being handled, and more wait"
            self._log.warning(text, places.permits)
            if self.emit is not None:
                self.emit(SaturationBegan(kind=KINDS[kind]))

    def look_after(self, kind: type[Any], places: CapacityLimiter) -> None:
        """An event has given its place back."""
        if kind in self._saturated and not places.waiting and places.held <= places.permits // 2:
            seconds = asyncio.get_running_loop().time() - self._saturated.pop(kind)
            self._log.warning(f"callbacks: no longer saturated by events as {NOUNS[kind]}, after %.1f s", seconds)
            if self.emit is not None:
                self.emit(SaturationEnded(kind=KINDS[kind], seconds=seconds))


def _message_id(event: Event | UnreadableCallback) -> str:
    if isinstance(event, UnreadableCallback):
        return ""
    return event.message_id if isinstance(event, DeliveryReport) else event.id
