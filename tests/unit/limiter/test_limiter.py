"""The cap as the server counts it, in virtual time: `exchange` plays the network and the server."""

from __future__ import annotations

import asyncio
import random
from itertools import chain, pairwise
from statistics import mean
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmsclient.errors import ConfigurationError
from mmsclient.limiter import CallKind, Limiter, NoLimit, SignalsCapacity, TokenBucket
from mmsclient.limiter.feedback import Slowdown
from mmsclient.limiter.slots import ALLOWANCE, ENOUGH, MARGIN, MEMORY, OWN, CallClass, MinRTT, SlotRule
from tests.support.counting import gcra, used
from tests.support.demand import (
    CALLS,
    COSTS,
    MIXED_CALLS,
    MODELS,
    PICTURES,
    PICTURES_AFTER_EACH_OTHER,
    WORK,
    WRONG_CALLS,
    Call,
    Costs,
    Watch,
    demand,
    fed_by_signals,
    fullest,
    picture,
)
from tests.support.virtual_time import VirtualLoop, run

if TYPE_CHECKING:
    from collections.abc import Callable


# --- the rule, without a loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "slots", "window"), [(15, 15, 1.0), (2.7, 2, 1.0), (1, 1, 1.0), (0.5, 1, 2.0), (0.1, 1, 10.0)]
)
def test_slots_and_window_of_a_rate(rate: float, slots: int, window: float) -> None:
    rule = SlotRule(rate, jitter=0.25)
    assert (rule.slots, rule.window, rule.rate) == (slots, window, slots / window)
    assert rule.hold == window + MARGIN
    assert rule.settling == 0.25 + window + MARGIN


def test_the_min_rtt_is_their_minimum_less_what_it_may_be_too_long_by() -> None:
    min_rtt = MinRTT()
    for known in range(ENOUGH):
        assert min_rtt.estimate == 0
        assert min_rtt.learn(0.05 if known else 0.04) == 0
    excess = 0.01 * (ENOUGH - 1) / ENOUGH
    assert min_rtt.estimate == pytest.approx(0.04 - ALLOWANCE * excess / ENOUGH)
    assert 0 < min_rtt.learn(0.05) < 0.04
    assert min_rtt.learn(0.001) == 0  # shorter than what was known
    for _ in range(MEMORY):
        min_rtt.learn(0.3)
    assert min_rtt.estimate == pytest.approx(0.3)  # the old ones are forgotten


@given(st.lists(st.sampled_from([0.01, 0.02, 0.05, 0.3]) | st.floats(0, 60), min_size=ENOUGH, max_size=MEMORY + 200))
@example([0.3] + [0.05, 0.01] * MEMORY)
def test_the_min_rtt_is_that_of_the_last_exchanges(exchanges: list[float]) -> None:
    min_rtt = MinRTT()
    for exchange in exchanges:
        min_rtt.learn(exchange)
    last = exchanges[-MEMORY:]
    excess = sum(last) / len(last) - min(last)
    assert min_rtt.estimate == pytest.approx(max(0.0, min(last) - ALLOWANCE * excess / len(last)), abs=1e-9)


def test_the_min_rtt_is_learned_of_other_processes_too_and_used_after_a_few_own_exchanges() -> None:
    rule, read = SlotRule(15, jitter=0.25), CallKind.READ
    min_rtt = rule.min_rtt[read]
    for _ in range(MEMORY):
        min_rtt.learn_of_another(0.1, 0)
    assert min_rtt.estimate == pytest.approx(0.1)
    min_rtt.learn_of_another(0.2, 0)  # enough are known, and this tells nothing
    assert min_rtt.estimate == pytest.approx(0.1)
    min_rtt.learn_of_another(0.08, 0)  # somebody has a shorter way
    assert 0.07 < min_rtt.estimate < 0.08
    for _ in range(OWN):
        assert rule.class_of(read, 0) is CallClass.SMALLER
        assert rule.counted_by(read, 10.0, 10.15) == [10.15] * 4
    assert rule.class_of(read, 0) is CallClass.READ
    rule.lapse(10.15 + MEMORY / 15 - 1)
    assert rule.class_of(read, 0) is CallClass.READ
    rule.lapse(10.15 + MEMORY / 15 + 1)  # the others may have forgotten the way of this one
    assert rule.class_of(read, 0) is CallClass.SMALLER
    for _ in range(OWN):
        rule.counted_by(read, 60.0, 60.15)
    assert rule.counted_by(read, 10.0, 10.15)[read] == pytest.approx(10.15 - 0.08, abs=0.01)


