"""The command on a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.command import COMMAND

CODE = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # so that Ctrl-C means a signal
    "from mmsclient.cli import main; sys.exit(main())"
)


@contextmanager
def on_a_terminal(
    *arguments: str, columns: int = 150, rows: int = 40, **variables: str
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], str], int]]:
    """The command on a terminal; a function that waits for a text on it and returns all that was shown; its end.

    Colours and movements are taken out of what was shown, unless the text that is waited for is "".
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    shown = b""

    def wait_for(text: str) -> str:
        nonlocal shown
        while text.encode() not in shown:
            if not select.select([ours], [], [], 60)[0]:
                raise AssertionError(shown.decode(errors="backslashreplace"))
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the last process on it has ended
                raise AssertionError(shown.decode(errors="backslashreplace")) from None
        return (
            re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="backslashreplace"))
            if text
            else shown.decode(errors="backslashreplace")
        )

    with (
        subprocess.Popen(  # noqa: S603 -- our own command
            [*COMMAND[:-2], "-c", CODE, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**inherited, "TERM": "xterm-256color", **variables},
        ) as process
    ):
        os.close(theirs)
        try:
            yield process, wait_for, ours
        finally:
            process.kill()
            os.close(ours)
