"""Events as metrics of Prometheus. Needs the extra `prometheus`."""

from __future__ import annotations

from math import nan

from mmsclient._extras import needed
from mmsclient.observe.around_calls import OrdersDue, OrdersEnded, OrdersLost, PictureMade, SendRepeated
from mmsclient.observe.beginnings import EventStarted
from mmsclient.observe.events import (
    AttemptEnded,
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
    EventOutcome,
    EventSettled,
    LimiterAway,
    LimiterBack,
    Outcome,
    RateChanged,
    SaturationBegan,
    SaturationEnded,
)
from mmsclient.observe.figures import (
    EVENT_KINDS,
    MESSAGE_KINDS,
    ORDER_STATES,
    SECONDS,
    CallsUnderWay,
    CampaignsHeld,
    EventsUnderWay,
    OutboxesCounted,
    kind_of,
    messages_by_outcome,
)
from mmsclient.observe.leases import LeasesLost

with needed("prometheus", "metrics for Prometheus"):
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["PrometheusObserver"]


class PrometheusObserver:
    """Keeps the metrics of one process in a registry; the names are in docs/observing.md.

    One observer can serve several clients and receivers. Make one for each registry.

    Args:
        registry: Where the metrics are registered; the library's own if left out.

    Raises:
        ValueError: The registry has metrics of these names already.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = REGISTRY if registry is None else registry
        self._make_call_metrics(registry)
        self._make_gauges(registry)
        self._make_callback_metrics(registry)
        self._make_campaign_metrics(registry)
        self._make_store_metrics(registry)

    def _make_call_metrics(self, registry: CollectorRegistry) -> None:
        self._calls = Histogram(
            "mmsclient_call_duration_seconds",
            "Calls, by their outcome.",
            ["name", "outcome"],
            buckets=SECONDS,
            registry=registry,
        )
        self._messages = Counter(
            "mmsclient_messages", "Recipients of sends, by what became of them.", ["kind", "outcome"], registry=registry
        )
        self._waits = Histogram(
            "mmsclient_wait_seconds", "Waits of attempts.", ["for"], buckets=SECONDS, registry=registry
        )
        self._attempts = Counter("mmsclient_attempts", "Attempts, by HTTP status.", ["status"], registry=registry)
        self._retries = Counter(
            "mmsclient_retries", "Further attempts, by what ended the one before.", ["error"], registry=registry
        )
        self._throttled = Counter("mmsclient_throttled", "Attempts refused as over the cap.", registry=registry)
        for kind in MESSAGE_KINDS:  # a series that begins with its first event shows no increase by it
            for outcome in Outcome:
                self._messages.labels(kind, outcome.value)

    def _make_gauges(self, registry: CollectorRegistry) -> None:
        self._under_way = CallsUnderWay()
        calls = Gauge(
            "mmsclient_calls_under_way",
            "Calls that wait, and calls that the server has not answered.",
            ["state"],
            registry=registry,
        )
        calls.labels("waiting").set_function(lambda: self._under_way.waiting)
        calls.labels("unanswered").set_function(lambda: self._under_way.unanswered)
        Gauge(
            "mmsclient_longest_unanswered_seconds",
            "Since the oldest call left that the server has not answered; 0 without any.",
            registry=registry,
        ).set_function(lambda: self._under_way.longest_unanswered)
        self._rate = Gauge("mmsclient_rate_share", "The limiter's rate as a share of the cap.", registry=registry)
        self._rate.set(1)
        self._away = Gauge(
            "mmsclient_limiter_away", "1 while the shared limiter cannot reach Redis.", registry=registry
        )

    def _make_callback_metrics(self, registry: CollectorRegistry) -> None:
        self._callbacks = Histogram(
            "mmsclient_callback_duration_seconds",
            "Callbacks, by the answer.",
            ["status", "reason"],
            buckets=SECONDS,
            registry=registry,
        )
        self._settled = Counter(
            "mmsclient_callback_events", "Events of callbacks.", ["kind", "outcome"], registry=registry
        )
        self._events = EventsUnderWay()
        under_way = Gauge(
            "mmsclient_callback_events_under_way", "Events whose handling goes on.", ["kind"], registry=registry
        )
        for kind in EVENT_KINDS:
            for outcome in EventOutcome:
                self._settled.labels(kind, outcome.value)
            under_way.labels(kind).set_function(lambda kind=kind: self._events.by_kind[kind])  # type: ignore[misc]
        self._leases_lost = Counter(
            "mmsclient_receiver_leases_lost", "Events that another process may have handled too.", registry=registry
        )
        self._saturated = Gauge(
            "mmsclient_receiver_saturated", "1 while events of the kind wait for a place.", ["kind"], registry=registry
        )

    def _make_campaign_metrics(self, registry: CollectorRegistry) -> None:
        self._running = Gauge("mmsclient_campaigns_running", "Runs of campaigns under way.", registry=registry)
        self._held = CampaignsHeld()
        held = Gauge(
            "mmsclient_campaigns_held", "Runs of campaigns that start nothing for now.", ["reason"], registry=registry
        )
        for reason in self._held.by_reason:
            held.labels(reason).set_function(lambda reason=reason: self._held.by_reason[reason])  # type: ignore[misc]
        self._pictures = Histogram(
            "mmsclient_picture_duration_seconds",
            "Making of recipients' own pictures.",
            ["outcome"],
            buckets=SECONDS,
            registry=registry,
        )
        for outcome in ("made", "failed"):
            self._pictures.labels(outcome)
        self._ended = Counter(
            "mmsclient_campaign_runs", "Runs of campaigns that are over, by their error.", ["error"], registry=registry
        )
        self._recipients = Counter(
            "mmsclient_campaign_recipients",
            "Recipients of ended batches, by state.",
            ["campaign", "state"],
            registry=registry,
        )

    def _make_store_metrics(self, registry: CollectorRegistry) -> None:
        self._repeated = Counter(
            "mmsclient_repeated_sends",
            "Keyed sends that made no call, by what their caller was told.",
            ["outcome", "error"],
            registry=registry,
        )
        self._orders = Counter(
            "mmsclient_outbox_orders",
            "Orders of an outbox, by the state that the end of a call brought; waiting: to be sent again.",
            ["outbox", "state"],
            registry=registry,
        )
        self._counted = OutboxesCounted()
        self._due, self._oldest_due, self._unknown, self._counted_at = (
            Gauge(f"mmsclient_outbox_{name}", f"{text}; NaN where it is not known.", ["outbox"], registry=registry)
            for name, text in (
                ("due", "Orders that wait, and not for a later hour, up to 100 000"),
                ("oldest_due_seconds", "For which the oldest of them has waited"),
                ("unknown", "Orders that may have been sent, and that nothing has settled, up to 100 000"),
                ("counted_timestamp_seconds", "When these were counted last"),
            )
        )

    def __call__(self, event: Event, /) -> None:
        """Counts `event`."""
        self._under_way(event)
        match event:
            case CallWaited() | AttemptEnded() | CallEnded() | CallRetried() | CallThrottled():
                self._count_call(event)
            case EventStarted() | EventSettled() | CallbackAnswered() | SaturationBegan() | SaturationEnded():
                self._count_callback(event)
            case RateChanged():
                self._rate.set(event.rate / event.full)
            case LimiterAway() | LimiterBack():
                self._away.set(isinstance(event, LimiterAway))
            case LeasesLost():
                self._leases_lost.inc(event.events)
            case OrdersDue() | OrdersEnded() | OrdersLost() | SendRepeated():
                self._count_stored(event)
            case _:
                self._count_campaign(event)

    def _count_call(self, event: Event) -> None:
        match event:
            case CallWaited():
                for name in ("queue", "connection", "token"):
                    self._waits.labels(name).observe(getattr(event, name))
            case AttemptEnded() if event.left:
                self._attempts.labels("timeout" if event.timed_out else str(event.status or "none")).inc()
            case CallRetried():
                self._retries.labels(event.error).inc()
            case CallThrottled():
                self._throttled.inc()
            case CallEnded():
                self._calls.labels(event.name, event.outcome.value).observe(event.seconds)
                for outcome, count in messages_by_outcome(event):
                    self._messages.labels(kind_of(event.name), outcome.value).inc(count)

    def _count_callback(self, event: Event) -> None:
        match event:
            case EventStarted():
                self._events(event)
            case EventSettled():
                self._events(event)
                self._settled.labels(event.kind, event.outcome.value).inc()
            case CallbackAnswered():
                self._callbacks.labels(str(event.status), event.reason).observe(event.seconds)
            case SaturationBegan() | SaturationEnded():
                self._saturated.labels(event.kind).set(isinstance(event, SaturationBegan))

    def _count_campaign(self, event: Event) -> None:
        match event:
            case PictureMade():
                self._pictures.labels("failed" if event.error else "made").observe(event.seconds)
            case BatchEnded():
                for state, count in event.counts.items():
                    self._recipients.labels(event.campaign.name, state).inc(count)
            case CampaignStarted():
                self._running.inc()
            case CampaignEnded():
                self._held(event)
                self._running.dec()
                self._ended.labels(event.error or "").inc()
            case CampaignPaused() | CampaignContinued() | CampaignWaiting() | CampaignReopened():
                self._held(event)

    def _count_stored(self, event: Event) -> None:
        match event:
            case OrdersDue():
                for state in ORDER_STATES:
                    self._orders.labels(event.outbox, state)  # from the start, as those of messages
                self._counted(event)
                for gauge, value in (
                    (self._due, event.orders),
                    (self._oldest_due, event.oldest),
                    (self._unknown, event.unknown),
                    (self._counted_at, self._counted.at.get(event.outbox)),
                ):
                    gauge.labels(event.outbox).set(nan if value is None else value)
            case OrdersEnded():
                for state, count in event.counts.items():
                    self._orders.labels(event.outbox, state).inc(count)
            case OrdersLost():
                self._orders.labels(event.outbox, "unknown").inc(event.orders)
            case SendRepeated():
                self._repeated.labels(event.outcome.value, event.error or "").inc()