@pytest.mark.parametrize("many", [ENOUGH, 150, 400, 2 * MEMORY])
def test_smaller_pictures_are_trusted_no_more_for_the_larger_ones_before_them(many: int) -> None:
    """Their minimum rests on the few smaller ones, so their number is what counts."""
    rng, after_larger, alone = random.Random(1), MinRTT(), MinRTT()
    for _ in range(many):
        after_larger.learn(0.25 + rng.uniform(0, 0.1), 100_000)
    taken_off = 0.0
    for _ in range(4 * ENOUGH):
        exchange = 0.1 + rng.uniform(0, 0.1)
        before = after_larger.learn(exchange, 20_000)
        assert before <= alone.learn(exchange, 20_000) + 1e-9
        taken_off = max(taken_off, before)
    assert taken_off > 0.05


@pytest.mark.parametrize("model", list(MODELS))
def test_soon_after_the_start_hardly_any_exchange_is_shorter_than_the_min_rtt(model: str) -> None:
    """What comes sooner after the call before it, in its slot, than a window: one in a thousand was too many."""
    rng, jitter = random.Random(1), MODELS[model]
    tried = shorter = 0
    for _ in range(300):
        min_rtt = MinRTT()
        for _ in range(90):
            exchange = 0.06 + jitter(rng) + rng.uniform(0, 0.06) + jitter(rng)
            tried += min_rtt.is_known
            shorter += exchange < min_rtt.estimate - MARGIN
            min_rtt.learn(exchange)
    assert shorter <= tried / 4000


def test_when_a_call_was_counted_at_the_latest() -> None:
    rule, read = SlotRule(15, jitter=0.25), CallKind.READ
    assert rule.counted_by(read, 10.0, None) == [10.25] * 4
    for _ in range(ENOUGH):
        assert rule.counted_by(read, 10.0, 10.1) == [10.1] * 4
    assert rule.counted_by(read, 10.0, 10.15) == pytest.approx([10.05, 10.15, 10.15, 10.15])
    assert rule.counted_by(read, 10.0, 19.0) == [10.25] * 4  # a slow answer: it was counted long before
    before = rule.min_rtt[read].estimate
    assert rule.counted_by(read, 10.0, 10.15, unusual=True) == [10.15] * 4
    assert rule.min_rtt[read].estimate == before


def test_the_least_min_rtt_of_those_that_are_known_is_taken_off() -> None:
    rule, read, upload = SlotRule(15, jitter=0.25), CallKind.READ, CallKind.UPLOAD
    for _ in range(ENOUGH):
        rule.counted_by(read, 10.0, 10.1)
        assert rule.counted_by(upload, 10.0, 10.2) == [10.2] * 4
    assert rule.counted_by(upload, 10.0, 10.23) == pytest.approx([10.13, 10.23, 10.13, 10.23])
    assert rule.counted_by(read, 10.0, 10.15) == pytest.approx([10.05, 10.15, 10.05, 10.15])


def test_the_rate_after_refusals() -> None:
    slowdown = Slowdown(15)
    slowdown.throttle(100.0, 0, None)
    slowdown.throttle(100.5, 0, 2.0)  # granted before the pause: of the same episode
    assert (slowdown.episodes, slowdown.pause.until) == (1, 102.5)
    assert slowdown.rate(102.5) == 12
    assert slowdown.rate(112.5) == pytest.approx(13)
    slowdown.throttle(112.5, 1, 0)
    assert slowdown.rate(112.5) == pytest.approx(0.8 * 13)
    assert slowdown.recover(120.0) < 15
    assert slowdown.is_on
    assert slowdown.recover(180.0) == 15
    assert not slowdown.is_on


# --- the cap -----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
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


@settings(max_examples=60)
@given(
    calls=st.lists(MIXED_CALLS, min_size=20, max_size=100),
    costs=COSTS,
    rate=st.sampled_from([1, 2.7, 15, 15, 15, 40]),
    burst=st.sampled_from([1, 5, 100]),
)
def test_no_window_holds_more_than_the_cap_whatever_kinds_are_mixed(
    calls: list[Call], costs: Costs, rate: float, burst: int
) -> None:
    limiter = TokenBucket(rate, burst)
    arrivals = run(demand(limiter, [*costs.least(), *map(costs.of, calls)]))
    assert fullest(arrivals, max(1.0, 1 / rate)) <= max(1, int(rate))
    assert (limiter.stats.in_flight, limiter.stats.waiting) == (0, 0)


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


def test_the_cap_is_kept_right_after_the_start() -> None:
    """The least of the first round trips may be well above the least that there can be."""
    assert max(fullest(steady(TokenBucket(), seed=seed, calls=90)) for seed in range(200, 250)) <= 15


