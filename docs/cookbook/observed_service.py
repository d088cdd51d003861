"""A shop whose web process takes orders and callbacks, and whose workers send, all of them observed.

    python observed_service.py web 8000          # /orders, /mms/<token>, /metrics, /healthz
    python observed_service.py worker 9101       # as many as you like; /metrics

Environment: DATABASE and REDIS (URLs), MMSCLIENT_APP_KEY, MMSCLIENT_CALLBACK_TOKEN; OTEL_EXPORTER_OTLP_ENDPOINT (a
collector's URL) for traces. With port 0 a free one is taken. The first line on stdout is the URL.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI, HTTPException, Response, UploadFile
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import make_asgi_app, start_http_server

from mmsclient import AsyncMMSClient, InboundMessage, InvalidRequestError, KeyReusedError, SharedTokenBucket
from mmsclient.observe import Observer
from mmsclient.observe.otel import OpenTelemetryObserver
from mmsclient.observe.prometheus import PrometheusObserver
from mmsclient.outbox import Outbox
from mmsclient.webhooks import CallbackReceiver

DATABASE, REDIS = os.environ.get("DATABASE", ""), os.environ.get("REDIS", "")


@contextmanager
def telemetry(role: str) -> Iterator[Sequence[Observer]]:
    """The observers of this process, of spans and of metrics. At the end, what waits for its export is sent."""
    provider = TracerProvider(resource=Resource.create({"service.name": f"shop-{role}"}))
    if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield OpenTelemetryObserver(), PrometheusObserver()
    finally:
        provider.shutdown()


# The web process ------------------------------------------------------------------------------------------------------


def create_app(observers: Sequence[Observer] = ()) -> FastAPI:
    """Takes orders, which the workers send, and what the provider posts about them."""
    receiver = CallbackReceiver(token=os.environ["MMSCLIENT_CALLBACK_TOKEN"], seen=DATABASE, observer=observers)

    @receiver.on_inbound
    async def read(message: InboundMessage) -> None:
        """A reply: yours to handle."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with receiver, AsyncMMSClient(observer=observers) as mms:
            outbox = app.state.outbox = Outbox(mms, DATABASE)  # without `async with` it sends nothing
            receiver.record_into(outbox)
            yield
            await outbox.aclose()

    app = FastAPI(lifespan=lifespan)
    app.mount("/mms", receiver)
    app.mount("/metrics", make_asgi_app())

    @app.post("/orders/{number}", status_code=202)
    async def take(number: str, to: str, text: str, image: UploadFile) -> dict[str, str]:
        try:
            put = await app.state.outbox.put(key=f"order-{number}", to=to, text=text, image=await image.read())
        except InvalidRequestError as error:
            raise HTTPException(422, str(error)) from None
        except KeyReusedError as error:  # the order was taken, and said something else
            raise HTTPException(409, str(error)) from None
        return {"state": put.state.value}

    @app.get("/orders/{number}")
    async def state(number: str) -> dict[str, str | None]:
        found = await app.state.outbox.result(f"order-{number}")
        return {"state": None if found is None else found.state.value}

    @app.get("/healthz")
    async def health() -> Response:
        works = await receiver.is_healthy() and await app.state.outbox.is_healthy()
        return Response(status_code=200 if works else 503)

    return app


def serve(port: int) -> None:
    """The web process, until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", port))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # which uvicorn raises once more at its end
    with telemetry("web") as observers:
        uvicorn.Server(uvicorn.Config(create_app(observers), access_log=False)).run(sockets=[listener])


# A worker -------------------------------------------------------------------------------------------------------------


async def work(port: int) -> None:
    """A worker, until SIGTERM: it shares the outbox by the database, and the cap by Redis, with the others."""
    server, _ = start_http_server(port, "127.0.0.1")
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    with telemetry("worker") as observers:
        async with (
            SharedTokenBucket(REDIS, account="shop") as limiter,
            AsyncMMSClient(limiter=limiter, observer=observers) as mms,
            Outbox(mms, DATABASE) as outbox,
        ):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, outbox.stop)
            await outbox.stopped()


if __name__ == "__main__":
    role, port = sys.argv[1:]
    if role == "web":
        serve(int(port))
    else:
        asyncio.run(work(int(port)))
