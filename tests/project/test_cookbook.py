"""The recipes of docs/cookbook, each run as its reader would run it, against the sandbox."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from mmsclient import InvalidRequestError, OutcomeUnknownError
from mmsclient.bulk import RecipientState as State
from mmsclient.bulk import read_report
from mmsclient.sandbox import Sandbox, faults
from mmsclient.webhooks import new_token
from tests.conftest import PNG
from tests.support.held import Held
from tests.support.otlp_receiver import otlp_receiver
from tests.support.pages import PageReader
from tests.support.postgres_server import binaries
from tests.support.redis_server import Server
from tests.support.waiting import until

COOKBOOK = Path(__file__).parent.parent.parent / "docs" / "cookbook"


def recipe(name: str) -> ModuleType:
    """The recipe as a module."""
    spec = importlib.util.spec_from_file_location(name, COOKBOOK / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_recipe_is_shown_and_tested() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    pages = "".join(page.read_text(encoding="utf-8") for page in COOKBOOK.glob("*.md"))
    for file in COOKBOOK.glob("*.py"):
        assert f'--8<-- "cookbook/{file.name}"' in pages
        assert f'recipe("{file.stem}")' in source


# FastAPI ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sandbox: Sandbox) -> Iterator[str]:
    """The service on a port of its own; the sandbox posts its callbacks there."""
    token = new_token()
    monkeypatch.setenv("MMSCLIENT_CALLBACK_TOKEN", token)
    app = recipe("fastapi_service").create_app(sandbox.client, str(tmp_path / "callbacks.sqlite"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False))
    started = threading.Event()
    startup = server.startup

    async def told(*arguments: object, **options: object) -> None:
        await startup(*arguments, **options)  # type: ignore[arg-type]
        started.set()

    server.startup = told  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(30)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    sandbox.settings.callback_url = f"{url}/mms/{token}"
    yield url
    sandbox.settings.callback_url = None
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


async def shows(browser: httpx.AsyncClient, path: str, expected: object) -> None:
    """Ask until it does: the service tells nobody when a callback has come."""
    while (await browser.get(path)).json() != expected:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def test_the_service_sends_and_hears_of_it(service: str, sandbox: Sandbox) -> None:
    files = {"image": ("sale.gif", PNG)}
    async with httpx.AsyncClient(base_url=service, trust_env=False) as browser:

        async def post(to: str) -> httpx.Response:
            return await browser.post("/pictures", data={"to": to, "text": "Hello"}, files=files)

        sent = await post("+61400009922")  # is delivered, and answers STOP
        assert (sent.status_code, sent.json()["accepted"]) == (202, 1)
        async with asyncio.timeout(60):
            await shows(browser, f"/pictures/{sent.json()['id']}", {"status": "Delivered"})
            await shows(browser, "/unsubscribed", ["+61400009922"])
        assert (await post("no number")).status_code == 422
        assert (await post("+61400009903")).status_code == 502  # out of credit
        sandbox.faults.add(faults.server_error(carried_out=True), call="send-mms", times=1)
        lost = await post("+61400000005")
        assert (lost.status_code, lost.json()["detail"]) == (502, "it may have been sent; do not repeat it")
        assert sandbox.carried_out("+61400000005") == 1


# A service that is watched ------------------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a path that is short enough for sockets, and that PostgreSQL's user can reach."""
    with tempfile.TemporaryDirectory(prefix="shop-", dir="/tmp") as name:
        yield Path(name)


def test_the_watched_service_runs_with_all_its_parts(folder: Path) -> None:
    Server().stop()  # skips the test where there is no Redis
    binaries()  # nor PostgreSQL
    stack = recipe("observed_stack")
    assert Path(str(recipe("observed_service").__file__)) == stack.SERVICE
    with (
        otlp_receiver() as collector,
        stack.running(folder, web_port=0, metrics_port=0, traces=collector.url) as shop,
        httpx.Client(trust_env=False, timeout=60) as browser,
    ):

        def figure(url: str, name: str, **labels: str) -> float:
            families = text_string_to_metric_families(browser.get(f"{url}/metrics", follow_redirects=True).text)
            samples = [sample for family in families for sample in family.samples if sample.name == name]
            return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

        assert browser.get(f"{shop.web}/healthz").status_code == 200
        for number in range(6):
            query = {"to": f"+6140000000{number}", "text": f"Order {number} is ready"}
            put = browser.post(f"{shop.web}/orders/{number}", params=query, files={"image": ("sale.gif", PNG)})
            assert put.status_code == 202, put.text
        for to, status in (("no number", 422), ("+61400000009", 409)):  # wrong, and another order of that number
            query = {"to": to, "text": "Order 0 is ready"}
            put = browser.post(f"{shop.web}/orders/0", params=query, files={"image": ("sale.gif", PNG)})
            assert put.status_code == status, put.text
        for number in range(6):
            until(lambda: browser.get(f"{shop.web}/orders/{number}").json() == {"state": "accepted"})  # noqa: B023
        reports = {"kind": "delivery_report", "outcome": "handled"}
        until(lambda: figure(shop.web, "mmsclient_callback_events_total", **reports) >= 6)
        accepted = [figure(url, "mmsclient_messages_total", outcome="accepted") for url in shop.workers]
        assert (len(accepted), sum(accepted)) == (3, 6)
        assert shop.api.throttled.total() == 0
        assert json.loads(shop.prometheus.read_text())["rule_files"]
    names = Counter(span.name.split()[0] for span in collector.spans)  # what ends has exported all
    assert names["send-mms"] == 6
    assert names["process"] >= 6
    services = {each.value.string_value for of in collector.traces for each in of.resource_spans[0].resource.attributes}
    assert {"shop-web", "shop-worker"} <= services


