"""The queue of one process: first come, first served, and only the first few ask Redis."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import attrs

from mmsclient._capacity import CapacityLimiter
from mmsclient.errors import LimiterUnavailableError
from mmsclient.limiter.changes import Changes
from mmsclient.limiter.grant import SlotGrant
from mmsclient.limiter.protocol import CallKind, Grant

AT_ONCE = 4
"""Callers that ask in one trip to Redis, at most. At 15 calls a second there is seldom a slot for more than one; at a
thousand, a trip for each took as long as the calls may be apart."""


@attrs.frozen
class NextCall:
    """What a caller waits with."""

    kind: CallKind
    size: int = 0
    """Bytes of an upload."""


@attrs.frozen
class Offer:
    """A grant on its way to the first caller."""

    kind: CallKind
    """It is for a call of that kind."""
    least_size: int
    """And of so many bytes, or more."""
    grant: SlotGrant
    give_back: Callable[[], None]
    """Called in place of the grant's own methods if nobody takes it."""

    def is_for(self, call: NextCall) -> bool:
        """Its slot is free for that call."""
        return call.kind is self.kind and call.size >= self.least_size


@attrs.define(eq=False)
class _Asking:
    """One of the first callers."""

    call: NextCall
    answer: asyncio.Future[Offer | None]
    """None: look again."""
    is_delayed: bool = False
    """It was not granted at once."""


class Callers:
    """The callers that wait for a grant.

    Args:
        changes: Told when `waiting` changes.
        plan: Called when there is one more of the first callers, and when one has left.
    """

    def __init__(self, changes: Changes, plan: Callable[[], None]) -> None:
        self._changes = changes
        self._plan = plan
        self._turns = CapacityLimiter(AT_ONCE)
        self._asking: list[_Asking] = []  # the first come first
        self._latest = NextCall(CallKind.READ)
        self._failure: tuple[float, str] = (-math.inf, "")
        self._is_closed = False
        self.waiting: int = 0
        """How many they are."""

    @property
    def is_asking(self) -> bool:
        """Somebody waits for an offer."""
        return bool(self.calls)

    @property
    def calls(self) -> list[NextCall]:
        """What the first callers wait for an offer for."""
        return [asking.call for asking in self._unanswered]

    @property
    def _unanswered(self) -> list[_Asking]:
        return [asking for asking in self._asking if not asking.answer.done()]

    @property
    def call(self) -> NextCall:
        """The first caller's, or that of the last that was one of the first."""
        return next(iter(self.calls), self._latest)

    async def wait(self, asked: float, call: NextCall) -> tuple[Grant, bool]:
        """Waits for the turn and then for a grant.

        Args:
            asked: The time now.
            call: What is to be granted.

        Returns:
            The grant, and whether it had to be waited for.

        Raises:
            LimiterUnavailableError: Redis failed since then, or the limiter is closed.
        """
        is_queued = self.waiting > 0
        self.waiting += 1
        self._changes.happened()
        try:
            await self._turns.acquire()
            try:
                self._latest = call
                grant, is_delayed = await self._ask(asked, call)
                return grant, is_queued or is_delayed
            finally:
                self._turns.release()
        finally:
            self.waiting -= 1
            self._changes.happened()
            self._plan()

    def offer(self, offer: Offer) -> None:
        """Hands a grant to the first caller that it is for: the one that asked may have left. Else it is given back."""
        for asking in self._unanswered:
            if offer.is_for(asking.call):
                offer.grant.size = asking.call.size
                asking.answer.set_result(offer)
                return
        offer.give_back()

    def delay(self) -> None:
        """The first callers, as far as they have no grant yet, have to wait."""
        for asking in self._unanswered:
            asking.is_delayed = True

    def fail_first(self, error: BaseException) -> None:
        """The first caller could not be served: it gets that error."""
        for asking in self._unanswered[:1]:
            asking.answer.set_exception(error)

    def fail(self, now: float, reason: str) -> None:
        """Redis cannot be reached: everybody who is in the queue now gets an error."""
        self._failure = (now, reason)
        self._look_again()

    def close(self) -> None:
        """Everybody gets an error, who comes later too."""
        self._is_closed = True
        self._look_again()

    async def _ask(self, asked: float, call: NextCall) -> tuple[Grant, bool]:
        is_delayed = False
        while True:
            failed, reason = self._failure
            if self._is_closed:
                raise LimiterUnavailableError("the limiter is closed; nothing was sent")
            if failed >= asked:
                raise LimiterUnavailableError(f"the limiter cannot reach Redis ({reason}); nothing was sent")
            answer: asyncio.Future[Offer | None] = asyncio.get_running_loop().create_future()
            asking = _Asking(call, answer, is_delayed)
            self._asking.append(asking)
            self._plan()
            try:
                offer = await answer
            except asyncio.CancelledError:
                if answer.done() and not answer.cancelled() and not answer.exception() and (offer := answer.result()):
                    offer.give_back()
                raise
            finally:
                self._asking.remove(asking)
            is_delayed = asking.is_delayed
            if offer is not None:
                return offer.grant, is_delayed

    def _look_again(self) -> None:
        """Each of those that ask, as something has happened to all of them."""
        for asking in self._unanswered:
            asking.answer.set_result(None)
