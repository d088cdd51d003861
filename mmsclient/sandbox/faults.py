"""What can go wrong on request, for certain calls or a share of them.

    sandbox.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    with sandbox.faults.add(Latency(0.2, jitter=0.1)):
        ...

Every `Latency` that applies to a call delays it; of the other faults the first that applies strikes. So two faults with
`times=1` strike one after the other. `carried_out` says whether the call takes effect before it fails.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Collection, Mapping
from types import TracebackType
from typing import ClassVar

from attrs import evolve, field, frozen

from mmsclient._api.checks import check_whole, is_number, require
from mmsclient.sandbox.answers import Answer
from mmsclient.sandbox.exchange import Exchange, RawAnswer

__all__ = [
    "CutConnection",
    "EndlessBody",
    "Fault",
    "Faults",
    "Latency",
    "Reject",
    "Reset",
    "Respond",
    "Rule",
    "SlowBody",
    "TruncatedBody",
    "WrongContentType",
    "bad_gateway",
    "redirect",
    "server_error",
    "throttle",
]


class Fault:
    """What may happen to a call. A kind of fault overrides the moments at which it strikes."""

    stacks: ClassVar[bool] = False
    """It applies beside another fault."""

    async def on_headers(self, exchange: Exchange) -> bool:
        """The headers are in and the body is not read. True: the exchange is over."""
        return False

    async def before(self, exchange: Exchange) -> RawAnswer | None:
        """The body is read. An answer stands in for carrying out the call."""
        return None

    async def after(self, exchange: Exchange, answer: RawAnswer) -> RawAnswer | None:
        """The call is carried out. None: the exchange is over, else the answer to send."""
        return answer


@frozen
class Latency(Fault):
    """The call takes `seconds` longer, and up to `jitter` more; it is carried out even if the caller leaves."""

    seconds: float = 0.0
    jitter: float = 0.0
    carried_out: bool = False
    """The delay comes after carrying out, not before."""

    stacks: ClassVar[bool] = True

    async def before(self, exchange: Exchange) -> None:
        if not self.carried_out:
            await self._wait(exchange)

    async def after(self, exchange: Exchange, answer: RawAnswer) -> RawAnswer:
        if self.carried_out:
            await self._wait(exchange)
        return answer

    async def _wait(self, exchange: Exchange) -> None:
        await asyncio.sleep(self.seconds + exchange.state.random.uniform(0, self.jitter))


@frozen
class Reset(Fault):
    """TCP reset instead of an answer; not carried out, the body of the request is not even read."""

    carried_out: bool

    async def on_headers(self, exchange: Exchange) -> bool:
        if not self.carried_out:
            await exchange.reset()
        return not self.carried_out

    async def after(self, exchange: Exchange, answer: RawAnswer) -> None:
        await exchange.reset()


@frozen
class Respond(Fault):
    """Any answer instead of the right one."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)
    carried_out: bool = False

    async def before(self, exchange: Exchange) -> RawAnswer | None:
        return None if self.carried_out else self._answer()

    async def after(self, exchange: Exchange, answer: RawAnswer) -> RawAnswer:
        return self._answer()

    def _answer(self) -> RawAnswer:
        return RawAnswer(self.status, self.body, self.headers, throttled=self.status == 429)


@frozen
class Reject(Fault):
    """A refusal as the API words it: any code of api-notes.md section 2, in the sandbox's dialect; not carried out."""

    code: str
    description: str = "Rejected on request."
    status: int | None = None
    """HTTP status; None for the one that goes with the code."""
    headers: Mapping[str, str] = field(factory=dict)

    async def before(self, exchange: Exchange) -> RawAnswer:
        settings = exchange.state.settings
        status = self.status or settings.http_status(self.code)
        body = Answer(self.code, self.description).body(settings.dialect, status=self.status)
        headers = {"content-type": "application/json", **self.headers}
        return RawAnswer(status, body, headers, throttled=self.code == "OVER_LIMIT" or status == 429)


