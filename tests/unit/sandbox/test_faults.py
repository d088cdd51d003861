"""Every fault over a real connection, with TLS and without: what the peer sees, and whether the call took effect."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from mmsclient.sandbox import Sandbox, Send, faults

NUMBER = "+61400000000"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(rate=None, tls=request.param) as sandbox:
        yield sandbox
    assert sandbox.errors == []


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx.Client]:
    headers = {"APPKEY": sandbox.app_key}
    with httpx.Client(base_url=sandbox.url, headers=headers, verify=sandbox.ssl_context or True, timeout=30) as http:
        yield http


def send(http: httpx.Client, size: int = 6) -> httpx.Response:
    fields = {"numbers": json.dumps([NUMBER]), "mms_text": "Hello"}
    return http.post("/send-mms", data=fields, files={"mms_file": ("image.gif", b"GIF89a".ljust(size))})


def errno_of(error: BaseException) -> int | None:
    """The errno at the bottom of httpx's wrappings."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        cause = cause.__cause__ or cause.__context__
    return None


@pytest.mark.parametrize("size", [6, 300_000])
@pytest.mark.parametrize("carried_out", [False, True])
def test_reset(sandbox: Sandbox, http: httpx.Client, carried_out: bool, size: int) -> None:
    sandbox.faults.add(faults.Reset(carried_out=carried_out), times=1)
    with pytest.raises(httpx.TransportError):
        send(http, size)
    assert sandbox.carried_out(NUMBER) == carried_out
    assert [arrival.status for arrival in sandbox.arrivals] == [None]
    assert send(http).status_code == 200


@pytest.mark.parametrize("carried_out", [False, True])
async def test_reset_is_a_tcp_reset(sandbox: Sandbox, carried_out: bool) -> None:
    """Asked by asyncio, which reads the socket itself; OpenSSL would report the end of the stream."""
    sandbox.faults.add(faults.Reset(carried_out=carried_out))
    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port, ssl=sandbox.ssl_context)
    writer.write(f"GET /api/v3/account HTTP/1.1\r\nHost: x\r\nAPPKEY: {sandbox.app_key}\r\n\r\n".encode())
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    with suppress(ConnectionResetError):
        await writer.wait_closed()


@pytest.mark.parametrize("carried_out", [False, True])
def test_server_error_and_bad_gateway(sandbox: Sandbox, http: httpx.Client, carried_out: bool) -> None:
    sandbox.faults.add(faults.server_error(carried_out=carried_out), times=1)
    sandbox.faults.add(faults.bad_gateway(carried_out=carried_out), times=1)
    error, gateway = send(http), send(http)
    assert (error.status_code, error.text) == (500, "Internal Server Error")
    assert (gateway.status_code, gateway.headers["content-type"]) == (502, "text/html")
    assert "<h1>502" in gateway.text
    assert sandbox.carried_out(NUMBER) == 2 * carried_out


