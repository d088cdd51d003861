"""`mmsclient demo`: the client at work against a sandbox, every step with the SDK call that it makes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mmsclient import AsyncMMSClient, MMSError, SentMessage
from mmsclient.cli.output import Form, to_json
from mmsclient.cli.picture import sunset
from mmsclient.cli.stage import Score, Stage, busiest_second, stage_for
from mmsclient.sandbox import Ending, Sandbox

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
        Sandbox(tls=True, rate=CAP, deliver_after=2.0, reply_after=2.0) as sandbox,
        sandbox.client(rate=CAP) as mms,
    ):
        demo = Demo(sandbox, mms, form)
        with demo.stage.open(), demo.retries_shown():
            await demo.run()
        demo.sum_up(time.monotonic() - begin, form)


class Demo:
    """The steps, and what they count."""

    def __init__(self, sandbox: Sandbox, mms: AsyncMMSClient, form: Form) -> None:
        self.score = Score()
        self.stage: Stage = stage_for(form, self.score, self._last_second, CAP)
        self._sandbox = sandbox
        self._mms = mms
        self._begin = time.monotonic()
        self._messages: list[SentMessage] = []

    async def run(self) -> None:
        """All steps, in order."""
        self.stage.step("A server on this machine plays the API", "Sandbox(tls=True)")
        self.stage.fact(f"{self._sandbox.url} allows {CAP} calls a second")
        self.stage.step("A client of it", "AsyncMMSClient(app_key, base_url=..., verify=...)")
        await self._ask_account()
        await self._send_all()
        await self._follow_delivery()
        await self._read_replies()
        await self._list_opt_outs()
        await self._ask_account()

    async def _ask_account(self) -> None:
        self.stage.step("The account", "await mms.account()")
        account = await self._mms.account()
        self.stage.fact(f"{account.name} has {account.mms_balance} credits")

    async def _send_all(self) -> None:
        picture = sunset()
        self.stage.step("Sending", "await mms.send(to=[...], text=..., image=picture, subject=...)")
        self.stage.fact(f"{CALLS} calls asked for at once, with a picture of {len(picture)} bytes made here")
        self.stage.fact("numbers that end in 99.. behave as set; `mmsclient sandbox` lists them")
        await asyncio.gather(*(self._send(call, picture) for call in range(1, CALLS + 1)))

    async def _send(self, call: int, picture: bytes) -> None:
        numbers = recipients(call)
        self.score.recipients += len(numbers)
        try:
            sent = await self._mms.send(to=numbers, text=TEXT, image=picture, subject=SUBJECT)
        except MMSError as error:
            self.score.refused += len(numbers)
            self._tell(f"call {call:2}  {type(error).__name__}: {error}", good=False)
            return
        self.score.accepted += sent.accepted
        self.score.refused += sent.total - sent.accepted
        self.score.credits_used += sent.credits_used or 0
        self._messages += sent.messages
        refused = f", sent.refused: {', '.join(sent.refused)}" if sent.refused else ""
        self._tell(
            f"call {call:2}  {sent.accepted} of {sent.total} accepted, credits used: {sent.credits_used}{refused}",
            good=not sent.is_partial,
        )

    async def _follow_delivery(self) -> None:
        self.stage.step("Delivery", "await mms.message(sent.messages[0].id)")
        under_way = self._messages
        while under_way:
            self.stage.fact(f"asking for {len(under_way)} messages")
            final = await asyncio.gather(*map(self._ask_status, under_way))
            under_way = [message for message, is_final in zip(under_way, final, strict=True) if not is_final]
        self.stage.fact(self.score.statuses_in_words)

    async def _ask_status(self, message: SentMessage) -> bool:
        """Whether the message has its final status."""
        found = await self._mms.message(message.id)
        if found is None or not found.status.is_final:
            return False
        self.score.statuses[found.status.value] += 1
        if not found.status.is_delivered:
            self._tell(f"{message.to} {found.status.value}", good=False)
        return True

    async def _read_replies(self) -> None:
        self.stage.step("Replies", "async for reply in mms.replies()")
        replies = [reply async for reply in self._mms.replies()]
        for reply in replies:
            self.score.replies += 1
            self._tell(f"{reply.sender} answers {reply.text!r}")
        self.stage.step("They are read", "await mms.mark_read(replies)")
        await self._mms.mark_read(replies)

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
                "replies": score.replies,
                "opt_outs": score.opt_outs,
            }
            print(to_json(facts))
            return
        self.stage.summary(
            {
                "Calls": f"{calls.total()} in {seconds:.1f} s: {_in_words(calls)}",
                "Busiest second": f"{busiest} calls at the server, {CAP} allowed",
                "Throttled": f"{throttled}; ending {Ending.THROTTLED_ONCE} is throttled once and was sent again",
                "Recipients": f"{score.recipients}: {score.accepted} accepted, {score.refused} refused",
                "Credits used": str(score.credits_used),
                "Delivery": score.statuses_in_words,
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

    def log(self, line: str) -> None:
        """A line of the client's log."""
        self._tell(f"log: {line}", good=False)

    def _tell(self, text: str, *, good: bool = True) -> None:
        self.stage.fact(f"{time.monotonic() - self._begin:5.2f} s  {text}", good=good)

    def _last_second(self) -> int:
        now = self._sandbox.clock()
        return sum(now - arrival.at < 1 for arrival in list(self._sandbox.arrivals))


class _Retries(logging.Handler):
    def __init__(self, demo: Demo) -> None:
        super().__init__(logging.INFO)
        self._demo = demo

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:  # what it warns of is told beside the call
            self._demo.log(record.getMessage())


def _in_words(calls: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in calls.items())
