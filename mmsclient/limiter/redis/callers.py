"""The queue of one process: first come, first served, and only the first asks Redis."""

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


class Callers:
    """The callers that wait for a grant.

    Args:
        changes: Told when `waiting` changes.
        plan: Called when there is a new first caller, and when one has left.
    """

    def __init__(self, changes: Changes, plan: Callable[[], None]) -> None:
        self._changes = changes
        self._plan = plan
        self._turn = CapacityLimiter(1)
        self._first: asyncio.Future[Offer | None] | None = None
        self.call: NextCall = NextCall(CallKind.READ)
        """The first caller's, or that of the last that was one."""
        self._failure: tuple[float, str] = (-math.inf, "")
        self._is_closed = False
        self.waiting: int = 0
        """How many they are."""
        self.delays: int = 0
        """What kept the first of them waiting so far: a refusal to grant at once, a failure."""

    @property
    def is_asking(self) -> bool:
        """Somebody waits for an offer."""
        return self._first is not None and not self._first.done()

    async def wait(self, asked: float, call: NextCall) -> Grant:
        """Waits for the turn and then for a grant.

        Args:
            asked: The time now.
            call: What is to be granted.

        Raises:
            LimiterUnavailableError: Redis failed since then, or the limiter is closed.
        """
        self.waiting += 1
        self._changes.happened()
        try:
            await self._turn.acquire()
            try:
                self.call = call
                return await self._wait_as_first(asked)
            finally:
                self._turn.release()
        finally:
            self.waiting -= 1
            self._changes.happened()
            self._plan()

    def offer(self, offer: Offer) -> None:
        """Hands the first caller a grant, which is given back if there is none, or it is not for that caller's call."""
        if offer.is_for(self.call) and self._wake(offer):
            offer.grant.size = self.call.size  # the caller that it was asked for may have left
        else:
            offer.give_back()

    def delay(self) -> None:
        """The first caller has to wait."""
        self.delays += 1

    def fail_first(self, error: BaseException) -> None:
        """The first caller could not be served: it gets that error."""
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)

    def fail(self, now: float, reason: str) -> None:
        """Redis cannot be reached: everybody who is in the queue now gets an error."""
        self._failure = (now, reason)
        self._wake(None)

    def close(self) -> None:
        """Everybody gets an error, who comes later too."""
        self._is_closed = True
        self._wake(None)

    async def _wait_as_first(self, asked: float) -> Grant:
        while True:
            failed, reason = self._failure
            if self._is_closed:
                raise LimiterUnavailableError("the limiter is closed; nothing was sent")
            if failed >= asked:
                raise LimiterUnavailableError(f"the limiter cannot reach Redis ({reason}); nothing was sent")
            first: asyncio.Future[Offer | None] = asyncio.get_running_loop().create_future()
            self._first = first
            self._plan()
            try:
                offer = await first
            except asyncio.CancelledError:
                if first.done() and not first.cancelled() and not first.exception() and (offer := first.result()):
                    offer.give_back()
                raise
            finally:
                self._first = None
            if offer is not None:
                return offer.grant

    def _wake(self, offer: Offer | None) -> bool:
        """Hands the first caller an offer, or has it look again. False if there is nobody."""
        if self._first is None or self._first.done():
            return False
        self._first.set_result(offer)
        return True