def test_truncated_body(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(faults.TruncatedBody(), times=1)
    cut = send(http)
    assert (cut.status_code, len(cut.content)) == (200, int(cut.headers["content-length"]))
    with pytest.raises(json.JSONDecodeError):
        cut.json()
    assert sandbox.carried_out(NUMBER) == 1


def test_cut_connection(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(faults.CutConnection(), times=1)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        send(http)
    assert sandbox.carried_out(NUMBER) == 1
    assert send(http).status_code == 200


def test_wrong_content_type(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(faults.WrongContentType(), times=1)
    response = send(http)
    assert response.headers["content-type"].startswith("text/html")
    assert response.json()["meta"]["status"] == "SUCCESS"


def test_slow_body(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(faults.SlowBody(delay=0.001, step=40), times=1)
    with http.stream("GET", "/account") as response:
        parts = list(response.iter_raw())
    assert len(parts) > 2
    assert json.loads(b"".join(parts))["meta"]["status"] == "SUCCESS"


def test_endless_body_ends_when_the_peer_leaves(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(faults.EndlessBody(limit=1 << 40), times=1)
    with http.stream("GET", "/account") as response:
        first = next(response.iter_raw(chunk_size=1_000_000))
    assert (response.status_code, len(first)) == (200, 1_000_000)
    assert http.get("/account").status_code == 200


def test_endless_body_is_bounded(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(faults.EndlessBody(limit=1_000_000), times=1)
    assert 900_000 < len(http.get("/account").content) < 1_000_000
    sandbox.faults.add(faults.EndlessBody(limit=1 << 40, seconds=0.05), times=1)
    with pytest.raises(httpx.RemoteProtocolError), http.stream("GET", "/account") as response:
        for _ in response.iter_raw():
            pass


@pytest.mark.parametrize("carried_out", [False, True])
def test_latency_is_carried_out_even_if_the_caller_leaves(
    sandbox: Sandbox, http: httpx.Client, carried_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    carry_out = sandbox.send

    def send_and_tell(*args: Any) -> Send:
        try:
            return carry_out(*args)
        finally:
            done.set()

    monkeypatch.setattr(sandbox, "send", send_and_tell)
    sandbox.faults.add(faults.Latency(0.3, jitter=0.1, carried_out=carried_out), times=1)
    http.timeout = httpx.Timeout(5, read=0.05)
    with pytest.raises(httpx.ReadTimeout):
        send(http)
    assert done.wait(10)
    assert sandbox.carried_out(NUMBER) == 1


def test_latency_applies_beside_another_fault(sandbox: Sandbox, http: httpx.Client) -> None:
    slow = sandbox.faults.add(faults.Latency(0.01))
    sandbox.faults.add(faults.server_error(), times=1)
    assert [send(http).status_code for _ in range(2)] == [500, 200]
    assert slow.hits == 2


def test_throttle_in_its_variants(sandbox: Sandbox, http: httpx.Client) -> None:
    for fault in [
        faults.throttle(),
        faults.throttle(retry_after=2),
        faults.throttle(status=200),
        faults.throttle(empty=True, retry_after="soon"),
    ]:
        sandbox.faults.add(fault, times=1)
    plain, with_time, ok, empty = (send(http) for _ in range(4))
    assert (plain.status_code, plain.json()["meta"]) == (429, {"code": 429, "status": "OVER_LIMIT"})
    assert "retry-after" not in plain.headers
    assert (with_time.status_code, with_time.headers["retry-after"]) == (429, "2")
    assert (ok.status_code, ok.json()["meta"]["status"]) == (200, "OVER_LIMIT")
    assert (empty.status_code, empty.content, empty.headers["retry-after"]) == (429, b"", "soon")
    assert (sandbox.throttled["send-mms"], sandbox.carried_out(NUMBER)) == (4, 0)


def test_a_throttled_call_does_not_count(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.settings.rate = 1
    sandbox.faults.add(faults.throttle(), times=3)
    assert [send(http).status_code for _ in range(4)] == [429, 429, 429, 200]


@pytest.mark.parametrize("code", ["NO_ACCESS", "KEY_EXISTS", "LEDGER_ERROR", "LIST_EMPTY", "SOMETHING_NEW"])
@pytest.mark.parametrize("dialect", ["meta", "error"])
def test_any_code(sandbox: Sandbox, http: httpx.Client, dialect: Any, code: str) -> None:
    sandbox.settings.dialect = dialect
    sandbox.faults.add(faults.Reject(code, "why", status=403))
    response = send(http)
    body = response.json()
    assert response.status_code == 403
    if dialect == "meta":
        assert (body["meta"], body["msg"]) == ({"code": 403, "status": code}, "why")
    else:
        assert body == {"error": {"code": code, "description": "why"}}
    assert sandbox.carried_out(NUMBER) == 0


def test_redirect_and_anything_else(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults.add(faults.redirect("https://elsewhere.example/"), times=1)
    sandbox.faults.add(faults.Respond(418, b"\x00", {"X-Pot": "tea"}, carried_out=True), times=1)
    moved, pot = send(http), send(http)
    assert (moved.status_code, moved.headers["location"]) == (302, "https://elsewhere.example/")
    assert (pot.status_code, pot.content, pot.headers["x-pot"]) == (418, b"\x00", "tea")
    assert sandbox.carried_out(NUMBER) == 1


def test_for_one_call_only_so_many_times_and_after_some(sandbox: Sandbox, http: httpx.Client) -> None:
    rule = sandbox.faults.add(faults.bad_gateway(), call="account", times=2, skip=1)
    assert send(http).status_code == 200
    assert [http.get("/account").status_code for _ in range(4)] == [200, 502, 502, 200]
    assert rule.hits == 2


def test_for_a_share_of_the_calls(sandbox: Sandbox, http: httpx.Client) -> None:
    rule = sandbox.faults.add(faults.bad_gateway(), share=0.3)
    statuses = [http.get("/account").status_code for _ in range(100)]
    assert rule.hits == statuses.count(502)
    assert 10 < rule.hits < 50


def test_until_it_is_removed(sandbox: Sandbox, http: httpx.Client) -> None:
    with sandbox.faults.add(faults.bad_gateway()):
        assert http.get("/account").status_code == 502
    assert http.get("/account").status_code == 200
    rule = sandbox.faults.add(faults.bad_gateway())
    rule.remove()
    rule.remove()
    sandbox.faults.add(faults.bad_gateway())
    sandbox.faults.clear()
    assert http.get("/account").status_code == 200
    sandbox.faults.add(faults.bad_gateway())
    sandbox.reset()
    assert http.get("/account").status_code == 200


def test_a_call_that_is_turned_away_uses_up_no_fault(sandbox: Sandbox, http: httpx.Client) -> None:
    rule = sandbox.faults.add(faults.bad_gateway(), times=1)
    assert http.get("/account", headers={"APPKEY": "wrong"}).status_code == 401
    assert rule.hits == 0


def test_refusing(sandbox: Sandbox, http: httpx.Client) -> None:
    assert http.get("/account").status_code == 200
    port = sandbox.port
    for _ in range(3):
        with sandbox.refusing():
            for _ in range(2):
                with pytest.raises(httpx.ConnectError) as caught:
                    send(http)
                assert errno_of(caught.value) == errno.ECONNREFUSED
        assert send(http).status_code == 200
    assert sandbox.port == port
    assert sandbox.carried_out(NUMBER) == 3


def test_a_fault_of_the_connection_needs_one(sandbox: Sandbox) -> None:
    sandbox.faults.add(faults.Reset(carried_out=False))

    async def ask() -> None:
        transport = httpx.ASGITransport(sandbox.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox/api/v3") as http:
            await http.get("/account", headers={"APPKEY": sandbox.app_key})

    with pytest.raises(RuntimeError, match="real connection"):
        asyncio.run(ask())
    assert [str(error) for error in sandbox.errors] == ["this fault needs a real connection; serve the app by Sandbox"]
    sandbox.errors.clear()
