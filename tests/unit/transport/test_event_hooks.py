"""Event hooks of an injected client: they run before the call is with the library's pool, and may do what they like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import httpx2
import pytest

import mmsclient
from mmsclient import AsyncMMSClient, NotSentError, OutcomeUnknownError
from mmsclient._transport import exchange
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reset
from tests.conftest import PNG, injected, until

Clients = Callable[..., AsyncMMSClient]


@pytest.fixture(params=[httpx, httpx2])
async def hooked(request: pytest.FixtureRequest, sandbox: Sandbox) -> AsyncIterator[Clients]:
    """Makes a client of `sandbox` whose HTTP client has that request hook."""
    pool = injected(request.param, sandbox.ssl_context)

    def new(hook: Any, **options: Any) -> AsyncMMSClient:
        pool.event_hooks = {"request": [hook]}
        return sandbox.client(**{"rate": None, "http_client": pool, "max_attempts": 1, **options})

    async with pool:
        yield new


async def send(mms: AsyncMMSClient) -> int:
    return (await mms.send(to="+61400000000", text="Hi", image=PNG)).accepted


async def test_a_hook_that_fails_has_sent_nothing(hooked: Clients, sandbox: Sandbox) -> None:
    seen: list[Any] = []

    async def hook(request: Any) -> None:
        seen.append(request)
        if len(seen) in {1, 3, 4}:
            raise ValueError("no token to sign it with")

    async with hooked(hook) as mms:
        with pytest.raises(NotSentError, match="no token to sign it with"):
            await send(mms)
        assert not sandbox.arrivals
        assert await send(mms) == 1
        assert await send(mms.with_options(max_attempts=3)) == 1  # it was tried again
        assert mms.stats.attempts == 2
    assert len(sandbox.sends) == 2


@pytest.mark.parametrize("takes", [("timeout",), ("trace",), ("timeout", "trace")])
async def test_a_call_that_a_hook_took_our_hooks_from_is_not_taken_for_unsent(
    hooked: Clients, sandbox: Sandbox, takes: tuple[str, ...]
) -> None:
    async def hook(request: Any) -> None:
        request.extensions = {name: value for name, value in request.extensions.items() if name not in takes}

    sandbox.faults.add(Reset(carried_out=True), call="send-mms")
    async with hooked(hook, max_attempts=4) as mms:
        with pytest.raises(OutcomeUnknownError):
            await send(mms)
    assert len(sandbox.sends) == 1


async def test_a_hook_that_hangs_is_given_up(
    hooked: Clients, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "HOOK_TIMEOUT", 0.01)
    hanging = True

    async def hook(request: Any) -> None:
        if hanging:
            await asyncio.Event().wait()

    async with hooked(hook) as mms:
        results = await asyncio.gather(*(send(mms) for _ in range(3)), return_exceptions=True)
        assert {str(result) for result in results} == {
            "send-mms at " + mms.base_url.split("/")[2] + ": an event hook of the HTTP client took longer than 0.01 s; "
            "nothing was sent"
        }
        hanging = False
        monkeypatch.setattr(exchange, "HOOK_TIMEOUT", 60.0)
        assert await send(mms) == 1
    assert len(sandbox.sends) == 1


@pytest.mark.parametrize("way", ["cancel", "close"])
async def test_who_leaves_during_a_hook_does_not_wait_for_it(hooked: Clients, sandbox: Sandbox, way: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hook(request: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    mms = hooked(hook)
    sending = asyncio.create_task(send(mms))
    await begun.wait()
    if way == "cancel":
        sending.cancel()
        await ended.wait()
        await until(lambda: not mms.stats.in_flight)
    await mms.aclose()
    await asyncio.wait([sending])
    if way == "cancel":
        assert sending.cancelled()
    else:
        assert isinstance(error := sending.exception(), NotSentError)
        assert "the client was closed" in str(error)
    assert not sandbox.arrivals


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_an_answer_in_thousands_of_pieces_gives_way_to_others(library: Any) -> None:
    turns, at_first, at_last = 0, 0, 0

    class Crumbs(library.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal at_first, at_last
            at_first = turns
            for _ in range(5000):
                yield b" "
            at_last = turns
            yield json.dumps({"meta": {"status": "SUCCESS"}, "data": {"account_name": "Crumbs"}}).encode()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(others())
    transport = library.MockTransport(lambda request: library.Response(200, stream=Crumbs()))
    async with (
        library.AsyncClient(transport=transport) as pool,
        mmsclient.AsyncMMSClient("key-key-key-key", base_url="http://127.0.0.1:1", http_client=pool) as mms,
    ):
        assert (await mms.account()).name == "Crumbs"
    ticking.cancel()
    assert at_last - at_first >= 5000 // exchange.CHUNKS - 1
