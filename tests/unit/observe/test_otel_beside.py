"""Telemetry beside others': the instrumentation of the HTTP libraries, and a collector."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import httpx2
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from mmsclient.limiter import NoLimit
from mmsclient.observe.otel import OpenTelemetryObserver
from mmsclient.sandbox import Sandbox
from tests.conftest import PNG, injected
from tests.support.otlp_receiver import otlp_receiver
from tests.support.telemetry import Telemetry, attributes, identity, parent


class Held:
    """A limiter that lets its callers wait for their token until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = asyncio.Event()

    async def acquire(self) -> Any:
        self.asked.set()
        await self.open.wait()
        return await NoLimit().acquire()


@pytest.mark.parametrize("how", ["own", "httpx", "httpx2"])
async def test_spans_of_the_http_library_are_within_and_tokens_are_still_spent_at_the_wire(
    how: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST", ".*")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", "appkey,authorization")
    telemetry, limiter = Telemetry(), Held()
    instrumentor = HTTPX2ClientInstrumentor() if how == "httpx2" else HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    try:
        client = None if how == "own" else injected(httpx if how == "httpx" else httpx2, sandbox.ssl_context)
        options: dict[str, Any] = {} if client is None else {"http_client": client}
        async with sandbox.client(observer=telemetry.observer, limiter=limiter, **options) as mms:
            with telemetry.tracer.start_as_current_span("order") as order:
                call = asyncio.create_task(mms.send(to="+61400000000", text="Sale on now", image=PNG))
            await limiter.asked.wait()
            began = asyncio.get_running_loop().time()
            await asyncio.sleep(0.05)
            held = asyncio.get_running_loop().time() - began
            limiter.open.set()
            await call
            await mms.account()
        if client is not None:
            await client.aclose()
    finally:
        instrumentor.uninstrument()
    sent, http = telemetry.span("send-mms"), telemetry.spans("POST")[0]
    assert parent(sent) == order.get_span_context().span_id
    assert parent(http) == identity(sent)
    assert parent(telemetry.span("GET")) == identity(telemetry.span("account"))
    assert http.start_time is not None
    assert http.end_time is not None
    # The library was held with its connection ready: its span lasts for as long as the call waited for the cap.
    assert (http.end_time - http.start_time) / 1e9 >= held - 0.001
    assert attributes(sent)["mmsclient.wait.token"] >= held - 0.001
    captured = attributes(http)
    assert captured["http.request.header.appkey"] == captured["http.request.header.authorization"] == ("[REDACTED]",)
    assert sandbox.app_key not in telemetry.document()
    telemetry.close()


def test_a_collector_gets_spans_and_metrics(sandbox: Sandbox) -> None:
    with otlp_receiver() as collector:
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{collector.url}/v1/metrics"))
        meters = MeterProvider([reader], shutdown_on_exit=False)
        observer = OpenTelemetryObserver(tracer_provider=tracers, meter_provider=meters)

        async def main() -> None:
            async with sandbox.client(rate=None, observer=observer) as mms:
                await mms.send(to="+61400000000", text="Sale on now", image=PNG)

        asyncio.run(main())
        tracers.shutdown()
        meters.shutdown()
        (span,) = collector.spans
        assert span.name.startswith("send-mms ")
        assert span.kind == span.SPAN_KIND_CLIENT
        assert [event.name for event in span.events] == ["mmsclient.waited", "mmsclient.attempt"]
        assert collector.metric_names >= {
            "messaging.client.operation.duration",
            "messaging.client.sent.messages",
            "mmsclient.wait.duration",
            "mmsclient.calls.under_way",
        }
        (of,) = collector.traces[0].resource_spans
        assert [scope.scope.name for scope in of.scope_spans] == ["mmsclient"]
        assert "61400000000" not in str(collector.traces) + str(collector.metrics)
