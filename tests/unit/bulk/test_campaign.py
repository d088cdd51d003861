"""Campaigns against a sandbox: nobody twice, whatever goes wrong, and states that agree with what was carried out."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

import mmsclient
from mmsclient import AsyncMMSClient, TokenBucket
from mmsclient._store.sqlite_reader import SQLiteReader
from mmsclient.bulk import (
    Batch,
    CampaignStoppedError,
    Exclusion,
    JournalBusyError,
    JournalError,
    JournalMismatchError,
    OptOutsIncompleteError,
    Progress,
    RecipientState,
    read_csv,
    resume,
)
from mmsclient.limiter import NoLimit
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.answers import invalid
from mmsclient.sandbox.exchange import Exchange, RawAnswer
from mmsclient.sandbox.faults import (
    CutConnection,
    Fault,
    Latency,
    Reject,
    Reset,
    TruncatedBody,
    bad_gateway,
    server_error,
    throttle,
)
from tests.conftest import PNG, until
from tests.support.campaigns import TEXT, agrees, campaign, content, finished, numbers, rows
from tests.support.held import Held

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None, timeout=5) as mms:
        yield mms


# The way it goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limiter", [NoLimit, lambda: TokenBucket(rate=500, burst=20)])
async def test_everybody_gets_it_once(api: Sandbox, path: Path, limiter: Any) -> None:
    listed = numbers(1010)
    seen: list[Progress] = []
    async with api.client(limiter=limiter()) as mms:
        spring = campaign(mms, path, subject="Sale", on_progress=seen.append)
        batches = [batch async for batch in spring.send(iter(listed))]
        report = await spring.report()
    await agrees(report, api, listed)
    assert report.counts[RecipientState.ACCEPTED] == 1010
    assert [send.text for send in api.sends] == ["Sale\r\non now"] * 41
    assert {send.subject for send in api.sends} == {"Sale"}
    assert sorted(len(batch.recipients) for batch in batches) == [10] + [25] * 40
    assert all(batch.accepted == len(batch.recipients) and batch.refused == () for batch in batches)
    assert seen == [batch.progress for batch in batches]
    last = seen[-1]
    assert (last.calls, last.credits_used, last.list_read) == (41, Decimal(1010), True)
    assert (report.calls, report.credits_used, report.list_read) == (41, Decimal(1010), True)
    ids = {message.to: message.id for message in api.messages}
    assert {row.number: row.message_id for row in await rows(report)} == ids
    assert report.started_at is not None
    assert report.ended_at is not None
    assert report.started_at <= report.ended_at


@pytest.mark.parametrize("again", ["the list", "another order", "a longer list", "None"])
async def test_a_campaign_that_is_given_again_sends_nothing_twice(
    api: Sandbox, mms: AsyncMMSClient, path: Path, again: str
) -> None:
    listed = numbers(100)
    await finished(mms, path, listed)
    other = {"the list": listed, "another order": listed[::-1], "a longer list": numbers(130), "None": None}[again]
    spring = campaign(mms, path)
    await spring.send_all(other)
    await agrees(await spring.report(), api, other or listed)
    assert len(api.messages) == len(other or listed)


async def test_what_is_carried_out_was_recorded_before(
    api: Sandbox, mms: AsyncMMSClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another reader of the journal, at the moment when the server carries a call out."""
    carry_out = api.send
    seen: list[set[str]] = []

    def send(numbers: Sequence[str], *arguments: Any) -> Any:
        reader = SQLiteReader.open(path)
        states = {recipient.number: recipient.state for _, recipient in reader.recipients(None, 0)}
        reader.close()
        seen.append({states[number] for number in numbers})
        return carry_out(numbers, *arguments)

    monkeypatch.setattr(api, "send", send)
    await finished(mms, path, numbers(200))
    assert seen == [{"sending"}] * 8


