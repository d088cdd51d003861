"""How the command ends: its exit statuses, and the line on stderr that goes with them."""

from __future__ import annotations

import errno
import sys
from enum import IntEnum

from mmsclient.cli import stdio
from mmsclient.errors import (
    ConfigurationError,
    InvalidRequestError,
    KeyReusedError,
    OutcomeUnknownError,
    SendInProgressError,
    one_line,
)
from mmsclient.models import SentBatch

LONGEST_LINE = 2000


class Status(IntEnum):
    """Exit statuses, and what each means. `bulk` speaks of the whole campaign, earlier runs included, and
    `bulk fallback` of its SMS."""

    DONE = 0
    FAILED = 1
    WRONG_USAGE = 2
    PARTLY_ACCEPTED = 3
    OUTCOME_UNKNOWN = 4
    STOPPED = 5
    HANGUP = 129
    INTERRUPTED = 130
    OUTPUT_LOST = 141
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        """What it says of the command."""
        return _MEANINGS[self]

    @classmethod
    def of_signal(cls, number: int) -> Status:
        """What shells report of a program that the signal ended."""
        return cls(128 + number)

    @property
    def is_of_signal(self) -> bool:
        """A signal ended the command."""
        return self in (Status.HANGUP, Status.INTERRUPTED, Status.TERMINATED)

    @classmethod
    def in_words(cls) -> str:
        """All of them in one sentence."""
        return "; ".join(f"{status.value} {status.meaning}" for status in cls)


_MEANINGS = {
    Status.DONE: "done",
    Status.FAILED: "failed, nothing was sent",
    Status.WRONG_USAGE: "wrong usage or input, nothing was sent",
    Status.PARTLY_ACCEPTED: "sent, but some numbers were refused",
    Status.OUTCOME_UNKNOWN: "some of it may have been sent",
    Status.STOPPED: "a part was sent, the rest can be: `bulk resume`, `outbox run`",
    Status.HANGUP: "ended by SIGHUP before it was done",
    Status.INTERRUPTED: "ended by Ctrl-C before it was done",
    Status.OUTPUT_LOST: "done as far as the output could be written",
    Status.TERMINATED: "ended by SIGTERM before it was done",
}


class UsageError(Exception):
    """An option's value cannot be used. `command`: one that can be, told after the message."""

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message)
        self.command: str = command


def of_error(error: Exception) -> Status:
    """The exit status that tells a script what kind of error it was."""
    match error:
        case UsageError() | ConfigurationError() | InvalidRequestError() | KeyReusedError():
            return Status.WRONG_USAGE
        case OutcomeUnknownError() | SendInProgressError():
            return Status.OUTCOME_UNKNOWN
        case _:
            return Status.FAILED


def of_sent(sent: SentBatch) -> Status:
    """The exit status that tells a script whether all numbers were accepted."""
    if not sent.is_partial:
        return Status.DONE
    return Status.PARTLY_ACCEPTED if sent.accepted else Status.FAILED


def output_lost(error: OSError) -> Status:
    """Stdout cannot be written: a reader that has left is no news, anything else is told."""
    stdio.discard(sys.stdout)
    if error.errno != errno.EPIPE:
        complain(f"the output could not be written: {error.strerror}")
    return Status.OUTPUT_LOST


def complain(message: str, command: str = "") -> None:
    """One line on stderr, whatever `message` holds. Neither fails nor waits.

    `command` is to be pasted: `quoted`, it follows unchanged, however long it is.
    """
    stdio.say(_line(message, command))


def complain_last(message: str, command: str = "") -> None:
    """As `complain`, in a process that is about to end: waits for a reader, but not for long."""
    stdio.say_last(_line(message, command))


def _line(message: str, command: str) -> str:
    return f"mmsclient: {one_line(message, LONGEST_LINE)}{command and ' '}{command}"
