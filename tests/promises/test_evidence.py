"""A campaign that is killed again and again, while its delivery reports come to a receiver of their own.

The full run: `python -m tests.promises.test_evidence --kills 60 --recipients 60000`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import ExitStack

from attrs import frozen

from mmsclient import AsyncMMSClient
from mmsclient.bulk import RecipientState, Report, read_report, reconcile
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, Reset, TruncatedBody, server_error, throttle
from tests.support.callbacks import reports_recorded
from tests.support.killing import Plan, asked_for, killed_often, numbers, place_of_a_full_run, sent
from tests.support.waiting import until

LONGEST = 600.0
"""Seconds that the last reports may take."""


@frozen
class Outcome:
    interrupted: int
    """Kills that met the campaign alive."""
    resumed: Report
    """When it had ended, and every report had come."""
    settled: int
    """By `reconcile` after that; what evidence settled before, it settled as the reports came."""
    ended: Report
    """After those were sent to of whom nothing was heard."""


async def kill_and_settle(
    place: tuple[str, str],
    sandbox: Sandbox,
    *,
    recipients: int,
    calls: int,
    kills: int,
    longest: float,
    rate: float,
    seed: int,
) -> Outcome:
    plan = Plan(sandbox.url, sandbox.app_key, *place, recipients, recipients // calls, rate)
    async with AsyncMMSClient(plan.app_key, base_url=plan.url) as mms, reports_recorded(plan.campaign(mms), sandbox):
        interrupted = await asyncio.to_thread(killed_often, plan, kills, longest, seed)
        sandbox.faults.clear()
        for carried_out in (False, True):  # an unknown of each kind for certain, wherever the kills fell
            sandbox.faults.add(Reset(carried_out=carried_out), call="send-mms", times=1)
        await sent(plan)
        sandbox.faults.clear()
        await asyncio.to_thread(until, lambda: sandbox.callbacks_open == 0, LONGEST)
        done = await reconcile(plan.journal, plan.name or None)
        assert sandbox.callbacks_lost == []
        await nobody_who_got_it_is_unknown(sandbox, done.report)
        await sent(plan, resend_silent=True)
        ended = await read_report(plan.journal, plan.name or None)
        await everybody_got_it_once(sandbox, ended, recipients)
    assert sandbox.errors == []
    return Outcome(interrupted, done.report, done.settled, ended)


async def nobody_who_got_it_is_unknown(sandbox: Sandbox, report: Report) -> None:
    async for recipient in report.recipients():
        times = sandbox.carried_out(recipient.number)
        assert recipient.state in (RecipientState.ACCEPTED, RecipientState.UNKNOWN), recipient
        assert times == (recipient.state is RecipientState.ACCEPTED), recipient
    assert report.unknown.count == report.counts[RecipientState.UNKNOWN]


async def everybody_got_it_once(sandbox: Sandbox, report: Report, recipients: int) -> None:
    seen = [recipient.number async for recipient in report.recipients(RecipientState.ACCEPTED)]
    assert sorted(seen) == list(numbers(recipients))
    assert {state for state, count in report.counts.items() if count} == {RecipientState.ACCEPTED}
    carried_out = Counter(number for send in sandbox.sends for number in send.recipients)
    assert carried_out == Counter(numbers(recipients))


async def test_killed_at_random_moments_no_unknown_is_left(place: tuple[str, str]) -> None:
    with Sandbox(rate=None, magic=False, disorder=0.05, deliver_after=0.02) as sandbox:
        sandbox.faults.add(Latency(0.02, jitter=0.04, carried_out=True), call="send-mms")
        for fault in (Reset(carried_out=True), server_error(), TruncatedBody(), throttle()):
            sandbox.faults.add(fault, call="send-mms", share=0.05)
        outcome = await kill_and_settle(
            place, sandbox, recipients=1200, calls=120, kills=4, longest=1.0, rate=40, seed=1
        )
    assert outcome.interrupted >= 2
    assert outcome.resumed.unknown.proven > 0
    assert outcome.resumed.unknown.count > 0
    assert outcome.resumed.unknown.objection == ""


def main() -> None:
    asked = asked_for(__doc__, kills=60, recipients=60_000)
    began = time.monotonic()
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(rate=None, magic=False, disorder=0.2, deliver_after=0.1))
        place = stack.enter_context(place_of_a_full_run(asked.postgres))
        sandbox.faults.add(Latency(0.02, jitter=0.05, carried_out=True), call="send-mms")
        outcome = asyncio.run(
            kill_and_settle(
                place,
                sandbox,
                recipients=asked.recipients,
                calls=600,
                kills=asked.kills,
                longest=1.2,
                rate=20,
                seed=asked.seed,
            )
        )
    unknown = outcome.resumed.unknown
    print(f"{asked.kills} kills, {outcome.interrupted} of a living campaign; {time.monotonic() - began:.0f} s")
    print(f"{unknown.proven} unknown ones were carried out: all accepted by evidence, {outcome.settled} at the end")
    print(f"{unknown.count} were not, and stayed unknown until they were sent to; nobody got two, nobody none")
    print(outcome.ended)


if __name__ == "__main__":
    main()