# Synchronous callers ------------------------------------------------------------------------------------------------


def test_threads_send_through_one_client() -> None:
    with Sandbox(tls=True) as sandbox:
        options = {"app_key": sandbox.app_key, "base_url": sandbox.url, "verify": sandbox.ssl_context}
        numbers = [f"+614000000{n:02}" for n in range(20)]
        with recipe("synchronous_sender").SynchronousSender(**options) as sender:
            with ThreadPoolExecutor(8) as threads:
                sent = list(threads.map(lambda number: sender.send(number, "Hello", PNG), numbers))
            assert all(batch.accepted == 1 for batch in sent)
            with pytest.raises(InvalidRequestError):
                sender.send("no number", "Hello", PNG)
            sandbox.faults.add(faults.CutConnection(), call="send-mms", times=1)
            with pytest.raises(OutcomeUnknownError):
                sender.send("+61400000099", "Hello", PNG)
        assert all(sandbox.carried_out(number) == 1 for number in [*numbers, "+61400000099"])
        assert sandbox.throttled.total() == 0
    assert "asyncio" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture
def redis() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def test_the_cap_of_synchronous_senders_is_shared(redis: Server) -> None:
    with Sandbox(tls=True) as sandbox:
        options = {"app_key": sandbox.app_key, "base_url": sandbox.url, "verify": sandbox.ssl_context}
        options |= {"redis": redis.url, "account": "shop"}
        make = recipe("synchronous_sender").SynchronousSender
        with make(**options) as one, make(**options) as two:
            with ThreadPoolExecutor(16) as threads:
                sent = [
                    threads.submit(sender.send, f"+6140000{n:04}", "Hello", PNG)
                    for n in range(20)
                    for sender in (one, two)
                ]
            assert all(each.result().accepted == 1 for each in sent)
        assert sandbox.throttled.total() == 0


def test_a_sender_that_cannot_start_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="rate"):
        recipe("synchronous_sender").SynchronousSender(app_key="key", rate=-1).open()
    assert set(threading.enumerate()) <= before  # those of other tests may end meanwhile


# The nightly job ----------------------------------------------------------------------------------------------------

NIGHT = """
import asyncio, sys
sys.path.insert(0, sys.argv.pop(1))
import nightly_job
from mmsclient import AsyncMMSClient
url, *arguments = sys.argv[1:]
nightly_job.AsyncMMSClient = lambda: AsyncMMSClient(base_url=url, rate=None)
sys.exit(asyncio.run(nightly_job.main(*arguments)))
"""


def test_the_nightly_job_stops_at_sigterm_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(rate=None) as plain:
        monkeypatch.setenv("MMSCLIENT_APP_KEY", plain.app_key)
        numbers = [f"+614{n:08}" for n in range(3000)]
        (tmp_path / "list.csv").write_text("mobile\n" + "\n".join(numbers), encoding="utf-8")
        (tmp_path / "sale.gif").write_bytes(PNG)
        command = [sys.executable, "-c", NIGHT, str(COOKBOOK), plain.url, "list.csv", "sale.gif", "spring.db"]
        plain.faults.add(held := Held(), call="send-mms", times=1)
        with subprocess.Popen(command, cwd=tmp_path) as night:  # noqa: S603 - our own program
            while not plain.carried_out(numbers[0]):
                assert night.poll() is None
                time.sleep(0.005)
            night.send_signal(signal.SIGTERM)
            held.answer.set()
            assert night.wait(60) == 1
        counts = asyncio.run(read_report(tmp_path / "spring.db")).counts
        assert counts[State.ACCEPTED] == 1000
        assert counts[State.UNKNOWN] == counts[State.SENDING] == 0
        assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0  # noqa: S603
        assert all(plain.carried_out(number) == 1 for number in numbers)


