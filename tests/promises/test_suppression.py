"""Whoever asks to stop gets nothing more: by callback, by another process, and over a kill and a resume."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from attrs import evolve

from mmsclient.bulk import Exclusion, Report, SuppressionList, read_report
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency
from mmsclient.sandbox.listener import HOST, Listener
from mmsclient.webhooks import CallbackReceiver, new_token
from tests.conftest import until
from tests.support.campaigns import agrees, campaign, numbers
from tests.support.command import COMMAND
from tests.support.killing import Plan, killed_when, sent
from tests.support.waiting import until as soon

TOTAL = 200
"""Recipients of the campaign that is killed."""


@pytest.fixture
def where(place: tuple[str, str], tmp_path: Path) -> str:
    """The list, in the engine that the journal is in."""
    journal, name = place
    return journal if name else str(tmp_path / "stop.db")


async def test_a_stop_that_comes_by_callback_keeps_a_later_batch_from_its_sender(
    api: Sandbox, place: tuple[str, str], where: str
) -> None:
    journal, name = place
    listed, token = numbers(60), new_token()
    async with (
        api.client(rate=None) as mms,
        SuppressionList(where) as suppression,
        CallbackReceiver(token=token) as receiver,
    ):
        await suppression.create()
        receiver.suppress_into(suppression)
        receiver.on_inbound(lambda message: None)
        listener = Listener(receiver, 0, None, 60.0)
        listener.listen()
        api.settings.callback_url = f"http://{HOST}:{listener.port}/{token}"
        try:
            spring = campaign(mms, journal, suppress=where, batch_size=2, name=name or None)  # type: ignore[arg-type]
            sending = spring.send(listed)
            await anext(sending)  # no more than 8 ahead
            api.add_reply(listed[-1], "Stop!")
            api.add_reply(listed[-2], "Do not stop")
            await until(lambda: receiver.stats.handled == 2)
            async for _ in sending:
                pass
            report = await spring.report()
            await spring.aclose()
        finally:
            await listener.close()
    await agrees(report, api, listed)
    assert not api.carried_out(listed[-1])
    assert (len(api.messages), report.exclusions[Exclusion.SUPPRESSED]) == (59, 1)
    (excluded,) = [recipient async for recipient in report.recipients("excluded")]
    assert (excluded.number, (excluded.reason or "").split(",")[0]) == (listed[-1], "replied STOP")


async def test_a_number_that_another_process_adds_is_kept_out_of_a_later_batch(
    api: Sandbox, place: tuple[str, str], where: str
) -> None:
    journal, name = place
    listed = numbers(60)
    async with api.client(rate=None) as mms, SuppressionList(where) as suppression:
        await suppression.create()
        spring = campaign(mms, journal, suppress=suppression, batch_size=2, name=name or None)  # type: ignore[arg-type]
        sending = spring.send(listed)
        await anext(sending)
        command = [*COMMAND, "suppress", "add", where, listed[-1]]
        added = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        assert (added.returncode, added.stdout, added.stderr) == (0, b"added\n", b"")
        async for _ in sending:
            pass
        report = await spring.report()
        await spring.aclose()
    await agrees(report, api, listed)
    assert (len(api.messages), report.exclusions[Exclusion.SUPPRESSED]) == (59, 1)


def test_killed_and_resumed_with_a_list_that_changed(place: tuple[str, str], where: str) -> None:
    with Sandbox(rate=None, magic=False) as sandbox:
        sandbox.faults.add(Latency(0.03, carried_out=True), call="send-mms")
        plan = Plan(sandbox.url, sandbox.app_key, *place, TOTAL, 4, 5.0, where)  # ten seconds at least
        first, removed = numbers(1)[0], numbers(TOTAL)[-1]
        asyncio.run(changed(where, add=[first, removed]))
        assert killed_when(plan, lambda: soon(lambda: len(sandbox.sends) >= 4))
        *_, late, also_pending = asyncio.run(pending_of(plan))  # never claimed: nothing to them is on its way
        assert also_pending == removed
        asyncio.run(changed(where, add=[late], remove=[removed]))
        kept_out = {first, late}
        sandbox.faults.clear()
        report = asyncio.run(sent(evolve(plan, rate=10_000.0)))
        asyncio.run(compared(report, sandbox, kept_out, removed))
        assert sandbox.errors == []


async def changed(where: str, *, add: list[str], remove: list[str] = []) -> None:  # noqa: B006
    async with SuppressionList(where) as suppression:
        await suppression.add_all(add, "asked by phone")
        for number in remove:
            await suppression.remove(number)


async def pending_of(plan: Plan) -> list[str]:
    report = await read_report(plan.journal, plan.name or None)
    return [recipient.number async for recipient in report.recipients("pending")]


async def compared(report: Report, sandbox: Sandbox, kept_out: set[str], removed: str) -> None:
    excluded = [recipient async for recipient in report.recipients("excluded")]
    assert {recipient.number for recipient in excluded} == kept_out
    assert {recipient.exclusion for recipient in excluded} == {Exclusion.SUPPRESSED}
    assert {(recipient.reason or "").split(",")[0] for recipient in excluded} == {"asked by phone"}
    assert sum(sandbox.carried_out(number) for number in kept_out) == 0
    assert sandbox.carried_out(removed) == 1
    await agrees(report, sandbox, numbers(TOTAL))
