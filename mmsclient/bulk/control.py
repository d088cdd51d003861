"""Whether a run goes on, until when it is held, and what is to be looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakSet

from attrs import frozen

from mmsclient._transport.session import Recall
from mmsclient.bulk.waiting import all_done
from mmsclient.errors import MMSError

__all__ = ["HELD", "Control", "Stop"]

T = TypeVar("T")

HELD = "the campaign was held before it left"
LAPSED = "the lease of its sender had run out before it left"
STOPPED = "the sending was stopped before it left"


@frozen
class Stop(Exception):  # noqa: N818 - the runner's own, never raised to the consumer
    """The campaign is to stop, since going on makes no sense."""

    error: MMSError
    why: str

    def __str__(self) -> str:
        return f"the campaign had stopped {self.why}: {self.error}"


class Control:
    """Stops once: for its consumer, or with the first error.

    Args:
        on_stop: Called each time that it is asked to stop, with the error or None.
    """

    def __init__(self, on_stop: Callable[[BaseException | None], object] = lambda error: None) -> None:
        self._on_stop = on_stop
        self.changed: asyncio.Event = asyncio.Event()
        """Something has happened that may allow a call."""
        self.held_until: float = 0.0
        """The event loop's time before which nothing starts."""
        self.held_for: str = ""
        """Why nothing starts before that time."""
        self.error: BaseException | None = None
        """What ended the run, None for its consumer."""
        self.is_stopping: bool = False
        """Nothing new is to start."""
        self.may_leave: Callable[[], bool] = lambda: True
        """Asked right before the first byte of a call."""
        self.objection: Callable[[], str] = lambda: ""
        """Asked after that: another reason why nothing may leave at present, or ""."""
        self._stopped = asyncio.Event()
        self._holds: dict[str, str] = {}
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()
        self._recalls: WeakSet[Recall] = WeakSet()

    def recall(self) -> Recall:
        """What takes back a call that has not left, as soon as the run is to stop."""
        recall = Recall(lambda: self.objection() if self.may_leave() else LAPSED)
        if self.is_stopping or self._holds:
            recall.all(STOPPED if self.is_stopping else HELD)
        self._recalls.add(recall)
        return recall

    def stop(self) -> None:
        """Start nothing new, and take back what has not left."""
        self.is_stopping = True
        self._on_stop(self.error.error if isinstance(self.error, Stop) else self.error)
        for recall in self._recalls:
            recall.all(STOPPED)
        self._stopped.set()
        self._may_go_on.set()
        self.changed.set()

    def fail(self, error: BaseException) -> None:
        """Start nothing new, and end with `error` if it is the first."""
        if self.error is None:
            self.error = error
        self.stop()

    @property
    def hold_reason(self) -> str:
        """Why nothing starts until somebody lets go, "" where nobody holds the run."""
        return "; ".join(self._holds.values())

    def hold(self, by: str, why: str) -> None:
        """Start nothing new until `let_go` by the same, and take back what has not left."""
        self._holds[by] = why
        self._may_go_on.clear()
        for recall in self._recalls:
            recall.all(HELD)

    def let_go(self, by: str) -> None:
        """`by` holds the run no longer."""
        self._holds.pop(by, None)
        if not self._holds:
            self._may_go_on.set()
            self.changed.set()

    async def wait_while_held(self) -> bool:
        """Wait until nobody holds the run. False if it is stopping."""
        while self._holds and not self.is_stopping:
            await self._may_go_on.wait()
        return not self.is_stopping

    async def pause(self, seconds: float, why: str = "") -> bool:
        """Start nothing new for so long. False if it is stopping."""
        self.held_for = why
        self.held_until = max(self.held_until, asyncio.get_running_loop().time() + seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return not self.is_stopping

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`; None where the run is to stop before it has one, and then `work` is cancelled."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            stopping.cancel()
            working.cancel()
            await all_done(stopping, working)

    async def wait_for_change(self, until: float | None) -> None:
        """Wait for the next change, or for that time of the event loop."""
        self.changed.clear()
        await self.wait(until)

    async def wait(self, until: float | None) -> None:
        """Wait for a change since `changed` was cleared, or for that time of the event loop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self.changed.wait()
