"""Who is excluded stays so, whatever goes wrong while it is read, and whatever became of them before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mmsclient import AsyncMMSClient, InvalidRequestError
from mmsclient.bulk.exclusions import ExcludedPhones
from mmsclient.sandbox import Sandbox
from tests.support.campaigns import campaign, numbers

USED_UP = pytest.raises(InvalidRequestError, match="exclude: expected a new one, since this one is used up")

LISTED = numbers(3)


@pytest.fixture
async def mms(api: Sandbox) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None, timeout=5) as mms:
        yield mms


def broken_off() -> Iterator[str]:
    yield LISTED[0]
    raise ConnectionResetError("the database went away")


def with_a_wrong_number() -> Iterator[str]:
    yield from (LISTED[0], "04", LISTED[1])


async def slow(is_asked: asyncio.Event, comes: asyncio.Event) -> AsyncIterator[str]:
    yield LISTED[0]
    is_asked.set()
    await comes.wait()
    yield LISTED[1]


async def later(source: Iterator[str]) -> AsyncIterator[str]:
    for number in source:
        yield number


@pytest.mark.parametrize("made", [broken_off, with_a_wrong_number])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_generator_that_failed_once_lets_nobody_through(
    api: Sandbox, mms: AsyncMMSClient, path: Path, made: Callable[[], Iterator[str]], is_async: bool
) -> None:
    source = later(made()) if is_async else made()
    spring = campaign(mms, path, exclude=source)
    with pytest.raises((ConnectionResetError, InvalidRequestError)):
        await spring.send_all(LISTED)
    for again in (spring, campaign(mms, path, exclude=source)):
        with USED_UP:
            await again.preflight(LISTED)
        with USED_UP:
            await again.send_all(LISTED)
    assert not api.sends


async def test_a_read_that_was_cancelled_lets_nobody_through(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    is_asked, comes = asyncio.Event(), asyncio.Event()
    spring = campaign(mms, path, exclude=slow(is_asked, comes))
    looking = asyncio.create_task(spring.preflight(LISTED))
    await is_asked.wait()
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    comes.set()
    with USED_UP:
        await spring.send_all(LISTED)
    assert not api.sends


async def test_two_that_read_at_the_same_time_read_the_same() -> None:
    is_asked, comes = asyncio.Event(), asyncio.Event()
    excluded = ExcludedPhones(slow(is_asked, comes))
    first = asyncio.create_task(excluded.read())
    await is_asked.wait()
    second = asyncio.create_task(excluded.read())
    await asyncio.sleep(0)  # it has begun, too
    comes.set()
    assert await first == await second == [int(number) for number in LISTED[:2]]


async def test_what_can_be_read_again_is_read_again(api: Sandbox, mms: AsyncMMSClient, path: Path) -> None:
    excluded = [LISTED[0], "04"]
    spring = campaign(mms, path, exclude=excluded)
    with pytest.raises(InvalidRequestError, match="exclude, line 2"):
        await spring.send_all(LISTED)
    excluded[1] = LISTED[1]
    await spring.send_all(LISTED)
    assert [api.carried_out(number) for number in LISTED] == [0, 0, 1]
