"""A bound on how long callbacks take, with one timer for all of them."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Deadlines:
    """`with deadlines:` bounds what a task does to `seconds`, as `asyncio.timeout` does; raises `TimeoutError`.

    A timer for each callback, which is nearly always set for nothing, would be a twentieth of what a callback costs.
    Since all bounds are equally long, the one set first is reached first, and one timer is enough.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[asyncio.Task[Any], tuple[float, int]] = {}
        """When a task is late, and how often it had been cancelled at its start; the earliest first."""
        self._late: dict[asyncio.Task[Any], int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """Whose timer it is: a loop that has ended keeps its timers to itself."""

    def __enter__(self) -> None:
        loop, task = asyncio.get_running_loop(), _this_task()
        self._due[task] = (loop.time() + self._seconds, task.cancelling())
        if self._timer is None or self._loop is not loop:
            self._timer, self._loop = loop.call_later(self._seconds, self._sweep, loop), loop

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is GeneratorExit:  # dropped with its loop
            return
        task = _this_task()
        if self._due.pop(task, None) is None:
            cancelled_before = self._late.pop(task)
            if task.uncancel() <= cancelled_before and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel those that are late, and look again when the next one may be."""
        self._timer = None
        while self._due:
            task, (due, cancelled_before) = next(iter(self._due.items()))
            if due > loop.time():
                self._timer = loop.call_at(due, self._sweep, loop)
                break
            del self._due[task]
            self._late[task] = cancelled_before
            task.cancel()


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a callback is handled in a task")
    return task
