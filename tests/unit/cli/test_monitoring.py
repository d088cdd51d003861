"""`--metrics-port`: what a scraper and a load balancer read of `listen` and of `outbox run`."""

from __future__ import annotations

import asyncio
import shlex
import signal
import socket
import sqlite3
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mmsclient.cli import metrics_server
from mmsclient.cli.monitoring import Monitor, Monitoring
from mmsclient.cli.status import UsageError
from mmsclient.limiter import NoLimit
from mmsclient.outbox import Outbox
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import PNG
from tests.support.command import started
from tests.support.waiting import until

TOKEN = "a-token-of-the-tests"  # noqa: S105
REPORT = {"message_id": "A1", "status": "Delivered", "recipient": "61400000000"}


class Watched:
    """What a command serves for monitoring."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("mmsclient: metrics: http://127.0.0.1:"), line
        self.url = line.split()[-1].removesuffix("/metrics")

    def status(self, path: str = "/healthz") -> int:
        return httpx.get(f"{self.url}{path}", timeout=60, trust_env=False).status_code

    def figure(self, name: str, **labels: str) -> float:
        """A sample as Prometheus reads it."""
        text = httpx.get(f"{self.url}/metrics", timeout=60, trust_env=False).text
        families = text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        (value,) = [sample.value for sample in samples if labels.items() <= sample.labels.items()]
        return value

    def has(self, name: str) -> bool:
        """There is a sample with labels."""
        return f"\n{name}{{" in httpx.get(f"{self.url}/metrics", timeout=60, trust_env=False).text


def without_table(path: Path, table: str, look: Callable[[], object]) -> None:
    """`look` while the store is of no use, and then give it back."""
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as file:
        file.execute(f"ALTER TABLE {table} RENAME TO gone")
        try:
            look()
        finally:
            file.execute(f"ALTER TABLE gone RENAME TO {table}")


def test_listen_is_healthy_while_it_can_note_what_it_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSCLIENT_CALLBACK_TOKEN", TOKEN)
    seen, begun, end = tmp_path / "seen.db", tmp_path / "begun", tmp_path / "end"
    script = tmp_path / "hold.sh"
    script.write_text(f"touch {shlex.quote(str(begun))}\nuntil [ -e {shlex.quote(str(end))} ]; do sleep 0.05; done\n")
    options = ["--seen", str(seen), "--metrics-port", "0", "--exec", f"sh {shlex.quote(str(script))}", "--json"]
    with started("listen", "--port", "0", *options) as process:
        watched = Watched(process)
        assert process.stdout is not None
        url = process.stdout.readline().split('"url": "')[1].split("<token>")[0]
        until(lambda: watched.status() == 200)
        assert watched.status("/") == 404
        assert watched.figure("mmsclient_callback_events_total", kind="delivery_report", outcome="handled") == 0
        without_table(seen, "event", lambda: until(lambda: watched.status() == 503))
        until(lambda: watched.status() == 200)
        posting = threading.Thread(
            target=httpx.post, args=(f"{url}{TOKEN}",), kwargs={"json": REPORT, "trust_env": False, "timeout": 60}
        )
        posting.start()
        until(begun.exists)
        process.send_signal(signal.SIGTERM)
        until(lambda: watched.status() == 503)
        end.touch()
        posting.join()
        assert process.wait(60) == 0


def test_outbox_run_is_healthy_while_it_sends(api: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSCLIENT_APP_KEY", api.app_key)
    monkeypatch.setenv("MMSCLIENT_BASE_URL", api.url)
    store = tmp_path / "outbox.db"

    async def put() -> None:
        async with api.client(limiter=NoLimit()) as mms:
            outbox = Outbox(mms, store)
            await outbox.put(key="order-1", to="+61400000000", text="Ready", image=PNG)
            assert await outbox.is_healthy()
            await outbox.aclose()
            assert not await outbox.is_healthy()

    asyncio.run(put())
    with api.faults.add(Latency(600, carried_out=True)):
        with started("outbox", "run", str(store), "--metrics-port", "0") as process:
            watched = Watched(process)
            until(lambda: watched.figure("mmsclient_calls_under_way", state="unanswered") == 1)
            assert watched.figure("mmsclient_longest_unanswered_seconds") > 0
            until(lambda: watched.has("mmsclient_outbox_due"))  # it is counted once the first call is on its way
            assert watched.figure("mmsclient_outbox_due", outbox="outbox.db") == 0
            assert watched.figure("process_open_fds") > 3
            until(lambda: watched.status() == 200)
            process.send_signal(signal.SIGTERM)
            until(lambda: watched.status() == 503)
            assert process.poll() is None
        api.stop()


def health(monitor: Monitor) -> int:
    assert monitor.url is not None
    return httpx.get(monitor.url.replace("/metrics", "/healthz"), timeout=60, trust_env=False).status_code


async def test_what_does_not_say_that_it_works_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "PATIENCE", 0.05)
    asked, answered = threading.Event(), threading.Event()
    found: list[int] = []

    async def raises() -> bool:
        raise RuntimeError("on purpose")

    async def blocks() -> bool:
        asked.set()
        return answered.wait(60)

    def ask() -> None:
        found.append(health(monitor))
        answered.set()

    monitor = Monitor(Monitoring(metrics_port=0))
    async with monitor.serving(raises):
        assert await asyncio.to_thread(health, monitor) == 503
    async with monitor.serving(blocks):
        asking = threading.Thread(target=ask)
        asking.start()
        await asyncio.to_thread(asked.wait, 60)
        await asyncio.to_thread(asking.join)
    assert found == [503]


async def test_a_connection_that_ends_early_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.05)

    async def works() -> bool:
        return True

    def close(server: Any, request: Any) -> None:
        shut(server, request)
        ended.release()

    ended, shut = threading.Semaphore(0), WSGIServer.shutdown_request
    monkeypatch.setattr(WSGIServer, "shutdown_request", close)
    monitor = Monitor(Monitoring(metrics_port=0))
    async with monitor.serving(works):
        assert monitor.url is not None
        address = ("127.0.0.1", httpx.URL(monitor.url).port)
        with socket.create_connection(address):  # is idle
            assert await asyncio.to_thread(ended.acquire, timeout=60)
        with socket.create_connection(address) as reset:
            reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert await asyncio.to_thread(ended.acquire, timeout=60)
        assert capfd.readouterr().err.splitlines() == [f"mmsclient: metrics: {monitor.url}"]
        monkeypatch.setattr(metrics_server._Handler, "handle", lambda handler: 1 / 0)
        with socket.create_connection(address):
            assert await asyncio.to_thread(ended.acquire, timeout=60)
        assert "ZeroDivisionError" in capfd.readouterr().err


async def test_a_port_that_cannot_be_had_is_wrong_usage() -> None:
    async def works() -> bool:
        return True

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monitor = Monitor(Monitoring(metrics_port=taken.getsockname()[1]))
        with pytest.raises(UsageError, match="--metrics-port: Address already in use"):
            await monitor.serving(works).__aenter__()
    with pytest.raises(UsageError, match="--metrics-port: expected 0 to 65535, got 65536"):
        Monitor(Monitoring(metrics_port=65536))
    for host in ("nohost." * 40, "a..b", "203.0.113.1"):  # too long for anybody's, no name at all, another machine's
        with pytest.raises(UsageError, match=f"--metrics-host: .*'{host}'"):
            await Monitor(Monitoring(metrics_port=0, metrics_host=host)).serving(works).__aenter__()
    unasked = Monitor(Monitoring())
    async with unasked.serving(works):
        assert unasked.url is None
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:  # this machine has no IPv6
        return
    six = Monitor(Monitoring(metrics_port=0, metrics_host="::1"))
    async with six.serving(works):
        assert await asyncio.to_thread(health, six) == 200


AWAY = "postgresql://127.0.0.1:1/nowhere"


async def test_what_has_its_store_is_healthy_and_what_has_not_is_not(api: Sandbox, place: tuple[str, str]) -> None:
    store, _ = place
    async with api.client(limiter=NoLimit()) as mms, Outbox(mms, store) as outbox:
        assert await outbox.is_healthy()
        outbox.stop()
        assert not await outbox.is_healthy()
    async with api.client(limiter=NoLimit()) as mms:
        outbox = Outbox(mms, AWAY)
        assert not await outbox.is_healthy()
        await outbox.aclose()
    for seen in (None, f"{store}.seen" if store.startswith("/") else store):
        receiver = CallbackReceiver(token=TOKEN, seen=seen)
        assert await receiver.is_healthy(timeout=60)
        await receiver.aclose()
        assert not await receiver.is_healthy()
    async with CallbackReceiver(token=TOKEN, seen=AWAY) as receiver:
        assert not await receiver.is_healthy()
