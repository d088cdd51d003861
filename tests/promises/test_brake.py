"""What is at stake when a server falls silent: one batch at first, then three, then as many as the cap needs."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient.bulk import Campaign, CampaignStoppedError, RecipientState, Report, Sending
from mmsclient.bulk.brake import MOST, WAITING, WINDOW, Brake
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.exchange import Exchange, RawAnswer
from mmsclient.sandbox.faults import Fault, Latency, Reset, SlowBody, server_error, throttle
from tests.conftest import until
from tests.support.campaigns import campaign, numbers

pytestmark = pytest.mark.usefixtures("impatient")

ACCEPTED, PENDING, UNKNOWN = RecipientState.ACCEPTED, RecipientState.PENDING, RecipientState.UNKNOWN
BATCH = 10


def silence(api: Sandbox, fault: Fault | None = None) -> None:
    """From now on it takes every call and never answers."""
    api.faults.clear()
    api.faults.add(fault or Latency(60, carried_out=True), call="send-mms")


async def stopped(sending: Sending | Campaign) -> Report:
    """The report of a campaign that its brake stops."""
    sending = sending.send(numbers(3000)) if isinstance(sending, Campaign) else sending
    with pytest.raises(CampaignStoppedError) as caught:
        async for _ in sending:
            pass
    return caught.value.report


@pytest.mark.parametrize("rate", [None, 100])
@pytest.mark.parametrize("stop_after", [1, 2, 3])
async def test_a_server_that_never_answers_gets_one_batch(
    api: Sandbox, path: Path, rate: float | None, stop_after: int
) -> None:
    await gets_one_batch(api, path, rate, stop_after)


@pytest.mark.parametrize("fault", [SlowBody(delay=60), SlowBody(delay=0.1)], ids=repr)
async def test_a_server_that_begins_an_answer_and_never_ends_it_gets_one_batch(
    api: Sandbox, path: Path, fault: Fault
) -> None:
    await gets_one_batch(api, path, None, 3, fault)


async def gets_one_batch(
    api: Sandbox, path: Path, rate: float | None, stop_after: int, fault: Fault | None = None
) -> None:
    silence(api, fault)
    async with api.client(rate=rate, timeout=0.5) as mms:
        report = await stopped(campaign(mms, path, batch_size=BATCH, stop_after=stop_after))
    assert report.counts[UNKNOWN] == BATCH
    assert report.counts[PENDING] == 3000 - BATCH
    await until(lambda: api.calls["send-mms"] == 1)


async def test_who_allows_more_failures_is_asked_for_one_at_a_time(api: Sandbox, path: Path) -> None:
    silence(api)
    async with api.client(rate=None, timeout=0.2) as mms:
        report = await stopped(campaign(mms, path, batch_size=BATCH, stop_after=5))
    assert report.counts[UNKNOWN] == 5 * BATCH
    await until(lambda: api.calls["send-mms"] == 5)


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call a second: three under way are enough for that where a call takes two seconds, as on a slow machine."""
    monkeypatch.setattr("mmsclient.bulk.capacity.UNLIMITED", 1.0)


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("rate", [None, 2])
@pytest.mark.parametrize(("answered", "latency"), [(1, 0.0), (3, 0.0), (6, 0.2)])
async def test_a_server_that_falls_silent_in_the_middle_gets_three_batches(
    api: Sandbox, path: Path, rate: float | None, answered: int, latency: float
) -> None:
    api.faults.add(Latency(latency), call="send-mms")
    async with api.client(rate=rate, timeout=2.0) as mms:
        sending = campaign(mms, path, batch_size=BATCH).send(numbers(3000))
        for _ in range(answered):
            assert (await anext(sending)).error is None
        silence(api)
        report = await stopped(sending)
    assert BATCH <= report.counts[UNKNOWN] <= WINDOW * BATCH


async def test_batches_that_were_throttled_come_back_to_their_own_places(api: Sandbox, path: Path) -> None:
    """Those that wait to be tried again are at stake as well."""
    api.faults.add(throttle(), call="send-mms", times=4)
    api.faults.add(Latency(60, carried_out=True), call="send-mms", skip=4)
    async with api.client(rate=None, timeout=2.0) as mms:
        report = await stopped(campaign(mms, path, batch_size=BATCH, max_attempts=10))
    assert report.counts[UNKNOWN] == BATCH


async def test_a_first_call_that_fails_for_another_reason_is_followed_by_one_at_a_time(
    api: Sandbox, path: Path
) -> None:
    api.faults.add(server_error(carried_out=True), call="send-mms", times=1)
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    async with api.client(rate=None, timeout=5) as mms:
        batches = [batch async for batch in campaign(mms, path, batch_size=BATCH).send(numbers(100))]
    assert [batch.accepted for batch in batches] == [0, 0, *[BATCH] * 8]


