"""The errors of campaigns.

MMSError
├── JournalError                 a journal cannot be used; nothing was sent with it
│   ├── JournalBusyError         another process or campaign has it open
│   └── JournalMismatchError     it belongs to another message
└── CampaignStoppedError         it ended before its list did; says how far it got

Like all errors of this package they can be pickled and read as one line.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mmsclient.errors import MMSError, one_line

if TYPE_CHECKING:
    from mmsclient.bulk.report import Report


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
    """The journal belongs to a campaign with another text, subject or image."""


class CampaignStoppedError(MMSError):
    """The campaign ended before its list did: every call would have failed, or too many in a row did.

    What was accepted is recorded; the rest stays `pending` or `failed` and goes out when the campaign is resumed.
    """

    error: MMSError
    """What the last call of it failed with."""
    report: Report
    """How far it got."""

    def __init__(self, error: MMSError, report: Report, why: str) -> None:
        self.error = error
        self.report = report
        counts = ", ".join(f"{count} {state}" for state, count in report.counts.items() if count)
        super().__init__(one_line(f"the campaign stopped {why}: {error}; so far {counts or 'no recipients'}", 1000))
