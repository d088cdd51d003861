"""The cap as the server counts it, in virtual time: `exchange` plays the network and the server."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.counting import gcra, used
from mmsclient.errors import ConfigurationError
from mmsclient.limiter import Limiter
from mmsclient.limiter.bucket import MARGIN, TokenBucket
from tests.virtual_time import VirtualLoop, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WAY, WORK = 0.02, 0.02
"""The shortest way to the server and back again, and the least work after counting, in seconds."""


@attrs.frozen
class Call:
    """What happens to one call. The seconds come on top of the shortest ones."""

    wait: float = 0.0
    """From the call before it to this one."""
    upload: float = 0.0
    """From the first byte to the last."""
    counted_late: bool = False
    """The server counts when the last byte is there, not the first."""
    up: float = 0.0
    """Jitter on the way there."""
    work: float = 0.0
    down: float = 0.0
    fate: str = "answered"
    """Or `refused` (429 at once), `reset` (no answer, after counting), `lost` (never counted), `dropped` (given up by
    the client as soon as it was sent), `torn` (given up before the last byte was sent) or `untraced` (no stamps)."""
    patience: float = 1e9
    """Seconds after which the caller leaves the queue."""


async def exchange(limiter: Limiter, call: Call, arrivals: list[float]) -> None:
    """One call, from the queue to its end; `arrivals` gets the moment at which the server counts it."""
    time, sleep = asyncio.get_running_loop().time, asyncio.sleep
    try:
        async with asyncio.timeout(call.patience):
            grant = await limiter.acquire()
    except TimeoutError:
        return
    upload = 0.0 if call.fate == "untraced" else call.upload
    counted = time() + WAY + call.up + (upload if call.counted_late else 0.0)
    there = time() + WAY + call.up + upload
    if call.fate != "lost":
        arrivals.append(counted)
    await sleep(upload)
    if call.fate not in {"torn", "untraced"}:
        grant.sent()
    if call.fate in {"answered", "refused", "untraced"}:
        work = 0.0 if call.fate == "refused" else WORK + call.work
        await sleep(there - time() + work + WAY + call.down)
        grant.answered()
    elif call.fate == "reset":
        await sleep(there - time() + WAY)
    grant.release(throttled=call.fate == "refused", retry_after=0.5)


async def demand(limiter: Limiter, calls: Iterable[Call]) -> list[float]:
    """Make the calls, each on its own; the moments at which the server counted them."""
    arrivals: list[float] = []
    async with asyncio.TaskGroup() as group:
        for call in calls:
            await asyncio.sleep(call.wait)
            group.create_task(exchange(limiter, call, arrivals))
    return sorted(arrivals)


def fullest(arrivals: list[float], window: float = 1.0) -> int:
    """The most arrivals in any half-open window."""
    log: deque[float] = deque()
    most = 0
    for arrival in arrivals:
        log.append(arrival)
        while arrival - log[0] >= window:
            log.popleft()
        most = max(most, len(log))
    return most


# --- the cap -----------------------------------------------------------------------------------------------------

JITTER = st.sampled_from([0.0, 0.0, 0.01, 0.05, 0.15, 0.25])
CALLS = st.builds(
    Call,
    wait=st.sampled_from([0.0] * 12 + [0.01, 0.3, 1.0]),
    upload=st.sampled_from([0.0, 0.0, 0.0, 0.1, 3.0]),
    counted_late=st.booleans(),
    up=JITTER,
    work=st.sampled_from([0.0, 0.0, 0.03, 0.06, 0.3, 5.0]),
    down=JITTER,
    fate=st.sampled_from(["answered"] * 12 + ["refused", "reset", "lost", "dropped", "torn", "untraced"]),
    patience=st.sampled_from([1e9] * 6 + [0.0, 0.1, 1.0]),
)


@settings(deadline=None, max_examples=150)
@given(
    calls=st.lists(CALLS, min_size=20, max_size=100),
    rate=st.sampled_from([0.5, 1, 2.7, 15, 15, 15, 40]),
    burst=st.sampled_from([1, 5, 100]),
)
def test_no_window_holds_more_than_the_cap(calls: list[Call], rate: float, burst: int) -> None:
    # The first call takes the least there can be: the floor is then never above it, as the rule assumes.
    limiter = TokenBucket(rate, burst)
    arrivals = run(demand(limiter, [Call(), *calls]))
    assert fullest(arrivals, max(1.0, 1 / rate)) <= max(1, int(rate))
    assert (limiter.stats.in_flight, limiter.stats.waiting) == (0, 0)


MODELS: dict[str, Callable[[random.Random], float]] = {
    "none": lambda _: 0.0,
    "uniform": lambda rng: rng.uniform(0, 0.05),
    "exponential": lambda rng: rng.expovariate(50),
}


def steady(limiter: Limiter, model: str = "uniform", seed: int = 0, calls: int = 300) -> list[float]:
    """Everybody at once; answers after 20 to 80 ms."""
    rng, jitter = random.Random(seed), MODELS[model]
    return run(
        demand(limiter, [Call(up=jitter(rng), work=rng.uniform(0, 0.06), down=jitter(rng)) for _ in range(calls)])
    )


@pytest.mark.parametrize(("model", "share"), [("none", 0.95), ("uniform", 0.92), ("exponential", 0.90)])
def test_steady_demand_gets_the_cap_smoothly(model: str, share: float) -> None:
    runs = [steady(TokenBucket(), model, seed) for seed in range(10)]
    assert max(map(fullest, runs)) <= 15
    assert max(map(gcra, runs)) <= 3
    assert mean(map(used, runs)) >= share


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), rate=st.sampled_from([5, 15, 50]), model=st.sampled_from(sorted(MODELS)))
def test_steady_demand_gets_nine_tenths_of_any_cap(seed: int, rate: int, model: str) -> None:
    assert used(steady(TokenBucket(rate), model, seed, calls=20 * rate), rate) >= 0.90


def wider(limiter: TokenBucket) -> None:
    limiter._window = 0.9


def doubled(limiter: TokenBucket) -> None:
    below = limiter._floor._below
    limiter._floor._below = lambda lag: 2 * below(lag)  # type: ignore[method-assign]


def from_sending(limiter: TokenBucket) -> None:
    limiter._floor.latest = lambda sent, answered, *, unusual=False: sent  # type: ignore[method-assign]


@pytest.mark.parametrize("weaken", [wider, doubled, from_sending])
@pytest.mark.parametrize("burst", [5, 15])
def test_the_cap_does_not_hold_with_a_weaker_rule(weaken: Callable[[TokenBucket], None], burst: int) -> None:
    def most() -> int:
        limiters = [TokenBucket(burst=burst) for _ in range(4)]
        if weakened:
            for limiter in limiters:
                weaken(limiter)
        return max(fullest(steady(limiter, seed=seed)) for seed, limiter in enumerate(limiters))

    weakened = False
    assert most() <= 15
    weakened = True
    assert most() > 15


@pytest.mark.parametrize(("fate", "counted_at"), [("answered", 0.01), ("refused", 0.07)])
def test_a_refusal_may_have_come_a_shorter_way_than_any_answer(fate: str, counted_at: float) -> None:
    """The server may refuse a call without the work that every answer took; so nothing is taken off for it."""

    async def main() -> float:
        limiter = TokenBucket(1)
        await demand(limiter, [Call() for _ in range(20)])  # of 60 ms each, which is the floor then
        await asyncio.sleep(60)
        work = 0.01 if fate == "answered" else 0.0
        down = 0.0 if fate == "answered" else WORK + 0.01
        await demand(limiter, [Call(fate=fate, work=work, down=down)])
        start = asyncio.get_running_loop().time() - 0.07
        (await limiter.acquire()).release()
        return asyncio.get_running_loop().time() - start

    assert run(main()) == pytest.approx(1 + MARGIN + counted_at, abs=0.001)


def test_slow_answers_do_not_hold_the_slots() -> None:
    arrivals = run(demand(TokenBucket(), [Call(work=10.0) for _ in range(150)]))
    assert fullest(arrivals) <= 15
    assert used(arrivals) >= 0.78  # a slot a call for 1 s + 0.25 s of jitter


def test_a_call_that_is_still_sending_holds_its_slot() -> None:
    limiter = TokenBucket(2)
    slow = [Call(upload=30.0, counted_late=True), Call(upload=30.0, counted_late=True)]
    arrivals = run(demand(limiter, [*slow, Call()]))
    assert arrivals[2] - arrivals[0] >= 1.0


@pytest.mark.parametrize("fate", ["reset", "lost", "dropped", "torn", "untraced"])
def test_no_slot_is_lost_with_a_failed_call(fate: str) -> None:
    assert used(run(demand(TokenBucket(), [Call(fate=fate) for _ in range(300)] + [Call()] * 15))) > 0.7


# --- the queue ---------------------------------------------------------------------------------------------------


async def take(limiter: TokenBucket, granted: list[float]) -> None:
    grant = await limiter.acquire()
    granted.append(asyncio.get_running_loop().time())
    try:
        grant.sent()
        await asyncio.sleep(0.05)
        grant.answered()
    finally:
        grant.release()


def test_a_burst_from_idle_waits_nothing() -> None:
    async def main() -> None:
        limiter, granted = TokenBucket(), list[float]()
        start = asyncio.get_running_loop().time()
        await asyncio.gather(*(take(limiter, granted) for _ in range(6)))
        assert [round(at - start, 3) for at in granted] == [0, 0, 0, 0, 0, 0.068]
        assert limiter.stats.waits == 1
        assert limiter.stats.seconds_waited == pytest.approx(1.02 / 15)

    run(main())


def test_first_come_first_served_whoever_gives_up() -> None:
    async def main() -> None:
        limiter, order, rng = TokenBucket(100), list[int](), random.Random(1)

        async def call(number: int) -> None:
            (await limiter.acquire()).release()
            order.append(number)

        tasks = list[asyncio.Task[None]]()
        for number in range(400):
            tasks.append(asyncio.create_task(call(number)))
            if number % 10 == 0:
                await asyncio.sleep(0.003)
            rng.choice(tasks).cancel()
        await asyncio.wait(tasks)
        assert order == sorted(order)
        assert sorted(order) == [number for number, task in enumerate(tasks) if not task.cancelled()]
        assert (limiter.stats.waiting, limiter.stats.in_flight) == (0, 0)

    run(main())


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6))
def test_cancellation_storms_lose_no_slot(seed: int) -> None:
    async def main() -> None:
        limiter, rng, granted = TokenBucket(20, 20), random.Random(seed), list[float]()
        for _ in range(15):
            tasks = [asyncio.create_task(take(limiter, [])) for _ in range(rng.randrange(40))]
            await asyncio.sleep(rng.choice([0.0, 0.01, 0.3, 1.1]))
            for task in rng.sample(tasks, len(tasks)):
                task.cancel()
                if rng.random() < 0.2:
                    await asyncio.sleep(rng.choice([0.0, 0.05]))
        await asyncio.sleep(2)
        assert (limiter.stats.waiting, limiter.stats.in_flight) == (0, 0)
        start = asyncio.get_running_loop().time()
        await asyncio.gather(*(take(limiter, granted) for _ in range(20)))
        assert granted[-1] - start < 0.001

    run(main())


@pytest.mark.parametrize("ending", ["granted", "cancelled"])
def test_a_hundred_thousand_waiters_cost_in_proportion(ending: str) -> None:
    async def main(waiters: int) -> float:
        limiter = TokenBucket(100_000, 1)

        async def call() -> None:
            (await limiter.acquire()).release()

        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        tasks = [asyncio.create_task(call()) for _ in range(waiters)]
        if ending == "cancelled":
            await asyncio.sleep(0)
            random.Random(1).shuffle(tasks)
            for task in tasks:
                task.cancel()
        await asyncio.wait(tasks)
        assert limiter.stats.waiting == 0
        return loop.steps / waiters

    few, many = run(main(1_000)), run(main(100_000))
    assert many == pytest.approx(few, rel=0.05)
    assert many < 20


# --- feedback ----------------------------------------------------------------------------------------------------


async def throttle(limiter: TokenBucket, count: int = 1, retry_after: float | None = None) -> None:
    grants = [await limiter.acquire() for _ in range(count)]
    for grant in grants:
        grant.sent()
        grant.answered()
        grant.release(throttled=True, retry_after=retry_after)


@pytest.mark.parametrize(("retry_after", "pause"), [(None, 1), (7, 7), (0, 0), (86_400, 60)])
def test_a_throttled_call_holds_every_caller_then_one_by_one(retry_after: float | None, pause: float) -> None:
    async def main() -> None:
        limiter, granted = TokenBucket(), list[float]()
        refused = await limiter.acquire()
        queued = [asyncio.create_task(take(limiter, granted)) for _ in range(12)]
        await asyncio.sleep(0.1)
        early, start = len(granted), asyncio.get_running_loop().time()
        refused.release(throttled=True, retry_after=retry_after)
        later = [asyncio.create_task(take(limiter, granted)) for _ in range(3)]
        await asyncio.gather(*queued, *later)
        waited = [at - start for at in granted[early:]]
        assert waited[0] >= pause
        assert waited[0] <= pause + 0.1
        gaps = [after - before for before, after in pairwise(waited)]
        assert min(gaps) >= 1.02 / 12.2  # 0.8 of 15, a little regained
        assert max(gaps) <= 1.1

    run(main())


def test_refusals_of_one_episode_slow_down_once_and_the_rate_comes_back() -> None:
    async def main() -> None:
        limiter = TokenBucket()
        await throttle(limiter, 4)
        assert (limiter.stats.throttled, limiter.stats.throttlings) == (4, 1)
        assert limiter.stats.rate == pytest.approx(12)
        await asyncio.sleep(1 + 10)
        assert limiter.stats.rate == pytest.approx(13)
        await throttle(limiter)
        assert limiter.stats.throttlings == 2
        assert limiter.stats.rate == pytest.approx(0.8 * 13)
        await asyncio.sleep(60)
        assert limiter.stats.rate == 15
        await take(limiter, [])
        await asyncio.sleep(1)
        granted = list[float]()
        await asyncio.gather(*(take(limiter, granted) for _ in range(5)))
        assert granted[-1] - granted[0] < 0.001

    run(main())


def test_the_rate_never_falls_below_a_tenth() -> None:
    async def main() -> None:
        limiter = TokenBucket()
        for _ in range(40):
            await throttle(limiter, retry_after=0)
        assert limiter.stats.rate >= 1.5

    run(main())


# --- the rest ----------------------------------------------------------------------------------------------------


def test_stats() -> None:
    async def main() -> None:
        limiter = TokenBucket()
        assert limiter.stats.calls == 0
        calls = [asyncio.create_task(take(limiter, [])) for _ in range(30)]
        await asyncio.sleep(0)
        assert (limiter.stats.in_flight, limiter.stats.waiting) == (5, 25)
        await asyncio.gather(*calls)
        stats = limiter.stats
        assert (stats.calls, stats.waits, stats.in_flight, stats.waiting, stats.rate) == (30, 25, 0, 0, 15)
        assert stats.share == pytest.approx(30 / (60 * 15))
        await asyncio.sleep(61)
        assert limiter.stats.share == 0

    run(main())


def test_a_grant_released_twice_frees_one_slot() -> None:
    async def main() -> None:
        limiter, granted = TokenBucket(1, 5), list[float]()
        grant = await limiter.acquire()
        grant.release()
        grant.release()
        await asyncio.sleep(10)
        await asyncio.gather(take(limiter, granted), take(limiter, granted))
        assert granted[1] - granted[0] > 1

    run(main())


def test_a_second_loop_is_an_error() -> None:
    limiter = TokenBucket()
    assert isinstance(limiter, Limiter)
    run(take(limiter, []))
    with pytest.raises(ConfigurationError, match="event loop"):
        run(take(limiter, []))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"rate": value} for value in (0, -1, float("inf"), float("nan"), "15", None, True)),
        *({"burst": value} for value in (0, 1.5, None)),
        *({"jitter": value} for value in (-0.1, float("nan"))),
    ],
)
def test_a_wrong_value_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))}="):
        TokenBucket(**wrong)
