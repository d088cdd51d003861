"""Signals that end a command that sends: the first lets what is under way end, a later one does not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from mmsclient.cli.status import complain_last

__all__ = ["SignalledError", "ended_by_signals", "told_of_signals"]

SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

ONE_SIGNAL = 1.0
"""Seconds in which several signals are one: `timeout` and shells send theirs to the process and to its group."""


@contextmanager
def told_of_signals(stop: Callable[[int], None], last_words: Callable[[], None]) -> Iterator[None]:
    """The first signal is for `stop`; a later one ends the process, after `last_words`, which says so.

    One that is ignored (`nohup`) stays so.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    came: list[asyncio.TimerHandle] = []

    def note(number: int) -> None:
        if not came:
            stop(number)
            came.append(loop.call_later(ONE_SIGNAL, _end_at_once_at, heeded, last_words))

    for number in heeded:
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.add_signal_handler(number, note, number)
    try:
        yield
    finally:
        for timer in came:
            timer.cancel()
        for number in heeded:
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])


class SignalledError(Exception):
    """A signal has ended the command, and what had left was waited for."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number: int = number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """The first signal cancels what is done within, a later one ends the process. Raises `SignalledError`."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101
    came: list[int] = []

    def stop(number: int) -> None:
        came.append(number)
        task.cancel()

    def last_words() -> None:
        complain_last("ended at once: if it had left, nobody knows whether it was carried out")

    with told_of_signals(stop, last_words):
        try:
            yield
        except asyncio.CancelledError:
            if not came:
                raise
            task.uncancel()
            raise SignalledError(came[0]) from None


def _end_at_once_at(numbers: list[signal.Signals], last_words: Callable[[], None]) -> None:
    """Let these signals end the process, whatever the event loop does; a terminal that is gone sends several."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        _leave(numbers, signal.SIG_IGN)  # who presses it again and again sees the last words all the same
        with suppress(Exception):  # whatever hinders it
            last_words()
        _leave(numbers, signal.SIG_DFL)
        signal.raise_signal(number)

    loop = asyncio.get_running_loop()
    for number in numbers:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(number)
    _leave(numbers, end)


def _leave(numbers: list[signal.Signals], handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
    """Leave the signals to `handler`."""
    for number in numbers:
        with suppress(ValueError):  # not the main thread
            signal.signal(number, signal.SIG_IGN if number.name == "SIGHUP" else handler)
