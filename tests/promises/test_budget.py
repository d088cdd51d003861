"""A campaign with `max_credits` that is killed again and again never costs more."""

from __future__ import annotations

import asyncio

import pytest

from mmsclient.bulk import BudgetReachedError, CampaignStoppedError, RecipientState
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency
from tests.support.campaigns import agrees
from tests.support.killing import Plan, killed_when, numbers, sent
from tests.support.waiting import until

TOTAL, LIMIT, BATCH = 300, 100, 8


def test_killed_in_the_middle_it_never_costs_more_over_its_runs(place: tuple[str, str]) -> None:
    with Sandbox(rate=None, magic=False) as sandbox:
        sandbox.faults.add(Latency(0.1, carried_out=True), call="send-mms")  # carried out, and no answer yet
        plan = Plan(sandbox.url, sandbox.app_key, *place, TOTAL, BATCH, 20.0, max_credits=LIMIT)
        for sends in (2, 5, 8):
            killed_when(plan, lambda sends=sends: until(lambda: len(sandbox.sends) >= sends))  # type: ignore[misc]
        with pytest.raises(CampaignStoppedError) as caught:
            asyncio.run(sent(plan))
        report, error = caught.value.report, caught.value.error
        assert isinstance(error, BudgetReachedError)
        counts = report.counts
        assert error.spent == LIMIT == counts[RecipientState.ACCEPTED] + counts[RecipientState.UNKNOWN]
        assert counts[RecipientState.UNKNOWN] > 0
        assert sum(len(send.recipients) for send in sandbox.sends) <= LIMIT
        asyncio.run(agrees(report, sandbox, list(numbers(TOTAL))))
