"""Work that goes on though whoever waits for it is cancelled: a thread, or a loop that holds an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, TypeVar

T = TypeVar("T")

CLOSING = "the receiver is closing"
"""The message of a cancellation: end what can be ended, and wait for what cannot."""


class AbandonedError(asyncio.CancelledError):
    """Whoever waited was cancelled, and what it waited for goes on."""


def is_cancelled() -> bool:
    """The current task was asked to end: a `CancelledError` is none of its own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def outlast(work: asyncio.Future[T], has_begun: Callable[[], bool]) -> T:
    """What comes of `work`. A cancellation ends it until it has begun; a closing receiver waits for it from then on.

    Raises:
        AbandonedError: Cancelled after it had begun, and not by a closing receiver.
    """
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            if not has_begun():
                work.cancel()
                raise
            if error.args != (CLOSING,):
                raise AbandonedError from None
    return work.result()


async def end_all(tasks: Collection[asyncio.Task[Any]], *, timeout: float) -> int:
    """Waits for them `timeout` seconds, then ends those that can be ended, and waits as long for what cannot.

    Returns:
        How many are still at work.
    """
    _, late = await asyncio.wait(tasks, timeout=timeout) if tasks else ((), ())
    for task in late:
        task.cancel(CLOSING)
    _, left = await asyncio.wait(late, timeout=timeout) if late else ((), ())
    return len(left)
