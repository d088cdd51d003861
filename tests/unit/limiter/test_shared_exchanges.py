"""What the processes of a shared cap learn of each other's exchanges, in virtual time with a real redis-server."""

from __future__ import annotations

import asyncio
import random
from statistics import median
from typing import TYPE_CHECKING, cast

import pytest

from mmsclient.limiter import CallKind, SharedTokenBucket
from mmsclient.limiter.redis.settings import FRESH, MOST_EXCHANGES
from tests.support.counting import used
from tests.support.demand import Call, demand, exchange, fullest
from tests.support.redis_server import Server
from tests.support.shared_cap import Processes, busy
from tests.support.virtual_time import run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def told(processes: Processes) -> list[str]:
    """The exchanges that Redis keeps: the grant, the kind, microseconds, bytes."""
    (key,) = (key for key in processes.keys if key.endswith(":exchanges"))
    return [str(each, "ascii") for each in cast("list[bytes]", processes.network.redis.zrange(key, 0, -1))]


@pytest.mark.parametrize(("model", "share"), [("none", 0.955), ("uniform", 0.91), ("exponential", 0.91)])
def test_processes_that_start_together_use_the_cap_from_the_start(server: Server, model: str, share: float) -> None:
    """Each has made as few calls as one of them, and knows as much as all."""

    async def main(seed: int) -> float:
        processes, end = Processes(server, 4, seed), asyncio.get_running_loop().time() + 12
        arrivals: list[float] = []
        callers = (
            busy(limiter, arrivals, end, seed=4 * seed + number, model=model)
            for number, limiter in enumerate(processes.limiters)
        )
        await asyncio.gather(*callers)
        await processes.close()
        assert fullest(sorted(arrivals)) <= 15
        return used(sorted(arrivals))

    assert median(run(main(seed)) for seed in range(5)) >= share


def test_a_process_with_a_shorter_way_than_the_others_keeps_the_cap_beside_them(server: Server) -> None:
    """It comes when they are busy, and its calls are counted sooner after they leave than those before them were."""

    async def calls(limiter: SharedTokenBucket, seed: int, farther: float, arrivals: list[float], end: float) -> None:
        rng, clock = random.Random(seed), asyncio.get_running_loop().time

        async def caller() -> None:
            while clock() < end:
                await exchange(limiter, Call(up=farther, work=rng.uniform(0, 0.06), down=farther), arrivals)

        await asyncio.gather(*(caller() for _ in range(20)))

    async def main(seed: int) -> None:
        processes, end = Processes(server, 4, seed), asyncio.get_running_loop().time() + 20
        arrivals: list[float] = []
        near, *far = processes.limiters
        busy = [asyncio.create_task(calls(limiter, rng, 0.02, arrivals, end)) for rng, limiter in enumerate(far, seed)]
        await asyncio.sleep(10)
        await asyncio.gather(calls(near, -seed - 1, 0.0, arrivals, end), *busy)
        await processes.close()
        assert fullest(sorted(arrivals)) <= 15

    for seed in range(0, 60, 3):
        run(main(seed))


def test_redis_keeps_the_newest_exchanges_of_the_last_minute(server: Server) -> None:
    async def main() -> None:
        processes = Processes(server, 2, rate=40)
        await asyncio.gather(*(demand(limiter, [Call()] * MOST_EXCHANGES) for limiter in processes.limiters))
        assert len(told(processes)) == MOST_EXCHANGES
        await asyncio.sleep(FRESH + 1)
        await demand(processes.limiters[0], [Call(kind=CallKind.UPLOAD, size=2**53)] * 2)
        await asyncio.sleep(1)
        assert [each.split()[1:] for each in told(processes)] == [["2", "60000", str(2**53)]] * 2
        await processes.close()

    run(main())


@pytest.mark.parametrize("fate", ["refused", "reset", "lost", "dropped", "torn"])
def test_only_exchanges_with_a_usual_answer_are_told(server: Server, fate: str) -> None:
    async def main() -> None:
        processes = Processes(server, 1)
        await demand(processes.limiters[0], [Call(fate=fate)])
        await asyncio.sleep(5)
        await demand(processes.limiters[0], [Call()])
        await asyncio.sleep(1)
        assert len(told(processes)) == 1
        await processes.close()

    run(main())


def test_an_exchange_that_is_reported_twice_is_one(server: Server) -> None:
    async def main() -> None:
        processes = Processes(server, 1, timeout=0.3)
        grant = await processes.limiters[0].acquire()
        grant.sent()
        await asyncio.sleep(0.1)
        grant.answered()
        processes.network.fault = "lost"  # carried out, and no answer: it is reported again
        grant.release()
        await asyncio.sleep(1)
        assert len(told(processes)) == 1
        trips = processes.trips
        processes.network.fault = ""
        await asyncio.sleep(1)
        assert processes.trips > trips
        assert len(told(processes)) == 1
        await processes.close()

    run(main())


def test_what_was_not_told_while_redis_was_away_is_told_then_as_far_as_it_matters(server: Server) -> None:
    async def main() -> None:
        processes = Processes(server, 1, rate=40, on_unavailable="share", processes=1)
        await demand(processes.limiters[0], [Call()])
        processes.network.fault = "refused"
        await demand(processes.limiters[0], [Call()] * 100)
        processes.network.fault = ""
        await asyncio.sleep(2)
        assert len(told(processes)) == MOST_EXCHANGES
        await processes.close()

    run(main())


@pytest.mark.parametrize("score", ["now", "+inf"])
@pytest.mark.parametrize(
    "member",
    ["abcdef:1 3 50000 0", "abcdef:1 -9 5 0", "abcdef:1 0 x 0", "abcdef:1 0 5", f"abcdef:1 0 {10**400} 0", "?"],
)
def test_what_this_version_does_not_know_of_an_exchange_harms_nobody(server: Server, member: str, score: str) -> None:
    async def main() -> None:
        processes, clock = Processes(server, 2), asyncio.get_running_loop().time
        await demand(processes.limiters[0], [Call()])
        (key,) = (key for key in processes.keys if key.endswith(":exchanges"))
        at = clock() * 1e6 if score == "now" else score
        processes.network.redis.execute_command("ZADD", key, at, member)  # type: ignore[no-untyped-call]
        start = clock()
        await asyncio.gather(*(demand(limiter, [Call()] * 2) for limiter in processes.limiters))
        assert clock() - start < 1
        await asyncio.sleep(FRESH)
        await demand(processes.limiters[0], [Call()])
        assert member not in told(processes)
        await processes.close()

    run(main())


def test_a_near_process_that_calls_now_and_then_keeps_the_cap_though_the_others_forget_it(server: Server) -> None:
    async def main(seed: int) -> None:
        processes, clock = Processes(server, 2, seed), asyncio.get_running_loop().time
        near, far = processes.limiters
        arrivals, rng, end = list[float](), random.Random(seed), clock() + 200

        async def busy() -> None:
            while clock() < end:
                await exchange(far, Call(up=0.02, work=rng.uniform(0, 0.01), down=0.02), arrivals)

        async def rare() -> None:
            for _ in range(20):  # by then all know it
                await exchange(near, Call(work=rng.uniform(0, 0.01)), arrivals)
            while clock() < end - 30:
                await asyncio.sleep(60)
                await exchange(near, Call(work=rng.uniform(0, 0.01)), arrivals)

        await asyncio.gather(rare(), *(busy() for _ in range(20)))
        await processes.close()
        assert fullest(sorted(arrivals)) <= 15

    for seed in range(3):
        run(main(seed))
