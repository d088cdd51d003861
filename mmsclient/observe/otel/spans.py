"""Spans of calls, of campaigns, of an outbox's orders, and of the handling of callbacks' events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from time import time_ns
from typing import Any

import attrs
from opentelemetry import context, trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from mmsclient._bounded_cache import BoundedCache
from mmsclient.observe.around_calls import OrdersClaimed, OrdersEnded, PictureMade, SendRepeated
from mmsclient.observe.beginnings import AttemptStarted, EventStarted
from mmsclient.observe.events import (
    AttemptEnded,
    CallEnded,
    CallRetried,
    CallStarted,
    CallThrottled,
    CallWaited,
    CampaignContinued,
    CampaignEnded,
    CampaignPaused,
    CampaignRef,
    CampaignReopened,
    CampaignStarted,
    CampaignStopped,
    CampaignWaiting,
    Event,
    EventSettled,
)
from mmsclient.observe.otel import conventions

__all__ = ["Spans"]

REMEMBERED = 50_000
"""Messages whose send is remembered, for the reports that come; a few hundred bytes each."""

Attribute = str | bool | int | float


class Spans:
    """Makes the spans. Each begins in the context in which its event is told, and so has the parent that is current.

    What works inside a call's attempt, a campaign's run or a handler gets the span as its parent: events that are told
    in a task of their own set it there, and it goes with the task.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._under_way: dict[str, Span] = {}
        """Those of calls, runs and events, by their ids."""
        self._sends: BoundedCache[str, SpanContext] = BoundedCache(REMEMBERED)
        """Of a message the span that sent it."""

    def __call__(self, event: Event, /) -> None:
        """Takes one event."""
        match event:
            case CallStarted():
                self._start_call(event)
            case AttemptStarted() if span := self._under_way.get(event.call):
                _enter(span)
            case CallWaited() | CallThrottled() | AttemptEnded() | CallRetried() if span := self._under_way.get(
                event.call
            ):
                _add(span, event, without="call")
            case CallEnded() if span := self._under_way.pop(event.call, None):
                self._end_call(event, span)
            case EventStarted():
                self._start_processing(event)
            case EventSettled() if span := self._under_way.pop(event.event, None):
                _end_processing(event, span)
            case OrdersClaimed() | OrdersEnded() | SendRepeated() | PictureMade():
                self._take_other(event)
            case CampaignStarted():
                self._start_campaign(event.campaign)
            case (
                CampaignPaused() | CampaignContinued() | CampaignStopped() | CampaignWaiting() | CampaignReopened()
            ) if span := self._under_way.get(event.campaign.id):
                _add(span, event, without="campaign")
            case CampaignEnded() if span := self._under_way.pop(event.campaign.id, None):
                _end_campaign(event, span)

    # Calls ------------------------------------------------------------------------------------------------------------

    def _start_call(self, event: CallStarted) -> None:
        attributes: dict[str, Attribute] = {
            **conventions.operation(event.name, event.server),
            "mmsclient.call": event.call,
        }
        if event.recipients > 1:
            attributes["messaging.batch.message_count"] = event.recipients
        if event.campaign is not None:
            attributes |= _campaign(event.campaign)
        self._under_way[event.call] = self._tracer.start_span(
            f"{event.name} {event.server}", kind=SpanKind.CLIENT, attributes=attributes
        )

    def _end_call(self, event: CallEnded, span: Span) -> None:
        sent = span.get_span_context()
        for message_id in event.message_ids:
            self._sends[message_id] = sent
        if span.is_recording():
            span.set_attributes(dict(_of_end(event)))
        _end(span, conventions.error_type(event.error, event.outcome), event.outcome.value)

    # Callbacks --------------------------------------------------------------------------------------------------------

    def _start_processing(self, event: EventStarted) -> None:
        attributes = conventions.processing(event.kind) | {"mmsclient.callback": event.callback}
        if event.message_id:
            attributes["messaging.message.id"] = event.message_id
        sent = self._sends.get(event.message_id) if event.kind == "delivery_report" else None
        span = self._under_way[event.event] = self._tracer.start_span(
            f"process {event.kind}",
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[] if sent is None else [Link(sent)],
        )
        _enter(span)

    # Keyed sends, orders of an outbox, pictures -----------------------------------------------------------------------

    def _take_other(self, event: OrdersClaimed | OrdersEnded | SendRepeated | PictureMade) -> None:
        match event:
            case OrdersClaimed():
                self._start_orders(event)
            case OrdersEnded() if span := self._under_way.pop(event.claim, None):
                _end_orders(event, span)
            case SendRepeated():
                self._note_repeat(event)
            case PictureMade():
                attributes = _campaign(event.campaign) | {"mmsclient.picture.bytes": event.bytes}
                _end(self._start_since("make picture", event.seconds, attributes), event.error, event.error or "")

    def _note_repeat(self, event: SendRepeated) -> None:
        attributes: dict[str, Attribute] = {
            **conventions.operation(event.name, event.server),
            "mmsclient.outcome": event.outcome.value,
        }
        if event.recipients > 1:
            attributes["messaging.batch.message_count"] = event.recipients
        span = self._start_since(f"repeat {event.name} {event.server}", event.seconds, attributes)
        _end(span, conventions.error_type(event.error, event.outcome), event.outcome.value)

    def _start_orders(self, event: OrdersClaimed) -> None:
        attributes: dict[str, Attribute] = {
            "mmsclient.outbox.name": event.outbox,
            "mmsclient.outbox.claim": event.claim,
            "mmsclient.outbox.orders": event.orders,
        }
        span = self._tracer.start_span(f"outbox {event.outbox}", attributes=attributes)
        self._under_way[event.claim] = span
        _enter(span)

    def _start_since(self, name: str, seconds: float, attributes: dict[str, Attribute]) -> Span:
        """A span that began so long ago."""
        return self._tracer.start_span(name, attributes=attributes, start_time=time_ns() - int(seconds * 1e9))

    # Campaigns --------------------------------------------------------------------------------------------------------

    def _start_campaign(self, campaign: CampaignRef) -> None:
        span = self._tracer.start_span(f"campaign {campaign.name}".rstrip(), attributes=_campaign(campaign))
        self._under_way[campaign.id] = span
        _enter(span)


