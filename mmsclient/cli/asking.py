"""What a person at the terminal is asked."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

__all__ = ["answer", "is_on_terminal"]


def is_on_terminal() -> bool:
    """There is somebody who can be asked."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stdout.isatty())


def answer(question: str) -> str:
    """What the person says; nothing at the end of the input. Ctrl-C ends the command at once.

    What was typed before the question could be read is no answer to it, and is dropped.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the loop's would wait for Enter
    try:
        _drop_what_was_typed()
        return input(question).strip().lower()
    except (EOFError, UnicodeDecodeError):
        print()
        return ""
    except KeyboardInterrupt:
        print()
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def _drop_what_was_typed() -> None:
    try:
        import termios  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    with suppress(termios.error, OSError, ValueError):  # no terminal
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
