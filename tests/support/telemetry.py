"""What an observer exports to OpenTelemetry, kept in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mmsclient.observe.otel import OpenTelemetryObserver


class Telemetry:
    """An observer, and what came out of it: ended spans, and metrics as they are now."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.observer = OpenTelemetryObserver(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider)
        self.tracer = self.tracer_provider.get_tracer("tests")

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Those that have ended, whose names begin so."""
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]

    def span(self, name: str) -> ReadableSpan:
        """The only one of a name."""
        (span,) = self.spans(name)
        return span

    def points(self, name: str) -> dict[tuple[Any, ...], Any]:
        """Of a metric its values by their attributes' values, sorted by names: a number, or a histogram's count."""
        return {
            tuple(value for _, value in sorted((point.attributes or {}).items())): _value(point)
            for metric in self._metrics()
            if metric.name == name
            for point in metric.data.data_points
        }

    def names(self) -> set[str]:
        """Of the metrics."""
        return {metric.name for metric in self._metrics()}

    def document(self) -> str:
        """All that was exported."""
        metrics = self._reader.get_metrics_data()
        return "".join(span.to_json() for span in self.spans()) + ("" if metrics is None else metrics.to_json())

    def _metrics(self) -> list[Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [each for of in data.resource_metrics for scope in of.scope_metrics for each in scope.metrics]

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


def _value(point: Any) -> Any:
    return point.count if hasattr(point, "bucket_counts") else point.value


def attributes(of: ReadableSpan | Event) -> dict[str, Any]:
    """The attributes of a span, or of an event within one."""
    return dict(of.attributes or {})


def parent(span: ReadableSpan) -> int | None:
    """The id of a span's parent."""
    return None if span.parent is None else span.parent.span_id


def identity(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id
