"""Replies without loss: taken one by one, and marked as read only when they were handled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, nullcontext
from typing import Any, Protocol

import anyio

from mmsclient._api.checks import check_seconds, checked_id
from mmsclient._bounded_cache import BoundedCache
from mmsclient._reading.listing import Listing
from mmsclient._transport.retry import PASSING, backoff
from mmsclient._words import counted
from mmsclient.errors import (
    InvalidRequestError,
    LimiterUnavailableError,
    MMSError,
    NotFoundError,
    PermissionDeniedError,
    UnknownCallError,
    in_words,
)
from mmsclient.models import Reply

AT_ONCE = 100
"""Replies that are fetched, handed out and then marked together: four pages, and one call to mark them."""

REMEMBERED = 100_000
"""Replies that a run knows as given, should they still be listed."""

LONGEST_INTERVAL = 86400.0
"""Seconds between two rounds at most: a day."""

FIRST_PAUSE = 1.0
"""Seconds to wait after an error; it doubles with every further one."""

LONGEST_PAUSE = 60.0
"""Seconds: what that pause grows to."""

LAST_WORD = 10.0
"""Seconds that a run which is cancelled gives a marking that is under way."""

log = logging.getLogger(__name__)


class Client(Protocol):
    """What is needed of a client."""

    def replies(self, *, kind: Any = ..., prefetch: int = ..., timeout: float | None = ...) -> Listing[Reply]: ...
    async def mark_read(self, replies: Iterable[Reply | str], *, timeout: float | None = ...) -> None: ...


async def take(
    client: Client,
    *,
    kind: str,
    timeout: float | None,
    interval: float | None = None,
    mark: bool = True,
    is_closed: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Reply, None]:
    """Every unread reply, marked as read after its consumer came back; with an `interval` for ever.

    Marking shifts the pages, so each round begins at page 1, and takes what it has not given before. The run ends when
    a round finds nothing new. Without `mark` nothing is marked, and everything else is the same.
    """
    if interval is not None:
        check_seconds("interval", interval, most=LONGEST_INTERVAL, error=InvalidRequestError)
    run = _Run(client, kind, timeout, marks=mark, is_endless=interval is not None)
    errors = 0
    try:
        while True:
            replies, error = await run.next_round()
            errors = 0 if error is None else errors + 1
            if replies and error is not None:
                log.warning("replies: %s; trying again after the new ones", in_words(error))
            elif error is not None:
                if is_closed():
                    raise error
                await _outwait(error, errors)
            elif not replies and interval is None:
                return
            elif not replies:
                await asyncio.sleep(interval or 0)
            for reply in replies:
                run.give(reply)
                yield reply
                run.note_handled(reply)
    finally:
        await run.end()


def _is_passing(error: MMSError) -> bool:
    """It may be gone the next time. So may a 403 or 404 that has no code of the API: a proxy's, most likely."""
    if isinstance(error, PermissionDeniedError | UnknownCallError):
        return error.code is None
    return isinstance(error, (*PASSING, LimiterUnavailableError))


async def _outwait(error: MMSError, errors: int) -> None:
    pause = backoff(errors, first=FIRST_PAUSE, longest=LONGEST_PAUSE, least=0.5)
    pause = max(pause, getattr(error, "retry_after", None) or 0.0)
    log.warning("replies: %s; trying again in %.1f s", in_words(error), pause)
    await asyncio.sleep(pause)


