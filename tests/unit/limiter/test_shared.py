"""The cap of many processes through a real redis-server.

Most tests play the processes in one virtual loop: the script runs in Redis, with the loop's clock for the server's.
The others start processes, kill them, and kill Redis, on the clock of the machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_package
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis, RedisCluster

from mmsclient._extras import install_command
from mmsclient.errors import ConfigurationError, LimiterUnavailableError, MMSError
from mmsclient.limiter import CallKind, Limiter, SharedTokenBucket, SignalsCapacity
from mmsclient.limiter.pacing import GAP
from mmsclient.limiter.redis.settings import keys_of
from mmsclient.limiter.slots import MARGIN
from tests.support.counting import gcra, used
from tests.support.demand import (
    CALLS,
    COSTS,
    MIXED_CALLS,
    MODELS,
    PICTURES,
    PICTURES_AFTER_EACH_OTHER,
    Call,
    Costs,
    Watch,
    demand,
    exchange,
    fed_by_signals,
    fullest,
    picture,
)
from tests.support.redis_server import Server
from tests.support.shared_cap import Network, Patient, Processes, busy
from tests.support.virtual_time import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from mmsclient.limiter import Grant

SETTLING = 1 + 0.25 + MARGIN
"""Seconds that Redis holds every slot of an account whose state it does not know."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One that the test may kill."""
    server = Server()
    yield server
    server.stop()


# --- in virtual time ---------------------------------------------------------------------------------------------


FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["forget", "refused", "silent", "lost"]),
        st.sampled_from([0.3, 1.0, 2.5]),  # seconds before it
        st.sampled_from([0.05, 0.4, 1.7]),  # and that it lasts
    ),
    max_size=3,
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(st.tuples(st.integers(0, 3), CALLS), min_size=20, max_size=80),
    faults=FAULTS,
    count=st.integers(1, 4),
    rate=st.sampled_from([0.5, 1, 2.7, 15, 15, 15, 40]),
    burst=st.sampled_from([1, 5, 100]),
    seed=st.integers(0, 1000),
)
def test_no_window_holds_more_than_the_cap_whatever_happens_to_redis(  # noqa: PLR0917
    server: Server,
    calls: list[tuple[int, Call]],
    faults: list[tuple[str, float, float]],
    count: int,
    rate: float,
    burst: int,
    seed: int,
) -> None:
    async def main() -> list[float]:
        processes = Processes(server, count, seed, rate=rate, burst=burst)
        # The first call of each takes the least there can be: its floor is then never above it, as the rule assumes.
        demands = [
            demand(Patient(limiter), [Call(), *(call for process, call in calls if process % count == number)])
            for number, limiter in enumerate(processes.limiters)
        ]
        troubles = asyncio.create_task(trouble(processes))
        arrivals = await asyncio.gather(*demands)
        await troubles
        await asyncio.sleep(90)
        trips = processes.trips
        await asyncio.sleep(90)
        assert processes.trips == trips  # nothing is left to report
        for limiter in processes.limiters:
            assert (limiter.stats.in_flight, limiter.stats.waiting) == (0, 0)
        await processes.close()
        return sorted(arrival for each in arrivals for arrival in each)

    async def trouble(processes: Processes) -> None:
        for fault, before, lasts in faults:
            await asyncio.sleep(before)
            if fault == "forget":
                processes.network.forget(processes.account)
            else:
                processes.network.fault = fault
                await asyncio.sleep(lasts)
                processes.network.fault = ""

    assert fullest(run(main()), max(1.0, 1 / rate)) <= max(1, int(rate))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(st.tuples(st.integers(0, 3), MIXED_CALLS), min_size=20, max_size=80),
    costs=COSTS,
    count=st.integers(1, 4),
    rate=st.sampled_from([1, 2.7, 15, 15, 15, 40]),
    burst=st.sampled_from([1, 5, 100]),
)
def test_no_window_holds_more_than_the_cap_whatever_kinds_the_processes_mix(  # noqa: PLR0917
    server: Server, calls: list[tuple[int, Call]], costs: Costs, count: int, rate: float, burst: int
) -> None:
    async def main() -> list[float]:
        processes = Processes(server, count, rate=rate, burst=burst)
        demands = []
        for number, limiter in enumerate(processes.limiters):
            own = (costs.of(call) for process, call in calls if process % count == number)
            demands.append(demand(limiter, [*costs.least(), *own]))
        arrivals = await asyncio.gather(*demands)
        await processes.close()
        return sorted(arrival for each in arrivals for arrival in each)

    assert fullest(run(main()), max(1.0, 1 / rate)) <= max(1, int(rate))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(st.lists(PICTURES_AFTER_EACH_OTHER, min_size=1, max_size=3), min_size=1, max_size=3),
    rate=st.sampled_from([1, 2.7, 15, 15, 15, 40]),
    burst=st.sampled_from([1, 5, 100]),
)
def test_no_window_holds_more_than_the_cap_whatever_the_sizes_of_the_processes_pictures(
    server: Server, runs: list[list[list[Call]]], rate: float, burst: int
) -> None:
    async def main() -> list[float]:
        processes = Processes(server, len(runs), rate=rate, burst=burst)
        demands = zip(processes.limiters, runs, strict=True)
        arrivals = await asyncio.gather(*(demand(limiter, chain.from_iterable(own)) for limiter, own in demands))
        await processes.close()
        return sorted(chain.from_iterable(arrivals))

    assert fullest(run(main()), max(1.0, 1 / rate)) <= max(1, int(rate))