class Crowd(Fault):
    """Each call takes a third of a second, and `most` is how many were under way at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def after(self, exchange: Exchange, answer: RawAnswer) -> RawAnswer:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.3)
        self.now -= 1
        return answer


@pytest.mark.parametrize(("rate", "calls", "at_once"), [(100, 120, 9), (None, 60, 4), (15, 60, 4)])
async def test_a_long_way_to_the_server_puts_more_than_the_window_under_way(
    api: Sandbox, rate: float | None, calls: int, at_once: int
) -> None:
    """Three under way, a third of a second each, would be nine calls a second."""
    api.faults.add(crowd := Crowd(), call="send-mms")
    async with api.client(rate=rate, timeout=30) as mms:
        await campaign(mms, None, batch_size=BATCH).send_all(numbers(BATCH * calls))
    assert crowd.most >= at_once


def started(brake: Brake, *batches: int, now: float = 0.0) -> None:
    for batch in batches:
        assert brake.allows(now, waiting=0)
        brake.start(batch)
        brake.call(batch, now)


def test_one_batch_first_and_a_window_once_it_is_answered() -> None:
    brake = Brake()
    started(brake, 1)
    assert not brake.allows(0.0, waiting=0)
    brake.answer(1, 0.01, rate=15)
    brake.end(1, 0.01)
    started(brake, 2, 3, 4, now=0.01)
    for now in range(1, 20):
        assert not brake.allows(0.01 * now, waiting=0)
        brake.answer(now + 1, 0.01 * now + 0.01, rate=15)
        brake.end(now + 1, 0.01 * now + 0.01)
        started(brake, now + 4, now=0.01 * now + 0.01)


def test_the_window_doubles_while_the_limiter_has_room_until_the_rate_is_reached() -> None:
    brake, batch, sizes = Brake(), 0, []
    for round_ in range(7):
        batches = []
        while brake.allows(float(round_), waiting=0):
            batch += 1
            started(brake, batch, now=float(round_))
            batches.append(batch)
        sizes.append(len(batches))
        for each in batches:
            brake.answer(each, round_ + 1.0, rate=20)
            brake.end(each, round_ + 1.0)
    assert sizes == [1, 3, 6, 12, 24, 26, 26]


def test_the_time_to_record_an_answer_counts_up_to_that_of_the_exchange() -> None:
    brake, batch, sizes = Brake(), 0, []
    for seconds in (0.0, 0.05, 0.1, 9.0, 9.0, 0.0, 0.0):
        for _ in range(5):
            batches = []
            while brake.allows(0.0, waiting=0):
                batch += 1
                started(brake, batch)
                batches.append(batch)
            for each in batches:
                brake.answer(each, 0.1, rate=100)
            for each in batches:
                brake.end(each, 0.1 + seconds)
        sizes.append(len(batches))
    assert sizes == [14, 20, 26, 26, 26, 14, 14]


def test_calls_that_wait_at_the_limiter_let_nothing_start_nor_the_window_grow() -> None:
    brake = Brake()
    started(brake, 1)
    brake.answer(1, 1.0, rate=100)
    brake.end(1, 1.0)
    started(brake, 2, 3, now=1.0)
    assert not brake.allows(1.0, waiting=WAITING)
    assert brake.allows(1.0, waiting=WAITING - 1)
    started(brake, 4, now=1.0)
    assert not brake.allows(1.0, waiting=1)
    brake.answer(2, 2.0, rate=100)
    brake.end(2, 2.0)
    started(brake, 5, now=2.0)
    assert not brake.allows(2.0, waiting=0)


def test_the_window_shrinks_when_answers_come_sooner() -> None:
    brake = Brake()
    for batch in range(10):
        started(brake, batch, now=0.0)
        brake.allows(0.0, waiting=0)
        brake.answer(batch, 1.0, rate=100)
        brake.end(batch, 1.0)
    for batch in range(10, 13):
        started(brake, batch, now=1.0)
        brake.answer(batch, 1.01, rate=100)
        brake.end(batch, 1.01)
    started(brake, 20, 21, 22, now=1.1)
    assert not brake.allows(1.1, waiting=0)


def test_after_an_unknown_outcome_it_begins_again_when_that_is_dealt_with() -> None:
    brake = Brake()
    started(brake, 1)
    brake.answer(1, 0.01, rate=15)
    brake.end(1, 0.01)
    started(brake, 2, 3, now=0.01)
    brake.lose(2)
    assert not brake.allows(0.02, waiting=0)
    brake.lose(3)
    brake.end(2, 0.02)
    assert not brake.allows(0.02, waiting=0)
    brake.end(3, 0.02)
    started(brake, 4, now=0.02)
    assert not brake.allows(0.02, waiting=0)


def test_nothing_new_while_an_answer_is_far_overdue() -> None:
    brake = Brake()
    started(brake, 1)
    brake.answer(1, 1.0, rate=100)
    brake.end(1, 1.0)
    started(brake, 2, now=1.0)
    assert brake.allows(4.0, waiting=0)
    assert not brake.allows(4.1, waiting=0)
    brake.spare(2)  # throttled: it waits here, and not for an answer
    assert brake.allows(9.0, waiting=0)
    brake.call(2, 9.0)
    assert not brake.allows(12.1, waiting=0)
    brake.answer(2, 13.0, rate=100)
    assert brake.allows(13.0, waiting=0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "call", "answer", "lose", "spare", "end"]), st.floats(0, 2), st.booleans())
    ),
    st.sampled_from([0.5, 15.0, 500.0, math.inf]),
)
def test_no_course_of_events_stops_a_campaign_for_good_nor_puts_more_at_stake(
    steps: list[tuple[str, float, bool]], rate: float
) -> None:
    brake, now, places, number = Brake(), 0.0, list[int](), 0
    for step, seconds, first in steps:
        now += seconds
        if step == "start":
            if brake.allows(now, waiting=0):
                number += 1
                brake.start(number)
                places.append(number)
        elif places:
            batch = places[0 if first else -1]
            match step:
                case "call":
                    brake.call(batch, now)
                case "answer":
                    brake.answer(batch, now, rate=min(rate, 1e6))
                case "lose":
                    brake.lose(batch)
                case "spare":
                    brake.spare(batch)
                case _:
                    brake.end(batch, now)
                    places.remove(batch)
        assert brake.under_way == len(places) <= (MOST if brake.answered else 1)
        assert places or brake.allows(now, waiting=0)
