"""Runs sends that have a key: claimed in the ledger, sent, and their end recorded, whoever still waits for it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime

from attrs import define, evolve, frozen

from mmsclient._api.types import Call
from mmsclient._keyed.outcome import end_of, repeated_error, repeated_result, sent_at
from mmsclient._keyed.recorder import SendLedger
from mmsclient._store.heard import digits
from mmsclient._store.ledger import Fingerprint, KeyClaim, KeyedSend, Ledger, SendEnd, SendState
from mmsclient._threads import DECODING
from mmsclient._transport import retry
from mmsclient._transport.session import Recall
from mmsclient.errors import (
    KeyReusedError,
    LedgerUnavailableError,
    MMSError,
    NotSentError,
    OutcomeUnknownError,
    SendInProgressError,
    in_words,
)
from mmsclient.models import SentBatch

__all__ = ["KeyedSends"]

log: logging.Logger = logging.getLogger(__name__)

KEPT = 60.0
"""Seconds that an end is kept which the ledger cannot take, and written as soon as it can."""
WRITE_AGAIN = 0.5
"""Seconds between the attempts to write it."""
CLOSED_WITHIN = 10.0
"""Seconds that closing the ledger may take; after that it closes when it can."""

LAPSED = "the lease of its sender had run out before it left"

FIRST_LOOK, LONGEST_LOOK = 0.05, 0.5
"""Seconds between two looks for the end of a send in another process: at first, and at most."""


@frozen
class _Order:
    """A send with a key."""

    key: str
    fingerprint: Fingerprint
    phones: tuple[int, ...]
    call: Call[SentBatch]
    run: Callable[[Recall], Awaitable[SentBatch]]
    """Carries `call` out; its `Recall` takes it back."""
    retry_refused: bool


@define(eq=False)
class _UnderWay:
    """An order that is looked up, or sent, here."""

    order: _Order
    claim: KeyClaim
    recall: Recall
    task: asyncio.Task[SentBatch | KeyedSend | MMSError] | None = None
    is_sending: bool = False
    is_left: bool = False
    """Its caller was cancelled."""


class KeyedSends:
    """The keyed sends of one client. Each runs in a task of its own, which no caller can tear."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._under_way: dict[str, _UnderWay] = {}
        self._is_closing = asyncio.Event()

    @property
    def recorder(self) -> SendLedger:
        """Takes what callbacks say of them."""
        return SendLedger(self._ledger)

    async def send(
        self,
        key: str,
        call: Call[SentBatch],
        content: tuple[str, str, bytes | str, Sequence[str]],
        run: Callable[[Recall], Awaitable[SentBatch]],
        *,
        timeout: float,
        retry_refused: bool,
    ) -> SentBatch:
        """Send, unless the ledger says what became of `key`.

        Args:
            key: What the send is for.
            call: The send.
            content: Its text, subject, image and recipients, as they go out; or the digest of what the image was made
                of, or what stands for one of an SMS.
            run: Carries `call` out; the `Recall` takes it back.
            timeout: Seconds to wait for the end of another send with the key.
            retry_refused: Send also where the API refused it before.
        """
        phones = tuple(map(digits, content[-1]))
        order = _Order(key, Fingerprint.of(*content), phones, call, run, retry_refused)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout
        since: datetime | None = None
        for look in itertools.count(1):
            if self._is_closing.is_set():
                raise _closed(order) if look == 1 else SendInProgressError(key, since)
            left = give_up_at - loop.time()
            if (other := self._under_way.get(key)) is not None:
                if (sent := await self._wait_for(other, order, left)) is not None:
                    return evolve(sent, repeated=True)
                continue
            found = await self._begin(order)
            if isinstance(found, SentBatch):
                return found
            if isinstance(found, MMSError):
                raise found
            since = sent_at(found)
            if left <= 0:
                break
            pause = retry.backoff(look, first=FIRST_LOOK, longest=LONGEST_LOOK)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause, left)):
                    await self._is_closing.wait()
        raise SendInProgressError(key, since)

    def stop(self) -> None:
        """Send nothing new, and take back what has not left."""
        self._is_closing.set()
        for each in self._under_way.values():
            each.recall.all("the client was closed")

    async def aclose(self) -> None:
        """Wait until the ends of all sends are recorded, and close the ledger."""
        self.stop()
        while tasks := [each.task for each in self._under_way.values() if each.task is not None]:
            await asyncio.wait(tasks)
        try:
            async with asyncio.timeout(CLOSED_WITHIN):
                await self._ledger.aclose()
        except TimeoutError:
            log.warning("ledger: it does not answer, and closes when it does")

    async def _wait_for(self, other: _UnderWay, order: _Order, seconds: float) -> SentBatch | None:
        """The result of another send with the key; None where that brought none, and the ledger tells more."""
        if other.is_sending and (differences := other.order.fingerprint.differences(order.fingerprint)):
            raise KeyReusedError(order.key, differences)
        if seconds <= 0 or other.task is None or not (await asyncio.wait([other.task], timeout=seconds))[0]:
            raise SendInProgressError(order.key)
        if other.task.cancelled() or other.task.exception() or other.order.fingerprint != order.fingerprint:
            return None
        result = other.task.result()
        return result if isinstance(result, SentBatch) else None

    async def _begin(self, order: _Order) -> SentBatch | KeyedSend | MMSError:
        claim = KeyClaim(order.key, phones=order.phones)
        under_way = _UnderWay(order, claim, Recall(lambda: "" if self._ledger.may_leave(claim) else LAPSED))
        self._under_way[order.key] = under_way
        under_way.task = asyncio.get_running_loop().create_task(self._run(under_way))
        under_way.task.add_done_callback(lambda _: self._forget(under_way))
        try:
            return await asyncio.shield(under_way.task)
        except asyncio.CancelledError:
            under_way.is_left = True
            under_way.recall.all("its caller was cancelled")
            raise

    def _forget(self, under_way: _UnderWay) -> None:
        """Also where its task was cancelled before it ran."""
        del self._under_way[under_way.order.key]

    async def _run(self, under_way: _UnderWay) -> SentBatch | KeyedSend | MMSError:
        order, claim = under_way.order, under_way.claim
        try:
            held = await self._ledger.claim(claim, order.fingerprint, retry_refused=order.retry_refused)
        except LedgerUnavailableError as error:
            return error
        except asyncio.CancelledError:  # the event loop is ending; it may have been claimed
            await self._record(claim, SendEnd(SendState.FAILED, {}))
            raise
        if held is not None:
            return await _told_again(order, held)
        under_way.is_sending = True
        outcome = await self._send(under_way)
        if under_way.is_left and not isinstance(outcome, NotSentError):
            ended = in_words(outcome)
            log.warning(
                "%s: the caller of key %r was cancelled after it had left; %s", order.call.name, order.key, ended
            )
        return outcome

    async def _send(self, under_way: _UnderWay) -> SentBatch | MMSError:
        claim = under_way.claim
        outcome: SentBatch | MMSError
        try:
            outcome = await under_way.order.run(under_way.recall)
        except MMSError as error:
            outcome = error
        except asyncio.CancelledError:  # the event loop is ending
            never_left = under_way.recall.never_left
            why = "the event loop was stopped before its answer came"
            left = OutcomeUnknownError(why, call=under_way.order.call.name)
            await self._record(claim, SendEnd(SendState.FAILED, {}) if never_left else end_of(left))
            raise
        except Exception as error:
            await self._record(claim, end_of(error))
            raise
        await self._record(claim, end_of(outcome))
        return outcome

    async def _record(self, claim: KeyClaim, end: SendEnd) -> None:
        """Write down how a send ended. What cannot be written in time is told in the log, and unknown from then on."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + KEPT
        is_first = True
        while (problem := await self._problem_of_recording(claim, end, give_up_at)) is not None:
            if loop.time() >= give_up_at:
                ended = end.state.value
                log.error("ledger: %s; key %r is unknown from now on, but it ended %s", problem, claim.key, ended)
                return
            if is_first:
                log.warning("ledger: %s; the end of key %r is kept, and written later", problem, claim.key)
                is_first = False
            await asyncio.sleep(WRITE_AGAIN)

    async def _problem_of_recording(self, claim: KeyClaim, end: SendEnd, give_up_at: float) -> str | None:
        """Why an end cannot be recorded; None where it is, or will never be."""
        try:
            async with asyncio.timeout_at(give_up_at):
                is_held = await self._ledger.finish(claim, end)
        except LedgerUnavailableError as error:
            return error.problem
        except TimeoutError:
            return "it does not answer"
        if not is_held and end.state is not SendState.FAILED:
            log.error("ledger: key %r was removed while it was sent; it ended %s", claim.key, end.state.value)
        return None


def _closed(order: _Order) -> NotSentError:
    return NotSentError("the client is closed", call=order.call.name)


async def _told_again(order: _Order, held: KeyedSend) -> SentBatch | KeyedSend | MMSError:
    """What the ledger's word means for `order`; what is still sending as it is."""
    if differences := held.fingerprint.differences(order.fingerprint):
        return KeyReusedError(order.key, differences)
    if held.state is SendState.SENDING:
        return held
    if held.state is not SendState.ACCEPTED:
        return repeated_error(order.key, order.call.name, held)
    try:
        return await DECODING.run_or_here(repeated_result, order.call, held, len(order.phones))  # it may be large
    except MMSError as error:
        return error