async def test_sources_of_every_kind(api: Sandbox, mms: AsyncMMSClient, path: Path, tmp_path: Path) -> None:
    async def later() -> AsyncIterator[str]:
        for number in numbers(30, 30):
            await asyncio.sleep(0)
            yield number

    (tmp_path / "list.csv").write_text("name,mobile\n" + "".join(f"x,{number}\n" for number in numbers(30, 60)))
    await campaign(mms, path).send_all(number for number in numbers(30))
    await campaign(mms, path).send_all(later())
    report = await campaign(mms, path).send_all(read_csv(tmp_path / "list.csv", "mobile"))
    await agrees(report, api, numbers(90))
    assert len(api.messages) == 90
    assert (await rows(report))[-1].line == 31


@pytest.mark.parametrize("end", ["stop", "close", "cancel"])
async def test_a_campaign_that_reads_the_opt_outs_is_stopped_at_once(
    api: Sandbox, mms: AsyncMMSClient, path: Path, end: str
) -> None:
    held = Held()
    api.faults.add(held, call="get-optout")
    sending = campaign(mms, path, exclude_opt_outs=True).send(numbers(3))
    consuming = asyncio.create_task(anext(sending, None))
    await until(lambda: api.calls["get-optout"])
    closing = None
    if end == "stop":
        sending.stop()
    elif end == "close":
        closing = asyncio.create_task(mms.aclose())  # which waits for the page that it has asked for
    else:
        consuming.cancel()
    await asyncio.wait([consuming], timeout=4)  # less than the page's timeout
    assert consuming.done()
    assert consuming.cancelled() or consuming.result() is None
    assert api.calls["get-optout"] == 1
    held.answer.set()
    if closing is not None:
        await closing
    assert not api.sends