def pictures(limiter: Limiter, model: str = "uniform", seed: int = 0, reads: float = 0.0) -> list[float]:
    """A look at the account, then 300 pictures at once, with `reads` for a part of them."""
    rng, jitter = random.Random(seed), MODELS[model]
    calls = [Call(kind=CallKind.READ)]
    for _ in range(300):
        kind = CallKind.READ if rng.random() < reads else CallKind.UPLOAD
        calls.append(Call(kind=kind, up=jitter(rng), work=rng.uniform(0, 0.06), down=jitter(rng)))
    return run(demand(limiter, map(PICTURES.of, calls)))


@pytest.mark.parametrize(("model", "share"), [("none", 0.95), ("uniform", 0.915), ("exponential", 0.90)])
def test_a_look_at_the_account_before_does_not_slow_pictures_down(model: str, share: float) -> None:
    runs = [pictures(TokenBucket(), model, seed) for seed in range(10)]
    assert max(map(fullest, runs)) <= 15
    assert mean(map(used, runs)) >= share


@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize(("reads", "share"), [(0.05, 0.86), (0.5, 0.84)])
def test_kinds_that_are_mixed_keep_the_cap_and_get_most_of_it(model: str, reads: float, share: float) -> None:
    runs = [pictures(TokenBucket(), model, seed, reads) for seed in range(5)]
    assert max(map(fullest, runs)) <= 15
    assert mean(map(used, runs)) >= share


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), rate=st.sampled_from([5, 15, 50]), model=st.sampled_from(sorted(MODELS)))
def test_steady_demand_gets_nine_tenths_of_any_cap(seed: int, rate: int, model: str) -> None:
    assert used(steady(TokenBucket(rate), model, seed, calls=20 * rate), rate) >= 0.90


@pytest.mark.parametrize(("large", "small"), [(380_000, 20_000), (380_000, 200_000), (100_000, 20_000)])
@pytest.mark.parametrize("reads", [0, 1])
@pytest.mark.parametrize("rate", [15, 40])
def test_pictures_that_become_smaller_keep_the_cap(large: int, small: int, reads: int, rate: int) -> None:
    before = [picture(large)] * 5 + [Call(kind=CallKind.READ)] * reads
    assert fullest(run(demand(TokenBucket(rate), before * 24 + [picture(small)] * 3 * rate))) <= rate


@pytest.mark.parametrize("seed", [6, 24, 27])
def test_pictures_that_become_smaller_keep_the_cap_however_the_way_varies(seed: int) -> None:
    rng = random.Random(seed)

    def call(size: int) -> Call:
        return picture(size, up=rng.uniform(0, 0.05), work=rng.uniform(0, 0.06), down=rng.uniform(0, 0.05))

    calls = [call(380_000) for _ in range(400)] + [call(300_000) for _ in range(90)]
    assert fullest(run(demand(TokenBucket(), calls))) <= 15


@settings(max_examples=60)
@given(
    runs=st.lists(PICTURES_AFTER_EACH_OTHER, min_size=2, max_size=4),
    rate=st.sampled_from([1, 2.7, 15, 15, 15, 40]),
    burst=st.sampled_from([1, 5, 100]),
)
def test_no_window_holds_more_than_the_cap_whatever_the_sizes_of_pictures(
    runs: list[list[Call]], rate: float, burst: int
) -> None:
    arrivals = run(demand(TokenBucket(rate, burst), chain.from_iterable(runs)))
    assert fullest(arrivals, max(1.0, 1 / rate)) <= max(1, int(rate))


def test_pictures_of_many_sizes_get_most_of_the_cap() -> None:
    """Only of the smallest of them too few are known."""
    rng = random.Random(1)

    def call() -> Call:
        return attrs.evolve(
            picture(rng.randrange(150_000, 300_000)), up=rng.uniform(0, 0.05), work=rng.uniform(0, 0.06)
        )

    arrivals = run(demand(TokenBucket(), [call() for _ in range(600)]))
    assert fullest(arrivals) <= 15
    assert used(arrivals) >= 0.86


def wider(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SlotRule, "hold", 0.9)


def doubled(patch: pytest.MonkeyPatch) -> None:
    learn = MinRTT.learn
    patch.setattr(MinRTT, "learn", lambda self, *exchange: 2 * learn(self, *exchange))


def from_sending(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SlotRule, "counted_by", lambda self, kind, sent, answered, **_: [sent] * 4)


