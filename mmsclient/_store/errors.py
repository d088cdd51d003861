"""The errors of journals and suppression lists; `mmsclient.bulk.errors` draws the tree."""

from __future__ import annotations

import os

from mmsclient.errors import MMSError, one_line

__all__ = [
    "JournalBusyError",
    "JournalError",
    "JournalMismatchError",
    "JournalUnavailableError",
    "SuppressionListError",
    "SuppressionListUnavailableError",
]


class JournalError(MMSError):
    """A journal cannot be opened, read or written. A file that is no journal is left as it is."""

    path: str
    """The journal's file, "" for one in memory."""
    problem: str
    """What is wrong, and what to do."""

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        self.path = one_line(os.fspath(path), 500)
        self.problem = one_line(problem, 500)
        super().__init__(f"journal {self.path}: {self.problem}" if self.path else f"journal in memory: {self.problem}")


class JournalBusyError(JournalError):
    """Another process, or another campaign of this one, is sending with this journal."""


class JournalMismatchError(JournalError):
    """The journal belongs to a campaign with another text, subject or image, at another host, or of another APPKEY."""


class JournalUnavailableError(JournalError):
    """The journal cannot be written at present: another program has locked it for long, or the disk is full.

    Where calls had ended that it did not take, `problem` says how, and so does the log.
    """


class SuppressionListError(MMSError):
    """A suppression list cannot be opened, read or written. Nothing is sent past a list that cannot be asked."""

    path: str
    """The list's file, or host and database."""
    problem: str
    """What is wrong, and what to do."""

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        self.path = one_line(os.fspath(path), 500)
        self.problem = one_line(problem, 500)
        super().__init__(f"suppression list {self.path}: {self.problem}")


class SuppressionListUnavailableError(SuppressionListError):
    """The list cannot be used at present: it is locked for long, its disk is full, or its database is away."""