class _Run:
    """What one run has given, and what of it is still to be marked."""

    def __init__(self, client: Client, kind: str, timeout: float | None, *, marks: bool, is_endless: bool) -> None:
        self._client = client
        self._kind = kind
        self._timeout = timeout
        self._marks = marks
        self._is_endless = is_endless
        self._given: BoundedCache[str, None] = BoundedCache(REMEMBERED)
        self._handled: list[str] = []
        self._lot = AT_ONCE
        self._failed = False

    async def next_round(self) -> tuple[Sequence[Reply], MMSError | None]:
        """Mark what was handled, then fetch what was not given yet, even if the marking failed.

        Beside the new replies returns the error that made an endless run miss something, if it may pass; raises others.
        """
        unmarked: MMSError | None = None
        try:
            await self.mark()
        except MMSError as error:
            if not self._outlasts(error):
                raise
            unmarked = error
        try:
            return await self.unseen(), unmarked
        except MMSError as error:
            if unmarked is not None:
                log.warning("replies: %s", in_words(unmarked))
            if not self._outlasts(error):
                raise
            return (), error

    def _outlasts(self, error: MMSError) -> bool:
        return self._is_endless and _is_passing(error)

    async def unseen(self) -> Sequence[Reply]:
        """Up to `AT_ONCE` unread replies that were not given yet, from page 1 on."""
        found: dict[str, Reply] = {}
        listing = self._client.replies(kind=self._kind, prefetch=0, timeout=self._timeout)  # no page in vain
        async with aclosing(listing):
            async for page in listing.pages():
                found |= {_key(reply): reply for reply in page.items if _key(reply) not in self._given}
                if len(found) >= AT_ONCE:
                    break
        return list(found.values())[:AT_ONCE]

    def give(self, reply: Reply) -> None:
        """`reply` goes to the consumer, and to no other."""
        self._given[_key(reply)] = None

    def note_handled(self, reply: Reply) -> None:
        """The consumer came back."""
        if not self._marks:
            return
        if reply.id.strip():
            self._handled.append(reply.id)
        else:
            log.warning("replies: one without an id cannot be marked as read")

    async def mark(self) -> None:
        """Mark what was handled. What cannot be marked is kept for the next time, and the error says how much.

        After an error in smaller lots, and the others first: one id may be at fault.
        """
        while self._handled:
            lot = self._handled[: self._lot]
            self._failed = True
            marking = asyncio.ensure_future(self._mark(lot))
            try:
                await asyncio.shield(marking)
            except asyncio.CancelledError:
                try:
                    with anyio.CancelScope(shield=True):  # anyio's cancellations come again and again
                        await asyncio.wait((marking,), timeout=LAST_WORD)
                finally:
                    marking.cancel()
                if marking.done() and not marking.cancelled() and not marking.exception():
                    self._forget(len(lot))
                raise
            except MMSError as error:
                self._lot = max(1, len(lot) // 2)
                self._handled = self._handled[len(lot) :] + lot
                error.add_note(f"{_counted(len(self._handled))} handled and could not be marked as read")
                raise
            self._forget(len(lot))

    async def _mark(self, ids: list[str]) -> None:
        try:
            await self._client.mark_read(ids, timeout=self._timeout)
        except NotFoundError:
            log.info("replies: none of %d is there any more to be marked as read", len(ids))

    def _forget(self, count: int) -> None:
        del self._handled[:count]
        self._lot = min(AT_ONCE, 2 * self._lot)
        self._failed = False

    async def end(self) -> None:
        """Mark what was handled, unless that has just failed, and log how much stays unread.

        In a task that is being cancelled it gets `LAST_WORD` seconds, and an error is only logged: raised, it would
        hide the cancellation.
        """
        is_cancelled = _is_being_cancelled()
        try:
            with anyio.move_on_after(LAST_WORD, shield=True) if is_cancelled else nullcontext():
                if not self._failed:
                    await self.mark()
        except MMSError as error:
            if not is_cancelled:
                raise
            log.warning("replies: %s", in_words(error))
        finally:
            if self._handled:
                log.error("%s handled and could not be marked as read", _counted(len(self._handled)))


def _counted(replies: int) -> str:
    return f"{counted(replies, 'reply')} {'was' if replies == 1 else 'were'}"


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _key(reply: Reply) -> str:
    """What makes a reply the same when it is listed again."""
    return reply.id.strip() or repr(sorted(reply.raw.items(), key=str))


def checked_ids(replies: Reply | str | Iterable[Reply | str]) -> list[str]:
    """The ids of one or several replies. Raises `InvalidRequestError`."""
    several = replies if isinstance(replies, Iterable) and not isinstance(replies, str) else [replies]
    return [
        checked_id("replies", reply.id if isinstance(reply, Reply) else reply, "a Reply or a reply's id")
        for reply in several
    ]