@pytest.mark.parametrize("weaken", [wider, doubled, from_sending])
@pytest.mark.parametrize("burst", [5, 15])
def test_the_cap_does_not_hold_with_a_weaker_rule(
    weaken: Callable[[pytest.MonkeyPatch], None], burst: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def most() -> int:
        return max(fullest(steady(TokenBucket(burst=burst), seed=seed)) for seed in range(4))

    assert most() <= 15
    weaken(monkeypatch)
    assert most() > 15


def test_the_cap_does_not_hold_if_what_is_known_of_a_kind_is_taken_off_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next call may be counted sooner after it has left than the one before it was."""
    counted_by = SlotRule.counted_by

    def as_for_its_own(self: SlotRule, kind: CallKind, *args: Any, **options: Any) -> list[float]:
        return [counted_by(self, kind, *args, **options)[kind]] * 4

    def most() -> int:
        return max(fullest(pictures(TokenBucket(), "none", seed, reads=0.1)) for seed in range(4))

    assert most() <= 15
    monkeypatch.setattr(SlotRule, "counted_by", as_for_its_own)
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


@pytest.mark.parametrize(("rate", "burst"), [(1, 5), (15, 5), (500, 5), (1000, 10)])
def test_so_many_go_at_once_from_idle_by_default(rate: float, burst: int) -> None:
    async def main() -> None:
        limiter, clock = TokenBucket(rate), asyncio.get_running_loop().time
        start, granted = clock(), list[float]()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(int(rate), burst + 5)):
                group.create_task(take(limiter, granted))
        assert [at - start < 1e-6 for at in granted].count(True) == min(int(rate), burst)

    run(main())


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


@settings(max_examples=25)
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
def test_tens_of_thousands_of_waiters_cost_in_proportion(ending: str) -> None:
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

    few, many = run(main(1_000)), run(main(30_000))
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


# --- signals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [TokenBucket, NoLimit])
def test_every_change_of_the_queue_and_of_the_calls_in_flight_is_told(new: Callable[[], Any]) -> None:
    async def main() -> None:
        limiter = new()
        assert isinstance(new(), SignalsCapacity)
        watch = Watch(limiter)
        grant = await limiter.acquire()
        await watch.shows(1, 0)
        grant.release(throttled=True, retry_after=5)
        await watch.shows(0, 0)
        waiting = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
        await watch.shows(0, 3)
        waiting.pop().cancel()
        await watch.shows(0, 2)
        grants = await asyncio.gather(*waiting)
        await watch.shows(2, 0)
        signals = len(watch.seen)
        watch.unsubscribe()
        watch.unsubscribe()
        for grant in grants:
            grant.release()
        await asyncio.sleep(1)
        assert len(watch.seen) == signals
        assert (limiter.in_flight, limiter.waiting) == (0, 0)

    run(main())


def test_one_signal_for_many_changes_and_none_of_a_listener_s_errors_reaches_a_caller() -> None:
    async def main() -> None:
        limiter, reported = TokenBucket(), list[Any]()
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        limiter.on_change(lambda: 1 / 0)
        watch = Watch(limiter)
        callers = [asyncio.create_task(limiter.acquire()) for _ in range(50)]
        await watch.shows(5, 45)
        assert len(watch.seen) == 1
        for caller in callers[5:]:
            caller.cancel()
        await watch.shows(5, 0)
        assert {type(error) for error in reported} == {ZeroDivisionError}
        for caller in callers[:5]:
            (await caller).release()

    run(main())


def test_no_limit_signals_in_every_loop_that_it_is_used_in() -> None:
    limiter = NoLimit()
    watch = Watch(limiter)

    async def left_at_once() -> None:
        (await limiter.acquire()).release()  # the loop ends before the signal

    async def main() -> None:
        grant = await limiter.acquire()
        await watch.shows(1, 0)
        grant.release()

    run(left_at_once())
    run(main())


def test_who_waits_for_signals_uses_the_cap() -> None:
    arrivals = run(fed_by_signals(TokenBucket(), 300))
    assert len(arrivals) == 300
    assert fullest(arrivals) <= 15
    assert used(arrivals) >= 0.95


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
        *({"burst": value} for value in (0, 1.5, "5")),
        *({"jitter": value} for value in (-0.1, float("nan"))),
    ],
)
def test_a_wrong_value_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))}: expected"):
        TokenBucket(**wrong)


@pytest.mark.parametrize(("kind", "size"), WRONG_CALLS)
async def test_a_kind_or_a_size_that_is_none_is_an_error_before_the_queue(kind: Any, size: Any) -> None:
    limiter = TokenBucket()
    with pytest.raises(ConfigurationError, match=r"^(kind|size): expected"):
        await limiter.acquire_for(kind, size)
    (await limiter.acquire_for(CallKind.UPLOAD, 5)).release()
    assert limiter.stats.calls == 1
