"""A campaign in a real process that is killed with SIGKILL at random moments, and resumed each time.

The full run: `python -m tests.test_bulk_crash --kills 50 --recipients 100000`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from mmsclient import AsyncMMSClient
from mmsclient.bulk import RecipientState, Report, read_report
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, Reset, TruncatedBody, server_error, throttle
from tests.conftest import PNG


def numbers(count: int) -> Iterator[str]:
    return (f"+614{n:08}" for n in range(count))


@frozen
class Plan:
    """What the child does."""

    url: str
    app_key: str
    journal: str
    recipients: int
    batch_size: int
    rate: float

    def arguments(self) -> list[str]:
        return [
            *(self.url, self.app_key, self.journal),
            *(str(self.recipients), str(self.batch_size), str(self.rate)),
        ]


async def campaign(plan: Plan) -> Report:
    """The child: the whole list each time, as a service does that knows nothing of its last run."""
    async with AsyncMMSClient(plan.app_key, base_url=plan.url, rate=plan.rate) as mms:
        spring = mms.campaign(
            text="Sale on now", image=PNG, journal=plan.journal, batch_size=plan.batch_size, stop_after=10**6
        )
        return await spring.send_all(numbers(plan.recipients))


def killed(plan: Plan, delay: float) -> bool:
    """Run the child and kill it after `delay` seconds; whether it was still at it."""
    command = [sys.executable, "-m", "tests.test_bulk_crash", "--child", *plan.arguments()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:  # noqa: S603 - our own command
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        return child.wait() == -signal.SIGKILL


@frozen
class Outcome:
    report: Report
    interrupted: int
    """Kills that met the campaign alive."""
    unknown_carried_out: int
    """Of the unknown ones, how many were carried out."""


def kill_and_resume(
    folder: Path, sandbox: Sandbox, *, recipients: int, calls: int, kills: int, longest: float, rate: float, seed: int
) -> Outcome:
    """Kill and resume a campaign, let it end, and compare every state with what `sandbox` did."""
    rng = random.Random(seed)
    journal = str(folder / "spring.db")
    plan = Plan(sandbox.url, sandbox.app_key, journal, recipients, recipients // calls, rate)
    interrupted = sum(killed(plan, rng.uniform(0, longest)) for _ in range(kills))
    sandbox.faults.clear()
    asyncio.run(campaign(plan))
    return asyncio.run(compared(sandbox, journal, recipients, interrupted))


async def compared(sandbox: Sandbox, journal: str, recipients: int, interrupted: int) -> Outcome:
    report = await read_report(journal)
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
    carried_out = [number for send in sandbox.sends for number in send.recipients]
    assert len(carried_out) == len(set(carried_out)) == seen[RecipientState.ACCEPTED] + unknown_carried_out
    assert sandbox.errors == []
    return Outcome(report, interrupted, unknown_carried_out)


@pytest.mark.parametrize("faults", [False, True])
def test_killed_at_random_moments_nobody_gets_two(tmp_path: Path, faults: bool) -> None:
    with Sandbox(rate=None, magic=False) as sandbox:
        sandbox.faults.add(Latency(0.01, jitter=0.02, carried_out=True), call="send-mms")
        if faults:
            for fault in (Reset(carried_out=True), server_error(), TruncatedBody(), throttle()):
                sandbox.faults.add(fault, call="send-mms", share=0.03)
        outcome = kill_and_resume(
            tmp_path, sandbox, recipients=10_000, calls=250, kills=5, longest=1.0, rate=150, seed=int(faults)
        )
    assert outcome.interrupted >= 3
    assert outcome.report.counts[RecipientState.ACCEPTED] > 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=6)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--recipients", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.child:
        url, key, journal, recipients, batch_size, rate = asked.child
        print("ready", flush=True)
        asyncio.run(campaign(Plan(url, key, journal, int(recipients), int(batch_size), float(rate))))
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Sandbox(rate=None, magic=False) as sandbox:
        sandbox.faults.add(Latency(0.02, jitter=0.05, carried_out=True), call="send-mms")
        outcome = kill_and_resume(
            Path(folder),
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
