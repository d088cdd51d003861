"""Replies without loss: taken one by one, and marked as read only when they were handled."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from mmsclient.errors import InvalidRequestError, MMSError, NotFoundError
from mmsclient.listing import Listing
from mmsclient.models import Reply
from mmsclient.retry import PASSING
from mmsclient.session import log

AT_ONCE = 100
"""Replies that are fetched, handed out and then marked together: four pages, and one call to mark them."""

REMEMBERED = 100_000
"""Replies that a run knows as given, should they still be listed."""

FIRST_PAUSE = 1.0
"""Seconds to wait after an error; it doubles with every further one."""

LONGEST_PAUSE = 60.0
"""Seconds: what that pause grows to."""

LAST_WORD = 10.0
"""Seconds that a run which is cancelled gives a marking that is under way."""


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
    if interval is not None and not (isinstance(interval, int | float) and 0 < interval <= 86400):
        raise InvalidRequestError("interval", interval, "seconds, more than 0 and at most a day")
    run = _Run(client, kind, timeout, mark)
    errors = 0
    try:
        while True:
            try:
                await run.mark()
                replies = await run.unseen()
                errors = 0
            except PASSING as error:
                if interval is None or is_closed():
                    raise
                errors += 1
                await _outwait(error, errors)
                continue
            if not replies and interval is None:
                return
            if not replies:
                await asyncio.sleep(interval or 0)
            for reply in replies:
                run.give(reply)
                yield reply
                run.note_handled(reply)
    finally:
        await run.end()


async def _outwait(error: MMSError, errors: int) -> None:
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(errors - 1, 10)) * random.uniform(0.5, 1)  # noqa: S311
    pause = max(pause, getattr(error, "retry_after", None) or 0.0)
    log.warning("replies: %s; trying again in %.1f s", error, pause)
    await asyncio.sleep(pause)


class _Run:
    """What one run has given, and what of it is still to be marked."""

    def __init__(self, client: Client, kind: str, timeout: float | None, mark: bool) -> None:
        self._client = client
        self._kind = kind
        self._timeout = timeout
        self._marks = mark
        self._given: OrderedDict[str, None] = OrderedDict()
        self._handled: list[str] = []
        self._failed = False

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
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)

    def note_handled(self, reply: Reply) -> None:
        """The consumer came back."""
        if not self._marks:
            return
        if reply.id.strip():
            self._handled.append(reply.id)
        else:
            log.warning("replies: one without an id cannot be marked as read")

    async def mark(self) -> None:
        """Mark what was handled. What cannot be marked is kept for the next time, and the error says how much."""
        if not self._handled:
            return
        self._failed = True
        marking = asyncio.ensure_future(self._mark(list(self._handled)))
        try:
            await asyncio.shield(marking)
        except asyncio.CancelledError:
            await asyncio.wait((marking,), timeout=LAST_WORD)
            if not marking.done() or marking.cancelled() or marking.exception():
                raise
            self._forget_handled()
            raise
        except MMSError as error:
            error.add_note(f"{len(self._handled)} replies were handled and could not be marked as read")
            raise
        self._forget_handled()

    async def _mark(self, ids: list[str]) -> None:
        try:
            await self._client.mark_read(ids, timeout=self._timeout)
        except NotFoundError:
            log.info("replies: none of %d is there any more to be marked as read", len(ids))

    def _forget_handled(self) -> None:
        self._handled.clear()
        self._failed = False

    async def end(self) -> None:
        """Mark what was handled, unless that has just failed; then say so."""
        if not self._failed:
            await self.mark()
        elif self._handled:
            log.error("replies: %d were handled and could not be marked as read", len(self._handled))


def _key(reply: Reply) -> str:
    """What makes a reply the same when it is listed again."""
    return reply.id.strip() or repr(sorted(reply.raw.items(), key=str))
