"""`mmsclient top`: what it shows is what processes hold in Redis, and it holds nothing itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import redis as redis_package

from mmsclient.cli.top import document_of, facts_of
from mmsclient.errors import LimiterUnavailableError
from mmsclient.limiter import Grant, SharedTokenBucket
from mmsclient.limiter.redis.settings import keys_of
from mmsclient.limiter.redis.watching import CapFigures, CapWatch
from tests.support.command import ACCOUNT, Cli, started
from tests.support.redis_server import Server
from tests.support.terminal import on_a_terminal


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


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


CHILD = """
import asyncio, sys
from mmsclient.limiter import SharedTokenBucket

async def main(url, account, calls, callers):
    limiter = SharedTokenBucket(url, account=account, rate=3, burst=3, timeout=0.5)
    for _ in range(int(calls)):
        await limiter.acquire()
    print("held", flush=True)
    await asyncio.gather(*(limiter.acquire() for _ in range(int(callers))))

asyncio.run(main(*sys.argv[1:]))
"""
"""A process that holds so many slots, and in which so many callers wait for another one."""


@contextmanager
def child(server: Server, account: str, *, calls: int, callers: int) -> Iterator[subprocess.Popen[str]]:
    arguments = [server.url, account, str(calls), str(callers)]
    command = [sys.executable, "-W", "error", "-c", CHILD, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


async def test_the_queue_is_told_by_each_process_and_goes_with_one_that_is_killed(server: Server) -> None:
    watch = CapWatch(server.url, account="queue", rate=3)
    with (
        child(server, "queue", calls=3, callers=4) as first,
        child(server, "queue", calls=0, callers=7) as second,
    ):
        found = await look_until(watch, lambda found: found.queue == 11)
        assert sorted(process.queue or 0 for process in found.processes) == [4, 7]
        facts = facts_of(found)
        assert facts["Queue"] == "11 callers"
        assert {"3 under way, 0 still counted, in line with 4 callers"} < set(facts.values())
        second.kill()
        found = await look_until(watch, lambda found: found.queue == 4)
        assert [process.queue for process in found.processes] == [4]
        first.kill()
        found = await look_until(watch, lambda found: not found.waiting and not found.under_way)
        assert found.queue == 0
    await watch.aclose()


async def test_a_process_in_line_that_tells_no_number_is_not_taken_for_one_without_callers(server: Server) -> None:
    account = "silent"
    watch = CapWatch(server.url, account=account, rate=3)
    with child(server, account, calls=3, callers=2):
        await look_until(watch, lambda found: found.queue == 2)
        now = int(time.time() * 1e6)
        with redis_package.Redis.from_url(server.url) as connection:  # as a version does that tells none
            for key, score in zip(keys_of(account)[2:5], (now, now + 3_600_000_000, 0), strict=True):
                connection.zadd(key, {"older": score})
        found = await watch.look()
        assert (found.waiting, found.queue) == (2, None)
        facts = facts_of(found)
        assert facts["Queue"] == "at least 3 callers; processes in line without a number: 1"
        assert facts["older"] == "0 under way, 0 still counted, in line"
        document = document_of(found)
        assert document["queue"] is None
        assert sorted(str(process["queue"]) for process in document["processes"]) == ["2", "None"]
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


async def test_what_is_kept_free_is_none_of_the_slots_that_are_taken(server: Server) -> None:
    """Redis has lost what it knew, and calls are under way: their slots are not counted twice."""
    watch = CapWatch(server.url, account="lost", rate=3)
    async with sharing(server, "lost", 2):
        before = await look_until(watch, lambda found: found.under_way == 2)
        with redis_package.Redis.from_url(server.url) as connection:
            for key in keys_of("lost")[5:-1]:
                connection.zadd(key, {f"lost:{n}": time.time() * 1e6 + 50e6 for n in (1, 2, 3)})
        found = await look_until(watch, lambda found: found.kept_free)
        assert (before.kept_free, found.under_way, found.counted, found.kept_free) == (0, 2, 0, 1)
        assert facts_of(found)["Slots in use"] == "3 of 3"
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
