"""Whatever goes wrong, a send is carried out at most once, and a read succeeds where repeating can help."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
from typing import Any

import httpx
import httpx2
import pytest

import mmsclient
from mmsclient import AsyncMMSClient, MMSError
from mmsclient._transport import retry
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import (
    CutConnection,
    EndlessBody,
    Fault,
    Latency,
    Reset,
    Respond,
    SlowBody,
    TruncatedBody,
    bad_gateway,
    redirect,
    server_error,
    throttle,
)
from tests.conftest import PNG, Connect, until

ONE = "+61400000000"

UNKNOWN: dict[str, Fault] = {
    "reset before": Reset(carried_out=False),
    "reset after": Reset(carried_out=True),
    "500 after": server_error(),
    "502 html": bad_gateway(),
    "502 html after": bad_gateway(carried_out=True),
    "truncated json": TruncatedBody(),
    "cut connection": CutConnection(),
    "endless body": EndlessBody(),
    "redirect": redirect("https://elsewhere.example/"),
    "slow body": SlowBody(delay=0.05),
    "late answer": Latency(30.0, carried_out=True),
    "late": Latency(30.0),
}
"""Faults after which nobody knows whether a send was carried out."""

HARMLESS: dict[str, Fault] = {
    "429": throttle(),
    "429 without a body": throttle(empty=True),
    "OVER_LIMIT without a 429": throttle(status=200),
}
"""Faults that say that it was not."""


pytestmark = pytest.mark.usefixtures("impatient")


async def send(mms: AsyncMMSClient) -> mmsclient.SentBatch:
    return await mms.send(to=ONE, text="Once", image=PNG)


@pytest.mark.parametrize("name", UNKNOWN)
async def test_a_send_with_an_unknown_outcome_is_not_repeated(connect: Connect, sandbox: Sandbox, name: str) -> None:
    mms = connect(timeout=0.5)
    sandbox.faults.add(UNKNOWN[name], call="send-mms")
    with pytest.raises(mmsclient.OutcomeUnknownError) as caught:
        await send(mms)
    assert caught.value.attempts == 1
    assert caught.value.call == "send-mms"
    assert mms.stats.attempts == 1
    await until(lambda: sandbox.calls["send-mms"])
    assert sandbox.calls["send-mms"] == 1
    assert sandbox.carried_out(ONE) <= 1


@pytest.mark.parametrize("name", HARMLESS)
async def test_a_throttled_send_is_repeated_and_carried_out_once(connect: Connect, sandbox: Sandbox, name: str) -> None:
    mms = connect()
    sandbox.faults.add(HARMLESS[name], times=2)
    assert (await send(mms)).accepted == 1
    assert sandbox.carried_out(ONE) == 1
    assert mms.stats.throttled == 2
    sandbox.faults.add(HARMLESS[name])
    with pytest.raises(mmsclient.RateLimitError) as caught:
        await send(mms)
    assert caught.value.attempts == 4
    assert sandbox.carried_out(ONE) == 1


async def test_a_refused_connection_is_surely_not_sent(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect(max_attempts=2)
    with sandbox.refusing():
        with pytest.raises(mmsclient.NotSentError, match="nothing was sent") as caught:
            await send(mms)
        assert caught.value.attempts == 2
        assert mms.stats.attempts == 0
    assert (await send(mms)).accepted == 1
    assert sandbox.carried_out(ONE) == 1


async def test_a_send_waits_out_a_restart_of_the_server(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect(max_attempts=50)
    with sandbox.refusing():
        sending = asyncio.create_task(send(mms))
        await until(lambda: mms.stats.calls and not mms.stats.in_flight)
    assert (await sending).accepted == 1
    assert sandbox.carried_out(ONE) == 1


@pytest.mark.parametrize("name", sorted({*UNKNOWN, *HARMLESS} - {"late", "late answer", "slow body"}))
async def test_reads_and_marks_succeed_where_repeating_helps(connect: Connect, sandbox: Sandbox, name: str) -> None:
    (reply,) = sandbox.add_replies(1)
    fault = {**UNKNOWN, **HARMLESS}[name]
    mms = connect()
    for call in (mms.account, lambda: mms.mark_read(reply.id), lambda: mms.message("x")):
        sandbox.faults.add(fault, times=2)
        await call()
    assert not sandbox.unread
    sandbox.faults.add(fault)
    with pytest.raises((mmsclient.TransportError, mmsclient.ServerError, mmsclient.RateLimitError)) as caught:
        await mms.account()
    assert caught.value.attempts == 4
    assert not isinstance(caught.value, mmsclient.OutcomeUnknownError)


async def test_a_late_answer_to_a_read_is_asked_for_again(connect: Connect, sandbox: Sandbox) -> None:
    sandbox.faults.add(Latency(30.0), times=1)
    sandbox.faults.add(SlowBody(delay=0.05), times=1)
    assert (await connect(max_attempts=50).account(timeout=0.5)).name


async def test_a_call_that_is_not_repeatable_is_treated_like_a_send(connect: Connect, sandbox: Sandbox) -> None:
    sandbox.faults.add(server_error())
    mms = connect()
    with pytest.raises(mmsclient.OutcomeUnknownError):
        await mms.call("POST", "send-sms", json={})
    with pytest.raises(mmsclient.ServerError) as caught:
        await mms.call("POST", "send-sms", json={}, repeatable=True)
    assert caught.value.attempts == 4


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_an_injected_transport_that_repeats_is_stopped(library: Any, sandbox: Sandbox) -> None:
    class Repeating(library.AsyncBaseTransport):  # type: ignore[misc]
        """What retrying transports do: the same request again after a 500."""

        def __init__(self) -> None:
            self.inner = library.AsyncHTTPTransport(verify=sandbox.ssl_context)

        async def handle_async_request(self, request: Any) -> Any:
            response = await self.inner.handle_async_request(request)
            if response.status_code == 500:
                await response.aclose()
                response = await self.inner.handle_async_request(request)
            return response

        async def aclose(self) -> None:
            await self.inner.aclose()

    sandbox.faults.add(server_error(), times=1)
    async with library.AsyncClient(transport=Repeating()) as pool, sandbox.client(http_client=pool) as mms:
        with pytest.raises(mmsclient.OutcomeUnknownError, match="a second time"):
            await send(mms)
        assert (await mms.account()).name
    assert sandbox.carried_out(ONE) == 1


def repeating_pool(library: Any, place: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client whose `place` sends the same request again where that failed."""

    def repeating(send: Any) -> Any:
        @functools.wraps(send)  # which copies the module's name, too
        async def again(*args: Any, **options: Any) -> Any:
            try:
                return await send(*args, **options)
            except Exception:
                return await send(*args, **options)

        return again

    client, transport = library.AsyncClient, library.AsyncHTTPTransport
    if place == "subclass":
        return type("Repeating", (client,), {"send": repeating(client.send)})(verify=sandbox.ssl_context)
    if place == "class":
        monkeypatch.setattr(client, "send", repeating(client.send))
    elif place == "transport's class":
        monkeypatch.setattr(transport, "handle_async_request", repeating(transport.handle_async_request))
    pool = client(verify=sandbox.ssl_context)
    if place == "client":
        pool.send = repeating(pool.send)
    elif place in {"transport", "pool"}:
        carrier = pool._transport if place == "transport" else pool._transport._pool
        carrier.handle_async_request = repeating(carrier.handle_async_request)
    return pool


