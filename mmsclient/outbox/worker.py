"""Sends what is there: claims, calls, and records how they ended."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence

from mmsclient._api.envelope import NOT_CARRIED_OUT
from mmsclient._store.outbox import OrderEnd, OutboxClaim, OutboxState, OutboxWorkerStore
from mmsclient._transport import retry
from mmsclient._transport.session import Recall
from mmsclient._words import counted
from mmsclient.bulk.capacity import Capacity
from mmsclient.bulk.control import Control, Stop
from mmsclient.bulk.sender import Sender
from mmsclient.bulk.waiting import all_done
from mmsclient.errors import LimiterUnavailableError, MMSError, NotSentError, OutcomeUnknownError, without_excerpt
from mmsclient.models import SentBatch
from mmsclient.observe.outbox import WorkerObserver
from mmsclient.outbox.counting import DueCount
from mmsclient.outbox.errors import OutboxStoppedError, OutboxUnavailableError
from mmsclient.outbox.options import Options
from mmsclient.outbox.outcome import ends_of_answer, ends_of_error
from mmsclient.outbox.recorder import Recorder, released
from mmsclient.outbox.threads import StoreThread

__all__ = ["Worker"]

log: logging.Logger = logging.getLogger(__name__)

_Outcome = SentBatch | Exception | asyncio.CancelledError

LOOK = 1.0
"""Seconds between the looks for what others have put, what has become due, and what dead workers have left."""
TICK = 0.01
"""Seconds between the looks at a full limiter that does not tell when it has room."""
SETTLE_EVERY = 60.0
"""Seconds between two looks for unknown orders that evidence settles, though it did not when it came."""
PURGE_EVERY = 3600.0
"""Seconds between two looks for orders that are old enough to be forgotten."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds that nothing is sent after a call that was surely not carried out: at first, and after several in a row."""


