"""A campaign in a real process that is killed with SIGKILL at random moments, and resumed each time.

The full run: `python -m tests.promises.test_crash --kills 50 --recipients 100000`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial

import pytest
from attrs import evolve, frozen

from mmsclient.bulk import RecipientState, Report, ReportRecorder, read_report
from mmsclient.models import DeliveryReport, DeliveryStatus
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, Reset, TruncatedBody, server_error, throttle
from tests.support.killing import (
    Plan,
    asked_for,
    killed_often,
    killed_when,
    numbers,
    picture_of,
    place_of_a_full_run,
    rows,
    sent,
)
from tests.support.waiting import until


@frozen
class Outcome:
    report: Report
    interrupted: int
    """Kills that met the campaign alive."""
    unknown_carried_out: int
    """Of the unknown ones, how many were carried out."""


def kill_and_resume(
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
    """Kill and resume a campaign, let it end, and compare every state with what `sandbox` did."""
    plan = Plan(sandbox.url, sandbox.app_key, *place, recipients, recipients // calls, rate)
    interrupted = killed_often(plan, kills, longest, seed)
    sandbox.faults.clear()
    asyncio.run(sent(plan))
    return asyncio.run(compared(sandbox, plan, interrupted))


async def compared(sandbox: Sandbox, plan: Plan, interrupted: int) -> Outcome:
    recipients = plan.recipients
    report = await read_report(plan.journal, plan.name or None)
    seen: Counter[RecipientState] = Counter()
    phones, unknown_carried_out = set(), 0
    async for recipient in report.recipients():
        phones.add(recipient.number)
        seen[recipient.state] += 1
        times = sandbox.carried_out(recipient.number)
        if recipient.state is RecipientState.UNKNOWN:
            assert times <= 1, recipient
            unknown_carried_out += times
        else:
            assert recipient.state is RecipientState.ACCEPTED, recipient
            assert times == 1, recipient
    assert phones == set(numbers(recipients))
    assert {state: count for state, count in report.counts.items() if count} == dict(seen)
    assert sum(seen.values()) == recipients
    sends = (sandbox.sms if plan.kind == "sms" else sandbox.mms).sends
    carried_out = [number for send in sends for number in send.recipients]
    assert len(carried_out) == len(set(carried_out)) == seen[RecipientState.ACCEPTED] + unknown_carried_out
    assert sandbox.errors == []
    return Outcome(report, interrupted, unknown_carried_out)


@pytest.mark.parametrize("faults", [False, True])
def test_killed_at_random_moments_nobody_gets_two(place: tuple[str, str], faults: bool) -> None:
    with Sandbox(rate=None, magic=False) as sandbox:
        sandbox.faults.add(Latency(0.01, jitter=0.02, carried_out=True), call="send-mms")
        if faults:
            for fault in (Reset(carried_out=True), server_error(), TruncatedBody(), throttle()):
                sandbox.faults.add(fault, call="send-mms", share=0.03)
        outcome = kill_and_resume(
            place, sandbox, recipients=4000, calls=160, kills=4, longest=1.0, rate=60, seed=int(faults)
        )
    assert outcome.interrupted >= 2
    assert outcome.report.counts[RecipientState.ACCEPTED] > 1000


def test_killed_again_and_again_each_gets_its_own_text_and_nobody_two(place: tuple[str, str]) -> None:
    with Sandbox(rate=None, magic=False) as sandbox:
        sandbox.faults.add(Latency(0.01, jitter=0.02, carried_out=True), call="send-mms")
        sandbox.faults.add(throttle(), call="send-mms", share=0.03)
        plan = Plan(sandbox.url, sandbox.app_key, *place, recipients=400, batch_size=3, rate=150, texts=100)
        interrupted = 0
        for sends in (30, 60, 90):
            interrupted += killed_when(plan, lambda sends=sends: until(lambda: len(sandbox.sends) >= sends))  # type: ignore[misc]
        sandbox.faults.clear()
        asyncio.run(sent(plan))
        outcome = asyncio.run(compared(sandbox, plan, interrupted=interrupted))
        names = {str(row["to"]): row["name"] for row in rows(plan.recipients, plan.texts)}
        assert {send.text == f"Sale on now, {names[each]}" for send in sandbox.sends for each in send.recipients} == {
            True
        }
    assert outcome.interrupted >= 1
    assert outcome.report.counts[RecipientState.ACCEPTED] > 300


@pytest.mark.parametrize("texts", [0, 10])
def test_killed_again_and_again_each_gets_its_own_picture_and_nobody_two(place: tuple[str, str], texts: int) -> None:
    with Sandbox(rate=None, magic=False) as sandbox:
        sandbox.faults.add(Latency(0.01, jitter=0.02, carried_out=True), call="send-mms")
        sandbox.faults.add(throttle(), call="send-mms", share=0.03)
        plan = Plan(sandbox.url, sandbox.app_key, *place, 400, 3, 150, texts=texts, pictures=100)
        interrupted = 0
        for sends in (30, 60, 90):
            interrupted += killed_when(plan, lambda sends=sends: until(lambda: len(sandbox.sends) >= sends))  # type: ignore[misc]
        sandbox.faults.clear()
        asyncio.run(sent(plan))
        outcome = asyncio.run(compared(sandbox, plan, interrupted=interrupted))
        own = {str(row["to"]): row for row in rows(plan.recipients, texts, plan.pictures)}
        for send in sandbox.sends:
            (row, *others) = (own[number] for number in send.recipients)
            assert send.image_sha256 == hashlib.sha256(picture_of(row)).hexdigest()
            assert send.text == (f"Sale on now, {row['name']}" if texts else "Sale on now")
            assert {(each["code"], each["name"]) for each in others} <= {(row["code"], row["name"])}
    assert outcome.interrupted >= 1
    assert outcome.report.counts[RecipientState.ACCEPTED] > 300


def test_killed_again_and_again_nobody_gets_two_sms(place: tuple[str, str]) -> None:
    with Sandbox(rate=None, magic=False) as sandbox:
        sandbox.faults.add(Latency(0.01, jitter=0.02, carried_out=True), call="send-sms")
        for fault in (Reset(carried_out=True), throttle()):
            sandbox.faults.add(fault, call="send-sms", share=0.03)
        plan = Plan(sandbox.url, sandbox.app_key, *place, recipients=400, batch_size=3, rate=150, texts=100, kind="sms")
        interrupted = 0
        for sends in (30, 60, 90):
            interrupted += killed_when(plan, lambda sends=sends: until(lambda: len(sandbox.sms.sends) >= sends))  # type: ignore[misc]
        sandbox.faults.clear()
        asyncio.run(sent(plan))
        outcome = asyncio.run(compared(sandbox, plan, interrupted=interrupted))
        names = {str(row["to"]): row["name"] for row in rows(plan.recipients, plan.texts)}
        sends_made = sandbox.sms.sends
        assert {send.text == f"Sale on now, {names[each]}" for send in sends_made for each in send.recipients} == {True}
        assert sandbox.mms.sends == []
    assert outcome.interrupted >= 1
    assert outcome.report.kind == "sms"
    assert outcome.report.counts[RecipientState.ACCEPTED] > 300


@pytest.mark.parametrize("texts", [0, 60])
async def test_killed_again_and_again_nobody_whose_mms_failed_gets_two_sms(place: tuple[str, str], texts: int) -> None:
    with Sandbox(rate=None, magic=False) as sandbox:
        plan = Plan(sandbox.url, sandbox.app_key, *place, recipients=240, batch_size=3, rate=150, texts=texts)
        await sent(plan)
        async with ReportRecorder(plan.journal, plan.name or None) as recorder:
            for message in sandbox.mms.messages:
                await recorder.record(
                    DeliveryReport(
                        message_id=message.id,
                        status=DeliveryStatus.FAILED,
                        recipient=message.to,
                        custom_string=None,
                        source=None,
                    )
                )
        sandbox.faults.add(Latency(0.01, jitter=0.02, carried_out=True), call="send-sms")
        sandbox.faults.add(throttle(), call="send-sms", share=0.03)
        plan = evolve(plan, fallback=True)
        interrupted = 0
        for sends in (15, 30, 45):
            wait = partial(until, lambda sends=sends: len(sandbox.sms.sends) >= sends)  # type: ignore[misc]
            interrupted += await asyncio.to_thread(killed_when, plan, wait)
        sandbox.faults.clear()
        report = (await sent(plan)).fallback
        assert report is not None
        got = Counter(number for send in sandbox.sms.sends for number in send.recipients)
        assert set(got.values()) == {1}
        unknown = {each.number async for each in report.recipients(RecipientState.UNKNOWN)}
        accepted = {each.number async for each in report.recipients(RecipientState.ACCEPTED)}
        assert accepted | unknown == set(numbers(plan.recipients))
        assert accepted <= got.keys()
        assert {send.text for send in sandbox.sms.sends} <= {send.text for send in sandbox.mms.sends}
        assert len(sandbox.mms.messages) == plan.recipients
    assert interrupted >= 1
    assert len(accepted) > 150


def main() -> None:
    asked = asked_for(__doc__, kills=50, recipients=100_000)
    began = time.monotonic()
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(rate=None, magic=False))
        place = stack.enter_context(place_of_a_full_run(asked.postgres))
        sandbox.faults.add(Latency(0.02, jitter=0.05, carried_out=True), call="send-mms")
        outcome = kill_and_resume(
            place,
            sandbox,
            recipients=asked.recipients,
            calls=500,
            kills=asked.kills,
            longest=1.2,
            rate=20,
            seed=asked.seed,
        )
    took = time.monotonic() - began
    print(f"{asked.kills} kills, {outcome.interrupted} of a living campaign; {took:.0f} s; nobody got two")
    print(f"{outcome.report}; of the unknown ones {outcome.unknown_carried_out} were carried out")


if __name__ == "__main__":
    main()
