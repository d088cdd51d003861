"""What a campaign in a terminal is kept from: a wrong list, a wrong price, a message that nobody has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from mmsclient._words import counted
from mmsclient.bulk import CampaignOptions, Recipient
from mmsclient.bulk.brake import MOST
from mmsclient.cli.asking import is_on_terminal
from mmsclient.cli.whole import WHOLE
from mmsclient.cli.words import words_of

__all__ = ["UNLIMITED", "UNSAID", "Approval", "Limits", "SafeguardOptions"]


class Approval:
    """The yes of a person to the test messages, who is asked between two runs: nothing is held meanwhile."""

    def __init__(self) -> None:
        self.is_given: bool = False
        self.asked_about: int = 0
        """Test messages that wait for it."""

    async def __call__(self, recipients: Sequence[Recipient]) -> bool:
        """Whether they were approved; as `approve_test` of a campaign."""
        self.asked_about = 0 if self.is_given else len(recipients)
        return self.is_given

    def question(self, others: int) -> str:
        """What the person is asked."""
        tests = counted(self.asked_about, "test message")
        return f"Sent {tests}: look at the phone. Send to the other {counted(others, 'recipient')}? [y/N] "


@Parameter(name="*", group=Group("Safeguards"))
@dataclass(frozen=True, kw_only=True)
class Limits:
    """What it may cost, and how carefully it begins."""

    max_credits: float | None = None
    """Credits that all runs of the campaign together may cost; it stops before the call that would pass them."""
    credits_per_message: float = 1.0
    """What a message, or a part of an SMS, is taken to cost until an answer tells more."""
    require_credit: Annotated[bool, Parameter(show_default=False)] = False
    """Send to nobody where the balance is too small for the list."""
    slow_start: Annotated[int, WHOLE] = 1
    """Calls that must be answered well, one after the other, before there are several at a time."""
    max_concurrency: Annotated[int, WHOLE] = MOST
    """Calls under way at the most."""
    no_account_check: Annotated[bool, Parameter(show_default=False)] = False
    """Do not ask for the account before the first call."""

    def of_campaign(self) -> CampaignOptions:
        """Those of `AsyncMMSClient.campaign`."""
        return {
            "max_credits": self.max_credits,
            "credits_per_message": self.credits_per_message,
            "require_credit": self.require_credit,
            "slow_start": self.slow_start,
            "max_concurrency": self.max_concurrency,
            "check_account": not self.no_account_check,
        }

    def in_words(self) -> list[str]:
        """As arguments of a command that goes on."""
        names = ("max_credits", "credits_per_message", "slow_start", "max_concurrency")
        changed = [name for name in names if getattr(self, name) != getattr(UNLIMITED, name)]
        return words_of(
            {
                "--require-credit": self.require_credit,
                "--no-account-check": self.no_account_check,
                **{f"--{name.replace('_', '-')}": getattr(self, name) for name in changed},
            }
        )


UNLIMITED: Limits = Limits()
"""Where none of them was given."""


@Parameter(name="*", group=Group("Safeguards"))
@dataclass(frozen=True, kw_only=True)
class SafeguardOptions(Limits):
    """What must be so before everybody gets it."""

    test: Annotated[list[str] | None, Parameter(name="--test", negative=(), show_default=False)] = None
    """Number that is sent to first; may be given again. On a terminal you are asked then whether to go on; with --yes,
    or without a terminal, all others wait until its delivery report is in the journal."""
    test_timeout: float = 600.0
    """Seconds that the reports of the test numbers are waited for. Without them nobody else is sent to."""

    def approval(self, *, is_agreed: bool) -> Approval | None:
        """Who says that the test messages are right; None: their delivery reports. `is_agreed`: with --yes."""
        return Approval() if self.test and not is_agreed and is_on_terminal() else None

    def with_test(self, approval: Approval | None) -> CampaignOptions:
        """Those of `AsyncMMSClient.campaign`."""
        return {
            **self.of_campaign(),
            "test": self.test or (),
            "test_timeout": self.test_timeout,
            "approve_test": approval,
        }

    def waiting(self) -> str:
        """What is told where the reports of the test numbers are waited for."""
        tests = counted(len(self.test or ()), "test number")
        goes, its = ("goes", "its delivery report") if tests.startswith("1 ") else ("go", "their delivery reports")
        return f"{tests} {goes} first: waiting up to {self.test_timeout:g} s for {its}, then the others"

    def in_words(self) -> list[str]:
        """As arguments of a command that goes on."""
        test = "NUMBER" if self.test else None  # a number stands in no line of an error
        return [*words_of({"--test": test}), *super().in_words()]


UNSAID: SafeguardOptions = SafeguardOptions()
"""Where none of them was given."""
