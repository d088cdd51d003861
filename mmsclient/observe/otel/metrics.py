"""Metrics of calls, limiters, callbacks and campaigns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from mmsclient.observe.around_calls import OrdersDue, OrdersEnded, OrdersLost, PictureMade, SendRepeated
from mmsclient.observe.beginnings import EventStarted
from mmsclient.observe.events import (
    BatchEnded,
    CallbackAnswered,
    CallEnded,
    CallRetried,
    CallThrottled,
    CallWaited,
    CampaignContinued,
    CampaignEnded,
    CampaignPaused,
    CampaignReopened,
    CampaignStarted,
    CampaignWaiting,
    Event,
    EventSettled,
    LimiterAway,
    LimiterBack,
    Outcome,
    RateChanged,
    SaturationBegan,
    SaturationEnded,
)
from mmsclient.observe.figures import (
    SECONDS,
    CallsUnderWay,
    CampaignsHeld,
    EventsUnderWay,
    OutboxesCounted,
    messages_by_outcome,
)
from mmsclient.observe.leases import LeasesLost
from mmsclient.observe.otel import conventions

__all__ = ["Metrics"]

_LEFT = (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.UNKNOWN)
"""Of messages that were sent, or may have been: those that were not are counted by the operation's outcome alone."""

Read = Callable[[], Iterable[Observation]]


