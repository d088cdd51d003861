"""The receiver in real frameworks under uvicorn, in a process of its own that is stopped and killed meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from attrs import define

from mmsclient.models import DeliveryReport, InboundMessage
from mmsclient.sandbox import Sandbox
from mmsclient.webhooks import CallbackReceiver

TOKEN = "the-token-of-the-server-tests"  # noqa: S105
FRAMEWORKS = ("alone", "starlette", "fastapi")


# The process that receives ----------------------------------------------------------------------------------


def app() -> Any:
    """For uvicorn's `--factory`: the framework and the folder stand in the environment."""
    folder = Path(os.environ["RECEIVER_FOLDER"])
    receiver = CallbackReceiver(
        token=TOKEN,
        seen=folder / "seen.sqlite" if os.environ["RECEIVER_SEEN"] else None,
        timeout=float(os.environ.get("RECEIVER_TIMEOUT", "10")),
    )
    handled = (folder / "handled").open("ab", buffering=0)

    @receiver.on_delivery_report
    async def take_report(report: DeliveryReport) -> None:
        handled.write(f"{report.message_id} {report.status}\n".encode())

    @receiver.on_inbound
    def take_message(message: InboundMessage) -> None:
        handled.write(f"{message.id} reply\n".encode())

    return mounted(receiver, os.environ["RECEIVER_FRAMEWORK"])


def mounted(receiver: CallbackReceiver, framework: str) -> Any:
    """`receiver` under /mms of an app, or alone."""
    if framework == "alone":
        return receiver

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with receiver:
            yield

    if framework == "fastapi":
        from fastapi import FastAPI  # noqa: PLC0415

        api = FastAPI(lifespan=lifespan)
        api.mount("/mms", receiver)
        return api
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.routing import Mount  # noqa: PLC0415

    return Starlette(routes=[Mount("/mms", receiver)], lifespan=lifespan)


@define
class Process:
    """uvicorn with `app`, on the same port every time."""

    framework: str
    folder: Path
    port: int
    options: tuple[str, ...] = ()
    seen: bool = True
    timeout: float = 10.0
    running: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mms/{TOKEN}"

    @property
    def handled(self) -> Counter[str]:
        file = self.folder / "handled"
        return Counter(file.read_text().splitlines()) if file.exists() else Counter()

    def start(self) -> None:
        """Start it, and come back when it listens."""
        settings = {
            "RECEIVER_FRAMEWORK": self.framework,
            "RECEIVER_FOLDER": str(self.folder),
            "RECEIVER_SEEN": "1" if self.seen else "",
            "RECEIVER_TIMEOUT": str(self.timeout),
        }
        command = [sys.executable, "-m", "uvicorn", "tests.test_webhooks_server:app", "--factory", "--no-access-log"]
        log = (self.folder / "log").open("a")
        with log:
            self.running = subprocess.Popen(  # noqa: S603 -- our own command
                [*command, "--port", str(self.port), *self.options],
                env=os.environ | settings,
                cwd=Path(__file__).parent.parent,
                stderr=log,
                text=True,
            )
        until(lambda: not self.refuses())

    def refuses(self) -> bool:
        assert self.running
        assert self.running.poll() is None, self.log
        with closing(socket.socket()) as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) != 0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal, and wait until it has ended."""
        if self.running is not None:
            self.running.send_signal(number)
            self.running.wait(timeout=30)
            self.running = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something in another process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a process, which is killed at the end."""
    processes: list[Process] = []

    def start(framework: str, **options: Any) -> Process:
        with closing(socket.socket()) as any_port:
            any_port.bind(("127.0.0.1", 0))
            port = any_port.getsockname()[1]
        process = Process(framework, tmp_path, port, **options)
        processes.append(process)
        process.start()
        return process

    yield start
    for process in processes:
        process.stop(signal.SIGKILL)


# Callbacks while the process is restarted -------------------------------------------------------------------


class Outcome(NamedTuple):
    events: set[str]
    posts: int
    lost: int
    answered: Counter[int | None]
    handled: Counter[str]

    @property
    def missing(self) -> set[str]:
        return self.events - set(self.handled)

    @property
    def twice(self) -> dict[str, int]:
        return {event: count for event, count in self.handled.items() if count > 1}


