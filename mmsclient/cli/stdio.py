"""Stdout and stderr of the command: whose errors are told from others, and whose readers hold nothing up."""

from __future__ import annotations

import io
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from mmsclient._threads import started

GRACE = 2.0
"""Seconds that a reader has after a signal to take what is still to be printed."""

MOST_WAITING = 10_000
"""Lines that wait for the reader of stderr; further ones are dropped."""


class OutputLostError(OSError):
    """Stdout cannot be written. Not raised for any other file."""


class Outlet:
    """Prints in a thread of its own: a pipe that nobody reads holds up that thread and nothing else."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], Future[None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return self._jobs.qsize()

    def submit(self, job: Callable[[], object]) -> Future[None]:
        """Run `job` after those that were submitted before; the future raises what it raises."""
        done: Future[None] = Future()
        self._jobs.put((job, done))
        if self._thread is None:
            self._thread = started(self._work, "mmsclient-output")
        return done

    def _work(self) -> None:
        while True:
            job, done = self._jobs.get()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                job()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)


STDOUT, STDERR = Outlet(), Outlet()


def say(line: str) -> None:
    """Print `line` on stderr, without waiting for a reader, and whether or not there is one."""
    if STDERR.waiting < MOST_WAITING:
        STDERR.submit(lambda: _print_on_stderr(line))


def say_last(line: str) -> None:
    """As `say`, and wait until it is written, at most `GRACE` seconds."""
    with suppress(TimeoutError):
        STDERR.submit(lambda: _print_on_stderr(line)).result(GRACE)


def _print_on_stderr(line: str) -> None:
    with suppress(OSError, ValueError):  # it is full, gone or closed: there is nowhere to say so
        sys.stderr.write(f"{line}\n")  # at once, so that no line of stdout comes between
        sys.stderr.flush()


def end_stderr() -> None:
    """Write what is still to be said on stderr, as far as it can be written."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Let what is printed on `stream` from now on vanish: the interpreter would fail on it at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def owned() -> Iterator[None]:
    """Within, stdout raises `OutputLostError` and prints any character; streams that are closed take everything."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout, sys.stderr = _told_apart(sys.stdout or nowhere), sys.stderr or nowhere
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


class _Stdout(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputLostError(error.errno, error.strerror) from None


class _Lines(io.TextIOWrapper):
    """Writes whole prints, where a stream without a buffer would write the end of the line by itself."""

    def write(self, text: str, /) -> int:
        count = super().write(text)
        if text.endswith("\n"):
            self.flush()
        return count


def _told_apart(stream: Any) -> Any:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(raw, io.FileIO):
        return stream  # a console of Windows, or a test's
    stream.flush()
    mine = _Stdout(raw.fileno(), "w", closefd=False)
    make = _Lines if stream.write_through else io.TextIOWrapper  # with -u, or PYTHONUNBUFFERED
    return make(
        io.BufferedWriter(mine),
        stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering and not stream.write_through,
    )
