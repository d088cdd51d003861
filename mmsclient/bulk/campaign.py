"""Runs a plan against a journal: reads the list, keeps calls in flight, records what came of them."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar

import anyio.to_thread
from attrs import frozen

from mmsclient import media, retry, wire
from mmsclient.bulk import plan, verdict
from mmsclient.bulk.errors import CampaignStoppedError, JournalError
from mmsclient.bulk.journal import MEMORY, Journal, Message, Taken, errors_of
from mmsclient.bulk.models import Batch, Exclusion, Progress
from mmsclient.bulk.models import RecipientState as State
from mmsclient.bulk.report import Report, of_reader, read_report
from mmsclient.bulk.verdict import Next, Verdict
from mmsclient.checks import is_whole
from mmsclient.errors import ConfigurationError, InvalidRequestError, MMSError
from mmsclient.models import DeliveryReport, DeliveryStatus, SentBatch
from mmsclient.numbers import MAX_RECIPIENTS, phone_key

if TYPE_CHECKING:
    from mmsclient.client import AsyncMMSClient

T = TypeVar("T")

STOP_AFTER = 3
"""Calls in a row that fail, or whose outcome is unknown, before a campaign stops, unless the caller says otherwise."""

ATTEMPTS = 4
"""How often a call is tried that was surely not carried out."""

WAITING = 2
"""Calls that wait for their turn at the limiter: enough to fill the cap, and the fewer of them, the fewer recipients
are `unknown` after a crash though nothing had left."""
MOST_IN_FLIGHT = 64
UNLIMITED_IN_FLIGHT = 8
"""Calls under way where the limiter does not say how many it has granted."""
TICK = 0.01
"""Seconds between the looks at the limiter while it is full."""
BACKLOG = 8
"""Results that wait for the consumer before no more calls start; each holds a thousand messages."""
MOST_SPLITS = 32
"""How often one batch is cut in halves: enough to find three wrong numbers among a thousand."""
LATELY = 150
"""Calls over whose ends the rate is measured."""


class CampaignOptions(TypedDict, total=False):
    """The options of a campaign beside its message and its journal: see `Campaign`."""

    batch_size: int
    exclude: plan.Recipients
    exclude_opt_outs: bool
    resend_unknown: bool
    stop_after: int
    max_attempts: int
    timeout: float | None
    on_progress: Callable[[Progress], object] | None


@frozen(kw_only=True)
class Options:
    """What a campaign was asked for."""

    text: str
    image: media.ImageSource
    subject: str | None
    journal: str | None
    batch_size: int
    exclude: plan.Recipients
    exclude_opt_outs: bool
    resend_unknown: bool
    stop_after: int
    max_attempts: int
    timeout: float | None
    on_progress: Callable[[Progress], object] | None


class Campaign:
    """One message to any number of recipients. Made by `AsyncMMSClient.campaign`.

    ```python
    campaign = mms.campaign(text="Sale on now", image="sale.gif", journal="spring.db")
    async for batch in campaign.send(read_csv("customers.csv", "mobile")):
        print(batch.accepted, batch.refused, batch.error)
    print(await campaign.report())
    ```

    - `text`, `image`, `subject`: as for `AsyncMMSClient.send`. The image is read once.
    - `journal`: a file that remembers each recipient; it is made if it is not there, and resumed if it is. On a local
      disk. Left out: in memory, for as long as this object lives.
    - `batch_size`: recipients a call, up to 1000.
    - `exclude`: numbers that get nothing, in any form that `send` takes. One that cannot be read is an error.
    - `exclude_opt_outs`: ask the API first who has unsubscribed, and leave them out.
    - `resend_unknown`: send also to those of whom an earlier run does not know whether they got it. Some get it twice.
    - `stop_after`: calls in a row that fail, or whose outcome is unknown, after which the campaign stops.
    - `max_attempts`: how often a call is tried that was throttled or never left.
    - `timeout`: seconds of a call from its first byte to the end of its answer.
    - `on_progress`: called with a `Progress` after each call; quick, since it runs in the event loop.

    **Never twice.** A call's recipients are recorded as `sending`, on the disk, before it can leave. What a journal
    holds as accepted, refused, unknown or excluded is not sent again, whatever list comes.
    """

    def __init__(
        self,
        mms: AsyncMMSClient,
        *,
        text: str,
        image: media.ImageSource,
        subject: str | None = None,
        journal: str | os.PathLike[str] | None = None,
        batch_size: int = MAX_RECIPIENTS,
        exclude: plan.Recipients = (),
        exclude_opt_outs: bool = False,
        resend_unknown: bool = False,
        stop_after: int = STOP_AFTER,
        max_attempts: int = ATTEMPTS,
        timeout: float | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> None:
        _check_whole("batch_size", batch_size, MAX_RECIPIENTS)
        _check_whole("stop_after", stop_after, None)
        _check_whole("max_attempts", max_attempts, None)
        if journal is not None and not os.fspath(journal):
            raise InvalidRequestError("journal", journal, "the path of a file")
        self._mms = mms
        self._options = Options(
            text=text,
            image=image,
            subject=wire.checked_subject(subject),
            journal=None if journal is None else os.fspath(journal),
            batch_size=batch_size,
            exclude=exclude,
            exclude_opt_outs=exclude_opt_outs,
            resend_unknown=resend_unknown,
            stop_after=stop_after,
            max_attempts=max_attempts,
            timeout=timeout,
            on_progress=on_progress,
        )
        self._message: Message | None = None
        self._excluded: list[int] | None = None
        self._memory: _Worker | None = None
        self._run: _Run | None = None

    def send(self, recipients: plan.Recipients | None = None) -> Sending:
        """Send to `recipients`, and to those that an earlier run left pending or failed; iterate over the result.

        - `recipients`: numbers as `AsyncMMSClient.send` takes them: a list, a generator, an async generator, or
          `read_csv(...)`; read ahead, a thousand at a time. A wrong number or a second one is set aside. The list of
          the earlier run may come again: who stands in the journal gets nothing twice. None: only those who stand in
          the journal already.

        Raises, when iterated: `CampaignStoppedError` (out of credit, key or permission refused, too many failures in a
        row); `JournalError`; `InvalidRequestError` for a wrong text, image or exclusion; and whatever `recipients` and
        `on_progress` raise. Calls on the wire are waited for and recorded before that.
        """
        return Sending(self, recipients)

    async def send_all(self, recipients: plan.Recipients | None = None) -> Report:
        """`send` to the end, and the report. Raises as that does."""
        async for _ in self.send(recipients):
            pass
        return await self.report()

    async def dry_run(self, recipients: plan.Recipients | None = None) -> Report:
        """The report of what `send` would begin with: `pending` and `failed` are those that it would send to.

        Sends nothing and writes no journal. A generator is used up by it. `recipients()` of it gives the excluded ones.
        """
        journal = await self._open(rehearsal=True)
        try:
            await self._exclude(journal)
            await self._read(journal, recipients, lambda: None)
            return await journal.run(of_reader, journal.journal, None, State.EXCLUDED)
        finally:
            await journal.close()

    async def report(self) -> Report:
        """Every recipient so far. Waits for a `send` that was left early to end.

        Raises `JournalError` where there is no journal yet.
        """
        run = self._run
        if run is not None and run.stopping:
            await run.ended()
        if run is not None and run.journal is not None:
            return await run.report()
        if self._options.journal is not None:
            return await read_report(self._options.journal)
        if self._memory is None:
            self._memory = await self._open()
        return await self._memory.run(of_reader, self._memory.journal, None)

    async def record(self, report: DeliveryReport) -> None:
        """Note a delivery report in the journal, for `report()`; or let `CallbackReceiver.record_into` do it.

        Any number of times, in any order, while the campaign sends or after it, in this process or another. Reports of
        other messages are kept and count for nothing. Raises `JournalError` where there is no journal yet.
        """
        note = report.message_id, int(phone_key(report.recipient)[:18] or 0), report.status
        if self._options.journal is not None:
            await anyio.to_thread.run_sync(_record, self._options.journal, note)
        elif self._memory is not None:
            await self._memory.run(self._memory.journal.record, *note)
        else:
            raise JournalError("in memory", "nothing was sent yet")

    async def aclose(self) -> None:
        """End a `send` that was left early, as its own `aclose` does, and forget a journal in memory."""
        if self._run is not None:
            self._run.stop()
            await self._run.ended()
        if self._memory is not None:
            await self._memory.close()
            self._memory = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _open(self, *, rehearsal: bool = False) -> _Worker:
        """The journal, in a thread of its own."""
        options = self._options
        if self._message is None:
            image = await media.load(options.image)
            self._message = Message(wire.checked_text(options.text, image), options.subject or "", image.data)
        if self._memory is not None and not rehearsal:
            await self._memory.run(self._memory.journal.begin_run, resend_unknown=options.resend_unknown)
            return self._memory
        make = Journal.rehearsal if rehearsal else Journal.for_campaign
        worker = _Worker()
        with errors_of(options.journal or MEMORY):
            await worker.open(make, options.journal, self._message, resend_unknown=options.resend_unknown)
        return worker

    async def _exclude(self, journal: _Worker) -> None:
        if self._excluded is None:  # kept: a generator gives its numbers once
            source = self._options.exclude
            self._excluded = [_excluded(row) async for rows in plan.chunks(source) for row in rows]
        if self._excluded:
            await journal.run(journal.journal.exclude, self._excluded, Exclusion.LISTED)
        if self._options.exclude_opt_outs:
            phones = [_digits(opt_out.number) async for opt_out in self._mms.opt_outs()]
            await journal.run(journal.journal.exclude, [phone for phone in phones if phone], Exclusion.OPTED_OUT)

    async def _read(self, journal: _Worker, recipients: plan.Recipients | None, told: Callable[[], None]) -> None:
        """Take the whole list into the journal; `told` runs after each chunk."""
        if recipients is None:
            if not journal.journal.list_read:
                raise JournalError(
                    journal.journal.path, "its list was not read to its end: give the list again; nobody gets it twice"
                )
            return
        begun = False
        async for rows in plan.chunks(recipients):
            if not begun:  # not before it could be read at all
                await journal.run(journal.journal.begin_list)
                begun = True
            await journal.run(lambda rows=rows: journal.journal.add(plan.check_all(rows)))
            told()
        await journal.run(journal.journal.end_list)


def _record(path: str | os.PathLike[str], note: tuple[str, int, DeliveryStatus]) -> None:
    journal = Journal.for_reports(path)
    try:
        with errors_of(journal.path):
            journal.record(*note)
    finally:
        journal.close()


def _check_whole(option: str, value: int, most: int | None) -> None:
    if not is_whole(value, 1) or (most is not None and value > most):
        expected = "a whole number, 1 or more" if most is None else f"a whole number from 1 to {most}"
        raise InvalidRequestError(option, value, expected)


def _excluded(row: plan.Row) -> int:
    """A number to be left out. One that cannot be read might be one that must not be sent to."""
    if row.problem is not None:
        raise InvalidRequestError(f"exclude, line {row.line}", row.number, f"a phone number ({row.problem})")
    return plan.phone(row.number, f"exclude, line {row.line}")


def _digits(number: str) -> int | None:
    """The phone of an opt-out; None for a text that no recipient's number can be."""
    digits = phone_key(number)
    return int(digits) if 0 < len(digits) <= 15 else None