async def test_the_exit_status_of_the_nightly_job(tmp_path: Path, sandbox: Sandbox) -> None:
    job = recipe("nightly_job")
    (tmp_path / "list.csv").write_text("mobile\n+61400000000\n", encoding="utf-8")
    (tmp_path / "sale.gif").write_bytes(PNG)
    arguments = str(tmp_path / "list.csv"), str(tmp_path / "sale.gif")
    async with sandbox.client() as mms:
        sandbox.faults.add(faults.server_error(carried_out=True), call="send-mms", times=1)
        assert await job.run(mms, *arguments, str(tmp_path / "unknown.db")) == 2
        assert await job.run(mms, *arguments, str(tmp_path / "done.db")) == 0
        (tmp_path / "list.csv").write_text("mobile\n+61400009903\n", encoding="utf-8")
        assert await job.run(mms, *arguments, str(tmp_path / "stopped.db")) == 1


# A campaign that is killed ------------------------------------------------------------------------------------------


def test_the_demonstration_adds_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It compares every recipient with the log of its sandbox, and ends with an error where they differ."""
    figures = recipe("demonstration").run(tmp_path, 150, 200)
    told = capfd.readouterr().out
    assert "nobody got two" in told
    assert figures["rows"] == 150
    assert {name: figures[name] for name in ("refused", "failed", "unknown", "pending", "sending")} == {
        "refused": 1,
        "failed": 0,
        "unknown": 0,
        "pending": 0,
        "sending": 0,
    }
    assert figures["suppressed"] >= 2
    assert figures["no message"] == 2
    assert (
        figures["accepted"] == 149 - figures["excluded"] == figures["reported Delivered"] + figures["reported Failed"]
    )
    assert figures["credits named"] + figures["credits unnamed"] == figures["accepted"]
    page = PageReader((tmp_path / "report.html").read_text(encoding="utf-8"))
    for name in ("Accepted", "Refused", "Excluded"):
        assert page.row(name)[0] == str(figures[name.lower()])
    assert page.row("Delivered") == [str(figures["reported Delivered"])]


# From requests ------------------------------------------------------------------------------------------------------


async def test_what_stands_in_place_of_requests(tmp_path: Path, sandbox: Sandbox) -> None:
    moved = recipe("from_requests")
    sandbox.add_replies(30)
    async with sandbox.client() as mms:
        assert await moved.is_key_good(mms)
        assert await moved.send_one(mms, "+61400000000", "Hello", PNG)
        assert await moved.send_one(mms, "+61400000001", "Hello", PNG)
        numbers = ["+61400000002", "+61400009901"]
        assert await moved.send_many(mms, numbers, "Hello", PNG, str(tmp_path / "list.db")) == ["+61400009901"]
        assert len(await moved.read_replies(mms)) == 30
        assert await moved.send_logged(mms, "+61400000003", "Hello", PNG) == "sent"
        assert await moved.send_logged(mms, "+61400009903", "Hello", PNG) == "not sent"
        sandbox.faults.add(faults.TruncatedBody(), call="send-mms", times=1)
        assert await moved.send_logged(mms, "+61400000004", "Hello", PNG) == "unknown"
    sandbox.keys.clear()
    async with sandbox.client() as mms:
        assert not await moved.is_key_good(mms)


# An alert with a chart ----------------------------------------------------------------------------------------------


def test_an_alert_goes_out_once_for_each_time_the_limit_is_passed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alert, table, state = recipe("alert_with_chart"), tmp_path / "readings.csv", tmp_path / "state"

    def check(*values: float) -> int:
        rows = "".join(f"12:{minute:02},{value}\n" for minute, value in enumerate(values))
        table.write_text(f"time,value\n{rows}")
        status: int = alert.main(str(table), "8.0", str(state), "+61400000000")
        return status

    with Sandbox() as sandbox:
        monkeypatch.setenv("MMSCLIENT_APP_KEY", sandbox.app_key)
        monkeypatch.setenv("MMSCLIENT_BASE_URL", sandbox.url)
        assert [check(), check(7.0), check(7.0, 9.5), check(9.5, 9.6)] == [0, 0, 0, 0]
        assert [send.text for send in sandbox.sends] == ["12:01: 9.5, above 8"]
        assert 500 < sandbox.sends[0].image_size < 20_000
        assert [check(5.0), check(9.0), check(5.0)] == [0, 0, 0]
        assert len(sandbox.sends) == 2
        sandbox.faults.add(faults.Reject("INSUFFICIENT_CREDIT", "No credit."), call="send-mms", times=1)
        assert (check(9.0), state.exists()) == (1, False)  # surely not sent: tried again
        sandbox.faults.add(faults.Reset(carried_out=True), call="send-mms", times=1)
        assert [check(9.0), check(9.0)] == [1, 0]
        assert len(sandbox.sends) == 3  # it may have gone out: not again
    assert "it may have been carried out" in caplog.text
