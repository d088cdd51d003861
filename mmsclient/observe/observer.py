"""Who is told, and how: synchronously, each event once, and without harm to what it tells of."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

from mmsclient.errors import ConfigurationError
from mmsclient.observe.events import Event

__all__ = ["Emit", "Observer", "checked_observers", "class_of", "emitter", "shown_id"]

log: logging.Logger = logging.getLogger(__name__)

Emit: TypeAlias = Callable[[Event], None]
"""Tells all observers of an event. Never raises."""

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_PHONE = re.compile(r"(0|61)4[0-9]{8}")


class Observer(Protocol):
    """Anything that can be called with an event: a function, the `append` of a list, an object with `__call__`.

    It is called in the event loop's thread, in the middle of what it is told of: **it must not block**, and must not be
    a coroutine function. Count, put into a queue, log; leave what takes time to a thread or a task. What it raises is
    logged once, with its class, and changes nothing else.
    """

    def __call__(self, event: Event, /) -> object:
        """Takes one event; what it returns is not looked at."""
        ...


def checked_observers(given: Observer | Sequence[Observer] | None) -> tuple[Observer, ...]:
    """The observers that an option names. Raises `ConfigurationError` for what is none."""
    if given is None:
        return ()
    several = given if not callable(given) and isinstance(given, Iterable) else (given,)
    observers = tuple(several)
    for each in observers:
        if not callable(each) or any(map(inspect.iscoroutinefunction, (each, each.__call__))):
            expected = "a function that takes an event and is no coroutine function, or several"
            raise ConfigurationError(f"observer: expected {expected}, got {type(each).__name__}")
    return observers


def emitter(given: Observer | Sequence[Observer] | None) -> Emit | None:
    """What tells the observers that an option names; None where there are none. Raises as `checked_observers`."""
    observers = checked_observers(given)
    return _Emitter(observers) if observers else None


class _Emitter:
    """Tells several observers of each event, in their order."""

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        self._failed: set[int] = set()
        """The ids of those that have raised."""

    def __call__(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except (Exception, asyncio.CancelledError):
                if id(observer) not in self._failed:  # which lives as long as this does
                    self._failed.add(id(observer))
                    kind, of = type(observer).__name__, type(event).__name__
                    log.exception("an observer (%s) failed at %s; it is told on, and this is logged once", kind, of)


def class_of(error: BaseException | None) -> str | None:
    """What events tell of an error: its class, since its text may quote anything."""
    return None if error is None else type(error).__name__


def shown_id(text: str) -> str:
    """A message's id; "" for one that is long, or might be something else, a phone number say."""
    return text if _ID.fullmatch(text) and not _PHONE.fullmatch(text) else ""
