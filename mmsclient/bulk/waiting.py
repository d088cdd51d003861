"""Waiting that the end of the event loop does not cut short."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["all_done", "is_ending"]


async def all_done(*tasks: asyncio.Future[Any]) -> None:
    """Wait for the end of `tasks`. A caller who is cancelled meanwhile, since the event loop ends, is so after that."""
    cancelled: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def is_ending() -> bool:
    """This task was cancelled: the event loop is ending."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
