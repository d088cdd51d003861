"""A shared cap where something goes wrong beside the calls: an old copy of the state, slow trips, a limiter's end."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_package

from mmsclient.errors import ConfigurationError, LimiterUnavailableError
from mmsclient.limiter import CallKind, SharedTokenBucket
from mmsclient.limiter.redis.callers import AT_ONCE
from tests.support.demand import WRONG_CALLS, Call, demand, exchange, fullest, picture
from tests.support.redis_server import Server
from tests.support.shared_cap import Network, Patient, Processes
from tests.support.virtual_time import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmsclient.limiter import Limiter

SHARE: dict[str, Any] = {"on_unavailable": "share", "processes": 2}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


async def call_on(limiter: Limiter, arrivals: list[float]) -> None:
    """One call after the other."""
    while True:
        await exchange(Patient(limiter), Call(), arrivals)


def calling(limiters: list[Any], arrivals: list[float]) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(call_on(limiter, arrivals)) for limiter in limiters for _ in range(20)]


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("options", [{}, SHARE], ids=["raise", "share"])
def test_a_copy_of_the_state_that_lacks_the_last_calls_is_not_believed(server: Server, options: dict[str, Any]) -> None:
    """Redis was killed, and is back at once with the last copy on its disk."""

    async def main() -> list[float]:
        processes, arrivals = Processes(server, 2, **options), list[float]()
        for limiter in processes.limiters:
            await exchange(limiter, Call(), arrivals)
        await asyncio.sleep(5)
        copy = {key: content for key in processes.keys if (content := processes.network.redis.dump(key))}
        tasks = calling(processes.limiters, arrivals)
        await asyncio.sleep(0.5)
        processes.network.redis.delete(*processes.keys)
        for key, content in copy.items():
            processes.network.redis.restore(key, 0, content)
        await asyncio.sleep(5)
        await end(tasks)
        await processes.close()
        return sorted(arrivals)

    assert fullest(run(main())) <= 15


def test_commands_that_run_alone_one_after_the_other_wait_for_nobody(server: Server) -> None:
    """The parts of who never comes are kept free for them: not all the slots, for the second command and the fourth."""

    async def main() -> None:
        processes, loop = Processes(server, 0, on_unavailable="share", processes=4), asyncio.get_running_loop()
        waits = list[float]()
        for _ in range(6):
            limiter, start = processes.another(), loop.time()
            grant = await limiter.acquire()
            waits.append(loop.time() - start)
            grant.release()
            await limiter.aclose()
            await asyncio.sleep(60)
        assert max(waits[1:]) < 0.1
        processes.network.redis.close()

    run(main())


def test_a_limiter_that_is_closed_with_a_queue_leaves_the_line(server: Server) -> None:
    async def main() -> None:
        processes = Processes(server, 2, rate=1)
        closed, other = processes.limiters
        (await other.acquire()).release(throttled=True, retry_after=12)
        await asyncio.sleep(1)
        tasks = [asyncio.create_task(closed.acquire()) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert processes.network.redis.zcard(processes.keys[2]) == 1
        await closed.aclose()
        assert processes.network.redis.zcard(processes.keys[2]) == 0
        await asyncio.gather(*tasks, return_exceptions=True)
        await processes.close()

    run(main())


@pytest.mark.parametrize("fault_at", ["at once", "when all know"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_refusal_holds_the_processes_while_redis_is_away_too(server: Server, fault_at: str, number: int) -> None:
    """The one that was refused knows of it in any case, the others if Redis told them."""

    async def main() -> None:
        processes, loop = Processes(server, 2, **SHARE), asyncio.get_running_loop()
        for limiter in processes.limiters:
            (await limiter.acquire()).release()
        grant, start = await processes.limiters[0].acquire(), loop.time()
        if fault_at == "at once":
            processes.network.fault = "refused"
        grant.release(throttled=True, retry_after=40.0)
        await asyncio.sleep(1)
        processes.network.fault = "refused"
        (await processes.limiters[number].acquire()).release()
        assert processes.limiters[number].stats.alone
        knows = fault_at == "when all know" or number == 0
        assert (loop.time() - start >= 40.0) is knows
        await processes.close()

    run(main())


@pytest.mark.parametrize("number", [0, 1])
def test_a_refusal_while_redis_is_away_holds_all_processes_when_it_is_back(server: Server, number: int) -> None:
    async def main() -> None:
        processes, loop = Processes(server, 2, **SHARE), asyncio.get_running_loop()
        for limiter in processes.limiters:
            (await limiter.acquire()).release()
        processes.network.fault = "refused"
        grant, start = await processes.limiters[0].acquire(), loop.time()
        assert processes.limiters[0].stats.alone
        grant.release(throttled=True, retry_after=40.0)
        await asyncio.sleep(1)
        processes.network.fault = ""
        await asyncio.sleep(1)
        assert not processes.limiters[0].stats.alone
        (await processes.limiters[number].acquire()).release()
        assert 40.0 <= loop.time() - start <= 42
        await asyncio.sleep(2)
        assert processes.limiters[0].stats.throttlings == 1
        await processes.close()

    run(main())


@pytest.mark.parametrize("options", [{}, SHARE], ids=["raise", "share"])
def test_a_process_with_a_slow_way_to_redis_keeps_its_place(server: Server, options: dict[str, Any]) -> None:
    async def main() -> None:
        processes, far = Processes(server, 1, timeout=5.0, **options), Network(server, 3)
        far.fastest = far.slowest = 1.0
        processes.limiters.append(processes.another(far))
        near_calls, far_calls = list[float](), list[float]()
        tasks = calling(processes.limiters[:1], near_calls) + calling(processes.limiters[1:], far_calls)
        await asyncio.sleep(60)
        assert len(far_calls) >= 10
        await end(tasks)
        await processes.close()
        far.redis.close()

    run(main())


@pytest.mark.parametrize("is_back", [True, False])
def test_a_limiter_that_is_closed_as_redis_comes_back_says_that_it_leaves(server: Server, is_back: bool) -> None:
    async def main() -> None:
        processes, cut_off = Processes(server, 1, on_unavailable="share", processes=2), Network(server)
        leaving, loop = processes.another(cut_off), asyncio.get_running_loop()
        (await leaving.acquire()).release()
        members = processes.keys[-1]
        cut_off.fault = "silent"
        await asyncio.sleep(4)
        assert leaving.stats.alone
        if is_back:
            cut_off.fault = ""
        start = loop.time()
        await leaving.aclose()
        assert loop.time() - start < 3.1  # three times the timeout
        assert processes.network.redis.zcard(members) == (0 if is_back else 1)
        await processes.close()
        cut_off.redis.close()

    run(main())


def test_an_aclose_that_is_cancelled_goes_on_and_the_next_one_waits_for_it(server: Server) -> None:
    async def main() -> None:
        processes, loop = Processes(server, 1), asyncio.get_running_loop()
        (limiter,) = processes.limiters
        grant = await limiter.acquire()
        processes.network.fault = "silent"
        grant.release()
        start = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await limiter.aclose()
        await asyncio.gather(limiter.aclose(), limiter.aclose())
        assert loop.time() - start >= 1  # the timeout
        assert len(asyncio.all_tasks()) == 1
        await processes.close()

    run(main())


async def test_a_connection_of_its_own_is_closed_though_aclose_was_cancelled() -> None:
    server = Server()
    try:
        limiter = SharedTokenBucket(server.url, account="closes")
        grant = await limiter.acquire()
        server.signal(signal.SIGSTOP)
        grant.release()
        closing = asyncio.create_task(limiter.aclose())
        await asyncio.sleep(0)  # it has begun
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
        await limiter.aclose()
        server.signal(signal.SIGCONT)
        with redis_package.Redis(port=server.port) as connection:
            async with asyncio.timeout(60):
                while connection.info("clients")["connected_clients"] > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    finally:
        server.stop()


def test_callers_with_little_patience_get_their_share_while_redis_is_away_whatever_the_sizes(server: Server) -> None:
    """One that has left the queue leaves its grant to the next, though that has another picture."""

    async def main() -> None:
        processes, loop, rng = Processes(server, 1, rate=10, **SHARE), asyncio.get_running_loop(), random.Random(1)
        limiter, arrivals = processes.limiters[0], list[float]()
        await exchange(limiter, picture(100_000), [])
        processes.network.fault = "refused"
        end = loop.time() + 40

        async def caller() -> None:
            while loop.time() < end:
                call = picture(rng.randrange(95_000, 105_000), patience=rng.uniform(0.05, 0.4))
                await exchange(limiter, call, arrivals)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(caller())
        assert fullest(sorted(arrivals)) <= 5
        assert len(arrivals) >= 100
        processes.network.fault = ""
        await processes.close()

    run(main())


def test_the_first_callers_ask_in_one_trip_and_what_is_lost_on_it_is_free_again(server: Server) -> None:
    async def main() -> None:
        processes, clock = Processes(server, 2, rate=4), asyncio.get_running_loop().time
        first, other = processes.limiters
        (await first.acquire()).release()
        await asyncio.sleep(2)
        before, processes.network.fault = processes.trips, "lost"  # carried out, and no answer
        lost = await asyncio.gather(
            *(first.acquire_for(kind) for kind in [*CallKind, *CallKind]), return_exceptions=True
        )
        assert [type(each) for each in lost] == [LimiterUnavailableError] * 6
        assert processes.trips == before + 1
        processes.network.fault = ""
        await asyncio.sleep(1)
        before, start = processes.trips, clock()
        grants = await asyncio.gather(*(other.acquire_for(kind) for kind in [*CallKind, CallKind.READ]))
        assert clock() - start < 0.01
        assert processes.trips == before + 1
        for grant in grants:
            grant.release()
        await processes.close()

    run(main())


def test_no_process_takes_the_turn_of_another_by_asking_for_several(server: Server) -> None:
    async def main() -> None:
        processes, served = Processes(server, 2, burst=100), list[int]()
        many, one = processes.limiters
        (await many.acquire()).release()
        await asyncio.sleep(3)

        async def call(limiter: SharedTokenBucket, number: int) -> None:
            grant = await limiter.acquire()
            served.append(number)
            grant.sent()
            await asyncio.sleep(0.1)
            grant.answered()
            grant.release()

        calls = [asyncio.create_task(call(many, 0)) for _ in range(40)]
        await asyncio.sleep(0.5)  # fifteen have a slot, and the next stands in line
        calls += [asyncio.create_task(call(one, 1)) for _ in range(10)]
        await asyncio.gather(*calls)
        assert served[15:35].count(1) >= 9  # by turns
        await processes.close()

    run(main())


@pytest.mark.parametrize(("size", "trips"), [(400_000, 1), (300_000, 1), (299_000, 2)])
def test_a_grant_whose_caller_has_left_goes_to_the_next_unless_its_picture_is_smaller_than_any_process_knows(
    server: Server, size: int, trips: int
) -> None:
    async def main() -> None:
        processes = Processes(server, 2)
        knows, other = processes.limiters
        await demand(knows, [picture(300_000)] * 40)
        await asyncio.sleep(1.3)  # all slots are free
        processes.network.fastest = processes.network.slowest = 0.1
        leaving = [asyncio.create_task(other.acquire_for(CallKind.UPLOAD, 300_000)) for _ in range(AT_ONCE)]
        waiting = asyncio.create_task(other.acquire_for(CallKind.UPLOAD, size))
        await asyncio.sleep(0.15)  # the answer is on its way
        for each in leaving:
            each.cancel()
        grant = await waiting
        assert other.stats.round_trips == trips
        grant.release()
        await processes.close()

    run(main())


@pytest.mark.parametrize("options", [{}, SHARE], ids=["raise", "share"])
@pytest.mark.parametrize(("kind", "size"), WRONG_CALLS)
def test_a_kind_or_a_size_that_is_none_is_an_error_and_redis_is_not_asked(
    server: Server, options: dict[str, Any], kind: Any, size: Any
) -> None:
    async def main() -> None:
        processes = Processes(server, 1, **options)
        with pytest.raises(ConfigurationError, match=r"^(kind|size): expected"):
            await processes.limiters[0].acquire_for(kind, size)
        assert processes.trips == 0
        await processes.close()

    run(main())
