"""The sandbox as a server: starts and stops cleanly under any loop, whatever is under way, and as a pytest fixture."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mmsclient._extras import install_command
from mmsclient.sandbox import Sandbox, faults, pytest_plugin, server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def ask(sandbox: Sandbox, **options: object) -> httpx.Response:
    verify = sandbox.ssl_context or True
    return httpx.get(f"{sandbox.url}/account", headers={"APPKEY": sandbox.app_key}, verify=verify, **options)  # type: ignore[arg-type]


def request(sandbox: Sandbox) -> bytes:
    return f"GET /api/v3/account HTTP/1.1\r\nHost: x\r\nAPPKEY: {sandbox.app_key}\r\n\r\n".encode()


# Starting and stopping ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_serves_synchronous_code(tls: bool) -> None:
    with Sandbox(tls=tls) as sandbox:
        assert sandbox.url == f"http{'s' * tls}://127.0.0.1:{sandbox.port}/api/v3"
        assert isinstance(sandbox.ssl_context, ssl.SSLContext) == tls
        assert ask(sandbox).status_code == 200
    assert len(sandbox.arrivals) == 1
    with pytest.raises(httpx.ConnectError):
        ask(sandbox)


async def test_serves_asynchronous_code() -> None:
    async with Sandbox(tls=True) as sandbox, httpx.AsyncClient(verify=sandbox.ssl_context or True) as http:
        response = await http.get(f"{sandbox.url}/account", headers={"APPKEY": sandbox.app_key})
        assert response.status_code == 200


def test_serves_under_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> int:
        async with Sandbox(tls=True) as sandbox, httpx.AsyncClient(verify=sandbox.ssl_context or True) as http:
            response = await http.get(f"{sandbox.url}/account", headers={"APPKEY": sandbox.app_key})
            return response.status_code

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == 200


def test_several_at_once() -> None:
    with Sandbox(tls=True) as one, Sandbox(tls=True) as two:
        assert one.port != two.port
        assert ask(one).status_code == ask(two).status_code == 200
        assert len(one.arrivals) == len(two.arrivals) == 1


def test_a_given_port_and_a_second_start() -> None:
    with Sandbox() as first:
        port = first.port
        with pytest.raises(OSError, match="in use"):
            Sandbox(port=port).start()
    second = Sandbox(port=port)
    for _ in range(2):
        second.start()
        with pytest.raises(RuntimeError, match="running already"):
            second.start()
        assert ask(second).status_code == 200
        assert second.port == port
        second.stop()
        second.stop()


def test_a_start_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox()
    with monkeypatch.context() as patch:
        patch.setattr("mmsclient.sandbox.listener.Listener.listen", None)
        with pytest.raises(TypeError):
            sandbox.start()
    with sandbox:
        assert ask(sandbox).status_code == 200


def test_before_it_is_started() -> None:
    sandbox = Sandbox()
    with pytest.raises(RuntimeError, match="started"):
        _ = sandbox.url
    with pytest.raises(RuntimeError, match="not running"), sandbox.refusing():
        pass


async def test_cancelled_while_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = asyncio.Event()

    async def wait(_: object) -> None:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(server, "_wait", wait)  # the thread may have started by the first look
    sandbox = Sandbox()
    task = asyncio.ensure_future(sandbox.__aenter__())
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_only_its_own_authority_is_trusted() -> None:
    with Sandbox(tls=True) as sandbox:
        context = ssl.create_default_context()
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(sandbox.url, verify=context)
        assert ask(sandbox).status_code == 200


def test_idle_connections_are_closed() -> None:
    with Sandbox(keep_alive=0.01) as sandbox, socket.create_connection(("127.0.0.1", sandbox.port)) as peer:
        peer.settimeout(10)
        peer.sendall(request(sandbox))
        while peer.recv(4096):
            pass


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        faults.Latency(3600),
        faults.Latency(3600, carried_out=True),
        faults.SlowBody(3600),
        faults.EndlessBody(limit=1 << 40, seconds=3600),
    ],
)
def test_stops_at_once_whatever_is_under_way(tls: bool, fault: faults.Fault) -> None:
    with Sandbox(tls=tls) as sandbox:
        rule = sandbox.faults.add(fault)
        outcome: list[object] = []

        def call() -> None:
            try:
                ask(sandbox, timeout=60)
            except httpx.TransportError as error:
                outcome.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        while not rule.hits:
            time.sleep(0.001)
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 60
    thread.join()
    assert len(outcome) == 1
    assert sandbox.errors == []


@pytest.mark.parametrize("tls", [False, True])
def test_stops_with_connections_in_every_state(tls: bool) -> None:
    with Sandbox(tls=tls) as sandbox:
        address = ("127.0.0.1", sandbox.port)
        silent, broken, half, idle = (socket.create_connection(address) for _ in range(4))
        broken.sendall(b"\x16\x03nonsense\r\n\r\n")
        if sandbox.ssl_context:
            half = sandbox.ssl_context.wrap_socket(half, server_hostname="127.0.0.1")
            idle = sandbox.ssl_context.wrap_socket(idle, server_hostname="127.0.0.1")
        half.sendall(request(sandbox)[:30])
        idle.sendall(request(sandbox))
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
    for peer in (silent, broken, half, idle):
        peer.close()
    assert sandbox.errors == []


def test_refusing_lets_calls_under_way_end() -> None:
    with Sandbox() as sandbox:
        rule = sandbox.faults.add(faults.Latency(0.1))
        statuses: list[int] = []
        thread = threading.Thread(target=lambda: statuses.append(ask(sandbox).status_code))
        thread.start()
        while not rule.hits:
            time.sleep(0.001)
        with sandbox.refusing(), pytest.raises(httpx.ConnectError):
            ask(sandbox)
        thread.join()
        assert statuses == [200]


def test_stops_while_refusing() -> None:
    sandbox = Sandbox()
    sandbox.start()
    with sandbox.refusing():
        sandbox.stop()


def test_is_silent_and_leaves_the_logging_of_others_alone(capfd: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    with Sandbox() as sandbox:
        ask(sandbox)
        with socket.create_connection(("127.0.0.1", sandbox.port)) as peer:
            peer.sendall(b"nonsense\r\n\r\n")
            assert b"400" in peer.recv(100)
    assert [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers] == before
    assert capfd.readouterr() == ("", "")


def test_a_defect_of_its_own_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox() as sandbox:
        monkeypatch.setattr(sandbox, "admit", None)
        assert ask(sandbox).status_code == 500
    assert [type(error) for error in sandbox.errors] == [TypeError]


# The pytest plugin ----------------------------------------------------------------------------------------------------


WITHOUT = [option for name in ("hypothesispytest", "xdist", "xdist.looponfail") for option in ("-p", f"no:{name}")]
"""Plugins that only cost time here."""


def run_pytest(directory: Path, test: str, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_it.py").write_text(test)
    (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *WITHOUT, *options]
    return subprocess.run(  # noqa: S603 -- our own command
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=120
    )


USING = """
import httpx

