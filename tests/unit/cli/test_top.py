"""`mmsclient top`: what it shows is what processes hold in Redis, and it holds nothing itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import redis as redis_package

from mmsclient.errors import LimiterUnavailableError
from mmsclient.limiter import Grant, SharedTokenBucket
from mmsclient.limiter.redis.settings import keys_of
from mmsclient.limiter.redis.watching import CapFigures, CapWatch
from tests.support.command import Cli, in_this_process, started
from tests.support.redis_server import Server
from tests.support.terminal import on_a_terminal

ACCOUNT = "the-name-of-the-account"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command. It never prints the account's name, which may be a key."""
    return in_this_process(ACCOUNT, capsys)


@asynccontextmanager
async def sharing(server: Server, account: str, calls: int) -> AsyncIterator[tuple[SharedTokenBucket, list[Grant]]]:
    """A process that shares a cap of three calls a second, with so many calls under way."""
    async with SharedTokenBucket(server.url, account=account, rate=3, burst=3) as limiter:
        grants = [await limiter.acquire() for _ in range(calls)]
        yield limiter, grants
        for grant in grants:
            grant.release()


def content(server: Server) -> dict[bytes, object]:
    """All that is in Redis."""
    with redis_package.Redis.from_url(server.url) as connection:
        return {key: connection.dump(key) for key in connection.scan_iter()}


async def look_until(watch: CapWatch, condition: Callable[[CapFigures], object]) -> CapFigures:
    """The first look that finds it so."""
    async with asyncio.timeout(60):
        while True:
            if condition(found := await watch.look()):
                return found
            await asyncio.sleep(0.01)


async def test_a_look_shows_what_the_processes_hold(server: Server) -> None:
    watch = CapWatch(server.url, account="shop", rate=3)
    try:
        unknown = await watch.look()
        assert (unknown.is_known, unknown.processes, unknown.slots, unknown.rate) == (False, (), 3, 3.0)
        assert not content(server)
        async with sharing(server, "shop", 2) as (_, grants), sharing(server, "shop", 1) as (other, _):
            found = await watch.look()
            assert (found.is_known, found.under_way, found.counted, found.waiting) == (True, 3, 0, 0)
            assert sorted(process.under_way for process in found.processes) == [1, 2]
            waiter = asyncio.create_task(other.acquire())
            found = await look_until(watch, lambda found: found.waiting)
            assert [process.waits for process in found.processes if process.under_way == 1] == [True]
            assert found.calls_per_second is not None
            assert found.calls_per_second > 0
            grants.pop().release(throttled=True, retry_after=50)
            found = await look_until(watch, lambda found: found.throttlings)
            assert found.throttlings == 1
            assert found.rate < 3
            assert found.paused_for > 0
            waiter.cancel()
            await asyncio.wait([waiter])
    finally:
        await watch.aclose()


async def test_a_slot_that_is_free_for_some_kind_of_call_is_in_use_no_longer(server: Server) -> None:
    watch = CapWatch(server.url, account="kinds", rate=3)
    async with sharing(server, "kinds", 3) as (_, grants):
        for grant in grants:
            grant.sent()
        found = await look_until(watch, lambda found: found.counted == 3)
        with redis_package.Redis.from_url(server.url) as connection:
            for key in keys_of("kinds")[-2:]:  # as if it were free for the other kinds, and used again
                connection.zpopmin(key)
        found = await watch.look()
        assert (found.under_way, found.counted) == (0, 2)
    await watch.aclose()


async def test_slots_that_are_kept_free_are_told_apart(server: Server) -> None:
    watch = CapWatch(server.url, account="forgotten", rate=3)
    async with SharedTokenBucket(server.url, account="forgotten", rate=3, jitter=50) as limiter:
        waiter = asyncio.create_task(limiter.acquire())  # Redis knows nothing of the account: it waits for `jitter`
        found = await look_until(watch, lambda found: found.waiting)
        assert (found.kept_free, found.under_way, found.counted) == (3, 0, 0)
        waiter.cancel()
        await asyncio.wait([waiter])
    await watch.aclose()


async def test_a_redis_that_is_away_is_told_without_its_password() -> None:
    server = Server()
    server.stop()
    watch = CapWatch(server.url.replace("redis://", "redis://:s3cret@"), account=ACCOUNT, rate=3)
    with pytest.raises(LimiterUnavailableError) as caught:
        await watch.look()
    assert "s3cret" not in str(caught.value)
    await watch.aclose()


def test_once(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(server)
    (document,) = cli("top", server.url, "--account", ACCOUNT, "--once", "--json").documents
    assert (document["event"], document["is_known"], document["slots"], document["rate"]) == ("cap", False, 15, 15.0)
    assert content(server) == before

    async def call() -> None:
        async with sharing(server, ACCOUNT, 1):
            pass

    asyncio.run(call())
    monkeypatch.setenv("MMSCLIENT_REDIS", server.url)
    monkeypatch.setenv("MMSCLIENT_ACCOUNT", ACCOUNT)
    shown = cli("top", "--once", "--rate", "3").out.splitlines()
    assert shown[0] == "Cap: 3 calls/s"
    assert shown[2].startswith("Slots in use: ")
    monkeypatch.delenv("MMSCLIENT_ACCOUNT")
    assert cli("top", "--once").status == 2
    assert cli("top", "http://localhost", "--account", ACCOUNT).status == 2
    assert cli("top", "--account", ACCOUNT, "--rate", "0").status == 2
    monkeypatch.delenv("MMSCLIENT_REDIS")
    assert cli("top", "--account", ACCOUNT).status == 2


def test_a_redis_that_goes_away_is_waited_for_and_a_reader_that_leaves_ends_it() -> None:
    server = Server()
    try:
        with started("top", server.url, "--account", ACCOUNT, "--json") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert json.loads(process.stdout.readline())["event"] == "cap"
            server.signal(signal.SIGKILL)
            assert process.stderr.readline().startswith("mmsclient: Redis cannot be reached (")
            server.start()
            while not json.loads(process.stdout.readline())["slots"]:
                pass
            process.stdout.close()
            assert process.wait(timeout=60) == 141
            assert "Traceback" not in process.stderr.read()
    finally:
        server.stop()


@pytest.mark.skipif(os.name == "nt", reason="no such terminals there")
def test_on_a_narrow_terminal_without_colours_until_ctrl_c(server: Server) -> None:
    async def call() -> None:
        async with sharing(server, "narrow", 1):
            pass

    asyncio.run(call())
    arguments = ("top", server.url, "--account", "narrow")
    with on_a_terminal(*arguments, columns=30, NO_COLOR="1") as (process, wait_for, terminal):
        wait_for("Throttlings")
        wait_for("calls/s")
        os.write(terminal, b"\x03")
        assert process.wait(timeout=60) == 130
        assert max(map(len, wait_for("Cap").splitlines())) <= 30
        assert "\x1b[3" not in wait_for("")
        assert "Traceback" not in wait_for("Cap")