def test_small_pictures_of_one_process_keep_the_cap_beside_large_ones_of_another(server: Server) -> None:
    async def main() -> None:
        processes = Processes(server, 2)
        demands = zip(processes.limiters, (380_000, 20_000), strict=True)
        arrivals = await asyncio.gather(*(demand(limiter, [picture(size)] * 150) for limiter, size in demands))
        await processes.close()
        assert fullest(sorted(chain.from_iterable(arrivals))) <= 15

    run(main())


@pytest.mark.parametrize(("model", "share"), [("none", 0.92), ("uniform", 0.90), ("exponential", 0.89)])
def test_processes_that_look_at_the_account_do_not_slow_pictures_down(server: Server, model: str, share: float) -> None:
    async def main() -> None:
        processes, rng, jitter = Processes(server, 2), random.Random(1), MODELS[model]
        demands = []
        for limiter in processes.limiters:
            calls = [Call(kind=CallKind.READ)]
            for _ in range(300):
                work = rng.uniform(0, 0.06)
                calls.append(Call(kind=CallKind.UPLOAD, up=jitter(rng), work=work, down=jitter(rng)))
            demands.append(demand(limiter, map(PICTURES.of, calls)))
        arrivals = sorted(arrival for each in await asyncio.gather(*demands) for arrival in each)
        assert fullest(arrivals) <= 15
        assert used(arrivals) >= share
        await processes.close()

    run(main())


@pytest.mark.parametrize(("model", "share"), [("none", 0.93), ("uniform", 0.90), ("exponential", 0.90)])
def test_four_busy_processes_get_the_cap_smoothly_in_equal_shares_with_few_round_trips(
    server: Server, model: str, share: float
) -> None:
    async def main() -> None:
        processes, start = Processes(server, 4), asyncio.get_running_loop().time()
        logs: list[list[float]] = [[] for _ in processes.limiters]
        await asyncio.gather(
            *(
                busy(limiter, log, start + 40, seed=number, model=model)
                for number, (limiter, log) in enumerate(zip(processes.limiters, logs, strict=True))
            )
        )
        await processes.close()
        arrivals = sorted(arrival for log in logs for arrival in log)
        assert fullest(arrivals) <= 15
        assert gcra(arrivals) <= len(arrivals) / 100
        steady = [[arrival for arrival in log if start + 5 < arrival < start + 40] for log in logs]
        assert used(sorted(arrival for log in steady for arrival in log)) >= share
        fair = sum(map(len, steady)) / 4
        assert all(abs(len(log) - fair) <= 0.15 * fair for log in steady)
        assert processes.trips / len(arrivals) <= 1.5

    run(main())


