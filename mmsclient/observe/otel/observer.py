"""The observer that makes traces and metrics."""

from __future__ import annotations

from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import TracerProvider, get_tracer

from mmsclient._version import __version__
from mmsclient.observe.events import Event
from mmsclient.observe.otel import conventions
from mmsclient.observe.otel.metrics import Metrics
from mmsclient.observe.otel.spans import Spans

__all__ = ["OpenTelemetryObserver"]


class OpenTelemetryObserver:
    """Makes spans and metrics by the semantic conventions for messaging; docs/observing.md says which.

    One observer can serve several clients and receivers. Make one for each process: a report is linked to its send
    where both are told to the same observer.

    Args:
        tracer_provider: Whose spans; the global one if left out.
        meter_provider: Whose metrics; the global one if left out.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        tracer = get_tracer("mmsclient", __version__, tracer_provider, conventions.SCHEMA)
        meter = get_meter("mmsclient", __version__, meter_provider, conventions.SCHEMA)
        self._spans = Spans(tracer)
        self._metrics = Metrics(meter)

    def __call__(self, event: Event, /) -> None:
        """Takes one event."""
        self._spans(event)
        self._metrics(event)
