"""`mmsclient demo`: the client at work against a sandbox, every step with the SDK call that it makes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from mmsclient import AsyncMMSClient, MMSError, RateLimitError, SentMessage
from mmsclient._words import counted
from mmsclient.cli.demo_view import Score, Stage, busiest_second, stage_for
from mmsclient.cli.output import Form, to_json
from mmsclient.cli.sample_image import sunset
from mmsclient.models import DeliveryReport
from mmsclient.sandbox import Ending, Sandbox
from mmsclient.sandbox.listener import HOST, Listener
from mmsclient.webhooks import CallbackReceiver, new_token

CALLS = 20
CAP = 15
TEXT = "The sun goes down over our prices"
SUBJECT = "Sale"

SPECIAL = {
    3: Ending.REPLIES,
    5: Ending.REFUSED,
    7: Ending.FAILED,
    9: Ending.REPLIES_STOP,
    11: Ending.EXPIRED,
    13: Ending.UNSUBSCRIBED,
    17: Ending.THROTTLED_ONCE,
    19: Ending.REPLIES,
}
"""Which calls go to a number whose ending sets its behaviour, beside an ordinary one."""


THROTTLED_CALL = next(call for call, ending in SPECIAL.items() if ending is Ending.THROTTLED_ONCE)
ANSWERS = sum(ending in (Ending.REPLIES, Ending.REPLIES_STOP) for ending in SPECIAL.values())
PATIENCE = 15.0
"""Seconds to wait for callbacks, should one not come."""


def recipients(call: int) -> list[str]:
    """The numbers of one call: 1 to `CALLS`. The last one's only number has unsubscribed."""
    if call == CALLS:
        return [_special(call, Ending.UNSUBSCRIBED)]
    second = _special(call, SPECIAL[call]) if call in SPECIAL else f"+614000002{call:02}"
    return [f"+614000001{call:02}", second]


def _special(call: int, ending: Ending) -> str:
    return f"+614{call:04}{ending}"


async def play(form: Form) -> None:
    """Run the demo from its first step to its summary."""
    begin = time.monotonic()
    async with (
        receiving() as (receiver, callback_url),
        Sandbox(tls=True, rate=CAP, deliver_after=2.0, reply_after=2.0, callback_url=callback_url) as sandbox,
        sandbox.client(rate=CAP) as mms,
    ):
        demo = Demo(sandbox, mms, receiver, form)
        with demo.stage.open(), demo.retries_shown():
            await demo.run()
        demo.sum_up(time.monotonic() - begin, form)


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[CallbackReceiver, str]]:
    """A receiver of callbacks on this machine, and its URL."""
    token = new_token()
    receiver = CallbackReceiver(token=token)
    listener = Listener(receiver, 0, None, keep_alive=5.0)
    listener.listen()
    try:
        yield receiver, f"http://{HOST}:{listener.port}/{token}"
    finally:
        await receiver.aclose()
        await listener.close()