class Worker:
    """Sends from one store, in a task of its own, until it is stopped or going on makes no sense.

    Args:
        client: What it sends with.
        thread: The store, opened for this worker.
        options: Of the outbox.
        observer: Is told what it does.
        on_end: Called when orders have come into another state.
    """

    def __init__(
        self,
        client: Sender,
        thread: StoreThread[OutboxWorkerStore],
        options: Options,
        observer: WorkerObserver,
        on_end: Callable[[], object],
    ) -> None:
        self._client = client
        self._observer = observer
        self._thread = thread
        self._options = options
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._control = Control()
        self._control.may_leave = lambda: thread.store.may_send
        self._capacity = Capacity(client)
        self._recorder = Recorder(thread, self._control.changed)
        self._due = DueCount(thread, observer)
        self._numbers = itertools.count()
        self._calls: set[asyncio.Task[None]] = set()
        self._unsent: dict[str, OutboxClaim] = {}  # whose tasks have not begun
        self._look_at = 0.0  # before then, nothing is expected to be there
        self._tidy_at = 0.0
        self._settle_at = 0.0
        self._purge_at = 0.0
        self._unknown_in_a_row = 0
        self._not_sent_in_a_row = 0
        self._is_away = False
        self.error: BaseException | None = None
        """What ended it, None for `stop`."""
        self._main = self._loop.create_task(self._run())

    @property
    def is_over(self) -> bool:
        """It has ended, and everything is recorded."""
        return self._main.done()

    def wake(self) -> None:
        """Something was put."""
        self._look_at = 0.0
        self._control.changed.set()

    def stop(self) -> None:
        """Start nothing new, and take back what has not left."""
        self._control.stop()

    async def ended(self) -> None:
        """Wait for its end; a cancelled wait leaves it alone."""
        if not self.is_over:
            await asyncio.wait([self._main])

    async def _run(self) -> None:
        try:
            try:
                await self._send_all()
            except Exception as error:
                self._control.fail(error)
            if isinstance(stop := self._control.error, Stop):
                self.error = OutboxStoppedError(stop.error, stop.why)
                log.error("%s", OutboxStoppedError(without_excerpt(stop.error), stop.why))
            elif stop is not None:
                self.error = stop
                log.error("%s", without_excerpt(stop))
        finally:
            self._due.end(self.error)
            await self._thread.close()
            self._loop.call_soon(self._on_end)  # when this task is done

    async def _send_all(self) -> None:
        unsubscribe = self._capacity.on_change(self._control.changed.set)
        try:
            await self._unless_away(self._look_for_dead)  # what was found on opening is told, even if it is stopped
            while not self._control.is_stopping:
                self._control.changed.clear()  # what changes from here on is looked at again
                if self._loop.time() >= self._tidy_at:
                    await self._unless_away(self._tidy)
                may_be_more = self._loop.time() >= self._look_at and await self._unless_away(self._look)
                await self._due.look()
                if not may_be_more:
                    await self._wait_for_change()
        finally:
            unsubscribe()
            try:
                await all_done(*self._calls)
            finally:
                for claim in self._unsent.values():  # the event loop is ending, and their tasks with it
                    await self._recorder.release(claim)

    async def _unless_away(self, work: Callable[[], Awaitable[bool]]) -> bool:
        """What `work` returns; False where the store is away, which is told once."""
        try:
            result = await work()
        except OutboxUnavailableError as problem:
            if not self._is_away:
                log.warning("%s; nothing is sent until it is back", problem)
            self._is_away = True
            self._look_at = self._tidy_at = self._loop.time() + LOOK
            return False
        if self._is_away:
            log.warning("the outbox is back")
            self._is_away = False
        return result

    async def _look(self) -> bool:
        """Start what may start; whether there may be more."""
        if not self._may_start():
            return False
        self._look_at = self._loop.time() + LOOK  # unless something is put meanwhile
        claim = await self._recorder.claim()
        if claim is None:
            return False
        self._look_at = 0.0
        self._start(claim)
        return True

    async def _tidy(self) -> bool:
        """What is to be done beside sending; False."""
        self._tidy_at = self._loop.time() + LOOK
        await self._look_for_dead()
        if self._loop.time() >= self._settle_at:
            self._settle_at = self._loop.time() + SETTLE_EVERY
            if await self._thread.run(lambda store: store.settle()):
                self._on_end()
        if self._loop.time() >= self._purge_at:
            self._purge_at = self._loop.time() + PURGE_EVERY
            await self._thread.run(lambda store: store.purge())
        return False

    async def _look_for_dead(self) -> bool:
        """Tell what dead workers were sending; False."""
        if lost := await self._thread.run(lambda store: store.lose_dead()):
            log.warning("a worker of the outbox is gone; of what it was sending, %s unknown", _are(lost))
            self._observer.lost(lost)
            self._on_end()
        return False

    def _may_start(self) -> bool:
        now = self._loop.time()
        return not self._recorder.is_behind and now >= self._control.held_until and self._capacity.allows_batch(now)

    async def _wait_for_change(self) -> None:
        """Until something has happened that may allow a call, or the time has come for a look."""
        now = self._loop.time()
        until = max(self._look_at, self._control.held_until)
        if until <= now:
            until = now + (LOOK if self._capacity.has_signals else TICK)
        await self._control.wait(min(until, self._tidy_at))

    def _start(self, claim: OutboxClaim) -> None:
        number = next(self._numbers)
        self._capacity.begin_batch(number)
        self._unsent[claim.id] = claim
        task = self._loop.create_task(self._send(claim, number))
        self._calls.add(task)
        task.add_done_callback(lambda task: self._end(task, number))

    def _end(self, task: asyncio.Task[None], number: int) -> None:
        self._calls.discard(task)
        self._capacity.end_batch(number, self._loop.time())
        self._control.changed.set()

    # One call ---------------------------------------------------------------------------------------------------------

    async def _send(self, claim: OutboxClaim, number: int) -> None:
        """One call to its end, recorded. Never fails."""
        del self._unsent[claim.id]
        self._observer.claimed(claim.id, len(claim.orders), len(claim.phones))
        began = self._loop.time()
        outcome: SentBatch | BaseException | None = None
        recorded: list[OutboxState] = []
        recall = self._control.recall()
        try:
            outcome = await self._call(claim, number, recall)
            ends = self._ends(claim, outcome, recall)
            states = [end.state for end in ends]
            await self._recorder.record(claim, ends, lambda: recorded.extend(states))
            if OutboxState.WAITING in states:
                self.wake()
        except Exception as error:
            self._control.fail(error)
        finally:
            self._observer.ended(claim.id, recorded, self._loop.time() - began, _failure(outcome))
            self._on_end()
        if isinstance(outcome, asyncio.CancelledError):
            raise outcome

    async def _call(self, claim: OutboxClaim, number: int, recall: Recall) -> _Outcome:
        """How it ended: `CancelledError` where the event loop is ending, and nobody closed the client."""
        client = self._client.with_options(max_attempts=1, recall=recall)  # repeats are recorded: made by another claim
        outcome: SentBatch | BaseException | None = None
        self._capacity.begin_call(number, self._loop.time())
        try:
            outcome = await client.send(
                to=claim.numbers,
                text=claim.text,
                image=claim.picture,
                subject=claim.subject or None,
                timeout=self._options.timeout,
            )
            return outcome
        except (Exception, asyncio.CancelledError) as error:
            outcome = error
            return error
        finally:
            self._capacity.end_call(number, self._loop.time(), _failure(outcome))
            self._control.changed.set()

    def _ends(self, claim: OutboxClaim, outcome: _Outcome, recall: Recall) -> Sequence[OrderEnd]:
        """What a call means for its orders, and for those that follow it."""
        if isinstance(outcome, asyncio.CancelledError):
            return _ends_of_cut(claim, recall)
        if isinstance(outcome, SentBatch):
            self._unknown_in_a_row = self._not_sent_in_a_row = 0
            return ends_of_answer(claim, outcome)
        if self._control.is_stopping and isinstance(outcome, NotSentError | LimiterUnavailableError):
            return ends_of_error(claim, outcome, 0.0)
        ends = ends_of_error(claim, outcome, self._next_pause(outcome))
        state, together = ends[0].state, ends[0].together
        if state is OutboxState.UNKNOWN:
            self._not_sent_in_a_row = 0
            self._count_unknown(outcome)
        elif state is OutboxState.REFUSED or (together is not None and not ends[0].delay):
            self._unknown_in_a_row = self._not_sent_in_a_row = 0
        elif isinstance(outcome, NOT_CARRIED_OUT):
            self._not_sent_in_a_row += 1
            self._control.held_until = self._loop.time() + ends[0].delay
            log.warning("%s; nothing is sent for %.1f s", without_excerpt(outcome), ends[0].delay)
        elif isinstance(outcome, MMSError):
            self._control.fail(Stop(outcome, "because every other call would fail alike"))
            return ends_of_error(claim, outcome, 0.0)
        return ends

    def _next_pause(self, error: Exception) -> float:
        asked = getattr(error, "retry_after", None) or 0.0
        pause = retry.backoff(self._not_sent_in_a_row + 1, first=FIRST_PAUSE, longest=LONGEST_PAUSE, least=0.5)
        return float(max(asked, pause))

    def _count_unknown(self, error: Exception) -> None:
        self._unknown_in_a_row += 1
        if not isinstance(error, MMSError):
            self._control.fail(error)
        elif self._unknown_in_a_row >= self._options.stop_after:
            several = counted(self._unknown_in_a_row, "call")
            self._control.fail(Stop(error, f"after {several} in a row whose outcome is unknown"))


def _ends_of_cut(claim: OutboxClaim, recall: Recall) -> Sequence[OrderEnd]:
    """What it means that the event loop is ending during a call."""
    left = OutcomeUnknownError("the event loop was stopped before its answer came", call="send-mms")
    return released(claim) if recall.never_left else ends_of_error(claim, left, 0.0)


def _failure(outcome: SentBatch | BaseException | None) -> BaseException | None:
    return outcome if isinstance(outcome, BaseException) else None


def _are(count: int) -> str:
    return f"{counted(count, 'order')} {'is' if count == 1 else 'are'}"
