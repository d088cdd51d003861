"""One batch of a campaign to its end: called, recorded, tried again, cut in halves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from attrs import frozen

from mmsclient._store.models import Claim, Message
from mmsclient._transport import retry
from mmsclient._transport.session import Recall
from mmsclient._words import counted
from mmsclient.bulk.budget import Budget
from mmsclient.bulk.capacity import Capacity
from mmsclient.bulk.claim_source import ClaimSource
from mmsclient.bulk.control import HELD, Control, Stop
from mmsclient.bulk.errors import JournalError
from mmsclient.bulk.kinds import CALLS
from mmsclient.bulk.kinds import sent as sent_as
from mmsclient.bulk.meter import Meter
from mmsclient.bulk.options import STOP_AFTER, Options
from mmsclient.bulk.outcome import Next, Outcome, outcome_of_answer, outcome_of_error
from mmsclient.bulk.personal import outgoing, own_parts
from mmsclient.bulk.recorder import Recorder
from mmsclient.bulk.schedule import Schedule
from mmsclient.bulk.screening import Screening
from mmsclient.bulk.sender import Sender
from mmsclient.errors import (
    FieldInvalidError,
    LimiterUnavailableError,
    MMSError,
    NotSentError,
    OutcomeUnknownError,
    RecipientsError,
)
from mmsclient.models import SentBatch
from mmsclient.observe.campaigns import RunObserver

__all__ = ["BatchSender", "RunParts"]

MOST_SPLITS = 32
"""How often one batch is cut in halves: enough to find three wrong numbers among a thousand."""

MOST_REFUSED = 30
"""Recipients in a row, each of a message of its own, whose refusal is a matter of theirs: with one in a call, three
wrong numbers in a row say nothing about the campaign."""

Tell = Callable[[Claim, Outcome, SentBatch | None, MMSError | None], None]
"""Told how each call ended, but for those that are tried again."""


@frozen
class RunParts:
    """What the parts of one run share."""

    options: Options
    control: Control
    schedule: Schedule
    capacity: Capacity
    budget: Budget
    meter: Meter
    recorder: Recorder
    screening: Screening
    source: ClaimSource
    observer: RunObserver


class BatchSender:
    """Sends the batches of one run. What goes wrong beside a call ends the run by its `Control`."""

    def __init__(self, client: Sender, message: Message, parts: RunParts, tell: Tell) -> None:
        self._client = client
        self._message = message
        self._options = parts.options
        self._control = parts.control
        self._schedule = parts.schedule
        self._capacity = parts.capacity
        self._budget = parts.budget
        self._meter = parts.meter
        self._recorder = parts.recorder
        self._screening = parts.screening
        self._observer = parts.observer
        self._tell = tell
        self._failed_in_a_row = 0
        self._refused_in_a_row = 0

    async def send(self, claim: Claim) -> None:
        """One batch to its end, however many calls that takes. Never fails."""
        try:
            await self._send_parts(claim)
        except Exception as error:  # the journal's, or of `on_progress`
            self._control.fail(error)
        finally:
            self._capacity.end_batch(claim.batch, asyncio.get_running_loop().time())
            self._budget.end(claim.batch)

    async def _send_parts(self, batch: Claim) -> None:
        parts: list[tuple[int, ...]] = []
        splits, accepted, failure = 0, 0, None
        claim = await self._screening.passed(batch)
        while claim is not None or (parts and not self._starts_nothing()):
            if claim is None and (claim := await self._claim_again(parts.pop())) is None:
                continue
            outcome, error, called = await self._send_claim(batch, claim, may_split=splits < MOST_SPLITS)
            claim = None
            if outcome.next is Next.SPLIT:
                splits += 1
                middle = len(called.ids) // 2
                parts += [called.ids[middle:], called.ids[:middle]]
            accepted += outcome.accepted
            failure = (error or _nobody_accepted(batch, CALLS[self._message.kind])) if outcome.failed else failure
        self._count_in_a_row(batch, None if accepted else failure, any_accepted=accepted > 0)

    def _count_in_a_row(self, batch: Claim, failure: MMSError | None, *, any_accepted: bool) -> None:
        if any_accepted:
            self._failed_in_a_row = self._refused_in_a_row = 0
        if failure is None:
            return
        if batch.message is not None and isinstance(failure, RecipientsError | FieldInvalidError):
            self._refused_in_a_row += len(batch.ids)
            if self._refused_in_a_row < MOST_REFUSED:
                return
        self._failed_in_a_row += 1
        enough = self._options.stop_after
        if isinstance(failure, OutcomeUnknownError) and failure.timed_out and not self._capacity.was_answered:
            enough = 1 if enough <= STOP_AFTER else enough
        if self._failed_in_a_row >= enough and not self._control.is_stopping:
            several = f"{self._failed_in_a_row} batches in a row" if self._failed_in_a_row > 1 else "a batch"
            self._control.fail(Stop(failure, f"after {several} that failed"))

    async def _send_claim(
        self, batch: Claim, claim: Claim, *, may_split: bool
    ) -> tuple[Outcome, MMSError | None, Claim]:
        """One call of `batch`, tried again where it surely was not carried out. Each try is recorded as it ends.

        Returns the claim that was called last too: those of `claim` who might still be sent to.
        """
        attempt = 1
        following: Claim | None = claim
        while following is not None:
            claim = following
            recall = self._control.recall()
            sent, error = await self._call(batch, claim, recall)
            if isinstance(error, NotSentError) and not self._budget.covers_calls():
                self._control.fail(self._budget.stop())
            if isinstance(error, NotSentError | LimiterUnavailableError) and self._starts_nothing():
                await self._recorder.release(claim)
                return Outcome(()), None, claim
            was_taken_back = self._screening.took_back(claim) or recall.reason == HELD
            if was_taken_back and isinstance(error, NotSentError):
                await self._recorder.release(claim)
                following = await self._claim_in_turn(claim.ids)
                continue
            if sent is not None:
                outcome = outcome_of_answer(claim.phones, sent)
            else:
                assert error is not None  # noqa: S101
                outcome = outcome_of_error(claim.phones, error, may_split=may_split, own=own_parts(batch))
            self._budget.count(batch.batch, len(claim.ids), outcome, sent)
            try:
                await self._recorder.record(claim, outcome, sent, error)
            except JournalError:
                self._end(batch, claim, outcome, sent, error)
                raise
            if outcome.next is Next.STOP and error is not None:
                self._control.fail(Stop(error, "because every other call would fail alike"))
            attempt += 1
            pause = None if error is None else retry.wait_before(attempt, error)
            following = None
            if outcome.next is Next.TRY_AGAIN and attempt <= self._options.max_attempts and pause is not None:
                self._observer.paused(batch.batch, pause, error)
                if await self._control.pause(pause, f"after {type(error).__name__}"):
                    following = await self._claim_in_turn(claim.ids)
            if following is None:
                self._end(batch, claim, outcome, sent, error)
                return outcome, error, claim
        return Outcome(()), None, claim

    def _starts_nothing(self) -> bool:
        """It is to stop, or its hours are over. Then a call that has not left is taken back."""
        return self._control.is_stopping or not self._schedule.is_open()

    def _end(
        self, batch: Claim, claim: Claim, outcome: Outcome, sent: SentBatch | None, error: MMSError | None
    ) -> None:
        if outcome.next is not Next.SPLIT:  # its halves will be told of
            self._observer.batch_ended(batch.batch, (result.state for result in outcome.results), error)
        self._tell(claim, outcome, sent, error)

    async def _claim_again(self, ids: Sequence[int]) -> Claim | None:
        """Those of `ids` whom evidence has not settled and who are not suppressed; None where nobody is left."""
        claim = await self._taken(ids)
        return None if claim is None else await self._screening.passed(claim)

    async def _claim_in_turn(self, ids: Sequence[int]) -> Claim | None:
        """As `_claim_again`, when the schedule has room for another batch; None also where the run is to stop."""
        claim = await self._schedule.begin_again(self._control, lambda: self._taken(ids))
        return None if claim is None else await self._screening.passed(claim)

    async def _taken(self, ids: Sequence[int]) -> Claim | None:
        return await self._recorder.claim(lambda journal: journal.claim_again(ids))

    async def _call(self, batch: Claim, claim: Claim, recall: Recall) -> tuple[SentBatch | None, MMSError | None]:
        loop = asyncio.get_running_loop()
        client = self._client.with_options(  # repeats are recorded: made by `_send_claim`
            max_attempts=1, recall=recall, campaign=self._observer.batch(batch.batch)
        )
        message = outgoing(self._message, batch)
        failure: BaseException | None = None
        self._capacity.begin_call(batch.batch, loop.time())
        try:
            async with self._screening.watched(claim, recall):
                sent = await sent_as(client, self._message, message, claim.numbers, self._options.timeout)
            return sent, None
        except MMSError as error:
            failure = error
            return None, error
        except asyncio.CancelledError as error:  # the event loop is ending, and nobody closed the client
            failure = error
            if recall.never_left:
                await self._recorder.release(claim)
            raise
        except BaseException as error:
            failure = error
            raise
        finally:
            self._capacity.end_call(batch.batch, loop.time(), failure)
            self._meter.count(loop.time(), len(claim.ids), failure)
            self._control.changed.set()


def _nobody_accepted(claim: Claim, call: str) -> RecipientsError:
    return RecipientsError(
        f"the API accepted none of {counted(len(claim.ids), 'recipient')}", call=call, http_status=200
    )
