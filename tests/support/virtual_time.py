"""An asyncio event loop whose clock jumps: an hour of waiting takes as long as its callbacks."""

from __future__ import annotations

import asyncio
import selectors
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

__all__ = ["VirtualLoop", "in_virtual_time", "run"]

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEP = 1e-9
"""Seconds that a round of the loop takes: on a clock that stands still, a timer of rounding size fires for ever."""


class _Jump(selectors.SelectSelector):
    """Sleeps by moving the clock. Nothing comes from outside, so waiting without a timer is a deadlock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("deadlock: every task waits and no timer is set")
        self.now += max(timeout, STEP)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` jumps to the next timer when nothing is ready; `steps` counts the callbacks run so far."""

    def __init__(self) -> None:
        self._jump = _Jump()
        self.steps = 0
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.steps += 1
        return super().call_soon(callback, *args, context=context)


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time: what `main` left behind is cancelled."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Decorates a test in which no thread, process or socket takes part."""

    @wraps(test)
    def tested(*arguments: P.args, **options: P.kwargs) -> None:
        run(test(*arguments, **options))

    return tested
