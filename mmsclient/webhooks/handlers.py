"""Handlers: coroutine functions as they are, plain ones in threads of their own, so that they may take their time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from mmsclient._threads import Threads
from mmsclient.errors import ConfigurationError
from mmsclient.webhooks.outlasting import outlast

Handler: TypeAlias = Callable[[Any], Awaitable[object] | object]

MOST_THREADS = 256
"""Threads that a plain function may be at work in at a time. One call that hangs keeps its thread."""


def awaitable(handler: Handler) -> Callable[[Any], Awaitable[object]]:
    """`handler` as a coroutine function. Raises `ConfigurationError` for what cannot be one."""
    if not callable(handler):
        raise ConfigurationError(f"a handler: expected a function that is called with each event, got {handler!r}")
    forms: tuple[object, object] = (handler, type(handler).__call__)  # an object is called by a method of it
    if any(inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in forms):
        raise ConfigurationError("a handler: a function that yields would not be run; events() is for loops")
    if any(map(inspect.iscoroutinefunction, forms)):
        return cast(Callable[[Any], Awaitable[object]], handler)
    threads = Threads(MOST_THREADS)

    async def run(value: Any) -> None:
        outcome = await _in_thread(handler, value, threads)
        if inspect.isawaitable(outcome):  # of a lambda
            await outcome
        elif inspect.isgenerator(outcome) or inspect.isasyncgen(outcome):
            raise TypeError("the handler returned a generator, which nothing runs")

    return run


async def _in_thread(function: Handler, value: Any, threads: Threads) -> object:
    """What `function` returns. Nothing ends it once it has begun."""
    values = [value]  # who takes it, the thread or a cancellation, decides whether it begins

    def has_begun() -> bool:
        try:
            values.pop()
        except IndexError:
            return True
        return False

    thread = threads.run(lambda: function(values.pop()))
    return await outlast(asyncio.ensure_future(thread), has_begun)