async def test_what_is_set_aside(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    api.add_opt_out("0400000003")
    api.add_opt_out("no number at all")
    listed = [*numbers(5), "nonsense", "0400000001"]
    spring = campaign(mms, path, exclude=(each for each in ["0400 000 002"]), exclude_opt_outs=True)
    with pytest.raises(OptOutsIncompleteError, match="1 of its numbers cannot be read"):
        await spring.send_all(listed)
    assert not api.sends
    spring = campaign(mms, path, exclude=["0400 000 002"], exclude_opt_outs=True, partial_opt_outs=True)
    assert (await spring.dry_run(listed)).counts[RecipientState.PENDING] == 3
    report = await spring.send_all(listed)
    assert report.counts[RecipientState.ACCEPTED] == 3
    excluded = [(row.number, row.line, row.exclusion, row.reason) async for row in report.recipients("excluded")]
    assert excluded[0] == ("+61400000002", 3, Exclusion.LISTED, None)
    assert excluded[1] == ("+61400000003", 4, Exclusion.OPTED_OUT, None)
    assert excluded[2][:3] == ("nonsense", 6, Exclusion.INVALID)
    assert excluded[3] == ("0400000001", 7, Exclusion.DUPLICATE, "the same phone as in line 2")
    assert report.exclusions == dict.fromkeys(Exclusion, 1) | {
        Exclusion.SUPPRESSED: 0,
        Exclusion.ARRIVED: 0,
        Exclusion.NO_MESSAGE: 0,
    }
    assert [api.carried_out(number) for number in numbers(5)] == [1, 1, 0, 0, 1]


async def test_an_exclusion_that_cannot_be_read_ends_it_before_anything_is_sent(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    with pytest.raises(mmsclient.InvalidRequestError, match="exclude, line 2: expected a number"):
        await finished(mms, path, numbers(5), exclude=["+61400000001", "O400000002"])
    assert not api.arrivals


async def test_a_dry_run_sends_and_writes_nothing(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    report = await campaign(mms, path).dry_run([*numbers(30), "x"])
    assert (report.counts[RecipientState.PENDING], report.counts[RecipientState.EXCLUDED]) == (30, 1)
    assert [row.number async for row in report.recipients()] == ["x"]
    assert content(path) is None
    await finished(mms, path, numbers(10))
    before = content(path)
    report = await campaign(mms, path).dry_run(numbers(30))
    assert (report.counts[RecipientState.PENDING], report.counts[RecipientState.ACCEPTED]) == (20, 10)
    assert content(path) == before
    assert len(api.messages) == 10


async def test_a_campaign_is_resumed_from_its_journal_alone(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    sending = campaign(mms, path, subject="Sale").send(numbers(1000))
    await anext(sending)
    await sending.aclose()
    again = await resume(mms, path, batch_size=100)
    await agrees(await again.send_all(numbers(1000)), api, numbers(1000))
    assert {(send.text, send.subject) for send in api.sends} == {(api.sends[0].text, "Sale")}
    assert len({send.image_sha256 for send in api.sends}) == 1
    assert max(len(send.recipients) for send in api.sends) == 100
    assert (await (await resume(mms, path)).send_all()).calls == len(api.sends)


async def test_a_run_has_begun_once_its_list_is_taken_in(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    """Those whom an earlier run has left may be sent to before."""
    with pytest.raises(CampaignStoppedError):
        await finished(mms, path, numbers(50), max_credits=25)
    comes = asyncio.Event()

    async def later() -> AsyncIterator[str]:
        await comes.wait()
        for number in numbers(10, 50):
            yield number

    sending = campaign(mms, path).send(later())
    assert not sending.has_begun
    assert (await anext(sending)).recipients == tuple(numbers(25, 25))
    assert not sending.has_begun
    comes.set()
    assert (await anext(sending)).recipients == tuple(numbers(10, 50))
    assert sending.has_begun
    await sending.aclose()
    assert sending.has_begun
    assert (await (await resume(mms, path)).send_all()).counts[RecipientState.ACCEPTED] == 60


async def test_what_is_no_journal_cannot_be_resumed(mms: AsyncMMSClient, path: Path) -> None:
    with pytest.raises(JournalError, match="no such file"):
        await resume(mms, path)
    await asyncio.to_thread(path.write_bytes, PNG)
    with pytest.raises(JournalError, match="no journal"):
        await resume(mms, path)
    assert content(path) == PNG


async def test_the_image_is_read_once(api: Sandbox, mms: AsyncMMSClient, path: Path, tmp_path: Path) -> None:
    (tmp_path / "sale.png").write_bytes(PNG)
    with (tmp_path / "sale.png").open("rb") as image:
        spring = campaign(mms, path, image=image)
        await spring.dry_run(numbers(100))
        await spring.send_all(numbers(100))
    assert {send.image_size for send in api.sends} == {len(PNG)}
    with pytest.raises(JournalMismatchError, match="another image"):
        await finished(mms, path, [], image=PNG + b"!")


async def test_without_a_journal(api: Sandbox, mms: AsyncMMSClient) -> None:
    listed = [*numbers(60), "x"]
    report = await mms.send_bulk(listed, text=TEXT, image=PNG, batch_size=25)
    await agrees(report, api, listed)
    assert (report.journal, report.counts[RecipientState.ACCEPTED]) == (None, 60)
    async with campaign(mms, None) as spring:
        assert (await spring.report()).total == 0
        api.faults.add(throttle(), call="send-mms", times=4)
        await spring.send_all(numbers(10, 100))
        assert (await spring.report()).counts[RecipientState.FAILED] == 10
        report = await spring.send_all(numbers(20, 100))
        assert (report.counts[RecipientState.ACCEPTED], report.total) == (20, 20)
        await agrees(report, api, numbers(20, 100))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 1001},
        {"stop_after": 0},
        {"max_attempts": True},
        {"subject": "x" * 41},
        {"journal": ""},
    ],
)
async def test_wrong_options(mms: AsyncMMSClient, options: dict[str, Any]) -> None:
    with pytest.raises(mmsclient.InvalidRequestError, match=next(iter(options))):
        mms.campaign(**{"text": TEXT, "image": PNG, **options})


async def test_a_wrong_message_sends_nothing_and_makes_no_journal(mms: AsyncMMSClient, path: Path) -> None:
    for options in ({"text": ""}, {"image": b"no image"}):
        with pytest.raises(mmsclient.InvalidRequestError, match=next(iter(options))):
            await finished(mms, path, numbers(5), **options)
    assert content(path) is None


# Faults -------------------------------------------------------------------------------------------------------------


FAULTS: dict[str, Fault] = {
    "reset before": Reset(carried_out=False),
    "reset after": Reset(carried_out=True),
    "500 after": server_error(),
    "502 before": bad_gateway(),
    "truncated": TruncatedBody(),
    "cut": CutConnection(),
    "429": throttle(),
    "429 empty": throttle(empty=True),
    "OVER_LIMIT": throttle(status=200),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_leaves_nobody_with_two_and_no_state_that_is_wrong(
    api: Sandbox, mms: AsyncMMSClient, path: Path, name: str
) -> None:
    listed = numbers(1000)
    rule = api.faults.add(FAULTS[name], call="send-mms", share=0.4)
    report = await finished(mms, path, listed, stop_after=1000, max_attempts=2)
    await agrees(report, api, listed)
    assert rule.hits > 5
    known = name in ("429", "429 empty", "OVER_LIMIT")
    assert report.counts[RecipientState.UNKNOWN] == (0 if known else 25 * rule.hits)
    assert (report.counts[RecipientState.FAILED] > 0) == known
    api.faults.clear()
    again = await finished(mms, path, listed)
    await agrees(again, api, listed)
    assert again.counts[RecipientState.UNKNOWN] == report.counts[RecipientState.UNKNOWN]
    assert again.counts[RecipientState.ACCEPTED] == 1000 - again.counts[RecipientState.UNKNOWN]


async def test_all_faults_at_once(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    listed = numbers(3000)
    for fault in FAULTS.values():
        api.faults.add(fault, call="send-mms", share=0.06)
    for _ in range(3):
        report = await finished(mms, path, listed, stop_after=1000)
        await agrees(report, api, listed)
    assert report.counts[RecipientState.UNKNOWN] > 0


async def test_unknown_ones_are_sent_again_when_asked_for(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    listed = numbers(50)
    api.faults.add(Reset(carried_out=False), call="send-mms", times=1)
    assert (await finished(mms, path, listed)).counts[RecipientState.UNKNOWN] == 25
    report = await finished(mms, path, listed, resend_unknown=True)
    assert report.counts[RecipientState.ACCEPTED] == 50
    await agrees(report, api, listed)


async def test_throttling_slows_it_and_loses_nobody(api: Sandbox, path: Path) -> None:
    listed = numbers(250)
    api.faults.add(throttle(), call="send-mms", times=3)
    async with api.client(limiter=TokenBucket(rate=300)) as mms:
        report = await finished(mms, path, listed)
    assert report.counts[RecipientState.ACCEPTED] == 250
    assert report.calls == 13
    await agrees(report, api, listed)


async def test_a_server_that_is_away_stops_it_and_all_is_sent_later(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    listed = numbers(1000)
    with api.refusing():
        with pytest.raises(
            CampaignStoppedError, match="after 3 batches in a row that failed: send-mms at 127"
        ) as caught:
            await finished(mms, path, listed, max_attempts=2, check_account=False)
        counts = caught.value.report.counts
    assert isinstance(caught.value.error, mmsclient.NotSentError)
    assert counts[RecipientState.FAILED] >= 75
    assert counts[RecipientState.FAILED] + counts[RecipientState.PENDING] <= 1000
    assert not counts[RecipientState.UNKNOWN]
    report = await finished(mms, path, listed)
    assert report.counts[RecipientState.ACCEPTED] == 1000
    await agrees(report, api, listed)


async def test_unknown_outcomes_in_a_row_stop_it(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    api.faults.add(server_error(), call="send-mms")
    batches: list[Batch] = []

    async def collect() -> None:
        async for batch in campaign(mms, path, stop_after=2).send(numbers(1000)):
            batches.append(batch)  # noqa: PERF401 - those before the error

    with pytest.raises(CampaignStoppedError, match="after 2 batches in a row") as caught:
        await collect()
    assert 2 <= len(batches) <= 10
    assert all(isinstance(batch.error, mmsclient.OutcomeUnknownError) and batch.sent is None for batch in batches)
    assert caught.value.report.counts[RecipientState.UNKNOWN] == 25 * len(batches)
    assert len(api.sends) == len(batches)


# Refusals -----------------------------------------------------------------------------------------------------------


async def test_out_of_credit(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    listed = numbers(500)
    api.balance = Decimal(130)
    with pytest.raises(CampaignStoppedError, match=r"would fail alike: .*; top up the account; so far") as caught:
        await finished(mms, path, listed)
    report = caught.value.report
    assert isinstance(caught.value.error, mmsclient.InsufficientCreditError)
    assert report.counts[RecipientState.ACCEPTED] == 125
    assert report.counts[RecipientState.ACCEPTED] + report.counts[RecipientState.PENDING] == report.total
    assert api.calls["send-mms"] < 20
    api.balance = Decimal(1000)
    await agrees(await finished(mms, path, listed), api, listed)
    assert len(api.messages) == 500


@pytest.mark.parametrize(
    ("code", "description"),
    [
        ("AUTH_FAILED", ""),
        ("NO_ACCESS", ""),
        ("LEDGER_ERROR", ""),
        ("NOT_IMPLEMENTED", ""),
        ("FIELD_EMPTY", ""),
        ("FIELD_INVALID", "The field mms_text is invalid: it is too long."),
        ("FIELD_UNSAFE", ""),
        ("BAD_CALLER_ID", ""),
    ],
)
async def test_what_concerns_every_call_stops_it_at_once(
    api: Sandbox, mms: AsyncMMSClient, path: Path, code: str, description: str
) -> None:
    api.faults.add(Reject(code, description), call="send-mms")
    with pytest.raises(CampaignStoppedError) as caught:
        await finished(mms, path, numbers(1000))
    counts = caught.value.report.counts
    assert {state for state, count in counts.items() if count} == {RecipientState.PENDING}
    assert api.calls["send-mms"] <= 9


async def test_a_refusal_of_its_own_is_kept_and_never_sent_again(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    api.faults.add(Reject("TOO_RUDE", "Mind your words"), call="send-mms", times=1)
    for count in (50, 100):
        listed = numbers(count)
        report = await finished(mms, path, listed)
        assert report.counts[RecipientState.REFUSED] == 25
        await agrees(report, api, listed)
    reasons = {row.reason async for row in report.recipients("refused")}
    status = api.settings.http_status("TOO_RUDE")
    assert reasons == {f"send-mms: Mind your words (TOO_RUDE, HTTP {status})"}


async def test_recipients_that_are_all_refused(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    listed = numbers(200)
    for number in listed[:100]:
        api.add_opt_out(number)
    batches = [batch async for batch in campaign(mms, path, stop_after=5).send(listed)]
    assert sorted(batch.recipients == batch.refused for batch in batches) == [False] * 4 + [True] * 4
    report = await campaign(mms, path).report()
    assert report.counts[RecipientState.REFUSED] == 100
    await agrees(report, api, listed)


async def test_a_part_that_is_refused(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    listed = numbers(25)
    api.add_opt_out(listed[3])
    (batch,) = [batch async for batch in campaign(mms, path).send(listed)]
    assert (batch.accepted, batch.refused) == (24, (listed[3],))
    await agrees(await campaign(mms, path).report(), api, listed)


@frozen
class Silent(Fault):
    """The answer lists only the first `listed` messages, and says that `accepted` were."""

    listed: int
    accepted: int

    async def after(self, exchange: Exchange, answer: RawAnswer) -> RawAnswer:
        body = json.loads(answer.body)
        del body["data"]["messages"][self.listed :]
        body["data"]["success_number"] = self.accepted
        return evolve(answer, body=json.dumps(body).encode())


@pytest.mark.parametrize(
    ("fault", "states"),
    [
        (Silent(10, 25), {"accepted": 25}),
        (Silent(0, 25), {"accepted": 25}),
        (Silent(10, 20), {"accepted": 10, "unknown": 15}),
        (Silent(20, 20), {"accepted": 20, "refused": 5}),
        (Silent(20, 3), {"unknown": 25}),
        (Silent(0, 0), {"refused": 25}),
    ],
)
async def test_answers_that_tell_only_a_part(
    api: Sandbox, mms: AsyncMMSClient, path: Path, fault: Silent, states: dict[str, int]
) -> None:
    api.faults.add(fault, call="send-mms", times=1)
    (batch,) = [batch async for batch in campaign(mms, path).send(numbers(25))]
    report = await campaign(mms, path).report()
    assert {state: count for state, count in report.counts.items() if count} == states
    assert (batch.refused is None) == ("unknown" in states)
    await finished(mms, path, numbers(25))
    assert len(api.sends) == 1


def be_picky(api: Sandbox, monkeypatch: pytest.MonkeyPatch, bad: Collection[str]) -> None:
    """Let the whole call be refused for the sake of some numbers in it."""
    carry_out = api.send

    def send(numbers: Sequence[str], *arguments: Any) -> Any:
        if set(numbers) & set(bad):
            raise invalid("numbers", "one of them is wrong")
        return carry_out(numbers, *arguments)

    monkeypatch.setattr(api, "send", send)


@pytest.mark.parametrize("bad", [1, 3])
async def test_a_batch_is_split_where_a_recipient_may_be_at_fault(
    api: Sandbox, mms: AsyncMMSClient, path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    listed = numbers(150)
    wrong = frozenset(listed[40 : 40 + 17 * bad : 17])
    be_picky(api, monkeypatch, wrong)
    spring = campaign(mms, path, batch_size=50)
    batches = [batch async for batch in spring.send(listed)]
    report = await spring.report()
    await agrees(report, api, listed)
    assert {row.number async for row in report.recipients("refused")} == wrong
    assert report.counts[RecipientState.ACCEPTED] == 150 - bad
    assert sorted(number for batch in batches for number in batch.recipients) == listed  # halves, and not the whole


async def test_splitting_is_bounded(
    api: Sandbox, mms: AsyncMMSClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = numbers(1000)
    be_picky(api, monkeypatch, listed)
    report = await finished(mms, path, listed, batch_size=500)
    assert api.calls["send-mms"] <= 2 * 65
    assert report.counts[RecipientState.REFUSED] + report.counts[RecipientState.FAILED] == 1000
    assert not api.messages


# Leaving early ------------------------------------------------------------------------------------------------------


async def test_break_drains(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    listed = numbers(2000)
    api.faults.add(Latency(0.05, carried_out=True))
    spring = campaign(mms, path)
    async for batch in spring.send(listed):
        assert batch.accepted == 25
        break
    report = await spring.report()
    arrived = api.calls["send-mms"]
    assert not report.counts[RecipientState.SENDING]
    assert report.counts[RecipientState.ACCEPTED] == len(api.messages) < 1000
    await agrees(report, api, [row.number for row in await rows(report)])
    if not report.list_read:
        with pytest.raises(JournalError, match="give the list again"):
            await campaign(mms, path).send_all()
        assert api.calls["send-mms"] == arrived
    await agrees(await finished(mms, path, listed), api, listed)
    assert len(api.messages) == 2000


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_consumer_leaves_a_true_journal(
    api: Sandbox, mms: AsyncMMSClient, path: Path, times: int
) -> None:
    listed = numbers(2000)
    api.faults.add(Latency(0.05, carried_out=True))
    spring = campaign(mms, path)
    consumer = asyncio.create_task(spring.send_all(listed))
    await until(lambda: len(api.sends) > 5)
    for _ in range(times):  # the second makes it leave without waiting
        consumer.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await consumer
    report = await spring.report()
    assert not report.counts[RecipientState.SENDING]
    assert not report.counts[RecipientState.UNKNOWN]
    assert report.counts[RecipientState.ACCEPTED] == len(api.messages) < 1000
    await agrees(await finished(mms, path, listed), api, listed)


async def test_a_client_that_is_closed_under_it(api: Sandbox, path: Path) -> None:
    listed = numbers(500)
    api.faults.add(Latency(0.05, carried_out=True))
    async with api.client(rate=None) as mms:
        spring = campaign(mms, path)
        async for _ in spring.send(listed):
            break
    report = await spring.report()
    assert not report.counts[RecipientState.UNKNOWN] + report.counts[RecipientState.SENDING]
    await agrees(report, api, [row.number for row in await rows(report)])


async def test_stop_lets_the_iteration_end(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    spring = campaign(mms, path)
    sending = spring.send(numbers(2000))
    accepted = 0
    async for batch in sending:
        accepted += batch.accepted
        sending.stop()
    assert 25 <= accepted == len(api.messages) < 2000
    unstarted = spring.send(numbers(2000))
    unstarted.stop()
    assert [batch async for batch in unstarted] == []
    await unstarted.aclose()


async def test_an_iteration_that_is_dropped_is_ended_by_its_campaign(
    api: Sandbox, mms: AsyncMMSClient, path: Path
) -> None:
    async with campaign(mms, path) as spring:
        sending = spring.send(numbers(2000))
        await anext(sending)
        with pytest.raises(mmsclient.ConfigurationError, match="is being sent already"):
            await anext(spring.send([]))
        with pytest.raises(JournalBusyError):
            await finished(mms, path, [])
        del sending
        gc.collect()
    assert len(api.messages) < 2000
    assert (await spring.report()).counts[RecipientState.ACCEPTED] == len(api.messages)


async def test_a_consumer_that_is_slow_holds_it_up(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    sending = campaign(mms, path, batch_size=1).send(numbers(2000))
    await anext(sending)
    count = 0
    while len(api.sends) > count:  # until no more are sent
        count = len(api.sends)
        await asyncio.sleep(0.3)
    assert count < 100
    await sending.aclose()


async def test_a_report_in_the_middle(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    spring = campaign(mms, path)
    async for batch in spring.send(numbers(500)):
        report = await spring.report()
        assert report.counts[RecipientState.ACCEPTED] >= batch.progress.counts[RecipientState.ACCEPTED]
        assert len(await rows(report)) >= report.total - 500
    assert (await spring.report()).counts[RecipientState.ACCEPTED] == 500


async def test_a_source_that_fails(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    def source() -> Iterator[str]:
        yield from numbers(1500)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await campaign(mms, path).send_all(source())
    report = await campaign(mms, path).report()
    assert not report.list_read
    assert not report.counts[RecipientState.SENDING]
    await agrees(report, api, [row.number for row in await rows(report)])
    await agrees(await finished(mms, path, numbers(1500)), api, numbers(1500))


async def test_a_progress_callback_that_fails(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    def fail(progress: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await finished(mms, path, numbers(1500), on_progress=fail)
    report = await campaign(mms, path).report()
    assert report.counts[RecipientState.ACCEPTED] == len(api.messages) < 1500


async def test_a_slow_source_is_not_waited_for_at_the_end(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    asked = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "+61400000000"
        asked.set()
        await asyncio.Event().wait()

    spring = campaign(mms, path)
    consumer = asyncio.create_task(spring.send_all(source()))
    await asked.wait()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert not api.arrivals


class Plain:
    """A limiter of somebody else's: it keeps figures, and does not tell when they change."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(rate=100)

    async def acquire(self) -> Any:
        return await self._bucket.acquire()

    @property
    def stats(self) -> Any:
        return self._bucket.stats


async def test_a_limiter_that_tells_of_its_room_is_not_polled(
    api: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not is looked at: with an hour between the looks it would hold the campaign up."""
    api.faults.add(throttle(), call="send-mms", skip=20, times=2)
    async with asyncio.timeout(60):
        async with api.client(limiter=Plain()) as mms:
            await finished(mms, None, numbers(1000))
        monkeypatch.setattr("mmsclient.bulk.runner.TICK", 3600)
        for limiter in (TokenBucket(rate=100), NoLimit()):
            async with api.client(limiter=limiter) as mms:
                await finished(mms, None, numbers(1000))


async def test_calls_wait_at_the_limiter_in_small_numbers(api: Sandbox, path: Path) -> None:
    """After a crash those would be unknown, though nothing had left."""
    waiting = 0

    def look(progress: Progress) -> None:
        nonlocal waiting
        waiting = max(waiting, progress.counts[RecipientState.SENDING])

    async with api.client(rate=20) as mms:
        await finished(mms, path, numbers(30), batch_size=1, on_progress=look)
    assert waiting <= 12
