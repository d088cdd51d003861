"""A log that a flood of events cannot fill."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from attrs import define

INTERVAL = 10.0
"""Seconds between two lines of one text."""


@define
class _Repeats:
    """What came of one text since it was logged last."""

    level: int
    timer: asyncio.TimerHandle
    args: tuple[Any, ...] = ()
    left_out: int = 0


class ThrottledLog:
    """Logs a text at once, then at most one line every `INTERVAL` seconds, which counts those left out.

    A text is what stands before its arguments are put in, so put whatever makes a kind of its own into the text. Must
    be used in an event loop.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._repeats: dict[str, _Repeats] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def warning(self, text: str, *args: object) -> None:
        """Logs a warning."""
        self._add(logging.WARNING, text, args, has_traceback=False)

    def exception(self, text: str, *args: object) -> None:
        """Logs an error; the first one with the traceback of the exception that is being handled."""
        self._add(logging.ERROR, text, args, has_traceback=True)

    def flush(self) -> None:
        """Logs at once what was left out so far."""
        for text, repeats in list(self._repeats.items()):
            repeats.timer.cancel()
            self._sum_up(text)
        self._repeats.clear()

    def _add(self, level: int, text: str, args: tuple[object, ...], *, has_traceback: bool) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # timers of a loop that has ended do not fire
            self.flush()
            self._loop = loop
        if repeats := self._repeats.get(text):
            repeats.left_out += 1
            repeats.args = args
            return
        self._log.log(level, text, *args, exc_info=has_traceback or None, stacklevel=3)
        self._repeats[text] = _Repeats(level, loop.call_later(INTERVAL, self._end_interval, loop, text))

    def _end_interval(self, loop: asyncio.AbstractEventLoop, text: str) -> None:
        if self._sum_up(text):
            self._repeats[text].timer = loop.call_later(INTERVAL, self._end_interval, loop, text)
        else:
            del self._repeats[text]

    def _sum_up(self, text: str) -> bool:
        """Logs how often `text` was left out. False if it was not."""
        repeats = self._repeats[text]
        if not repeats.left_out:
            return False
        self._log.log(repeats.level, f"{text} (%d left out within %g s)", *repeats.args, repeats.left_out, INTERVAL)
        repeats.left_out, repeats.args = 0, ()
        return True