class Demo:
    """The steps, and what they count."""

    def __init__(self, sandbox: Sandbox, mms: AsyncMMSClient, receiver: CallbackReceiver, form: Form) -> None:
        self.score: Score = Score()
        self.stage: Stage = stage_for(form, self.score, self._last_second, CAP)
        self._sandbox = sandbox
        self._mms = mms
        self._receiver = receiver
        self._all_in = asyncio.Event()
        self._begin = time.monotonic()
        self._messages: list[SentMessage] = []
        self._throttled_on_purpose = False

    async def run(self) -> None:
        """All steps, in order."""
        self.stage.step("A server on this machine plays the API", "Sandbox(tls=True)")
        self.stage.fact(f"{self._sandbox.url} allows {CAP} calls a second")
        self.stage.step("Its callbacks come to this process", "receiver = CallbackReceiver(token=...)")
        self.stage.step("A client of it", "AsyncMMSClient(app_key, base_url=..., verify=...)")
        await self._ask_account()
        await self._send_all()
        await self._receive_callbacks()
        await self._ask_status(self._messages[0])
        await self._take_replies()
        await self._list_opt_outs()
        await self._ask_account()

    async def _ask_account(self) -> None:
        self.stage.step("The account", "await mms.account()")
        account = await self._mms.account()
        self.stage.fact(f"{account.name} has {account.mms_balance} credits")

    async def _send_all(self) -> None:
        picture = sunset()
        self.stage.step("Sending", "await mms.send(to=[...], text=..., image=..., subject=...)")
        self.stage.fact(f"{CALLS} calls asked for at once, with a picture of {len(picture)} bytes made here")
        self.stage.fact("numbers that end in 99.. behave as set: some fail, one call is throttled, on purpose")
        await asyncio.gather(*(self._send(call, picture) for call in range(1, CALLS + 1)))

    async def _send(self, call: int, picture: bytes) -> None:
        numbers = recipients(call)
        self.score.recipients += len(numbers)
        try:
            sent = await self._mms.send(to=numbers, text=TEXT, image=picture, subject=SUBJECT)
        except MMSError as error:
            self.score.refused += len(numbers)
            self._tell(f"call {call:2}  {type(error).__name__}: {getattr(error, 'description', error)}", good=False)
            return
        self.score.accepted += sent.accepted
        self.score.refused += sent.total - sent.accepted
        self.score.credits_used += sent.credits_used or 0
        self._messages += sent.messages
        refused = f", sent.refused: {', '.join(sent.refused)}" if sent.refused else ""
        cost = counted(sent.credits_used or 0, "credit")
        self._tell(
            f"call {call:2}  {sent.accepted} of {sent.total} accepted, {cost}{refused}", good=not sent.is_partial
        )

    async def _receive_callbacks(self) -> None:
        self.stage.step("Reports and replies come in", "async for event in receiver.events()")
        consumer = asyncio.create_task(self._consume())
        waiting = asyncio.create_task(self._all_in.wait())
        await asyncio.wait((consumer, waiting), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        consumer.cancel()
        with suppress(asyncio.CancelledError):
            await consumer
        self.stage.fact(f"{self.score.statuses_in_words}; {self.score.answered} answered")

    async def _consume(self) -> None:
        async for event in self._receiver.events():
            if isinstance(event, DeliveryReport):
                self.score.statuses[event.status.value] += 1
                if not event.status.is_delivered:
                    self._tell(f"{event.recipient} {event.status}, as its ending asks", good=False)
            else:
                self.score.answered += 1
                self._tell(f"{event.sender} answers {event.text!r}{', an opt-out' if event.is_opt_out else ''}")
            if (self.score.statuses.total(), self.score.answered) == (len(self._messages), ANSWERS):
                self._all_in.set()

    async def _ask_status(self, message: SentMessage) -> None:
        self.stage.step("Or by asking", "await mms.message(sent.messages[0].id)")
        found = await self._mms.message(message.id)
        self.stage.fact(f"{message.to} {found.status if found else 'is not known'}")

    async def _take_replies(self) -> None:
        self.stage.step("Replies, each marked as read once handled", "async for reply in mms.take_replies()")
        async for reply in self._mms.take_replies():
            self.score.replies += 1
            self._tell(f"{reply.sender} answered {reply.text!r} to {reply.original_message_id}")

    async def _list_opt_outs(self) -> None:
        self.stage.step("Opt-outs", "async for opt_out in mms.opt_outs()")
        async for opt_out in self._mms.opt_outs():
            self.score.opt_outs += 1
            self._tell(f"{opt_out.number} wants no more messages")

    def sum_up(self, seconds: float, form: Form) -> None:
        """What came of it."""
        score, calls = self.score, self._sandbox.calls
        busiest = busiest_second([arrival.at for arrival in self._sandbox.arrivals])
        throttled = self._sandbox.throttled.total()
        if form is Form.JSON:
            facts = {
                "seconds": round(seconds, 3),
                "calls": calls,
                "throttled": throttled,
                "busiest_second": busiest,
                "cap": CAP,
                "recipients": score.recipients,
                "accepted": score.accepted,
                "refused": score.refused,
                "credits_used": score.credits_used,
                "statuses": score.statuses,
                "answered": score.answered,
                "replies": score.replies,
                "opt_outs": score.opt_outs,
            }
            print(to_json(facts))
            return
        self.stage.summary(
            {
                "Calls": f"{calls.total()} in {seconds:.1f} s: {_in_words(calls)}",
                "Busiest second": f"{busiest} calls at the server, {CAP} allowed",
                "Throttled": f"{throttled}, {'' if throttled == 1 else '1 of them '}on purpose, and sent again",
                "Recipients": f"{score.recipients}: {score.accepted} accepted, {score.refused} refused",
                "Credits used": str(score.credits_used),
                "Delivery": score.statuses_in_words,
                "Answered": str(score.answered),
                "Replies read": str(score.replies),
                "Opt-outs": str(score.opt_outs),
                "Next": "mmsclient sandbox, to play with it yourself",
            }
        )

    @contextmanager
    def retries_shown(self) -> Iterator[None]:
        """What the client logs when it repeats a call, among the other lines."""
        handler = _Retries(self)
        logger = logging.getLogger("mmsclient")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.removeHandler(handler)

    def repeated(self, error: object, log_line: str) -> None:
        """The client repeats a call, and logs it."""
        if isinstance(error, RateLimitError) and not self._throttled_on_purpose:
            self._throttled_on_purpose = True
            ending = f"the ending {Ending.THROTTLED_ONCE} in call {THROTTLED_CALL}"
            self._tell(f"throttled on purpose, as {ending} asks: the client waits and repeats it")
        else:
            self._tell(f"log: {log_line}", good=False)

    def _tell(self, text: str, *, good: bool = True) -> None:
        self.stage.fact(text, time.monotonic() - self._begin, good=good)

    def _last_second(self) -> int:
        now = self._sandbox.clock()
        return sum(now - arrival.at < 1 for arrival in list(self._sandbox.arrivals))


class _Retries(logging.Handler):
    def __init__(self, demo: Demo) -> None:
        super().__init__(logging.INFO)
        self._demo = demo

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO and record.name.startswith("mmsclient._transport."):  # else told otherwise
            error = record.args[0] if isinstance(record.args, tuple) and record.args else None
            self._demo.repeated(error, record.getMessage())


def _in_words(calls: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in calls.items())
