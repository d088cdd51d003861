"""Runs a campaign once: reads the list, keeps calls in flight, and hands out their results."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

import anyio
from attrs import evolve

from mmsclient._store.models import Claim
from mmsclient.bulk.batches import BatchSender, RunParts
from mmsclient.bulk.budget import Budget
from mmsclient.bulk.capacity import Capacity, rate_of
from mmsclient.bulk.claim_source import ClaimSource
from mmsclient.bulk.control import Control, Stop
from mmsclient.bulk.errors import CampaignStoppedError, JournalError
from mmsclient.bulk.hours import Hours
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.launch import Launch
from mmsclient.bulk.list_reading import ListReading
from mmsclient.bulk.meter import Meter
from mmsclient.bulk.models import Batch, Progress
from mmsclient.bulk.outcome import Next, Outcome
from mmsclient.bulk.preparation import Preparation
from mmsclient.bulk.recipients import Recipients
from mmsclient.bulk.recorder import Recorder
from mmsclient.bulk.report import Report, report_from
from mmsclient.bulk.schedule import Schedule
from mmsclient.bulk.screening import Screening
from mmsclient.bulk.steering import Steering
from mmsclient.bulk.waiting import all_done
from mmsclient.bulk.weights import Weights
from mmsclient.errors import MMSError
from mmsclient.models import SentBatch

__all__ = ["Runner"]

TICK = 0.01
"""Seconds between the looks at a full limiter that does not tell when it has room."""
BACKLOG = 8
"""Results that wait for the consumer before no more calls start; each holds a thousand messages."""


class Runner:
    """One sending. Its task and those of its calls are its own: no consumer that leaves can tear them.

    `campaign` is only kept: as long as it is sent, the client finds it, and waits for it when it is closed.
    """

    def __init__(self, campaign: object, preparation: Preparation, recipients: Recipients | None) -> None:
        self._campaign = campaign
        self._preparation = preparation
        self._options = options = preparation.options
        self._loop = asyncio.get_running_loop()
        self._observer = preparation.begin_run()
        self._control = Control(self._observer.stopped)
        self._schedule = Schedule(self._options)
        self._hours = Hours(self._schedule, self._control, preparation, self._observer)
        steered = self._options.store, self._control, self._schedule, self._observer
        self.steering: Steering = Steering(*steered, preparation.arrivals)
        self._capacity = Capacity(preparation.client, slow_start=options.slow_start, most=options.max_concurrency)
        self._budget = Budget(options.max_credits, options.credits_per_message, Weights(options))
        self._control.objection = lambda: self._schedule.objection() or self._budget.objection()
        self._meter = Meter()
        self._thread: JournalThread | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._unsent: dict[int, Claim] = {}  # whose tasks have not begun
        self._list = ListReading(preparation, self._control, recipients)
        self._results: deque[Batch] = deque()
        self._news = asyncio.Event()
        self._error: BaseException | None = None
        self._main = self._loop.create_task(self._run())

    # For the consumer -------------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """It has ended, and everything is recorded."""
        return self._main.done()

    @property
    def is_stopping(self) -> bool:
        """Nothing new starts."""
        return self._control.is_stopping

    @property
    def has_begun(self) -> bool:
        """Who is excluded is in the journal, and its list is being read into it, or was."""
        return self._list.has_begun

    async def next(self) -> Batch:
        """The next result. Raises the error of the run, or `StopAsyncIteration`, after the last."""
        while not self._results:
            if self.is_over:
                if self._error is None:
                    await self._main  # it was torn if the event loop is being stopped
                    raise StopAsyncIteration
                error, self._error = self._error, None
                raise error
            self._news.clear()
            await self._news.wait()
        batch = self._results.popleft()
        self._control.changed.set()
        return batch

    def stop(self) -> None:
        """Start nothing new."""
        self._control.stop()

    def abandon(self) -> None:
        """As `stop`, from wherever the garbage is collected."""
        if not self.is_over and not self.is_stopping:
            self._control.is_stopping = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.stop)

    async def ended(self) -> None:
        """Wait for the end of the run; a cancelled wait leaves the run alone."""
        if not self.is_over:
            await asyncio.wait([self._main])

    async def drained(self) -> None:
        """As `ended`; a cancel scope, which cancels again and again, does not cut it short."""
        with anyio.CancelScope(shield=True):
            await self.ended()

    async def report(self) -> Report | None:
        """What has become of everybody so far; None before the journal is open, and when the run is over."""
        thread = self._thread
        if thread is None:
            return None
        return await thread.run(lambda: report_from(thread.journal.reader, self._options.store))

    def progress(self) -> Progress | None:
        """How far it is; None before the journal is open, and when the run is over."""
        if self._thread is None:
            return None
        rate, waits_until = rate_of(self._preparation.client), self._schedule.opens_at
        found = self._meter.progress(self._thread.journal, is_list_read=self._list.is_over, rate=rate)
        window, left = self._capacity.window, self._budget.left
        return evolve(found, waits_until=waits_until, concurrency=window, credits_left=left)

    # The run ----------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        recorder: Recorder | None = None
        self._observer.started()
        try:
            try:
                await self.steering.begin()
                self._thread = thread = await self._preparation.open_when_free(self._control.pause)
                if thread is None:  # stopped, while another sender had it
                    return
                self._control.may_leave = lambda: thread.journal.may_send
                recorder = Recorder(thread, self._control.changed)
                async with self.steering.heeded(thread):
                    if not self.is_stopping:
                        await self._prepare_and_send(thread, recorder)
            except Exception as error:
                self._control.fail(error)
            if self._control.error is not None:
                self._error = await self._in_words(self._control.error, recorder)
        finally:
            thread_, self._thread = self._thread, None
            self._observer.ended({} if thread_ is None else thread_.journal.counts, self._meter.calls, self._error)
            await self._preparation.end_run(thread_, self._observer)
            self._loop.call_soon(self._news.set)  # when this task is done

    async def _in_words(self, error: BaseException, recorder: Recorder | None) -> BaseException:
        """`error`, which ended the run, as the consumer is told."""
        if recorder is not None and recorder.unrecorded is not None:
            return recorder.unrecorded.error(error)
        if not isinstance(error, Stop):
            return error
        try:
            report = await self.report()
        except JournalError as problem:  # there is nothing to report from
            return JournalError(problem.path, f"{problem.problem}; {error}")
        assert report is not None  # noqa: S101
        return CampaignStoppedError(error.error, report, error.why)

    async def _prepare_and_send(self, thread: JournalThread, recorder: Recorder) -> None:
        self._schedule.reopen()  # a pause before this needs nothing else
        await self._control.unless_stopped(self._preparation.exclude(thread))
        await self._schedule.continue_from(thread)
        await self._send_all(thread, recorder)
        if self._meter.calls:
            await self._preparation.note_balance(thread, is_after=True)

    async def _send_all(self, thread: JournalThread, recorder: Recorder) -> None:
        screening = Screening(self._options.suppression, self._preparation.arrivals, recorder, self._control)
        source = self._preparation.claim_source(thread, recorder, self._control, lambda: self._list.is_over)
        what = self._options, self._control, self._schedule, self._capacity, self._budget, self._meter
        parts = RunParts(*what, recorder, screening, source, self._observer)
        sender = BatchSender(self._preparation.client, await self._preparation.message(), parts, self._tell)
        launch = Launch(self._preparation, thread, parts, lambda: self._list.is_over)
        reader = self._loop.create_task(self._list.read(thread, launch.warn_of_credit))
        unsubscribe = self._capacity.on_change(self._control.changed.set)
        try:
            while not self.is_stopping:
                if self._schedule.may_reopen() and not self._calls and not self._control.hold_reason:
                    await self._hours.reopen(thread, self.progress)
                elif self._may_start(source, recorder):
                    if not launch.is_over:
                        await launch.run(sender)
                    else:
                        await self._start_batch(sender, source)
                elif self._list.is_over and not self._calls and not thread.journal.ready:
                    if not await self._hours.come_back(thread):
                        break
                else:
                    await self._wait_for_change(thread)
        finally:
            unsubscribe()
            reader.cancel()
            try:
                await all_done(reader, *self._calls, *source.cancel())
            finally:
                for claim in self._unsent.values():  # the event loop is ending, and their tasks with it
                    with suppress(JournalError):  # which is told
                        await recorder.release(claim)

    def _may_start(self, source: ClaimSource, recorder: Recorder) -> bool:
        now = self._loop.time()
        ready = source.ready
        goes_ahead = self._preparation.renderer is None and ready >= self._schedule.batch_size
        return (
            (goes_ahead or (self._list.is_over and ready > 0))
            and len(self._results) < BACKLOG
            and not recorder.is_behind
            and not self._control.hold_reason
            and now >= self._control.held_until
            and self._capacity.allows_batch(now)
            and self._schedule.allows(now)
        )

    async def _wait_for_change(self, thread: JournalThread) -> None:
        """Until something has happened that may allow a batch, or the time has come for one."""
        now = self._loop.time()
        self._hours.tell(self.progress)
        times = (self._control.held_until, self._schedule.look_again_at(now) or 0.0)
        until = max(times) if max(times) > now else None
        if until is None and thread.journal.ready and not self._capacity.has_signals:
            until = now + TICK
        await self._control.wait_for_change(until)

    async def _start_batch(self, sender: BatchSender, source: ClaimSource) -> None:
        wanted = min(self._schedule.batch_size, source.ready)
        if not (size := self._budget.size(wanted, others_under_way=bool(self._calls))):
            if not self._calls:
                self._control.fail(self._budget.stop())
            else:
                await self._control.wait_for_change(None)
            return
        if (claim := await self._schedule.begin(lambda: source.claim(size))) is None:
            return
        self._budget.reserve(claim)
        self._capacity.begin_batch(claim.batch)
        self._unsent[claim.batch] = claim
        task = self._loop.create_task(self._send(sender, claim))
        self._calls.add(task)
        task.add_done_callback(self._end_batch)

    async def _send(self, sender: BatchSender, claim: Claim) -> None:
        del self._unsent[claim.batch]
        await sender.send(claim)

    def _end_batch(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._control.changed.set()

    def _tell(self, claim: Claim, outcome: Outcome, sent: SentBatch | None, error: MMSError | None) -> None:
        progress = self.progress()
        if outcome.next is Next.SPLIT or progress is None:  # its halves will be told of
            return
        batch = Batch(
            number=claim.batch,
            recipients=claim.numbers,
            accepted=outcome.accepted,
            refused=outcome.refused,
            error=error,
            sent=sent,
            progress=progress,
        )
        self._results.append(batch)
        self._news.set()
        if self._options.on_progress is not None:
            self._options.on_progress(progress)
