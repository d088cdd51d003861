"""What a campaign may cost: `max_credits`, over all its runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import AsyncMMSClient, InvalidRequestError
from mmsclient._store.models import Claim, PersonalMessage, RecipientResult
from mmsclient._store.spending import CallCost
from mmsclient._transport import retry
from mmsclient.bulk import BudgetReachedError, CampaignStoppedError, RecipientState, Template, read_report
from mmsclient.bulk.budget import Budget
from mmsclient.bulk.options import Options
from mmsclient.bulk.outcome import Next, Outcome
from mmsclient.bulk.weights import Weights
from mmsclient.limiter import feedback
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Fault, Reject, Reset, server_error, throttle
from tests.conftest import until
from tests.support.campaigns import agrees, campaign, finished, numbers, success
from tests.support.fuzzing import cases
from tests.support.held import Held

ACCEPTED, FAILED, PENDING = RecipientState.ACCEPTED, RecipientState.FAILED, RecipientState.PENDING
REFUSED, UNKNOWN = RecipientState.REFUSED, RecipientState.UNKNOWN

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None) as mms:
        yield mms


async def stopped(mms: AsyncMMSClient, journal: Any, listed: list[str], **options: Any) -> CampaignStoppedError:
    with pytest.raises(CampaignStoppedError) as caught:
        await finished(mms, journal, listed, **options)
    return caught.value


async def test_it_stops_before_the_call_that_would_cost_too_much_and_goes_on_with_more(
    api: Sandbox, mms: AsyncMMSClient, place: tuple[str, str]
) -> None:
    journal, name = place
    listed, named = numbers(100), name or None
    for _ in range(2):  # the next run of the same journal has nothing left to spend
        error = await stopped(mms, journal, listed, name=named, max_credits=60)
        assert isinstance(error.error, BudgetReachedError)
        assert (error.error.max_credits, error.error.spent) == (Decimal(60), Decimal(60))
        assert (error.report.counts[ACCEPTED], error.report.counts[PENDING]) == (60, 40)
        assert sorted(len(send.recipients) for send in api.sends) == [10, 25, 25]
    progress = [batch.progress async for batch in campaign(mms, journal, name=named, max_credits=100.5).send(listed)]  # type: ignore[arg-type]
    assert progress[-1].credits_left == Decimal("0.5")
    await agrees(await read_report(journal, named), api, listed)


async def test_what_was_surely_not_sent_costs_nothing_and_an_unknown_call_costs_for_good(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    api.faults.add(throttle(), call="send-mms", times=2)
    api.faults.add(Reject("FIELD_INVALID", "numbers"), call="send-mms", times=1)  # sent again in halves
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    error = await stopped(mms, path, numbers(100), max_credits=50)
    assert (error.report.counts[ACCEPTED], error.report.counts[UNKNOWN]) == (38, 12)
    error = await stopped(mms, path, numbers(100), max_credits=70, resend_unknown=True)
    assert isinstance(error.error, BudgetReachedError)
    assert error.report.counts[ACCEPTED] == 38 + 20  # the twelve may have cost before
    assert len(api.sends[-1].recipients) <= 20


async def test_an_answer_tells_the_price(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    sends = {"messages": [], "total_numbers": 25, "success_number": "25", "credits_used": "50"}
    api.faults.add(success(sends), call="send-mms")
    error = await stopped(mms, path, numbers(100), max_credits=101)
    assert isinstance(error.error, BudgetReachedError)
    assert (error.error.spent, error.error.credits_per_message) == (Decimal(100), Decimal(2))
    assert error.report.counts[ACCEPTED] == 50


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_credits", -1),
        ("max_credits", float("nan")),
        ("max_credits", "many"),
        ("credits_per_message", 0),
        ("credits_per_message", True),
        ("slow_start", -1),
        ("max_concurrency", 0),
        ("test", ["nonsense"]),
        ("test", 7),
        ("test_timeout", -1),
        ("approve_test", "yes"),
    ],
)
async def test_a_wrong_option_is_told_before_anything_is_sent(mms: AsyncMMSClient, option: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{option}: expected "):
        campaign(mms, None, **{option: value})


# Whatever happens -----------------------------------------------------------------------------------------------------

FAULTS: dict[str, Fault] = {
    "throttled": throttle(),
    "lost": Reset(carried_out=False),
    "carried out": Reset(carried_out=True),
    "error": server_error(),
    "refused": Reject("TOO_RUDE", "Mind your words"),
    "divided": Reject("FIELD_INVALID", "one of them"),
}


@cases(6)
@given(
    runs=st.lists(
        st.tuples(st.lists(st.sampled_from([*FAULTS, "well"]), max_size=8), st.integers(1, 9), st.booleans()),
        min_size=2,
        max_size=3,
    ),
    limit=st.integers(0, 24),
)
def test_no_course_of_faults_and_runs_costs_more(runs: list[tuple[list[str], int, bool]], limit: int) -> None:
    listed = numbers(30)

    async def play(api: Sandbox, journal: Path) -> None:
        async with api.client(rate=None, timeout=30) as mms:
            for faults, size, resend in runs:
                api.faults.clear()
                for place, fault in enumerate(faults):
                    if fault != "well":  # a rule sees the calls that none before it has struck
                        api.faults.add(FAULTS[fault], call="send-mms", skip=faults[:place].count("well"), times=1)
                options = {"batch_size": size, "resend_unknown": resend, "max_credits": limit}
                with suppress(CampaignStoppedError):
                    await finished(mms, journal, listed, **options)
                counts = (await read_report(journal)).counts
                assert sum(len(send.recipients) for send in api.sends) <= limit
                assert counts[ACCEPTED] + counts[UNKNOWN] + counts[RecipientState.SENDING] <= limit

    with pytest.MonkeyPatch.context() as patch, Sandbox(rate=None, magic=False) as api, TemporaryDirectory() as folder:
        patch.setattr(retry, "FIRST_WAIT", 0.001)
        patch.setattr(feedback, "PAUSE", 0.001)
        asyncio.run(play(api, Path(folder) / "spring.db"))
        assert api.errors == []


@given(
    limit=st.integers(0, 60),
    heaviest=st.integers(1, 3),
    steps=st.lists(
        st.tuples(
            st.integers(1, 9),
            st.sampled_from(["well", "unknown", "again", "refused", "part"]),
            st.booleans(),
            st.integers(1, 3),
        ),
        max_size=30,
    ),
)
def test_no_order_of_answers_lets_a_budget_be_passed(
    limit: int, heaviest: int, steps: list[tuple[int, str, bool, int]]
) -> None:
    """Of SMS in one to three parts."""
    weights = Weights(Options(text=Template("{text}"), kind="sms"))
    weights.heaviest = Decimal(heaviest)
    budget, spent, number = Budget(Decimal(limit), Decimal(1), weights), 0, 0
    under_way: dict[int, int] = {}
    weight: dict[int, int] = {}

    def end(batch: int, how: str) -> None:
        nonlocal spent
        size = under_way[batch]
        states = {"well": ACCEPTED, "unknown": UNKNOWN, "again": FAILED, "refused": REFUSED, "part": ACCEPTED}
        results = [RecipientResult(states[how])] * (size if how != "part" else 1)
        following = Next.TRY_AGAIN if how == "again" else Next.GO_ON
        accepted = sum(result.state is ACCEPTED for result in results)
        budget.count(batch, size, Outcome(results, following, accepted), None)
        if how != "again":
            spent += weight[batch] * sum(result.state in (ACCEPTED, UNKNOWN) for result in results)
            budget.end(batch)
            del under_way[batch]

    for wanted, how, first, parts in steps:
        if size := budget.size(wanted, others_under_way=bool(under_way)):
            assert size <= wanted
            number += 1
            under_way[number], weight[number] = size, min(parts, heaviest)
            ids = tuple(range(size))
            budget.reserve(Claim(number, ids, ids, PersonalMessage("x" * 153 * min(parts, heaviest), "")))
        elif not under_way:
            assert limit - heaviest < spent <= limit
        if under_way:
            end(next(iter(under_way)) if first else next(reversed(under_way)), how)
        reserved = sum(size * weight[batch] for batch, size in under_way.items())
        assert budget.spent == spent + reserved <= limit
        assert budget.covers_calls()


def test_calls_of_earlier_runs_count_as_much_as_they_may_have_cost() -> None:
    costs = [
        CallCost(10, is_open=False, accepted=8, told=Decimal(16), taken=8),
        CallCost(10, is_open=True, accepted=0, told=None),  # whatever became of its recipients since
        CallCost(10, is_open=False, accepted=3, told=Decimal(6), taken=0, doubtful=10),
        CallCost(10, is_open=False, accepted=0, told=None),  # surely not carried out
        CallCost(10, is_open=False, accepted=0, told=None, taken=1, doubtful=2),  # of an earlier version
    ]
    budget = Budget(Decimal(100), Decimal("0.5"), Weights(Options(text="Sale", image=b"")))
    budget.add(costs)
    assert (budget.price, budget.spent) == (Decimal(2), Decimal(16 + 20 + 20 + 6))
    assert budget.size(20, others_under_way=True) == 0
    assert budget.size(20, others_under_way=False) == 19


async def test_what_waits_for_its_turn_does_not_leave_once_the_price_is_known_to_be_higher(api: Sandbox) -> None:
    api.faults.add(held := Held(), call="send-mms")
    options: dict[str, Any] = {"slow_start": 0, "max_credits": 6, "credits_per_message": 0.2, "check_account": False}
    async with api.client(rate=1) as mms:
        sending = asyncio.create_task(finished(mms, None, numbers(20), batch_size=5, **options))
        await until(lambda: mms.stats.limiter is not None and mms.stats.limiter.waiting)
        held.answer.set()
        with pytest.raises(CampaignStoppedError) as caught:
            await sending
    assert isinstance(caught.value.error, BudgetReachedError)
    assert [len(send.recipients) for send in api.sends] == [5]
    assert caught.value.report.counts[PENDING] == 15