@frozen
class TruncatedBody(Fault):
    """Carried out, and half of the JSON comes in a response that is complete as far as HTTP can tell."""

    async def after(self, exchange: Exchange, answer: RawAnswer) -> RawAnswer:
        return evolve(answer, body=answer.body[: len(answer.body) // 2])


@frozen
class CutConnection(Fault):
    """Carried out, and the connection ends in the middle of the answer's body."""

    async def after(self, exchange: Exchange, answer: RawAnswer) -> None:
        await exchange.start(answer, len(answer.body))
        await exchange.write(answer.body[: len(answer.body) // 2])
        await exchange.close()


@frozen
class WrongContentType(Fault):
    """Carried out, and the right JSON comes under a wrong header."""

    content_type: str = "text/html; charset=utf-8"

    async def after(self, exchange: Exchange, answer: RawAnswer) -> RawAnswer:
        return evolve(answer, headers={**answer.headers, "content-type": self.content_type})


@frozen
class SlowBody(Fault):
    """Carried out, and the answer drips in: `step` bytes every `delay` seconds."""

    delay: float = 0.01
    step: int = 1

    async def after(self, exchange: Exchange, answer: RawAnswer) -> None:
        await exchange.stream(answer, len(answer.body), self._drops(answer.body))

    async def _drops(self, body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), self.step):
            await asyncio.sleep(self.delay)
            yield body[start : start + self.step]


@frozen
class EndlessBody(Fault):
    """Carried out, and the answer does not end until the peer leaves, or `limit` bytes or `seconds` are over."""

    limit: int = 64 * 1024 * 1024
    seconds: float = 30.0

    async def after(self, exchange: Exchange, answer: RawAnswer) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                await exchange.stream(answer, None, self._flood(answer.body[:1]))
        except TimeoutError:
            await exchange.close()

    async def _flood(self, start: bytes) -> AsyncIterator[bytes]:
        part = b" " * 65536
        yield start
        for _ in range(self.limit // len(part)):
            yield part
            await asyncio.sleep(0)  # other calls go on meanwhile


def server_error(*, carried_out: bool = True) -> Respond:
    """HTTP 500 with a line of text."""
    return Respond(500, b"Internal Server Error", {"content-type": "text/plain"}, carried_out)


def bad_gateway(*, carried_out: bool = False) -> Respond:
    """HTTP 502 with a proxy's HTML page."""
    page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
    return Respond(502, page, {"content-type": "text/html"}, carried_out)


def redirect(location: str, *, status: int = 302) -> Respond:
    """A redirect; not carried out."""
    return Respond(status, headers={"location": location})


def throttle(*, status: int = 429, empty: bool = False, retry_after: float | str | None = None) -> Fault:
    """OVER_LIMIT, by default with HTTP 429. `empty`: the status alone, without a body. `retry_after`: the header."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    if empty:
        return Respond(status, headers=headers)
    return Reject("OVER_LIMIT", "Too many requests.", status, headers)


class Rule:
    """When a fault strikes. As a context manager it is removed at the end."""

    def __init__(
        self,
        faults: Faults,
        fault: Fault,
        *,
        call: str | None,
        times: int | None,
        share: float | None,
        skip: int,
    ) -> None:
        self.fault = fault
        self.hits: int = 0
        """How often it has struck."""
        self._faults = faults
        self._call = call
        self._times = times
        self._share = share
        self._skip = skip

    def remove(self) -> None:
        """Strike no more; doing so again does nothing."""
        self._faults.remove(self)

    def strikes(self, call: str, rng: random.Random) -> bool:
        """Whether this call is hit, and if so, count it."""
        if self._call not in (None, call) or (self._times is not None and self.hits >= self._times):
            return False
        if self._skip > 0:
            self._skip -= 1
            return False
        if self._share is not None and rng.random() >= self._share:
            return False
        self.hits += 1
        return True

    def __enter__(self) -> Rule:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.remove()


class Faults:
    """The faults that have been asked for. Safe to use from any thread."""

    def __init__(self, calls: Collection[str]) -> None:
        self._calls = calls
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(
        self,
        fault: Fault,
        *,
        call: str | None = None,
        times: int | None = None,
        share: float | None = None,
        skip: int = 0,
    ) -> Rule:
        """Let `fault` strike.

        Args:
            fault: What shall go wrong.
            call: Only this call, as in the URL: `send-mms`.
            times: Strike so often, then no more.
            share: Strike this share of the calls at random, 0.3 for three in ten.
            skip: Spare so many calls first.

        Raises:
            ConfigurationError: What is no fault, a call that the sandbox does not have, or a wrong number.
        """
        require("fault", fault, isinstance(fault, Fault), "a fault, such as Reset(carried_out=True)")
        require(
            "call",
            call,
            call is None or (isinstance(call, str) and call in self._calls),
            f"one of {', '.join(self._calls)}",
        )
        if times is not None:
            check_whole("times", times, 0)
        require("share", share, share is None or (is_number(share) and 0 <= share <= 1), "a number from 0 to 1")
        check_whole("skip", skip, 0)
        rule = Rule(self, fault, call=call, times=times, share=share, skip=skip)
        with self._lock:
            self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Let a rule strike no more."""
        with self._lock:
            self._rules = [each for each in self._rules if each is not rule]

    def clear(self) -> None:
        """No more faults."""
        with self._lock:
            self._rules = []

    def draw(self, call: str, rng: random.Random) -> list[Fault]:
        """The faults that strike this call: every one that stacks, and the first of the others."""
        drawn: list[Fault] = []
        struck = False
        with self._lock:
            for rule in self._rules:
                if (rule.fault.stacks or not struck) and rule.strikes(call, rng):
                    drawn.append(rule.fault)
                    struck = struck or not rule.fault.stacks
        return drawn