class Sending(AsyncIterator[Batch]):
    """The results of a campaign's calls, as they complete. Sends while it is iterated; iterate it once.

    Left early (`break`, an exception, a cancellation), it drains: nothing new starts, the calls that were handed to
    the client end, within their timeout, and are recorded. A cancelled `async for` waits for that; after a `break`
    `Campaign.report()`, `Campaign.aclose()` or `aclose()` here do.
    """

    def __init__(self, campaign: Campaign, recipients: plan.Recipients | None) -> None:
        self._campaign = campaign
        self._recipients = recipients
        self._run: _Run | None = None
        self._stopped = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        if self._run is None:
            if self._stopped:
                raise StopAsyncIteration
            self._run = _start(self._campaign, self._recipients)
        try:
            return await self._run.next()
        except asyncio.CancelledError:
            self._run.stop()
            await self._run.ended()
            raise

    def stop(self) -> None:
        """Start nothing new. The iteration goes on with the calls under way, and then ends."""
        self._stopped = True
        if self._run is not None:
            self._run.stop()

    async def aclose(self) -> None:
        """Start nothing new, and wait until the calls under way are recorded."""
        self.stop()
        if self._run is not None:
            await self._run.ended()

    def __del__(self) -> None:
        if self._run is not None:
            self._run.abandon()


