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
├── BudgetReachedError           another call would cost more than `max_credits`; in a CampaignStoppedError
├── BalanceTooLowError           the account has too little for `require_credit`; in a CampaignStoppedError
├── DeliveryTestError            a message of `test=` did not arrive; in a CampaignStoppedError
└── CampaignStoppedError         it ended before its list did; says how far it got

Like all errors of this package they can be pickled and read as one line.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from mmsclient._store.errors import (
    JournalBusyError,
    JournalError,
    JournalMismatchError,
    JournalUnavailableError,
    SuppressionListError,
    SuppressionListUnavailableError,
)
from mmsclient._store.models import Recipient
from mmsclient._words import counted
from mmsclient.bulk.report import Report
from mmsclient.errors import MMSError, one_line

__all__ = [
    "BalanceTooLowError",
    "BudgetReachedError",
    "CampaignStoppedError",
    "DeliveryTestError",
    "DeliveryTestFlaw",
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


class BudgetReachedError(MMSError):
    """Another call would cost more than `max_credits`. It was not made; a higher limit lets the campaign go on."""

    max_credits: Decimal
    """What the campaign may cost, over all its runs."""
    spent: Decimal
    """Credits that it cost, or may have cost: those of unknown recipients count."""
    credits_per_message: Decimal
    """What a message is taken to cost."""

    def __init__(self, max_credits: Decimal, spent: Decimal, credits_per_message: Decimal) -> None:
        self.max_credits = max_credits
        self.spent = spent
        self.credits_per_message = credits_per_message
        super().__init__(
            f"max_credits: {spent} of {counted(max_credits, 'credit')} are spent, or may be, and a message costs"
            f" {credits_per_message}; a higher limit lets it go on"
        )


class BalanceTooLowError(MMSError):
    """The account's balance is less than the campaign needs, or not told. Nobody was sent to."""

    needed: Decimal
    """Credits that those to be sent to cost, as far as is known."""
    balance: Decimal | None
    """Credits that the account has, None where the API did not tell."""

    def __init__(self, needed: Decimal, balance: Decimal | None) -> None:
        self.needed = needed
        self.balance = balance
        has = "does not tell its balance" if balance is None else f"has {counted(balance, 'credit')}"
        super().__init__(f"the account {has}, and the campaign needs about {needed}; top up the account")


class DeliveryTestFlaw(StrEnum):
    """Why a campaign stopped at its test messages."""

    NOT_ACCEPTED = "not accepted"
    """One was refused, excluded, or not sent."""
    NOT_DELIVERED = "not delivered"
    """A delivery report says that one did not arrive."""
    NO_REPORT = "no report"
    """No delivery report came within `test_timeout`."""
    NOT_APPROVED = "not approved"
    """`approve_test` said no."""


class DeliveryTestError(MMSError):
    """A message of `test=` did not arrive, as far as is known, and nobody else was sent to.

    The next run looks again: a report that has come meanwhile counts, and without `test` the campaign goes on.
    """

    flaw: DeliveryTestFlaw
    """What went wrong."""
    recipients: tuple[Recipient, ...]
    """What became of each of the numbers."""

    def __init__(self, flaw: DeliveryTestFlaw, recipients: tuple[Recipient, ...]) -> None:
        self.flaw = flaw
        self.recipients = recipients
        said = {
            DeliveryTestFlaw.NOT_ACCEPTED: "a test message was not accepted",
            DeliveryTestFlaw.NOT_DELIVERED: "a test message was not delivered",
            DeliveryTestFlaw.NO_REPORT: "no report says in time that the test messages arrived",
            DeliveryTestFlaw.NOT_APPROVED: "the test messages were not approved",
        }
        super().__init__(f"test: {said[flaw]}; nobody else was sent to")


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
