"""Replies taken without loss, and waiting for what became of a send."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from typing import Any

import anyio
import pytest

from mmsclient import AsyncMMSClient, AuthenticationError, InvalidRequestError, NotSentError, RateLimitError
from mmsclient._reading import delivery as delivery_module
from mmsclient._reading import replies as replies_module
from mmsclient.errors import LimiterUnavailableError, PermissionDeniedError, ServerError
from mmsclient.limiter import Grant, NoLimit
from mmsclient.models import InboundMessage, Reply
from mmsclient.sandbox import Sandbox, faults
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import PNG, until
from tests.support.callbacks import status


@pytest.fixture
async def mms(sandbox: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with sandbox.client(rate=None, max_attempts=1) as mms:
        yield mms


@pytest.fixture
def impatient(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the waits of all tests, those between rounds of asking."""
    monkeypatch.setattr(replies_module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(delivery_module, "FIRST_PAUSE", 0.001)


# take_replies -----------------------------------------------------------------------------------------------


async def test_all_are_given_and_marked_in_bulk(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sent = sandbox.add_replies(230)
    taken = [reply.id async for reply in mms.take_replies()]
    assert taken == [reply.id for reply in sent]
    assert not sandbox.unread
    assert sandbox.calls["inbound-read-bulk"] == 3
    assert sandbox.calls["get-responses"] == 4 + 4 + 2 + 1


@pytest.mark.parametrize("empty", ["string", "not_found"])
async def test_none(mms: AsyncMMSClient, sandbox: Sandbox, empty: Any) -> None:
    sandbox.settings.empty = empty
    assert [reply async for reply in mms.take_replies()] == []
    assert not {"inbound-read", "inbound-read-bulk"} & set(sandbox.calls)


async def test_one(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sandbox.add_reply(text="\u00a0stop! ")
    (reply,) = [reply async for reply in mms.take_replies()]
    assert reply.is_opt_out
    assert sandbox.calls["inbound-read"] == 1


@pytest.mark.parametrize("leave", ["break", "raise", "cancel"])
@pytest.mark.parametrize("handled", [0, 1, 60, 130])
async def test_a_consumer_that_stops_leaves_its_reply_unread(
    mms: AsyncMMSClient, sandbox: Sandbox, handled: int, leave: str
) -> None:
    sent = sandbox.add_replies(150)
    stuck = asyncio.Event()

    async def consume() -> None:
        count = 0
        async with aclosing(mms.take_replies()) as replies:
            async for _ in replies:
                count += 1
                if count <= handled:
                    continue
                if leave == "raise":
                    raise RuntimeError("on purpose")
                if leave == "cancel":
                    stuck.set()
                    await asyncio.Event().wait()
                break

    consumer = asyncio.create_task(consume())
    if leave == "cancel":
        await stuck.wait()
        consumer.cancel()
    await asyncio.gather(consumer, return_exceptions=True)
    assert [reply.id for reply in sandbox.unread] == [reply.id for reply in sent[handled:]]


async def test_leaving_without_a_word_marks_too(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sandbox.add_replies(10)
    count = 0
    async for _ in mms.take_replies():
        count += 1
        if count == 5:
            break
    await until(lambda: len(sandbox.unread) == 6)


async def test_a_thousand_with_new_ones_coming_and_a_consumer_that_fails(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    """Each is handled exactly once or still unread, and none is skipped."""
    rng = random.Random(5)
    sandbox.add_replies(1000)
    handled: Counter[str] = Counter()
    failures = 0
    while sandbox.unread or len(sandbox.replies) < 1200:
        given: set[str] = set()
        try:
            async with aclosing(mms.take_replies()) as replies:
                async for reply in replies:
                    assert reply.id not in given
                    given.add(reply.id)
                    if len(sandbox.replies) < 1200 and rng.random() < 0.2:
                        sandbox.add_reply(text="late")
                    if rng.random() < 0.01:
                        raise RuntimeError("on purpose")  # noqa: TRY301
                    handled[reply.id] += 1
        except RuntimeError:
            failures += 1
        assert {reply.id for reply in sandbox.unread}.isdisjoint(handled)
    assert failures > 3
    assert handled == Counter(reply.id for reply in sandbox.replies)


async def test_others_who_mark_meanwhile_hide_none(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sent = sandbox.add_replies(300)
    taken: list[str] = []
    async for reply in mms.take_replies():
        taken.append(reply.id)
        if len(taken) == 30:
            sandbox.mark_read(each.id for each in sent[200:225])
    assert set(taken) == {reply.id for reply in sent[:200] + sent[225:]}
    assert len(taken) == len(set(taken))


async def test_replies_that_never_become_read_end_the_run_all_the_same(
    mms: AsyncMMSClient, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "mark_read", lambda ids: len(list(ids)))
    sandbox.add_replies(330)
    taken = [reply.id async for reply in mms.take_replies()]
    assert len(taken) == len(set(taken)) == 330


async def test_a_reply_without_an_id_is_given_once(
    mms: AsyncMMSClient, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    body = b'{"meta":{"code":200,"status":"SUCCESS"},"data":{"page":{"count":1},"responses":[{"from":"1","body":"a"}]}}'
    sandbox.faults.add(faults.Respond(200, body), call="get-responses")
    (reply,) = [reply async for reply in mms.take_replies()]
    assert (reply.id, reply.text) == ("", "a")
    assert "without an id" in caplog.text


async def take_all(mms: AsyncMMSClient, taken: list[Reply], fail_after: int | None = None) -> None:
    async with aclosing(mms.take_replies()) as replies:
        async for reply in replies:
            taken.append(reply)
            if len(taken) == fail_after:
                raise RuntimeError("on purpose")


async def test_marking_that_fails_is_told(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sandbox.add_replies(3)
    sandbox.faults.add(faults.server_error(carried_out=False), call="inbound-read-bulk")
    taken: list[Reply] = []
    with pytest.raises(ServerError) as caught:
        await take_all(mms, taken)
    assert len(taken) == len(sandbox.unread) == 3
    assert caught.value.__notes__ == ["3 replies were handled and could not be marked as read"]

    with pytest.raises(ServerError) as caught:
        await take_all(mms, [], fail_after=3)
    assert isinstance(caught.value.__context__, RuntimeError)


async def test_replies_that_are_gone_need_no_mark(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sandbox.add_replies(3)
    sandbox.faults.add(faults.Reject("NOT_FOUND"), call="inbound-read-bulk", times=1)
    assert len([reply async for reply in mms.take_replies()]) == 3


async def test_wrong_arguments(mms: AsyncMMSClient) -> None:
    with pytest.raises(InvalidRequestError, match="kind"):
        mms.take_replies(kind="fax")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="interval"):
        await anext(mms.watch_replies(interval=0))


# watch_replies ----------------------------------------------------------------------------------------------


class Watch:
    """A watch in a task, and what it gave."""

    def __init__(self, mms: AsyncMMSClient, **options: Any) -> None:
        self.replies: list[Reply] = []
        self.task = asyncio.create_task(self._run(mms, {"interval": 0.01, **options}))

    async def _run(self, mms: AsyncMMSClient, options: dict[str, Any]) -> None:
        async with aclosing(mms.watch_replies(**options)) as replies:
            async for reply in replies:
                self.replies.append(reply)

    async def stop(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


async def test_watching(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sandbox.add_replies(30)
    watch = Watch(mms)
    await until(lambda: len(watch.replies) == 30)
    await until(lambda: not sandbox.unread)
    sandbox.add_replies(2)
    await until(lambda: len(watch.replies) == 32 and not sandbox.unread)
    await watch.stop()
    assert len({reply.id for reply in watch.replies}) == 32


async def test_watching_without_marking(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sandbox.add_replies(130)
    watch = Watch(mms, mark=False)
    await until(lambda: len(watch.replies) == 130)
    sandbox.add_replies(1)
    await until(lambda: len(watch.replies) == 131)
    await watch.stop()
    assert len(sandbox.unread) == 131


@pytest.mark.parametrize("call", ["get-responses", "inbound-read-bulk"])
async def test_errors_that_pass_are_outwaited(
    impatient: None, mms: AsyncMMSClient, sandbox: Sandbox, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.add_replies(30)
    for fault in (faults.server_error(carried_out=False), faults.throttle(), faults.Reset(carried_out=False)):
        sandbox.faults.add(fault, call=call, times=2)
    watch = Watch(mms)
    await until(lambda: len(watch.replies) == 30 and not sandbox.unread)
    sandbox.add_replies(2)
    await until(lambda: len(watch.replies) == 32 and not sandbox.unread)
    await watch.stop()
    assert len({reply.id for reply in watch.replies}) == 32
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len([record for record in warnings if "trying again" in record.message]) == 6


@pytest.mark.parametrize("call", ["get-responses", "inbound-read-bulk"])
async def test_the_log_quotes_nothing_of_an_answer_that_cannot_be_read(
    impatient: None, mms: AsyncMMSClient, sandbox: Sandbox, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.add_replies(30)
    sandbox.faults.add(faults.Respond(200, b'{"responses": [{"from": "+61412345678", '), call=call, times=2)
    watch = Watch(mms)
    await until(lambda: len(watch.replies) == 30 and not sandbox.unread)
    await watch.stop()
    assert caplog.text.count("trying again") == 2
    assert "+61412345678" not in caplog.text


async def test_new_replies_are_given_while_marking_keeps_failing(
    impatient: None, mms: AsyncMMSClient, sandbox: Sandbox
) -> None:
    """More of them than are marked in one call, so that those given stand before the new ones."""
    sandbox.add_replies(150)
    fault = sandbox.faults.add(faults.server_error(carried_out=False), call="inbound-read-bulk")
    single = sandbox.faults.add(faults.server_error(carried_out=False), call="inbound-read")
    watch = Watch(mms)
    await until(lambda: len(watch.replies) == 150)
    sandbox.add_replies(100)
    await until(lambda: len(watch.replies) == 250)
    assert len(sandbox.unread) == 250
    for each in (fault, single):
        each.remove()
    await until(lambda: not sandbox.unread)
    await watch.stop()
    assert len({reply.id for reply in watch.replies}) == 250


async def test_one_reply_that_cannot_be_marked_keeps_no_other_unread(
    impatient: None, mms: AsyncMMSClient, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = sandbox.add_replies(30)
    bad = replies[7].id
    mark_really = AsyncMMSClient.mark_read

    async def mark(self: AsyncMMSClient, replies: Any, **options: Any) -> None:
        if bad in list(replies):
            raise ServerError("on purpose", call="inbound-read-bulk")
        await mark_really(self, replies, **options)

    monkeypatch.setattr(AsyncMMSClient, "mark_read", mark)
    watch = Watch(mms)
    await until(lambda: [reply.id for reply in sandbox.unread] == [bad])
    watch.task.cancel()
    await asyncio.gather(watch.task, return_exceptions=True)
    assert len(watch.replies) == 30


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("call", ["get-responses", "inbound-read-bulk"])
async def test_a_proxys_page_is_outwaited(
    impatient: None, mms: AsyncMMSClient, sandbox: Sandbox, call: str, status: int
) -> None:
    sandbox.add_replies(30)
    page = faults.Respond(status, b"<html>Forbidden</html>", {"content-type": "text/html"})
    sandbox.faults.add(page, call=call, times=3)
    watch = Watch(mms)
    await until(lambda: len(watch.replies) == 30 and not sandbox.unread)
    await watch.stop()
    assert len({reply.id for reply in watch.replies}) == 30


async def test_a_403_of_the_api_is_raised(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sandbox.faults.add(faults.Reject("NO_ACCESS"), call="get-responses")
    with pytest.raises(PermissionDeniedError):
        await Watch(mms).task


async def test_a_cap_that_is_away_for_a_moment_is_outwaited(impatient: None, sandbox: Sandbox) -> None:
    class Blinking:
        asked = 0

        async def acquire(self) -> Grant:
            self.asked += 1
            if self.asked in {1, 3, 7}:  # the first page, the second, and marking
                raise LimiterUnavailableError("on purpose")
            return await NoLimit().acquire()

    sandbox.add_replies(60)
    limiter = Blinking()
    async with sandbox.client(limiter=limiter, max_attempts=1) as mms:
        watch = Watch(mms)
        await until(lambda: len(watch.replies) == 60 and not sandbox.unread)
        await watch.stop()
        assert len({reply.id for reply in watch.replies}) == 60
    assert limiter.asked > 6


async def test_errors_that_stay_are_raised(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sandbox.keys.clear()
    with pytest.raises(AuthenticationError):
        await Watch(mms).task


async def test_a_closed_client_ends_the_watch(impatient: None, sandbox: Sandbox) -> None:
    async with sandbox.client() as mms:
        watch = Watch(mms)
        await until(lambda: sandbox.calls["get-responses"])
    with pytest.raises(NotSentError):
        await watch.task


async def test_a_watch_that_is_stopped_after_a_failed_marking_says_so(
    mms: AsyncMMSClient, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.add_replies(3)
    sandbox.faults.add(faults.server_error(carried_out=False), call="inbound-read-bulk")
    watch = Watch(mms)
    await until(lambda: "trying again" in caplog.text)
    await watch.stop()
    assert "3 replies were handled and could not be marked as read" in caplog.text


@pytest.mark.parametrize("way", ["cancel", "asyncio.timeout", "anyio.CancelScope"])
async def test_stopping_a_watch_while_marking_fails_is_a_cancellation(
    mms: AsyncMMSClient, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """In the middle of its replies: those before it are still to be marked, and that fails as the watch ends."""
    sandbox.add_replies(3)
    sandbox.faults.add(faults.server_error(carried_out=False), call="inbound-read")
    given: list[Reply] = []
    scope = anyio.CancelScope() if way == "anyio.CancelScope" else nullcontext()
    timeout = asyncio.timeout(None)

    async def consume() -> None:
        async with aclosing(mms.watch_replies()) as replies:
            async for reply in replies:
                given.append(reply)
                if len(given) == 2:
                    await asyncio.Event().wait()

    async def run() -> None:
        with scope:
            async with timeout:
                await consume()

    task = asyncio.create_task(run())
    await until(lambda: len(given) == 2)
    if isinstance(scope, anyio.CancelScope):
        scope.cancel()
        await task
        assert scope.cancelled_caught
    elif way == "cancel":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        timeout.reschedule(asyncio.get_running_loop().time())
        with pytest.raises(TimeoutError):
            await task
    assert "inbound-read" in caplog.text
    assert "1 reply was handled and could not be marked as read" in caplog.text


@pytest.mark.parametrize("way", ["cancel", "anyio.CancelScope"])
@pytest.mark.parametrize("under_way", [False, True])
async def test_stopping_a_watch_waits_for_its_marking_only_so_long(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, way: str, under_way: bool
) -> None:
    monkeypatch.setattr(replies_module, "LAST_WORD", 0.01)
    begun: list[str] = []
    dropped: list[str] = []

    class Stuck(AsyncMMSClient):
        async def mark_read(self, replies: Any, *, timeout: float | None = None) -> None:
            begun.extend(replies)
            try:
                await asyncio.Event().wait()
            finally:
                dropped.extend(replies)

    (first, *_) = sandbox.add_replies(2)
    given: list[Reply] = []

    async def consume(mms: AsyncMMSClient) -> None:
        async with aclosing(mms.watch_replies()) as replies:
            async for reply in replies:
                given.append(reply)
                if len(given) == 2 and not under_way:
                    await asyncio.Event().wait()

    async with Stuck(sandbox.app_key, base_url=sandbox.url, verify=sandbox.ssl_context, rate=None) as mms:
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await consume(mms)

        task = asyncio.create_task(run())
        await until(lambda: begun if under_way else len(given) == 2)
        if way == "cancel":
            task.cancel()
        else:
            scope.cancel()
        await asyncio.wait([task])
        assert task.cancelled() if way == "cancel" else scope.cancelled_caught
        await until(lambda: dropped)
    assert begun == dropped
    assert begun[0] == first.id
    assert f"{'2 replies were' if under_way else '1 reply was'} handled and could not be marked" in caplog.text


@pytest.mark.parametrize("way", ["cancel", "anyio.CancelScope"])
async def test_a_marking_that_is_under_way_when_the_watch_is_stopped_is_waited_for(
    mms: AsyncMMSClient, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    sandbox.add_replies(3)
    sandbox.faults.add(faults.Latency(0.3), call="inbound-read-bulk")
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            async with aclosing(mms.watch_replies()) as replies:
                async for _ in replies:
                    pass

    task = asyncio.create_task(run())
    await until(lambda: sandbox.calls["inbound-read-bulk"])
    if way == "cancel":
        task.cancel()
    else:
        scope.cancel()
    await asyncio.wait([task])
    assert not sandbox.unread
    assert "could not be marked" not in caplog.text


async def test_leaving_a_watch_while_marking_fails_raises_the_error(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sandbox.add_replies(3)
    sandbox.faults.add(faults.server_error(carried_out=False), call="inbound-read")
    watch = mms.watch_replies()
    await anext(watch)
    await anext(watch)
    with pytest.raises(ServerError) as caught:
        await watch.aclose()
    assert caught.value.__notes__ == ["1 reply was handled and could not be marked as read"]


async def test_marking_that_fails_is_logged_while_new_replies_keep_coming(
    mms: AsyncMMSClient, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it keeps none of them waiting."""
    monkeypatch.setattr(replies_module, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(replies_module, "LONGEST_PAUSE", 3600.0)
    sandbox.add_reply()
    sandbox.faults.add(faults.server_error(carried_out=False), call="inbound-read")
    given = 0
    async with asyncio.timeout(60), aclosing(mms.watch_replies()) as replies:
        async for _ in replies:
            given += 1
            if given == 4:
                break
            sandbox.add_reply()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([warning for warning in warnings if "inbound-read" in warning]) == 3
    assert "3 replies were handled" in caplog.text


# is_opt_out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            (text, True)
            for text in ("STOP", "stop", " Stop. ", "«Quit»", "END!", "cancel\n", "Unsubscribe", "\n_stop_")
        ),
        *((text, True) for text in ("OPT OUT", "opt-out", "OptOut", "opt  out!!")),
        *(
            (text, False)
            for text in ("", "stop it", "please stop", "STOPP", "opt", "the end", "Yes", "S T O P", "éstop")
        ),
    ],
)
def test_opt_outs(text: str, expected: bool) -> None:
    common: Any = {"id": "", "sender": "", "received_at": None, "received_at_text": "", "original_message_id": ""}
    common |= {"original_text": "", "custom_string": None, "text": text}
    assert Reply(**common, subaccount_id="").is_opt_out is expected
    assert InboundMessage(**common, kind="MMS").is_opt_out is expected


# wait_delivered ---------------------------------------------------------------------------------------------

NUMBERS = ["+61400000000", "+61400009911", "+61400009913"]
ENDINGS = {"+61400000000": "Delivered", "+61400009911": "Failed", "+61400009913": "Expired"}
Wait = Callable[..., Awaitable[Any]]


async def test_asking_until_all_are_final(impatient: None, mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sandbox.settings.deliver_after = 0.05
    sent = await mms.send(to=NUMBERS, text="Hi", image=PNG)
    sandbox.faults.add(faults.server_error(), call="get-sms", times=2)
    assert await mms.wait_delivered(sent) == ENDINGS


async def test_asking_ends_with_what_is_known(impatient: None, mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sent = await mms.send(to=[*NUMBERS, "+61400009916"], text="Hi", image=PNG)
    await until(lambda: sandbox.status(sandbox.messages[0].id) == "Delivered")
    statuses = await mms.wait_delivered(sent, timeout=1)
    assert statuses == {**ENDINGS, "+61400009916": "Dispatched"}
    sandbox.faults.add(faults.Reject("NOT_FOUND"), call="get-sms")
    assert await mms.wait_delivered(sent, timeout=0.2) == dict.fromkeys(statuses)


async def test_asking_in_vain(impatient: None, mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    sent = await mms.send(to=NUMBERS, text="Hi", image=PNG)
    with sandbox.faults.add(faults.throttle(), call="get-sms"), pytest.raises(RateLimitError):
        await mms.wait_delivered(sent, timeout=0.2)
    sandbox.keys.clear()
    with pytest.raises(AuthenticationError):
        await mms.wait_delivered(sent)
    for wrong in ({"sent": "id"}, {"sent": sent, "timeout": 0}):
        with pytest.raises(InvalidRequestError):
            await mms.wait_delivered(**wrong)


async def test_being_told(mms: AsyncMMSClient, sandbox: Sandbox) -> None:
    receiver = CallbackReceiver(token="a-token-of-the-tests")  # noqa: S106
    sent = await mms.send(to=[*NUMBERS, "+61400009916"], text="Hi", image=PNG)
    waiting = asyncio.create_task(mms.wait_delivered(sent, via=receiver, timeout=0.5))
    for message in sent.messages[:3]:
        body = [{"message_id": message.id, "status": ENDINGS[message.to], "recipient": message.to.removeprefix("+")}]
        assert await delivered(receiver, body)
    assert await waiting == {**ENDINGS, "+61400009916": None}
    assert not sandbox.calls["get-sms"]


async def delivered(receiver: CallbackReceiver, body: Any) -> bool:
    return await status(receiver, body) == 200
