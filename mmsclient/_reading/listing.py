"""Pages to items, as async generators (api-notes.md section 1, pages)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from mmsclient._api.checks import check_whole
from mmsclient.errors import InvalidRequestError
from mmsclient.models import Page

T = TypeVar("T")
Fetch = Callable[[int], Coroutine[Any, Any, Page[T]]]

PREFETCH = 4
"""Pages fetched ahead unless the caller says otherwise: enough to fill the cap at 250 ms a call."""

MOST_PAGES = 100_000
"""Pages of a listing at most: with 25 items each two and a half millions, and two hours at the cap."""

log = logging.getLogger(__name__)


class Listing(AsyncGenerator[T, None], Generic[T]):
    """An async generator of a listing's items; `pages()` gives its pages instead.

    ```python
    async for reply in mms.replies():
        ...
    async for page in mms.replies().pages():
        print(page.number, "of", page.count)
    ```

    Pages are fetched from 1 to the last, `prefetch` of them ahead, in order. It ends after the last page, on an empty
    page, on a page that came before, and after 100 000 pages. A page that counts fewer pages than one before it, or
    than its own number, is not believed. Read it once, as items or as pages. To stop early, `break`, and `aclose()`
    where the clean-up must have ended before you go on.
    """

    def __init__(self, fetch: Fetch[T], prefetch: int) -> None:
        check_whole("prefetch", prefetch, 0, error=InvalidRequestError)
        self.ended_early: str = ""
        """Why it ended before its last page: a page was empty or came again, or there were too many. "" where it did
        not, or has not ended."""
        self._pages = self._fetched(fetch, prefetch)
        self._items = _items(self._pages)

    def pages(self) -> AsyncGenerator[Page[T], None]:
        """The listing's pages, each a `Page`."""
        return self._pages

    async def asend(self, value: None) -> T:
        return await self._items.asend(value)

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> T:
        error = typ if isinstance(typ, BaseException) else val if isinstance(val, BaseException) else typ()
        return await self._items.athrow(error.with_traceback(tb) if tb else error)

    async def aclose(self) -> None:
        """End it: pages that are being fetched are dropped."""
        await self._items.aclose()
        await self._pages.aclose()

    async def _fetched(self, fetch: Fetch[T], prefetch: int) -> AsyncGenerator[Page[T], None]:
        coming: deque[asyncio.Task[Page[T]]] = deque()
        seen: set[int] = set()
        number, asked, last = 0, 0, 1
        try:
            while number < last:
                while asked < min(last, number + 1 + (prefetch if number else 0)):
                    asked += 1
                    coming.append(asyncio.create_task(fetch(asked)))
                page = await coming.popleft()
                number += 1
                count = page.count or 0
                if not page.items:
                    if number < max(last, count):
                        self._end_early(f"page {number} of {max(last, count)} was empty")
                    return
                fingerprint = hash(repr([getattr(item, "raw", item) for item in page.items]))
                if fingerprint in seen:
                    self._end_early(f"page {number} came before under another number")
                    return
                seen.add(fingerprint)
                last = max(last, count if count >= number else number + 1)
                yield page
                if number == MOST_PAGES and number < last:
                    self._end_early(f"there are more than {MOST_PAGES} pages")
                    return
        finally:
            for task in coming:
                task.cancel()
            await asyncio.gather(*coming, return_exceptions=True)

    def _end_early(self, why: str) -> None:
        log.warning("a listing ends early: %s", why)
        self.ended_early = why


async def _items(pages: AsyncGenerator[Page[T], None]) -> AsyncGenerator[T, None]:
    try:
        async for page in pages:
            for item in page.items:
                yield item
    finally:
        await pages.aclose()