class Metrics:
    """Keeps the metrics of one process."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._under_way = CallsUnderWay()
        self._events_under_way = EventsUnderWay()
        self._held = CampaignsHeld()
        self._counted = OutboxesCounted()
        self._rate_share = 1.0
        self._is_away = False
        self._saturated: dict[str, int] = {}
        self._make_call_metrics()
        self._make_callback_metrics()
        self._make_campaign_metrics()
        self._make_store_metrics()
        self._make_gauges()
        self._make_more_gauges()

    def _make_call_metrics(self) -> None:
        self._durations = self._seconds("messaging.client.operation.duration", "Calls, from their start to their end.")
        self._messages = self._counter("messaging.client.sent.messages", "{message}", "Recipients of sends that left.")
        self._waits = self._seconds("mmsclient.wait.duration", "Waits of attempts, by what was waited for.")
        self._retries = self._counter("mmsclient.retries", "{attempt}", "Further attempts.")
        self._throttled = self._counter("mmsclient.throttled", "{attempt}", "Attempts refused as over the cap.")

    def _make_callback_metrics(self) -> None:
        self._processed = self._seconds("messaging.process.duration", "Handling of callbacks' events.")
        self._callbacks = self._seconds("mmsclient.callback.duration", "Callbacks, by the answer.")
        self._events = self._counter("mmsclient.callback.events", "{event}", "Events of callbacks, by outcome.")
        self._leases_lost = self._counter(
            "mmsclient.receiver.leases_lost", "{event}", "Events that another process may have handled too."
        )

    def _make_campaign_metrics(self) -> None:
        self._running = self._meter.create_up_down_counter(
            "mmsclient.campaign.running", "{run}", "Runs of campaigns under way."
        )
        self._runs = self._counter("mmsclient.campaign.runs", "{run}", "Runs of campaigns that are over.")
        self._recipients = self._counter(
            "mmsclient.campaign.recipients", "{recipient}", "Recipients of ended batches, by state."
        )

        self._pictures = self._seconds("mmsclient.picture.duration", "Making of recipients' own pictures.")

    def _make_store_metrics(self) -> None:
        self._repeated = self._counter("mmsclient.repeated_sends", "{send}", "Keyed sends that made no call.")
        self._orders = self._counter(
            "mmsclient.outbox.orders", "{order}", "Orders of an outbox, by the state that the end of a call brought."
        )

    def _make_more_gauges(self) -> None:
        self._gauge(
            "mmsclient.callback.events_under_way",
            "{event}",
            "Events whose handling goes on.",
            lambda: [Observation(now, _destination(kind)) for kind, now in self._events_under_way.by_kind.items()],
        )
        self._gauge(
            "mmsclient.campaign.held",
            "{run}",
            "Runs of campaigns that start nothing for now.",
            lambda: [Observation(now, {"mmsclient.reason": why}) for why, now in self._held.by_reason.items()],
        )
        self._gauge(
            "mmsclient.outbox.due",
            "{order}",
            "Orders that wait, and not for a later hour.",
            lambda: [Observation(due.orders or 0, _outbox(due.outbox)) for due in self._counted.due],
        )
        self._gauge(
            "mmsclient.outbox.oldest_due",
            "s",
            "For which the oldest of them has waited.",
            lambda: [Observation(due.oldest or 0.0, _outbox(due.outbox)) for due in self._counted.due],
        )
        self._gauge(
            "mmsclient.outbox.unknown",
            "{order}",
            "Orders that may have been sent, and that nothing has settled.",
            lambda: [Observation(due.unknown or 0, _outbox(due.outbox)) for due in self._counted.due],
        )
        self._gauge(
            "mmsclient.outbox.counted_at",
            "s",
            "When these were counted last, as Unix time.",
            lambda: [Observation(at, _outbox(name)) for name, at in self._counted.at.items()],
        )

    def _make_gauges(self) -> None:
        under_way = self._under_way
        self._gauge(
            "mmsclient.calls.under_way",
            "{call}",
            "Calls that wait, and calls that the server has not answered.",
            lambda: [
                Observation(under_way.waiting, {"mmsclient.state": "waiting"}),
                Observation(under_way.unanswered, {"mmsclient.state": "unanswered"}),
            ],
        )
        self._gauge(
            "mmsclient.calls.longest_unanswered",
            "s",
            "Since the oldest call left that the server has not answered; 0 without any.",
            lambda: [Observation(under_way.longest_unanswered)],
        )
        self._gauge(
            "mmsclient.limiter.rate_share",
            "1",
            "The limiter's rate as a share of the cap.",
            lambda: [Observation(self._rate_share)],
        )
        self._gauge(
            "mmsclient.limiter.away",
            "1",
            "1 while the shared limiter cannot reach Redis.",
            lambda: [Observation(int(self._is_away))],
        )
        self._gauge(
            "mmsclient.receiver.saturated",
            "1",
            "1 while events of the kind wait for a place.",
            lambda: [Observation(now, _destination(kind)) for kind, now in list(self._saturated.items())],
        )

    def _seconds(self, name: str, description: str) -> Histogram:
        return self._meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=SECONDS)

    def _counter(self, name: str, unit: str, description: str) -> Counter:
        return self._meter.create_counter(name, unit, description)

    def _gauge(self, name: str, unit: str, description: str, read: Read) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return read()

        self._meter.create_observable_gauge(name, [observe], unit, description)

    def __call__(self, event: Event, /) -> None:
        """Counts `event`."""
        self._under_way(event)
        match event:
            case CallWaited() | CallEnded() | CallRetried() | CallThrottled():
                self._count_call(event)
            case EventStarted() | EventSettled() | CallbackAnswered() | SaturationBegan() | SaturationEnded():
                self._count_callback(event)
            case RateChanged():
                self._rate_share = event.rate / event.full
            case LimiterAway() | LimiterBack():
                self._is_away = isinstance(event, LimiterAway)
            case LeasesLost():
                self._leases_lost.add(event.events)
            case OrdersDue() | OrdersEnded() | OrdersLost() | SendRepeated():
                self._count_stored(event)
            case _:
                self._count_campaign(event)

    def _count_call(self, event: Event) -> None:
        match event:
            case CallWaited():
                for name in ("queue", "connection", "token"):
                    self._waits.record(getattr(event, name), {"mmsclient.wait.for": name})
            case CallRetried():
                self._retries.add(1, {"error.type": event.error})
            case CallThrottled():
                self._throttled.add(1)
            case CallEnded():
                attributes = conventions.operation(event.name, event.server)
                error = conventions.error_type(event.error, event.outcome)
                outcome = {"mmsclient.outcome": event.outcome.value}
                self._durations.record(event.seconds, _with_error(attributes | outcome, error))
                for of, count in messages_by_outcome(event):
                    if of in _LEFT:
                        outcome = {"mmsclient.outcome": of.value}
                        error = conventions.error_type(event.error, of)
                        self._messages.add(count, _with_error(attributes | outcome, error))

    def _count_callback(self, event: Event) -> None:
        match event:
            case EventStarted():
                self._events_under_way(event)
            case EventSettled():
                self._events_under_way(event)
                outcome = event.outcome.value
                self._events.add(1, _destination(event.kind) | {"mmsclient.outcome": outcome})
                if event.event:
                    attributes = conventions.processing(event.kind)
                    error = None if event.outcome.is_settled else outcome
                    self._processed.record(event.seconds, _with_error(attributes, error))
            case CallbackAnswered():
                self._callbacks.record(
                    event.seconds, {"http.response.status_code": event.status, "mmsclient.reason": event.reason}
                )
            case SaturationBegan() | SaturationEnded():
                self._saturated[event.kind] = int(isinstance(event, SaturationBegan))

    def _count_campaign(self, event: Event) -> None:
        match event:
            case PictureMade():
                self._pictures.record(event.seconds, _with_error({}, event.error))
            case BatchEnded():
                for state, count in event.counts.items():
                    self._recipients.add(
                        count, {"mmsclient.campaign.name": event.campaign.name, "mmsclient.state": state}
                    )
            case CampaignStarted():
                self._running.add(1)
            case CampaignEnded():
                self._held(event)
                self._running.add(-1)
                self._runs.add(1, _with_error({}, event.error))
            case CampaignPaused() | CampaignContinued() | CampaignWaiting() | CampaignReopened():
                self._held(event)

    def _count_stored(self, event: Event) -> None:
        match event:
            case OrdersDue():
                self._counted(event)
            case OrdersEnded():
                for state, count in event.counts.items():
                    self._orders.add(count, _outbox(event.outbox) | {"mmsclient.state": state})
            case OrdersLost():
                self._orders.add(event.orders, _outbox(event.outbox) | {"mmsclient.state": "unknown"})
            case SendRepeated():
                attributes = conventions.operation(event.name, event.server)
                outcome = {"mmsclient.outcome": event.outcome.value}
                self._repeated.add(1, _with_error(attributes | outcome, event.error))


def _destination(kind: str) -> dict[str, str]:
    return {"messaging.destination.name": kind}


def _outbox(name: str) -> dict[str, str]:
    return {"mmsclient.outbox.name": name}


def _with_error(attributes: Mapping[str, str | int], error: str | None) -> dict[str, str | int]:
    return {**attributes} if error is None else {**attributes, "error.type": error}