@pytest.mark.parametrize(("count", "rate", "way", "share"), [(8, 1000, 0.002, 0.945), (1, 300, 0.003, 0.94)])
def test_high_rates_are_used_though_a_trip_to_redis_takes_as_long_as_several_calls_are_apart(
    server: Server, count: int, rate: int, way: float, share: float
) -> None:
    async def main() -> None:
        processes, start = Processes(server, count, rate=rate), asyncio.get_running_loop().time()
        processes.network.fastest, processes.network.slowest = 0.8 * way, 1.2 * way
        arrivals, rng, clock = list[float](), random.Random(1), asyncio.get_running_loop().time

        async def caller(limiter: SharedTokenBucket) -> None:
            while clock() < start + 5:
                await exchange(limiter, Call(work=rng.uniform(0, 0.06)), arrivals)

        await asyncio.gather(*(caller(limiter) for limiter in processes.limiters for _ in range(1200 // count)))
        await processes.close()
        assert fullest(sorted(arrivals)) <= rate
        assert used([arrival for arrival in sorted(arrivals) if start + 2.5 < arrival < start + 5], rate) >= share

    run(main())


@pytest.mark.parametrize("rate", [0.5, 1, 3])
def test_many_processes_on_few_slots_get_equal_shares_too(server: Server, rate: float) -> None:
    async def main() -> None:
        processes, start = Processes(server, 8, rate=rate), asyncio.get_running_loop().time()
        logs: list[list[float]] = [[] for _ in processes.limiters]
        work = [
            asyncio.create_task(busy(limiter, log, start + 3600))
            for limiter, log in zip(processes.limiters, logs, strict=True)
        ]
        await asyncio.sleep(160 / rate)
        calls = [len(log) for log in logs]
        assert max(calls) - min(calls) <= 2
        assert processes.trips <= 4.5 * sum(calls)
        for task in work:
            task.cancel()
        await asyncio.wait(work)
        await processes.close()

    run(main())


def test_the_first_calls_after_a_rest_wait_nothing_and_two_round_trips_are_made(server: Server) -> None:
    async def main() -> None:
        processes, loop = Processes(server, 2), asyncio.get_running_loop()
        first, second = processes.limiters
        start = loop.time()
        (await first.acquire()).release()
        assert SETTLING <= loop.time() - start <= SETTLING + 0.02  # nobody knows what was before
        await asyncio.sleep(600)
        trips, start = processes.trips, loop.time()
        for _ in range(2):
            (await first.acquire()).release()
            (await second.acquire()).release()
            await asyncio.sleep(0.5)
        assert processes.trips - trips == 8
        assert first.stats.waits == 1
        (await first.acquire()).release()
        assert loop.time() - start < 1.02
        await processes.close()

    run(main())


@pytest.mark.parametrize(("retry_after", "pause"), [(None, 1), (7, 7), (86_400, 60)])
def test_a_refusal_holds_every_process_and_slows_all_down_once(
    server: Server, retry_after: float | None, pause: float
) -> None:
    async def main() -> None:
        processes, loop = Processes(server, 3), asyncio.get_running_loop()
        logs: list[list[float]] = [[] for _ in processes.limiters]
        start = loop.time()
        work = [
            asyncio.create_task(busy(limiter, log, start + 100 + pause))
            for limiter, log in zip(processes.limiters, logs, strict=True)
        ]
        refused = [await limiter.acquire() for limiter in processes.limiters]
        await asyncio.sleep(5)
        told = loop.time()
        for grant in refused:  # from three processes, of one episode
            grant.sent()
            grant.answered()
            grant.release(throttled=True, retry_after=retry_after)
        await asyncio.sleep(pause + 5)
        arrivals = sorted(arrival for log in logs for arrival in log)
        quiet = [arrival for arrival in arrivals if told + 0.15 < arrival < told + pause]
        assert quiet == []  # what was granted before arrives after 20 to 70 ms
        assert fullest([arrival for arrival in arrivals if arrival > told + pause], 1) <= 13
        assert sum(limiter.stats.throttlings for limiter in processes.limiters) == 1
        assert sum(limiter.stats.throttled for limiter in processes.limiters) == 3
        assert 0.8 <= processes.limiters[0].stats.rate / 15 <= 0.85
        await asyncio.gather(*work)
        assert all(limiter.stats.rate == 15 for limiter in processes.limiters)
        await processes.close()

    run(main())


def test_a_refusal_of_a_later_call_is_an_episode_of_its_own_and_the_rate_never_falls_below_a_tenth(
    server: Server,
) -> None:
    async def main() -> None:
        processes = Processes(server, 2)
        for number in range(30):
            grant = await processes.limiters[number % 2].acquire()
            grant.release(throttled=True, retry_after=0)
            await asyncio.sleep(0.01)
        stats = [limiter.stats for limiter in processes.limiters]
        assert sum(each.throttlings for each in stats) == 30
        assert min(each.rate for each in stats) >= 1.5
        await processes.close()

    run(main())


def test_the_slots_of_a_dead_process_free_themselves_and_its_place_lapses(server: Server) -> None:
    async def main() -> None:
        processes, loop = Processes(server, 1, burst=15), asyncio.get_running_loop()
        alive, network = processes.limiters[0], Network(server)
        dead = processes.another(network)
        await asyncio.gather(*(dead.acquire() for _ in range(15)))
        waiting = asyncio.create_task(dead.acquire())  # and has a place in line
        await asyncio.sleep(0.05)
        last_heard = loop.time()
        network.fault = "refused"  # no word of it from now on
        arrivals = list[float]()
        await demand_of(alive, arrivals, 15)
        assert arrivals[0] - last_heard <= 2 * 1.0 + 1.5 + SETTLING + 0.6
        assert arrivals[0] - last_heard >= SETTLING
        assert arrivals[-1] - arrivals[0] <= 15 * GAP / 15 + 0.1
        await asyncio.wait([waiting])
        assert isinstance(waiting.exception(), LimiterUnavailableError)
        await processes.close()
        network.redis.close()

    run(main())


async def demand_of(limiter: Limiter, granted: list[float], count: int) -> None:
    async def call() -> None:
        grant = await limiter.acquire()
        granted.append(asyncio.get_running_loop().time())
        grant.sent()
        await asyncio.sleep(0.05)
        grant.answered()
        grant.release()

    await asyncio.gather(*(call() for _ in range(count)))


def test_a_call_that_is_still_sending_holds_its_slot_even_when_redis_forgets(server: Server) -> None:
    async def main() -> None:
        processes, loop = Processes(server, 2, rate=1), asyncio.get_running_loop()
        slow, other = processes.limiters
        grant = await slow.acquire()
        waiting = asyncio.create_task(other.acquire())
        for _ in range(5):
            await asyncio.sleep(4)
            processes.network.forget(processes.account)
        assert not waiting.done()
        grant.sent()
        grant.answered()
        grant.release()
        ended = loop.time()
        (await waiting).release()
        assert loop.time() - ended >= 1
        await processes.close()

    run(main())


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_cancellation_storms_lose_no_slot_and_keep_the_order(server: Server, seed: int) -> None:
    async def main() -> None:
        processes, rng = Processes(server, 2, seed, rate=20, burst=20), random.Random(seed)
        order: dict[SharedTokenBucket, list[int]] = {limiter: [] for limiter in processes.limiters}

        async def call(limiter: SharedTokenBucket, number: int) -> None:
            grant = await limiter.acquire()
            order[limiter].append(number)
            try:
                grant.sent()
                await asyncio.sleep(0.05)
                grant.answered()
            finally:
                grant.release()

        number = 0
        for _ in range(12):
            tasks = []
            for _ in range(rng.randrange(40)):
                number += 1
                tasks.append(asyncio.create_task(call(rng.choice(processes.limiters), number)))
            await asyncio.sleep(rng.choice([0.0, 0.001, 0.0015, 0.01, 0.3, 1.1]))
            for task in rng.sample(tasks, len(tasks)):
                task.cancel()
                if rng.random() < 0.2:
                    await asyncio.sleep(rng.choice([0.0, 0.0005, 0.05]))
        await asyncio.sleep(3)
        assert all(numbers == sorted(numbers) for numbers in order.values())
        assert all((each.stats.waiting, each.stats.in_flight) == (0, 0) for each in processes.limiters)
        _, in_flight, line, places, *_ = processes.keys
        assert processes.network.redis.exists(in_flight, line, places) == 0
        granted, start = list[float](), asyncio.get_running_loop().time()
        await demand_of(processes.limiters[0], granted, 20)
        assert granted[-1] - start < 20 * 0.005  # a trip each
        await processes.close()

    run(main())


def test_processes_of_an_older_version_share_the_keys_and_nobody_is_granted_anything_beside_them(
    server: Server,
) -> None:
    """What another version has written is a state that is not known, however often."""

    async def main() -> None:
        processes, loop = Processes(server, 1), asyncio.get_running_loop()
        limiter, state = processes.limiters[0], processes.keys[0]
        (await limiter.acquire()).release()
        await asyncio.sleep(5)
        start = loop.time()
        waiting = asyncio.create_task(limiter.acquire())
        for _ in range(4):
            processes.network.redis.hset(state, "entries", "3")  # as version 0.3.0 counts them
            await asyncio.sleep(1)
        assert not waiting.done()
        (await waiting).release()
        assert loop.time() - start >= 3 + SETTLING
        await processes.close()

    run(main())


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", [CallKind.READ, CallKind.UPLOAD])
def test_calls_whose_slots_are_free_sooner_do_not_keep_the_first_in_line_waiting(
    server: Server, kind: CallKind, count: int
) -> None:
    """Who sends nothing but SMS knows no least round trip of another kind: their slots are free later for it."""

    async def main() -> None:
        processes, loop = Processes(server, 1 + count), asyncio.get_running_loop()
        first, *others = processes.limiters
        until, waits, arrivals = loop.time() + 30, list[float](), list[float]()

        async def write(limiter: SharedTokenBucket) -> None:
            while loop.time() < until:
                await exchange(limiter, Call(kind=CallKind.WRITE, work=0.3), arrivals)

        writing = [asyncio.create_task(write(limiter)) for limiter in others for _ in range(40)]
        await asyncio.sleep(5)
        while loop.time() < until:
            asked = loop.time()
            (await first.acquire_for(kind)).release()
            waits.append(loop.time() - asked)
        await asyncio.gather(*writing)
        assert max(waits) < 1
        assert fullest(sorted(arrivals)) <= 15
        await processes.close()

    run(main())


def test_callers_that_leave_the_queue_leave_the_line(server: Server) -> None:
    async def main() -> None:
        processes, loop = Processes(server, 2, rate=1), asyncio.get_running_loop()
        first, second = processes.limiters
        (await first.acquire()).release()
        tasks = [asyncio.create_task(first.acquire()) for _ in range(3)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0.1)
        assert processes.network.redis.zcard(processes.keys[2]) == 0
        start = loop.time()
        (await second.acquire()).release()
        assert loop.time() - start <= SETTLING
        await processes.close()

    run(main())


def test_a_caller_that_is_cancelled_as_its_grant_arrives_gives_it_back(server: Server) -> None:
    async def main() -> None:
        processes = Processes(server, 1)
        limiter = processes.limiters[0]
        task, granted = asyncio.create_task(limiter.acquire()), list[bool]()

        def cancel_if_granted() -> None:
            if limiter.in_flight:
                granted.append(not task.done())
                task.cancel()

        processes.network.on_result = cancel_if_granted
        await asyncio.wait([task])
        assert granted == [True]
        assert task.cancelled()
        assert limiter.in_flight == 0
        await asyncio.sleep(0.1)
        assert processes.network.redis.exists(*processes.keys[1:2], *processes.keys[4:]) == 0
        await processes.close()

    run(main())


@pytest.mark.parametrize("fault", ["refused", "silent", "lost"])
def test_redis_away_is_an_error_for_every_caller_and_the_next_asks_anew(server: Server, fault: str) -> None:
    async def main() -> None:
        processes, loop = Processes(server, 1), asyncio.get_running_loop()
        limiter = processes.limiters[0]
        (await limiter.acquire()).release()
        await asyncio.sleep(5)
        processes.network.fault = fault
        start = loop.time()
        outcomes = await asyncio.gather(*(limiter.acquire() for _ in range(100)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {LimiterUnavailableError}
        assert loop.time() - start < 1.01  # one timeout for all
        expected = "refused" if fault == "refused" else "no answer within 1 s"
        assert expected in str(outcomes[0])
        assert "nothing was sent" in str(outcomes[0])
        processes.network.fault = ""
        start = loop.time()
        log = list[float]()
        await demand_of(limiter, log, 15)  # what was granted and lost is given back
        assert log[4] - start < 0.1
        await asyncio.sleep(2)
        assert (limiter.stats.in_flight, limiter.stats.waiting) == (0, 0)
        assert processes.network.redis.zcard(processes.keys[1]) == 0
        await processes.close()

    run(main())


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("fault", ["refused", "silent"])
@pytest.mark.parametrize("lasts", [2.5, 12.0])
def test_sharing_keeps_the_cap_while_redis_is_away_and_on_both_ways(
    server: Server, forgets: bool, fault: str, lasts: float
) -> None:
    async def main() -> None:
        processes = Processes(server, 3, on_unavailable="share", processes=3)
        arrivals = list[float]()
        for limiter in processes.limiters:
            await exchange(limiter, Call(), arrivals)  # the least there can be, as the rule assumes it to be known
        start = asyncio.get_running_loop().time()
        work = [asyncio.create_task(busy(limiter, arrivals, start + 40)) for limiter in processes.limiters]
        await asyncio.sleep(10)
        processes.network.fault = fault
        await asyncio.sleep(lasts)
        assert all(limiter.stats.alone for limiter in processes.limiters)
        if forgets:
            processes.network.forget(processes.account)
        processes.network.fault = ""
        back = asyncio.get_running_loop().time()
        await asyncio.sleep(3)
        assert not any(limiter.stats.alone for limiter in processes.limiters)
        await asyncio.gather(*work)
        arrivals.sort()
        assert fullest(arrivals) <= 15
        if lasts > 5:
            alone = [arrival for arrival in arrivals if start + 17 < arrival < back]
            assert used(alone) >= 0.8
        assert used([arrival for arrival in arrivals if arrival > back + 7]) >= 0.85
        await processes.close()

    run(main())


def test_sharing_keeps_the_cap_when_one_process_comes_back_later_than_the_others(server: Server) -> None:
    async def main() -> None:
        processes, last = Processes(server, 2, on_unavailable="share", processes=3), Network(server)
        processes.limiters.append(processes.another(last))
        arrivals = list[float]()
        for limiter in processes.limiters:
            await exchange(limiter, Call(), arrivals)  # the least there can be, as the rule assumes it to be known
        start = asyncio.get_running_loop().time()
        work = [asyncio.create_task(busy(limiter, arrivals, start + 20)) for limiter in processes.limiters]
        await asyncio.sleep(5)
        processes.network.fault = last.fault = "refused"
        await asyncio.sleep(5)
        processes.network.fault = ""
        await asyncio.sleep(2)
        assert [limiter.stats.alone for limiter in processes.limiters] == [False, False, True]
        last.fault = ""
        await asyncio.gather(*work)
        assert fullest(sorted(arrivals)) <= 15
        await processes.close()
        last.redis.close()

    run(main())


def test_a_process_that_was_cut_off_alone_does_not_stop_the_others(server: Server) -> None:
    async def main() -> None:
        processes, cut_off = Processes(server, 2, on_unavailable="share", processes=3), Network(server)
        lonely = processes.another(cut_off)
        processes.limiters.insert(0, lonely)
        loop = asyncio.get_running_loop()
        start, others, own = loop.time(), list[float](), list[float]()
        work = [asyncio.create_task(busy(limiter, others, start + 30)) for limiter in processes.limiters[1:]]
        work.append(asyncio.create_task(busy(lonely, own, start + 30)))
        await asyncio.sleep(10)
        cut_off.fault = "silent"
        await asyncio.sleep(12)
        assert [limiter.stats.alone for limiter in processes.limiters] == [True, False, False]
        cut_off.fault = ""
        back = loop.time()
        await asyncio.gather(*work)
        assert not lonely.stats.alone
        assert fullest(sorted(others + own)) <= 15
        assert used([arrival for arrival in own if start + 17 < arrival < back], cap=5) >= 0.8
        assert used([arrival for arrival in others if start + 15 < arrival < back], cap=10) >= 0.8
        assert len([arrival for arrival in others if back < arrival < back + 4]) >= 30
        await processes.close()
        cut_off.redis.close()

    run(main())


def test_a_clock_that_goes_back_is_a_state_that_is_not_known(server: Server) -> None:
    async def main() -> None:
        processes, loop = Processes(server, 1), asyncio.get_running_loop()
        limiter = processes.limiters[0]
        (await limiter.acquire()).release()
        await asyncio.sleep(3)
        processes.network.redis.hset(processes.keys[0], "last", str(int((loop.time() + 3600) * 1e6)))
        start = loop.time()
        (await limiter.acquire()).release()
        assert SETTLING <= loop.time() - start <= SETTLING + 0.05
        await asyncio.sleep(0.5)
        assert processes.network.redis.delete(
            *(key for key in processes.keys if key.endswith(":cooling:read"))
        )  # evicted
        start = loop.time()
        (await limiter.acquire()).release()
        assert SETTLING <= loop.time() - start <= SETTLING + 0.05
        await processes.close()

    run(main())


def test_smaller_pictures_are_as_quick_as_ever_after_a_clock_has_gone_back(server: Server) -> None:
    async def main() -> None:
        processes, loop = Processes(server, 1), asyncio.get_running_loop()
        limiter = processes.limiters[0]
        await demand(limiter, [picture(300_000)] * 40)
        await asyncio.sleep(1)
        ahead = str(int((loop.time() + 3600) * 1e6))
        processes.network.redis.hset(processes.keys[0], mapping={"last": ahead, "least_till": ahead})
        small = [picture(200_000, up=random.Random(n).uniform(0, 0.05)) for n in range(600)]
        arrivals = await demand(limiter, small)
        assert fullest(arrivals) <= 15
        assert used(arrivals[-200:]) >= 0.9
        await processes.close()

    run(main())


def test_stats(server: Server) -> None:
    async def main() -> None:
        processes = Processes(server, 1)
        limiter = processes.limiters[0]
        assert (limiter.stats.calls, limiter.stats.rate, limiter.stats.round_trips) == (0, 15, 0)
        work = asyncio.create_task(demand_of(limiter, [], 30))
        await asyncio.sleep(0.1)
        assert (limiter.stats.waiting, limiter.stats.in_flight, limiter.stats.alone) == (30, 0, False)
        await work
        await asyncio.sleep(1)
        stats = limiter.stats
        assert (stats.calls, stats.waits, stats.waiting, stats.in_flight) == (30, 30, 0, 0)
        assert stats.seconds_waited > 30 * SETTLING
        assert stats.share == pytest.approx(30 / (60 * 15))
        assert stats.round_trips <= 31  # some of them asked together
        await processes.close()

    run(main())


def test_who_is_granted_at_once_has_not_waited_though_another_asked_with_it(server: Server) -> None:
    async def main() -> None:
        processes = Processes(server, 1, burst=1)
        limiter = processes.limiters[0]
        (await limiter.acquire()).release()
        await asyncio.sleep(3)
        waits = limiter.stats.waits
        for grant in await asyncio.gather(limiter.acquire(), limiter.acquire()):
            grant.release()
        assert limiter.stats.waits == waits + 1
        await processes.close()

    run(main())


def test_changes_are_told_by_redis_and_while_it_is_away(server: Server) -> None:
    async def main() -> None:
        processes = Processes(server, 1, on_unavailable="share", processes=1)
        limiter = processes.limiters[0]
        assert isinstance(limiter, SignalsCapacity)
        watch = Watch(limiter)
        calls = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
        await watch.shows(0, 3)
        grants = await asyncio.gather(*calls)
        await watch.shows(3, 0)
        processes.network.fault = "refused"
        calls = [asyncio.create_task(limiter.acquire()) for _ in range(2)]
        await watch.shows(3, 2)
        grants += await asyncio.gather(*calls)
        assert limiter.stats.alone
        await watch.shows(5, 0)
        for number, grant in enumerate(grants):
            grant.release()
            await watch.shows(4 - number, 0)
        processes.network.fault = ""
        assert limiter.in_flight == 0
        await processes.close()

    run(main())


def test_who_waits_for_signals_uses_the_cap(server: Server) -> None:
    async def main() -> None:
        processes = Processes(server, 2)
        logs = await asyncio.gather(*(fed_by_signals(limiter, 150) for limiter in processes.limiters))
        arrivals = sorted(arrival for log in logs for arrival in log)
        assert len(arrivals) == 300
        assert fullest(arrivals) <= 15
        assert used(arrivals) >= 0.9
        await processes.close()

    run(main())


# --- in real time ------------------------------------------------------------------------------------------------


class Counter:
    """A server that notes when each call arrives and whose it is, and answers."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, str]] = []
        self._rng = random.Random(1)

    async def __aenter__(self) -> Counter:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.arrivals.append((time.monotonic(), line.decode().strip()))
                await asyncio.sleep(self._rng.uniform(0.01, 0.05))
                writer.write(b"\n")
                await writer.drain()
        writer.close()

    def of(self, name: str) -> int:
        return sum(whose == name for _, whose in self.arrivals)


CHILD = """
import asyncio, json, sys, time
import attrs
from mmsclient.limiter import SharedTokenBucket

async def main(url, account, name, port, seconds):
    async with SharedTokenBucket(url, account=account) as limiter:
        until = time.monotonic() + float(seconds)

        async def caller():
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            while time.monotonic() < until:
                grant = await limiter.acquire()
                writer.write(f"{name}\\n".encode())
                await writer.drain()
                grant.sent()
                await reader.readline()
                grant.answered()
                grant.release()
            writer.close()

        await asyncio.gather(*(caller() for _ in range(10)))
        print(json.dumps(attrs.asdict(limiter.stats)))

asyncio.run(main(*sys.argv[1:]))
"""
"""A process of its own: callers, each with a connection to the `Counter`."""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603


async def eventually(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - what another process does
            await asyncio.sleep(0.02)


async def test_four_processes_and_one_that_is_killed(server: Server) -> None:
    account = secrets.token_hex(8)
    async with Counter() as counter:
        children = [start(CHILD, server.url, account, name, str(counter.port), "3") for name in "abcd"]
        try:
            await eventually(lambda: all(counter.of(name) > 3 for name in "abcd"))
            children[0].kill()
            outs = [await asyncio.to_thread(process.communicate) for process in children]
        finally:
            for process in children:
                process.kill()
                process.wait()
        stats = [json.loads(out) for out, _ in outs[1:]]
        assert fullest([arrival for arrival, _ in counter.arrivals]) <= 15
        assert sum(each["round_trips"] for each in stats) <= 2.5 * sum(each["calls"] for each in stats)


HOLDER = """
import asyncio, sys
from mmsclient.limiter import SharedTokenBucket

async def main(url, account):
    limiter = SharedTokenBucket(url, account=account, rate=3, timeout=0.5)
    for _ in range(3):
        await limiter.acquire()
    asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0.5)
    print("held", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""
"""A process that holds all slots, and has a place in line for one more."""


async def test_a_process_that_is_killed_frees_its_slots(server: Server) -> None:
    account = secrets.token_hex(8)
    holder = start(HOLDER, server.url, account)
    async with SharedTokenBucket(server.url, account=account, rate=3, timeout=0.5) as limiter:
        try:
            assert holder.stdout is not None
            assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
            waiting = [asyncio.create_task(retried(limiter.acquire)) for _ in range(3)]
            await asyncio.sleep(1)
            assert not any(task.done() for task in waiting)
        finally:
            holder.kill()
            holder.communicate()
        for grant in await asyncio.gather(*waiting):
            grant.release()


async def test_redis_is_killed_and_started_anew(own_server: Server) -> None:
    async with SharedTokenBucket(own_server.url, account="raise") as limiter:
        (await limiter.acquire()).release()
        in_flight = await limiter.acquire()
        own_server.signal(signal.SIGKILL)
        with pytest.raises(LimiterUnavailableError, match="nothing was sent") as caught:
            await limiter.acquire()
        assert isinstance(caught.value, MMSError)
        in_flight.release()
        own_server.start()
        start = time.monotonic()
        (await retried(limiter.acquire)).release()
        assert time.monotonic() - start >= SETTLING


async def test_redis_that_hangs_is_an_error_after_the_timeout(own_server: Server) -> None:
    async with SharedTokenBucket(own_server.url, account="hangs", timeout=0.3) as limiter:
        (await limiter.acquire()).release()
        own_server.signal(signal.SIGSTOP)
        with pytest.raises(LimiterUnavailableError, match=r"no answer within 0\.3 s|Timeout"):
            await limiter.acquire()
        own_server.signal(signal.SIGCONT)
        (await retried(limiter.acquire)).release()


async def retried(acquire: Callable[[], Awaitable[Grant]]) -> Grant:
    """On a busy machine Redis may take longer than a short timeout."""
    for _ in range(20):
        with suppress(LimiterUnavailableError):
            return await acquire()
    return await acquire()


async def test_sharing_while_redis_is_killed_and_started_anew(own_server: Server) -> None:
    limiters = [
        SharedTokenBucket(own_server.url, account="share", on_unavailable="share", processes=2) for _ in range(2)
    ]
    arrivals = list[float]()
    stopped = asyncio.Event()

    async def caller(limiter: SharedTokenBucket) -> None:
        while not stopped.is_set():
            await exchange(limiter, Call(), arrivals)

    work = [asyncio.create_task(caller(limiter)) for limiter in limiters * 6]
    await eventually(lambda: len(arrivals) > 15)
    own_server.signal(signal.SIGKILL)
    await eventually(lambda: all(limiter.stats.alone for limiter in limiters))
    noted = len(arrivals)
    await eventually(lambda: len(arrivals) > noted + 4)
    own_server.start()
    await eventually(lambda: not any(limiter.stats.alone for limiter in limiters))
    await asyncio.sleep(2)
    stopped.set()
    await asyncio.gather(*work)
    for limiter in limiters:
        await limiter.aclose()
    assert fullest(sorted(arrivals)) <= 15


async def test_a_flushed_script_is_sent_again_and_a_forgotten_state_is_begun_anew(server: Server) -> None:
    async with (
        Redis.from_url(server.url, decode_responses=True) as client,
        SharedTokenBucket(client, account=secrets.token_hex(8)) as limiter,
    ):
        (await limiter.acquire()).release()
        await client.script_flush()
        (await limiter.acquire()).release()
        await client.flushall()
        start = time.monotonic()
        (await retried(limiter.acquire)).release()
        assert time.monotonic() - start >= SETTLING
    assert await client.ping()  # it is the user's, and still works
    await client.aclose()


async def test_keys_tell_nothing_of_the_account_expire_and_share_a_slot(server: Server) -> None:
    account = "4C6F72656D-the-key-itself"
    async with (
        Redis.from_url(server.url, decode_responses=True) as client,
        SharedTokenBucket(server.url, account=account, rate=2) as limiter,
    ):
        await client.flushall()
        grants = [await limiter.acquire()]
        waiting = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
        await asyncio.sleep(0.3)
        grants[0].release()
        await eventually(lambda: sum(task.done() for task in waiting) >= 2)
        keys = [str(key) for key in await client.keys("*")]
        assert {key.rpartition(":")[2] for key in keys} >= {"state", "busy", "line", "places"}
        assert len({key[key.index("{") : key.index("}")] for key in keys}) == 1
        for key in keys:
            assert account not in key
            assert await client.pttl(key) > 0
            kind = await client.type(key)
            held = await client.hgetall(key) if kind == "hash" else await client.zrange(key, 0, -1)
            assert account not in str(held)
        assert set(keys_of(account)).isdisjoint(keys_of(account + "2"))
        assert account not in repr(vars(limiter))
        for task in waiting:
            task.cancel()


async def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    pem = str(tmp_path / "server.pem")
    options = ["--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    try:
        server = Server(*options, "--tls-auth-clients", "no", tls=True)
    except RuntimeError as error:
        if "Bad directive" in str(error):
            pytest.skip("this redis-server has no TLS")
        raise
    url = f"rediss://127.0.0.1:{server.port}"
    try:
        async with SharedTokenBucket(f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}", account="tls") as limiter:
            (await limiter.acquire()).release()
        async with SharedTokenBucket(url, account="tls") as limiter:
            with pytest.raises(LimiterUnavailableError):  # nobody vouches for its certificate
                await limiter.acquire()
    finally:
        server.stop()


async def test_a_cluster() -> None:
    server = Server("--cluster-enabled", "yes")
    try:
        with redis_package.Redis(port=server.port) as node:
            node.execute_command("CLUSTER ADDSLOTS", *range(16384))
            await eventually(lambda: node.cluster("INFO")["cluster_state"] == "ok")
        cluster = RedisCluster(host="127.0.0.1", port=server.port)
        async with SharedTokenBucket(cluster, account="cluster") as limiter:
            for _ in range(3):
                (await limiter.acquire()).release()
        await cluster.aclose()
    finally:
        server.stop()


def test_a_second_loop_is_an_error(server: Server) -> None:
    limiter = SharedTokenBucket(server.url, account="loop")
    assert isinstance(limiter, Limiter)

    async def once() -> None:
        async with asyncio.timeout(60):
            (await limiter.acquire()).release()

    async def once_and_close() -> None:
        await once()
        await limiter.aclose()

    asyncio.run(once_and_close())
    with pytest.raises(ConfigurationError, match="event loop"):
        asyncio.run(once())


async def test_a_closed_limiter_grants_nothing(server: Server) -> None:
    limiter = SharedTokenBucket(server.url, account=secrets.token_hex(8))
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(0.05)
    await limiter.aclose()
    await limiter.aclose()
    outcomes = await asyncio.gather(*waiting, limiter.acquire(), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {LimiterUnavailableError}
    assert "closed" in str(outcomes[0])


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        *(("redis", {"redis": value}) for value in ("localhost", "http://h", "redis://:pass@h:word", None, 6379)),
        ("redis", {"redis": redis_package.Redis()}),
        *(("account", {"account": value}) for value in ("", None, 7)),
        *(("rate", {"rate": value}) for value in (0, -1, float("nan"), "15")),
        ("burst", {"burst": 0}),
        ("jitter", {"jitter": -1}),
        ("on_unavailable", {"on_unavailable": "wait"}),
        ("processes", {"on_unavailable": "share"}),
        ("processes", {"processes": 3}),
        *(("processes", {"on_unavailable": "share", "processes": value}) for value in (0, 16, 1.5, True)),
        *(("timeout", {"timeout": value}) for value in (0, -1, float("nan"), 6, "1", True)),
    ],
)
def test_a_wrong_value_is_an_error(argument: str, wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"redis": "redis://127.0.0.1", "account": "a", **wrong}
    with pytest.raises(ConfigurationError, match=f"^{argument}: ") as caught:
        SharedTokenBucket(arguments.pop("redis"), **arguments)
    assert "pass" not in str(caught.value)


def test_redis_is_imported_when_it_is_used_and_a_missing_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = "import sys, mmsclient.limiter; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0  # noqa: S603
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigurationError, match=re.escape(install_command("redis"))):
        SharedTokenBucket("redis://127.0.0.1", account="a")
