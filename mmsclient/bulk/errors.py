"""The errors of campaigns.

MMSError
├── JournalError                 a journal cannot be used; nothing was sent with it
│   ├── JournalBusyError         another process or campaign has it open
│   ├── JournalUnavailableError  it cannot be written for the moment: locked, or the disk is full
│   └── JournalMismatchError     it belongs to another message, host or account
├── SuppressionListError                 a suppression list cannot be used; nothing was sent past it
│   └── SuppressionListUnavailableError  for the moment: locked, the disk is full, or its database is away
├── OptOutsIncompleteError       who has unsubscribed is not known in full; nothing was sent
├── StopRequestedError           another process asked the campaign to stop
└── CampaignStoppedError         it ended before its list did; says how far it got

Like all errors of this package they can be pickled and read as one line.
"""

from __future__ import annotations

from mmsclient._store.errors import (
    JournalBusyError,
    JournalError,
    JournalMismatchError,
    JournalUnavailableError,
    SuppressionListError,
    SuppressionListUnavailableError,
)
from mmsclient.bulk.report import Report
from mmsclient.errors import MMSError, one_line

__all__ = [
    "CampaignStoppedError",
    "JournalBusyError",
    "JournalError",
    "JournalMismatchError",
    "JournalUnavailableError",
    "OptOutsIncompleteError",
    "StopRequestedError",
    "SuppressionListError",
    "SuppressionListUnavailableError",
]


class OptOutsIncompleteError(MMSError):
    """The API's list of those who unsubscribed ended early, or holds numbers that cannot be read. Nothing was sent."""

    problem: str
    """What is wrong with the list."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f"opt-outs: {problem}; nothing was sent, since somebody who unsubscribed might get the message"
            " (partial_opt_outs=True sends all the same)"
        )


class StopRequestedError(MMSError):
    """Another process asked the campaign to stop, by `bulk.stop` or `mmsclient bulk stop`."""

    by: str
    """That process and its machine."""

    def __init__(self, by: str) -> None:
        self.by = one_line(by, 300)
        super().__init__(f"a stop was asked for by {self.by}")


class CampaignStoppedError(MMSError):
    """The campaign ended before its list did: every call would have failed, too many in a row did, or it was told to.

    What was accepted is recorded; the rest stays `pending` or `failed` and goes out when the campaign is resumed.
    """

    error: MMSError
    """What the last call of it failed with, or a `StopRequestedError`."""
    report: Report
    """How far it got."""

    def __init__(self, error: MMSError, report: Report, why: str) -> None:
        self.error = error
        self.report = report
        counts = ", ".join(f"{count} {state}" for state, count in report.counts.items() if count)
        super().__init__(one_line(f"the campaign stopped {why}: {error}; so far {counts or 'no recipients'}", 1000))
