"""How the command ends: its exit statuses, and the line on stderr that goes with them."""

from __future__ import annotations

import sys
from enum import IntEnum

from mmsclient.errors import ConfigurationError, InvalidRequestError, OutcomeUnknownError, one_line

LONGEST_LINE = 2000


class Status(IntEnum):
    """Exit statuses; Ctrl-C is 130."""

    DONE = 0
    FAILED = 1
    WRONG_USAGE = 2
    PARTLY_ACCEPTED = 3
    OUTCOME_UNKNOWN = 4
    OUTPUT_LOST = 141
    """What was asked was done and could not be printed; also what shells report of a program ended by a closed pipe."""


class UsageError(Exception):
    """An option's value cannot be used."""


def of_error(error: Exception) -> Status:
    """The exit status that tells a script what kind of error it was."""
    match error:
        case UsageError() | ConfigurationError() | InvalidRequestError():
            return Status.WRONG_USAGE
        case OutcomeUnknownError():
            return Status.OUTCOME_UNKNOWN
        case _:
            return Status.FAILED


def complain(message: str) -> None:
    """One line on stderr, whatever `message` holds."""
    print(f"mmsclient: {one_line(message, LONGEST_LINE)}", file=sys.stderr)