def test_it(mms_sandbox):
    headers = {"APPKEY": mms_sandbox.app_key}
    response = httpx.get(mms_sandbox.url + "/account", headers=headers, verify=mms_sandbox.ssl_context)
    assert response.status_code == 200
    assert mms_sandbox.url.startswith("https:")

def test_that_each_gets_its_own(mms_sandbox):
    assert mms_sandbox.arrivals == []
"""

FAILING = """
def test_it(mms_sandbox):
    mms_sandbox.errors.append(ValueError("a defect"))
"""

WITHOUT_EXTRA = """
import sys
sys.modules["starlette"] = None
sys.modules["starlette.applications"] = None
sys.modules["starlette.types"] = None
sys.modules["trustme"] = None

def test_it(mms_sandbox):
    pass
"""

NOT_USING = """
import sys

def test_it():
    assert not {"starlette", "uvicorn", "trustme", "mmsclient.sandbox.server"} & sys.modules.keys()
"""


def test_the_fixture_is_there_for_any_project(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, USING)
    assert "2 passed" in result.stdout, result.stdout + result.stderr


def test_the_fixture_serves_plain_and_async_tests_as_its_page_shows(tmp_path: Path) -> None:
    (tmp_path / "hello.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    blocks = [block for block in (pytest_plugin.__doc__ or "").split("\n\n") if block.startswith("    ")]
    code = textwrap.dedent("\n\n".join(["    import asyncio", "    import pytest", *blocks]))
    result = run_pytest(tmp_path, code)
    assert "2 passed" in result.stdout, result.stdout + result.stderr


def test_the_fixture_costs_nothing_unless_used(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, NOT_USING)
    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_a_defect_of_the_sandbox_fails_the_test(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, FAILING)
    assert "ValueError: a defect" in result.stdout, result.stdout + result.stderr


def test_without_the_extra_the_fixture_says_what_to_install(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, WITHOUT_EXTRA)
    assert install_command("sandbox") in result.stdout, result.stdout + result.stderr
    assert "Traceback" not in result.stdout
