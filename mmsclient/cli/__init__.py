"""The command `mmsclient`. Needs the extra `cli`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from mmsclient._extras import needed
from mmsclient.cli import stdio
from mmsclient.cli.status import Status, complain, of_error, output_lost
from mmsclient.errors import ConfigurationError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (those of the process if left out) and answer its exit status."""
    with stdio.owned():
        return _ended(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> Status:
    try:
        with needed("cli", "the command"):
            from mmsclient.cli.app import run  # noqa: PLC0415 -- without the extra, say how to install it

        return Status(run(arguments))
    except ConfigurationError as error:
        complain(str(error))
        return of_error(error)
    except KeyboardInterrupt:
        return Status.INTERRUPTED


def _ended(status: Status) -> Status:
    """`status`, once everything is printed. After a signal a reader that does not read is not waited for."""
    seconds = stdio.GRACE if status.is_of_signal else None
    try:
        stdio.STDOUT.submit(sys.stdout.flush).result(seconds)
        stdio.STDERR.submit(stdio.end_stderr).result(seconds)
    except stdio.OutputLostError as error:
        lost = output_lost(error)
        return _ended(status or lost)
    except TimeoutError:
        os._exit(status)  # a thread hangs in a write, and the interpreter would wait for its lock
    except KeyboardInterrupt:
        os._exit(Status.INTERRUPTED)
    return status
