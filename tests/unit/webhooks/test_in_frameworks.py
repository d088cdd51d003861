"""The receiver in real frameworks under uvicorn, in a process of its own that is stopped and killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from mmsclient.sandbox import Sandbox
from tests.support.receiving import TOKEN, Process
from tests.support.waiting import until

REPORTS = 1500
"""At the same time: more than may wait for somebody to take them."""

FRAMEWORKS = ("alone", "starlette", "fastapi")


# The process that receives ----------------------------------------------------------------------------------


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
    outcome = storm(process, 200, [signal.SIGTERM])
    assert (outcome.missing, outcome.lost, outcome.twice) == (set(), 0, {})
    assert outcome.answered[200] == 400
    assert "Traceback" not in process.log


def test_none_is_lost_when_the_process_is_killed(start: Callable[..., Process]) -> None:
    process = start("alone")
    outcome = storm(process, 200, [signal.SIGKILL])
    assert (outcome.missing, outcome.lost) == (set(), 0)
    assert sum(outcome.twice.values()) <= 2 * 16  # at most what was under way
    assert outcome.answered[200] == 400


def test_two_workers_on_one_file(start: Callable[..., Process]) -> None:
    process = start("starlette", options=("--workers", "2"))
    outcome = storm(process, 150, [])
    assert (outcome.missing, outcome.lost, outcome.twice) == (set(), 0, {})


def test_an_event_that_is_being_handled_at_sigterm_is_given_back(start: Callable[..., Process]) -> None:
    slow = {"message_id": "1", "status": "Rejected", "recipient": "61400000000"}
    process = start("starlette", timeout=0.3)
    assert httpx.post(process.url, json=[slow], trust_env=False).status_code == 503
    process.stop()
    assert process.handled == {}
    assert {file.name for file in process.folder.glob("seen*")} == {"seen.sqlite"}  # one file after a clean end
    (process.folder / "go on").touch()
    process.timeout = 30.0
    process.start()
    assert httpx.post(process.url, json=[slow], trust_env=False).status_code == 200  # long before a lease ends
    assert process.handled == {"1 Rejected": 1}


def test_an_event_that_is_being_handled_at_sigterm_is_finished(start: Callable[..., Process]) -> None:
    slow = {"message_id": "1", "status": "Rejected", "recipient": "61400000000"}
    process = start("starlette", timeout=3)
    assert httpx.post(process.url, json=[slow], trust_env=False).status_code == 503
    assert process.running
    process.running.terminate()
    (process.folder / "go on").touch()
    process.stop()
    assert process.handled == {"1 Rejected": 1}
    process.start()
    assert httpx.post(process.url, json=[slow], trust_env=False).status_code == 200
    assert process.handled == {"1 Rejected": 1}


async def test_reports_that_nobody_takes_keep_no_inbound_message_waiting(start: Callable[..., Process]) -> None:
    process = start("alone", seen=False, reports=False, timeout=10.0)

    async def post(event: dict[str, str]) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        with closing(writer):
            body = json.dumps([event]).encode()
            head = f"POST /{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            return int((await reader.readline()).split()[1])

    report = {"status": "Delivered", "recipient": "61400000000"}
    inbound = {"from": "61400000000", "body": "STOP", "message_id": "stop"}
    for turn in range(2):
        reports = [asyncio.create_task(post(report | {"message_id": f"{turn}-{n}"})) for n in range(REPORTS)]
        async with asyncio.timeout(60):
            while sum(each.done() for each in reports) < REPORTS - 1000:
                await asyncio.wait([each for each in reports if not each.done()], return_when="FIRST_COMPLETED")
        assert await post(inbound | {"message_id": f"stop-{turn}"}) == 200
        assert sum(not each.done() for each in reports) > 900
        async with asyncio.timeout(60):
            assert set(await asyncio.gather(*reports)) == {503}
    assert process.handled == {"stop-0 reply": 1, "stop-1 reply": 1}
    process.stop()
    lines = [line for line in process.log.splitlines() if "a delivery report was not handled" in line]
    assert 2 <= len(lines) <= 10
    left_out = [int(line.rpartition("(")[2].split()[0]) for line in lines if "left out" in line]
    assert len(lines) - len(left_out) + sum(left_out) == 2 * REPORTS


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