def _enter(span: Span) -> None:
    """Make `span` the current one for the rest of the task; the task's context ends with it."""
    context.attach(trace.set_span_in_context(span))


def _end(span: Span, error: str | None, description: str) -> None:
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR, description))
    span.end()


def _of_end(event: CallEnded) -> Iterator[tuple[str, Attribute]]:
    """The attributes that a call's end adds."""
    yield "mmsclient.outcome", event.outcome.value
    yield "mmsclient.accepted", event.accepted
    yield "mmsclient.wait.queue", event.queue
    yield "mmsclient.wait.connection", event.connection
    yield "mmsclient.wait.token", event.token
    yield "mmsclient.is_abandoned", event.is_abandoned
    if event.attempts > 1:
        yield "http.request.resend_count", event.attempts - 1
    if event.status is not None:
        yield "http.response.status_code", event.status
    if event.code is not None:
        yield "mmsclient.code", event.code
    if len(event.message_ids) == 1:
        yield "messaging.message.id", event.message_ids[0]


def _end_processing(event: EventSettled, span: Span) -> None:
    span.set_attribute("mmsclient.event.outcome", event.outcome.value)
    _end(span, None if event.outcome.is_settled else event.outcome.value, event.outcome.value)


def _end_orders(event: OrdersEnded, span: Span) -> None:
    span.set_attributes({f"mmsclient.outbox.orders.{state}": count for state, count in event.counts.items()})
    _end(span, event.error, event.error or "")


def _end_campaign(event: CampaignEnded, span: Span) -> None:
    counts = {f"mmsclient.campaign.recipients.{state}": count for state, count in event.counts.items()}
    span.set_attributes({"mmsclient.campaign.calls": event.calls, **counts})
    _end(span, event.error, event.error or "")


def _campaign(campaign: CampaignRef) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {"mmsclient.campaign.run": campaign.id, "mmsclient.campaign.name": campaign.name}
    if campaign.batch is not None:
        attributes["mmsclient.campaign.batch"] = campaign.batch
    return attributes


_EVENTS: dict[type[Event], str] = {
    CallWaited: "mmsclient.waited",
    CallThrottled: "mmsclient.throttled",
    AttemptEnded: "mmsclient.attempt",
    CallRetried: "mmsclient.retried",
    CampaignPaused: "mmsclient.campaign.paused",
    CampaignContinued: "mmsclient.campaign.continued",
    CampaignReopened: "mmsclient.campaign.reopened",
    CampaignStopped: "mmsclient.campaign.stopped",
    CampaignWaiting: "mmsclient.campaign.waiting",
}
"""The names of events within a span."""


def _add(span: Span, event: Event, without: str) -> None:
    """`event` as one of the span, with its fields but `without`, which tells what it belongs to, and those of None."""
    if span.is_recording():
        kind = type(event)
        fields = {each.name: getattr(event, each.name) for each in attrs.fields(kind) if each.name != without}  # type: ignore[arg-type]
        span.add_event(_EVENTS[kind], {name: _plain(value) for name, value in fields.items() if value is not None})


def _plain(value: Any) -> Attribute:
    """As an attribute's value."""
    plain: Attribute = value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
    return plain