@pytest.mark.parametrize("place", ["subclass", "class", "client", "transport", "transport's class", "pool"])
@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_client_that_repeats_what_it_sent_is_stopped(
    library: Any, place: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own class, changed: its events are believed, and it sends more than it is asked to."""
    sandbox.faults.add(Reset(carried_out=True), times=1)
    pool = repeating_pool(library, place, sandbox, monkeypatch)
    async with pool, sandbox.client(http_client=pool) as mms:
        with pytest.raises(mmsclient.OutcomeUnknownError, match="a second time"):
            await send(mms)
        assert (await mms.account()).name
    assert sandbox.carried_out(ONE) == 1


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_what_a_transport_says_last_does_not_hide_that_the_call_left(library: Any, sandbox: Sandbox) -> None:
    class Repeating(library.AsyncHTTPTransport):  # type: ignore[misc]
        """Its second try, after one that was carried out, meets a closed door."""

        async def handle_async_request(self, request: Any) -> Any:
            response = await super().handle_async_request(request)
            if response.status_code != 500:
                return response
            await response.aclose()
            raise library.ConnectError("refused")

    sandbox.faults.add(server_error(), times=1)
    transport = Repeating(verify=sandbox.ssl_context)
    async with library.AsyncClient(transport=transport) as pool, sandbox.client(http_client=pool) as mms:
        with pytest.raises(mmsclient.OutcomeUnknownError):
            await send(mms)
    assert sandbox.carried_out(ONE) == 1


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_replaced_transport_that_calls_no_hook_is_not_believed(
    library: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What mocking tools do: the library's own class, its method replaced."""
    asked = 0

    async def handle(self: Any, request: Any) -> Any:
        nonlocal asked
        asked += 1
        raise library.ReadTimeout("late")

    monkeypatch.setattr(library.AsyncHTTPTransport, "handle_async_request", handle)
    async with library.AsyncClient() as pool, sandbox.client(http_client=pool) as mms:
        with pytest.raises(mmsclient.OutcomeUnknownError):
            await send(mms)
    assert asked == 1


@pytest.mark.parametrize("way", ["response hook", "second server"])
@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_failure_to_connect_of_a_transport_without_hooks_is_not_believed(library: Any, way: str) -> None:
    """Somebody else's failure to connect, after the call was carried out."""
    carried_out = 0

    class Own(library.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            nonlocal carried_out
            carried_out += 1
            if way == "second server":
                raise library.ConnectError("the first one did not answer, and the second one is away")
            return library.Response(200, json={"meta": {"status": "SUCCESS"}, "data": {"success_number": 1}})

    async def audit(response: Any) -> None:
        raise library.ConnectError("the auditor is away")

    pool = library.AsyncClient(transport=Own(), event_hooks={"response": [audit]})
    async with pool, AsyncMMSClient("key", http_client=pool, max_attempts=3) as mms:
        with pytest.raises(mmsclient.OutcomeUnknownError):
            await send(mms)
    assert carried_out == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_timeout_while_the_connection_is_opened_is_surely_not_sent(library: Any) -> None:
    """On a transport of the user's the time runs before there is a connection; the library leaves that one open."""

    class Own(library.AsyncBaseTransport):  # type: ignore[misc]
        inner = library.AsyncHTTPTransport()

        async def handle_async_request(self, request: Any) -> Any:
            return await self.inner.handle_async_request(request)

        async def aclose(self) -> None:
            await self.inner.aclose()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(1))  # of what begins TLS; nothing comes back
        await over.wait()
        writer.close()

    came: list[bytes] = []
    over = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with library.AsyncClient(transport=Own()) as pool:
        mms = AsyncMMSClient("key", base_url=url, http_client=pool, timeout=0.5, max_attempts=2)
        with pytest.raises(mmsclient.NotSentError, match=r"within 0\.5 s") as caught:
            await send(mms)
        assert caught.value.attempts == 2
        await mms.aclose()
    assert len(came) == 2
    over.set()
    server.close()
    gc.collect()


class Silent:
    """What stands in for the way out of an HTTP library: it calls no hook, and loses the answer or has it late."""

    def __init__(self, library: Any, answers: bool) -> None:
        self._library = library
        self._answers = answers
        self.taken, self.go_on = asyncio.Event(), asyncio.Event()

    async def handle(self, request: Any) -> Any:
        self.taken.set()  # and with that, carried out
        await self.go_on.wait()
        if not self._answers:
            raise self._library.ReadError("lost")
        messages = [{"message_id": "1", "to": ONE}]
        body = {"meta": {"status": "SUCCESS"}, "data": {"success_number": 1, "messages": messages}}
        return self._library.Response(200, json=body)

    def pool(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        """A client that goes this way: a transport of the user's, or the library's own with its method replaced."""
        if kind == "replaced":

            async def replaced(own: Any, request: Any) -> Any:
                return await self.handle(request)

            monkeypatch.setattr(self._library.AsyncHTTPTransport, "handle_async_request", replaced)
            return self._library.AsyncClient()

        class Own(self._library.AsyncBaseTransport):  # type: ignore[misc,name-defined]
            handle_async_request = staticmethod(self.handle)

        return self._library.AsyncClient(transport=Own())


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize(("kind", "leaving"), [*itertools.product(("replaced", "own"), ("closed", "cancelled"))])
@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_call_given_up_under_way_on_a_transport_without_hooks_has_left(  # noqa: PLR0917
    library: Any, kind: str, leaving: str, answers: bool, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    silent = Silent(library, answers)
    async with silent.pool(kind, monkeypatch) as pool, AsyncMMSClient("key", http_client=pool, max_attempts=3) as mms:
        sending = asyncio.create_task(send(mms))
        await silent.taken.wait()
        if leaving == "closed":
            closing = asyncio.create_task(mms.aclose())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            silent.go_on.set()
            (outcome,) = await asyncio.gather(sending, return_exceptions=True)
            await closing
            assert isinstance(outcome, mmsclient.SentBatch if answers else mmsclient.OutcomeUnknownError)
        else:
            sending.cancel()
            await asyncio.wait([sending])
            silent.go_on.set()
            await mms.aclose()
            assert mms.stats.abandoned == 1
            assert ("1 of 1 recipient accepted" if answers else "it may have been carried out") in caplog.text
        assert mms.stats.attempts == 1


async def test_a_token_that_is_owed_and_not_to_be_had_does_not_mean_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Away:
        async def acquire(self) -> mmsclient.Grant:
            raise mmsclient.LimiterUnavailableError("away")

    silent = Silent(httpx, answers=True)
    silent.go_on.set()
    pool = silent.pool("replaced", monkeypatch)
    async with pool, AsyncMMSClient("key", http_client=pool, limiter=Away()) as mms:
        assert (await send(mms)).accepted == 1
        assert "the token of a call that had left already" in caplog.text
        with pytest.raises(mmsclient.LimiterUnavailableError):  # now it is asked before
            await send(mms)


async def test_a_503_is_asked_again_when_it_says(connect: Connect, sandbox: Sandbox) -> None:
    sandbox.faults.add(Respond(503, headers={"retry-after": "61"}))
    with pytest.raises(mmsclient.ServerError) as caught:
        await connect().account()
    assert (caught.value.retry_after, caught.value.attempts) == (61.0, 1)  # longer than is waited for


async def test_without_a_limit_a_throttled_call_holds_every_caller(sandbox: Sandbox) -> None:
    sandbox.faults.add(throttle(retry_after=0.3), times=1)
    async with sandbox.client(rate=None, max_attempts=1) as mms:
        with pytest.raises(mmsclient.RateLimitError):
            await mms.account()
        await mms.account()
    first, second = (arrival.at for arrival in sandbox.arrivals)
    assert second - first >= 0.3


async def test_attempts_end_with_the_time_for_them(
    connect: Connect, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "TOTAL", 0.0)
    sandbox.faults.add(throttle(retry_after=1))
    with pytest.raises(mmsclient.RateLimitError) as caught:
        await connect().account()
    assert caught.value.attempts == 1


async def test_a_storm_of_faults(sandbox: Sandbox) -> None:
    """200 sends to 200 phones through every fault at once: at most once each, and what is known is true."""
    for fault in (*UNKNOWN.values(), *HARMLESS.values()):
        if not isinstance(fault, Latency | EndlessBody):
            sandbox.faults.add(fault, call="send-mms", share=0.06)
    numbers = [f"+61400{i:06}" for i in range(200)]

    async def one(mms: AsyncMMSClient, number: str) -> MMSError | int:
        try:
            return (await mms.send(to=number, text="Once", image=PNG)).accepted
        except MMSError as error:
            return error

    async with sandbox.client(rate=None, timeout=60) as mms:
        results = await asyncio.gather(*(one(mms, number) for number in numbers))
    outcomes: dict[Any, int] = {}
    for number, result in zip(numbers, results, strict=True):
        times = sandbox.carried_out(number)
        kind = result if isinstance(result, int) else type(result)
        outcomes[kind] = outcomes.get(kind, 0) + 1
        assert times <= 1
        if result == 1:
            assert times == 1
        elif isinstance(result, mmsclient.RateLimitError | mmsclient.NotSentError):
            assert times == 0
        else:
            assert isinstance(result, mmsclient.OutcomeUnknownError)
    assert outcomes[1] > 20
    assert outcomes[mmsclient.OutcomeUnknownError] > 20
    assert sandbox.errors == []