def storm(process: Process, count: int, endings: list[signal.Signals], seconds: float = 60.0) -> Outcome:
    """`count` callbacks, each twice and out of order, while the process ends by each of `endings` and starts anew."""
    with Sandbox(
        rate=None,
        magic=False,
        callback_url=process.url,
        duplicates=1,
        disorder=1.0,
        callback_attempts=100,
        callback_backoff=0.02,
        deliver_after=0.1,
    ) as sandbox:
        numbers = [f"+6140{number:07}" for number in range(count * 9 // 10)]
        for first in range(0, len(numbers), 1000):
            sandbox.send(numbers[first : first + 1000], "Hi", "", b"GIF89a")
        replies = sandbox.add_replies(count - len(numbers))
        posts = 2 * count
        for nth, ending in enumerate(endings, 1):
            enough = posts * nth // (len(endings) + 1)
            until(partial(has_answered, sandbox, enough), seconds)
            process.stop(ending)
            process.start()
        until(lambda: not sandbox.callbacks_open, seconds)
        assert sandbox.errors == []
        events = {f"{message.id} Delivered" for message in sandbox.messages} | {f"{each.id} reply" for each in replies}
        statuses = Counter(callback.status for callback in sandbox.callbacks)
        return Outcome(events, len(sandbox.callbacks), len(sandbox.callbacks_lost), statuses, process.handled)


def has_answered(sandbox: Sandbox, enough: int) -> bool:
    return sum(callback.status == 200 for callback in sandbox.callbacks) >= enough


@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
def test_each_event_once_while_the_process_is_restarted(start: Callable[..., Process], framework: str) -> None:
    process = start(framework)
    outcome = storm(process, 400, [signal.SIGTERM])
    assert (outcome.missing, outcome.lost, outcome.twice) == (set(), 0, {})
    assert outcome.answered[200] == 800
    assert "Traceback" not in process.log


def test_none_is_lost_when_the_process_is_killed(start: Callable[..., Process]) -> None:
    process = start("alone")
    outcome = storm(process, 400, [signal.SIGKILL])
    assert (outcome.missing, outcome.lost) == (set(), 0)
    assert sum(outcome.twice.values()) <= 2 * 16  # at most what was under way
    assert outcome.answered[200] == 800


def test_two_workers_on_one_file(start: Callable[..., Process]) -> None:
    process = start("starlette", options=("--workers", "2"))
    outcome = storm(process, 300, [])
    assert (outcome.missing, outcome.lost, outcome.twice) == (set(), 0, {})


# What else may come -----------------------------------------------------------------------------------------


def raw(process: Process, request: bytes, *parts: bytes, close: bool = False) -> bytes:
    """What is answered to bytes on a connection, until it is closed or the answer is whole."""
    with closing(socket.create_connection(("127.0.0.1", process.port), timeout=30)) as connection:
        connection.sendall(request)
        for part in parts:
            try:
                connection.sendall(part)
            except ConnectionError:  # it has answered and closed
                break
        if close:
            return b""
        answer = b""
        while b"\r\n\r\n" not in answer:
            try:
                more = connection.recv(65536)
            except ConnectionError:
                break
            if not more:
                break
            answer += more
        return answer


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_refused(start: Callable[..., Process], framework: str) -> None:
    process = start(framework, seen=False, timeout=1.0)
    path, host = f"/mms/{TOKEN}", b"Host: x\r\nContent-Type: application/json\r\n"
    report = {"message_id": "1", "status": "Delivered", "recipient": "61400000000"}
    with httpx.Client(base_url=f"http://127.0.0.1:{process.port}", trust_env=False) as http:
        unknown = http.get("/mms/unknown")
        assert unknown.status_code == 404
        for forged in ("/mms/", "/mms/the-token-of-the-server-testt", f"/mms/{TOKEN}/x", "/mms/%00", "/mms/%FF"):
            answer = http.post(forged, json=[report])
            assert (answer.status_code, answer.content) == (404, unknown.content)
        for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS"):
            answer = http.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        for body in (b"", b"{", b"[" * 50_000, b"[[[1]]]", b"NaN", b"\xff" * 100, b'"text"'):
            assert http.post(path, content=body).status_code == 400
        assert http.post(path, content=b"<a/>", headers={"content-type": "text/xml"}).status_code == 415
        assert http.post(path, content=b" " * (1024 * 1024 + 1)).status_code == 413
        before = memory(process)
        head = f"POST {path} HTTP/1.1\r\n".encode() + host
        endless = (b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(2000))
        answered = raw(process, head + b"Transfer-Encoding: chunked\r\n\r\n", *endless)
        assert answered == b"" or b" 413 " in answered[:20]  # the answer may be lost when the connection is closed
        assert b" 408 " in raw(process, head + b"Content-Length: 9\r\n\r\n", b"[")[:20]  # and then says no more
        raw(process, head + b"Content-Length: 9\r\n\r\n", b"[", close=True)
        assert memory(process) - before < 32 * 1024
        assert http.post(path, json=[report, [report], 7]).status_code == 200
        assert http.post(path, json=[report] * 3).status_code == 200
    assert process.handled == {"1 Delivered": 1}
    process.stop()
    assert "Traceback" not in process.log


def memory(process: Process) -> int:
    """KiB that it holds."""
    assert process.running
    status = Path(f"/proc/{process.running.pid}/status")
    if not status.exists():
        return 0
    return int(status.read_text().partition("VmRSS:")[2].split()[0])


@pytest.mark.parametrize("root", [(), ("--root-path", "/outer")])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_root_paths(start: Callable[..., Process], framework: str, root: tuple[str, ...]) -> None:
    process = start(framework, options=root, seen=False)
    report = {"message_id": "1", "status": "Delivered", "recipient": "61400000000"}
    assert httpx.post(process.url, json=[report], trust_env=False).status_code == 200


def test_the_wrong_token_answers_as_starlette_does(start: Callable[..., Process]) -> None:
    process = start("starlette", seen=False)
    answers = [
        httpx.post(f"http://127.0.0.1:{process.port}{path}", json=[], trust_env=False)
        for path in ("/nowhere", "/mms/a-wrong-token-of-some-length", "/mms")
    ]
    heads = [{name: value for name, value in answer.headers.items() if name != "date"} for answer in answers]
    assert heads[0] == heads[1]
    assert answers[0].content == answers[1].content
    assert [answer.status_code for answer in answers[:2]] == [404, 404]
