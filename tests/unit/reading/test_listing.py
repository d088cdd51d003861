"""Paging: ends where it should, whatever the counts say, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsclient
from mmsclient import InvalidRequestError, Listing, Page
from mmsclient._reading import listing as listings
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, server_error
from tests.conftest import Connect, until


def page(number: int, count: int | None, *items: Any) -> Page[Any]:
    return Page(items=items, number=number, count=count, total=None, low_sms_alert=None)


class Server:
    """Answers pages from a list, and remembers what it was asked."""

    def __init__(self, pages: dict[int, Page[Any]], default: Page[Any] | None = None) -> None:
        self.pages = pages
        self.default = default or page(0, 0)
        self.asked: list[int] = []
        self.under_way = 0
        self.most = 0

    async def fetch(self, number: int) -> Page[Any]:
        self.asked.append(number)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0.001 * (5 - number % 5))  # later pages may come sooner
        finally:
            self.under_way -= 1
        return self.pages.get(number, self.default)


async def items(server: Server, prefetch: int = 3) -> list[Any]:
    return [item async for item in Listing(server.fetch, prefetch)]


@given(st.lists(st.integers(1, 4), max_size=9), st.integers(0, 5))
def test_all_items_in_order_and_no_page_twice(sizes: list[int], prefetch: int) -> None:
    count = len(sizes)
    server = Server({n: page(n, count, *((n, i) for i in range(size))) for n, size in enumerate(sizes, 1)})
    assert asyncio.run(items(server, prefetch)) == [(n, i) for n, size in enumerate(sizes, 1) for i in range(size)]
    assert server.asked == list(range(1, max(1, count) + 1))
    assert server.most <= prefetch + 1


LYING = {
    "the same page for ever, its count growing": Server({n: page(n, n + 1, "a") for n in range(1, 500)}),
    "the last page again": Server({1: page(1, 9, "a"), 2: page(2, 9, "b")}, default=page(2, 9, "b")),
    "a page without a count": Server({1: page(1, None, "a"), 2: page(2, None, "b")}),
    "an empty page in the middle": Server({1: page(1, 9, "a"), 2: page(2, 9, "b")}, default=page(3, 9)),
    "the two pages in turn": Server({n: page(n, n + 1, "ab"[n % 2 - 1]) for n in range(1, 500)}),
    "a count of zero": Server({1: page(1, 0, "a", "b")}),
}


@pytest.mark.parametrize("name", LYING)
@pytest.mark.parametrize("prefetch", [0, 3])
async def test_counts_that_lie(name: str, prefetch: int) -> None:
    LYING[name].asked.clear()
    assert await items(LYING[name], prefetch) in (["a"], ["a", "b"])
    assert len(LYING[name].asked) <= 3 + prefetch


async def test_a_count_that_grows_is_followed() -> None:
    server = Server({n: page(n, min(n + 1, 6), n) for n in range(1, 7)})
    assert await items(server) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "counts", [[5] * 5, [0] * 5, [5, 5, 2, 5, 5], [5, 1, 5, 5, 5], [2, 1, 1, 1, 1], [5, None, None, None, None]]
)
@pytest.mark.parametrize("prefetch", [0, 3])
async def test_a_count_that_shrinks_hides_no_item(counts: list[int | None], prefetch: int) -> None:
    server = Server({number: page(number, count, number) for number, count in enumerate(counts, 1)})
    listing = Listing(server.fetch, prefetch)
    assert [item async for item in listing] == [1, 2, 3, 4, 5]
    assert not listing.ended_early


async def test_pages_that_went_away_meanwhile_are_told_of() -> None:
    """What was on them may have moved to pages that were read before."""
    server = Server({1: page(1, 4, "a"), 2: page(2, 2, "b")}, default=page(0, 2))
    listing = Listing(server.fetch, 0)
    assert [item async for item in listing] == ["a", "b"]
    assert listing.ended_early == "page 3 of 4 was empty"


@pytest.mark.parametrize("count", [None, 10**9])
async def test_pages_without_end_have_one(monkeypatch: pytest.MonkeyPatch, count: int | None) -> None:
    monkeypatch.setattr(listings, "MOST_PAGES", 20)

    async def fetch(number: int) -> Page[int]:
        return page(number, count, number)

    endless = Listing(fetch, 3)
    assert [item async for item in endless] == list(range(1, 21))
    assert endless.ended_early == "there are more than 20 pages"


async def test_as_many_pages_as_there_may_be_are_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "MOST_PAGES", 3)
    server = Server({n: page(n, 3, n) for n in (1, 2, 3)})
    full = Listing(server.fetch, 3)
    assert [item async for item in full] == [1, 2, 3]
    assert not full.ended_early


async def test_odd_items_on_each_page_are_not_taken_for_a_repeated_page() -> None:
    from mmsclient._api import calls  # noqa: PLC0415
    from mmsclient._api.types import Envelope  # noqa: PLC0415

    answers = {
        n: calls.templates(n, None).read(  # type: ignore[arg-type]
            Envelope(
                code="SUCCESS",
                description="",
                data={"responses": [f"odd {n}"]},
                page={"count": 2, "number": n},
                low_sms_alert=None,
                raw={},
            )
        )
        for n in (1, 2)
    }
    assert [item.raw for item in await items(Server(answers))] == [{"item": "odd 1"}, {"item": "odd 2"}]


async def test_it_is_an_async_generator() -> None:
    server = Server({n: page(n, 3, n) for n in (1, 2, 3)})
    listing = Listing(server.fetch, 0)
    assert isinstance(listing, AsyncGenerator)
    assert await anext(listing) == 1
    assert await listing.asend(None) == 2
    with pytest.raises(KeyError):
        await listing.athrow(KeyError("x"))
    assert [item async for item in listing] == []
    async with aclosing(Listing(server.fetch, 2)) as listing:
        assert await anext(listing) == 1


async def test_an_error_comes_to_the_consumer_and_ends_it() -> None:
    async def fetch(number: int) -> Page[int]:
        if number == 3:
            raise mmsclient.ServerError("x", call="get-responses")
        return page(number, 9, number)

    listing = Listing(fetch, 4)
    assert [await anext(listing), await anext(listing)] == [1, 2]
    with pytest.raises(mmsclient.ServerError):
        await anext(listing)


@pytest.mark.parametrize("prefetch", [-1, 1.5, True, None])
def test_wrong_prefetch(prefetch: Any) -> None:
    with pytest.raises(InvalidRequestError, match="prefetch"):
        Listing(Server({}).fetch, prefetch)


async def test_a_consumer_that_stops_early_leaves_nothing(connect: Connect, sandbox: Sandbox) -> None:
    sandbox.add_replies(400)
    mms = connect()
    before = asyncio.all_tasks()
    for prefetch in (0, 4):
        async for _ in mms.replies(prefetch=prefetch):
            break
        async for _ in mms.replies(prefetch=prefetch).pages():
            break
        mms.replies(prefetch=prefetch)  # not read at all
        async with aclosing(mms.replies(prefetch=prefetch)) as replies:
            await anext(replies)
    gc.collect()
    await until(lambda: asyncio.all_tasks() == before)
    await mms.account()
    assert mms.stats.in_flight == 0


async def test_a_cancelled_consumer_leaves_nothing(connect: Connect, sandbox: Sandbox) -> None:
    sandbox.add_replies(100)
    sandbox.faults.add(Latency(0.05), skip=1)
    mms = connect()
    before = asyncio.all_tasks()

    async def consume() -> None:
        async for _ in mms.replies():
            pass

    consumer = asyncio.create_task(consume())
    await until(lambda: len(sandbox.arrivals) >= 2)
    consumer.cancel()
    await asyncio.wait([consumer])
    await until(lambda: asyncio.all_tasks() == before)


async def test_prefetch_keeps_within_its_bound_and_a_failing_page_is_repeated(
    connect: Connect, sandbox: Sandbox
) -> None:
    sandbox.add_replies(250)
    sandbox.faults.add(server_error(), skip=3, times=1)
    texts = [reply.text async for reply in connect().replies(prefetch=6)]
    assert texts == [reply.text for reply in sandbox.unread]
    assert sandbox.calls["get-responses"] == 11