def _start(campaign: Campaign, recipients: plan.Recipients | None) -> _Run:
    if campaign._run is not None and not campaign._run.is_over:
        raise ConfigurationError("this campaign is being sent already; wait for that, or `await campaign.aclose()`")
    campaign._run = _Run(campaign, recipients)
    return campaign._run


class _Run:
    """One sending. Its task and those of its calls are its own: no consumer that leaves can tear them."""

    def __init__(self, campaign: Campaign, recipients: plan.Recipients | None) -> None:
        self._campaign = campaign
        self._options = campaign._options
        self._mms = campaign._mms.with_options(max_attempts=1)  # repeats are recorded, so they are made here
        self._recipients = recipients
        self.journal: _Worker | None = None
        self.stopping = False
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._news = asyncio.Event()
        self._results: deque[Batch] = deque()
        self._error: BaseException | None = None
        self._planned = False
        self._calls: set[asyncio.Task[None]] = set()
        self._unanswered = 0
        self._held_until = 0.0
        self._in_a_row = 0
        self._count = 0
        self._ends: deque[float] = deque(maxlen=LATELY)
        self._sizes: deque[int] = deque(maxlen=LATELY)
        self._main = self._loop.create_task(self._drive())

    # For the consumer -------------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return self._main.done()

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
        self._changed.set()
        return batch

    def stop(self) -> None:
        self.stopping = True
        self._stopped.set()
        self._changed.set()

    def abandon(self) -> None:
        """As `stop`, from wherever the garbage is collected."""
        if not self.is_over and not self.stopping:
            self.stopping = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.stop)

    async def ended(self) -> None:
        """Wait for the end of the run; a cancelled wait leaves the run alone."""
        if not self.is_over:
            await asyncio.wait([self._main])

    async def report(self) -> Report:
        assert self.journal is not None  # noqa: S101
        return await self.journal.run(of_reader, self.journal.journal, self._options.journal)

    # The run ----------------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        try:
            self.journal = await self._campaign._open()
            if self._options.journal is None:
                self._campaign._memory = self.journal
            await self._campaign._exclude(self.journal)
            await self._send_all(self.journal)
            if isinstance(self._error, _Stop):
                report = await self.report()
                self._error = CampaignStoppedError(self._error.error, report, self._error.why)
        except Exception as error:
            self._fail(error)
        finally:
            journal, self.journal = self.journal, None
            if journal is not None and self._options.journal is not None:
                await journal.close()
            self._loop.call_soon(self._news.set)  # when this task is done

    async def _send_all(self, journal: _Worker) -> None:
        planner = self._loop.create_task(self._plan(journal))
        try:
            while not self.stopping:
                if self._may_start(journal.journal):
                    await self._start_call(journal)
                elif self._planned and not self._calls and not journal.journal.ready:
                    break
                else:
                    await self._wait_for_change(journal.journal)
        finally:
            planner.cancel()
            await asyncio.wait([planner, *self._calls])
            while self._calls:
                await asyncio.wait(self._calls)

    async def _plan(self, journal: _Worker) -> None:
        try:
            await self._campaign._read(journal, self._recipients, self._changed.set)
            self._planned = True
            self._changed.set()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self.stop()

    def _may_start(self, journal: Journal) -> bool:
        return (
            (journal.ready >= self._options.batch_size or (self._planned and journal.ready > 0))
            and len(self._results) < BACKLOG
            and len(self._calls) < MOST_IN_FLIGHT
            and self._loop.time() >= self._held_until
            and self._is_room()
        )

    def _is_room(self) -> bool:
        """The cap and the latency need one more call: as many as the limiter has granted, and a few that wait."""
        granted = getattr(self._mms.stats.limiter, "in_flight", None)
        if not isinstance(granted, int):
            return self._unanswered < UNLIMITED_IN_FLIGHT
        return self._unanswered - granted < WAITING

    async def _wait_for_change(self, journal: Journal) -> None:
        """Until something has happened that may allow a call; the limiter tells of no change, so it is looked at."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK if journal.ready else None):
                await self._changed.wait()

    async def _start_call(self, journal: _Worker) -> None:
        taken = await journal.run(journal.journal.take, self._options.batch_size)
        if taken is None:
            return
        task = self._loop.create_task(self._deliver(journal, taken))
        self._unanswered += 1
        self._calls.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._changed.set()

    # A batch ----------------------------------------------------------------------------------------------------------

    async def _deliver(self, journal: _Worker, taken: Taken) -> None:
        """One batch to its end, however many calls that takes."""
        try:
            await self._deliver_parts(journal, taken)
        except Exception as error:  # the journal's, or of `on_progress`
            self._fail(error)

    async def _deliver_parts(self, journal: _Worker, taken: Taken) -> None:
        parts, splits, accepted, failure = [(taken.ids, taken.phones)], 0, 0, None
        begun: Taken | None = taken
        while parts and (begun is not None or not self.stopping):
            ids, phones = parts.pop()
            if begun is None:
                self._unanswered += 1
                begun = await journal.run(journal.journal.begin, ids, phones)
            outcome, error = await self._send(journal, begun, may_split=splits < MOST_SPLITS)
            begun = None
            if outcome.next is Next.SPLIT:
                splits += 1
                middle = len(ids) // 2
                parts += [(ids[middle:], phones[middle:]), (ids[:middle], phones[:middle])]
            accepted += outcome.accepted
            failure = error if outcome.failed else failure
        self._count_in_a_row(None if accepted else failure, any_accepted=accepted > 0)

    def _count_in_a_row(self, failure: MMSError | None, *, any_accepted: bool) -> None:
        if any_accepted:
            self._in_a_row = 0
        if failure is None:
            return
        self._in_a_row += 1
        if self._in_a_row >= self._options.stop_after and not self.stopping:
            self._fail(_Stop(failure, f"after {self._in_a_row} batches in a row that failed"))

    async def _send(self, journal: _Worker, taken: Taken, *, may_split: bool) -> tuple[Verdict, MMSError | None]:
        """One call, tried again where it surely was not carried out. Each try is recorded as it ends."""
        attempt = 1
        while True:
            sent, error = await self._call(taken)
            if error is None:
                assert sent is not None  # noqa: S101
                outcome = verdict.of_answer(taken.phones, sent)
            else:
                outcome = verdict.of_error(taken.phones, error, may_split=may_split)
            await self._record(journal, taken, outcome, sent, error)
            if outcome.next is Next.STOP and error is not None:
                self._fail(_Stop(error, "because every other call would fail alike"))
            attempt += 1
            pause = None if error is None else retry.wait_before(attempt, error)
            again = outcome.next is Next.TRY_AGAIN and attempt <= self._options.max_attempts and pause is not None
            if not again or not await self._pause(pause or 0.0):
                self._tell(journal.journal, taken, outcome, sent, error)
                return outcome, error
            self._unanswered += 1
            taken = await journal.run(journal.journal.begin, taken.ids, taken.phones)

    async def _call(self, taken: Taken) -> tuple[SentBatch | None, MMSError | None]:
        message = self._campaign._message
        assert message is not None  # noqa: S101
        try:
            sent = await self._mms.send(
                to=taken.numbers,
                text=message.text,
                image=message.image,
                subject=message.subject or None,
                timeout=self._options.timeout,
            )
            return sent, None
        except MMSError as error:
            return None, error
        finally:
            self._unanswered -= 1
            self._count += 1
            self._ends.append(self._loop.time())
            self._sizes.append(len(taken.ids))
            self._changed.set()

    async def _record(
        self, journal: _Worker, taken: Taken, outcome: Verdict, sent: SentBatch | None, error: MMSError | None
    ) -> None:
        await journal.run(
            lambda: journal.journal.finish(
                taken,
                outcome.marks,
                accepted=outcome.accepted,
                credits_used=sent.credits_used if sent is not None else None,
                error=None if error is None else f"{type(error).__name__}: {error}",
            )
        )

    async def _pause(self, seconds: float) -> bool:
        """Hold the whole campaign for so long. False if it is stopping."""
        self._held_until = max(self._held_until, self._loop.time() + seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return not self.stopping

    # Results ----------------------------------------------------------------------------------------------------------

    def _tell(
        self, journal: Journal, taken: Taken, outcome: Verdict, sent: SentBatch | None, error: MMSError | None
    ) -> None:
        if outcome.next is Next.SPLIT:  # its halves will be told of
            return
        progress = self._progress(journal)
        batch = Batch(
            number=taken.batch,
            recipients=taken.numbers,
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

    def _progress(self, journal: Journal) -> Progress:
        took = self._ends[-1] - self._ends[0] if len(self._ends) > 1 else 0.0
        calls = (len(self._ends) - 1) / took if took else 0.0
        recipients = calls * sum(self._sizes) / max(1, len(self._sizes))
        left = journal.ready + journal.counts[State.SENDING]
        return Progress(
            counts={state: journal.counts[state] for state in State},
            list_read=self._planned,
            calls=self._count,
            calls_per_second=calls,
            credits_used=journal.credits_used,
            seconds_left=left / recipients if recipients and self._planned else None,
        )


@frozen
class _Stop(Exception):  # noqa: N818 - a note to ourselves
    """The campaign is to stop."""

    error: MMSError
    why: str


class _Worker:
    """A journal and the one thread that uses it, so that the event loop waits for no disk."""

    journal: Journal

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "mmsclient-journal")

    async def open(self, make: Callable[..., Journal], *arguments: Any, **options: Any) -> None:
        try:
            self.journal = await self._submit(lambda: make(*arguments, **options))
        except BaseException:
            self._executor.shutdown(wait=False)
            raise
        self._finalizer = weakref.finalize(self, _close, self.journal, self._executor)

    async def run(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Run `function` in the thread. Once begun it ends, also where the caller is cancelled."""

        def guarded() -> T:
            with errors_of(self.journal.path):
                return function(*arguments, **options)

        return await self._submit(guarded)

    async def close(self) -> None:
        self._finalizer.detach()
        await self._submit(self.journal.close)
        self._executor.shutdown(wait=False)

    async def _submit(self, function: Callable[[], T]) -> T:
        return await asyncio.shield(asyncio.wrap_future(self._executor.submit(function)))


def _close(journal: Journal, executor: ThreadPoolExecutor) -> None:
    executor.submit(journal.close)
    executor.shutdown(wait=False)
