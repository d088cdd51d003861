"""On the command line: what those get as an SMS whose MMS did not arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attrs import evolve
from cyclopts import Group, Parameter

from mmsclient._store.stores import JournalStore, is_url, store_at
from mmsclient._threads import STORES
from mmsclient.bulk import CampaignOptions, Report, SMSFallback
from mmsclient.cli.status import UsageError
from mmsclient.cli.words import words_of

__all__ = ["AS_THE_MMS", "NO_FALLBACK", "FallbackMessage", "FallbackOptions", "fallback_facts"]


@Parameter(name="*", group=Group("Fallback"))
@dataclass(frozen=True, kw_only=True)
class FallbackMessage:
    """An SMS to those whose MMS ends Failed, Rejected or Expired by its delivery report, once."""

    fallback_text: str | None = None
    """In place of the text of the MMS."""
    fallback_sender: str | None = None
    """Whom the SMS comes from."""
    fallback_max_credits: float | None = None
    """Credits that the SMS may cost. Left out: what --max-credits leaves."""

    def given(self) -> SMSFallback:
        """As a campaign takes it."""
        return SMSFallback(text=self.fallback_text, sender=self.fallback_sender, max_credits=self.fallback_max_credits)

    def in_words(self) -> list[str]:
        """As arguments of a command that goes on."""
        return words_of(
            {
                "--fallback-text": self.fallback_text,
                "--fallback-sender": self.fallback_sender,
                "--fallback-max-credits": self.fallback_max_credits,
            }
        )


AS_THE_MMS: FallbackMessage = FallbackMessage()
"""Where none of them was given."""


@Parameter(name="*", group=Group("Fallback"))
@dataclass(frozen=True, kw_only=True)
class FallbackOptions(FallbackMessage):
    """Whether a campaign sends it."""

    fallback: Literal["sms"] | None = None
    """Send them the text as an SMS, when everybody was sent to. Needs a receiver that records into the journal."""
    fallback_wait: float = 600.0
    """Seconds after its last answer that a run waits for delivery reports."""

    def given(self) -> SMSFallback:
        """As a campaign takes it."""
        return evolve(super().given(), wait=self.fallback_wait)

    def of_campaign(self) -> CampaignOptions:
        """Those of `AsyncMMSClient.campaign`."""
        if self.fallback is None and self != NO_FALLBACK:
            raise UsageError("--fallback-...: say --fallback sms, too")
        return {"fallback": None if self.fallback is None else self.given()}

    @property
    def is_asked(self) -> bool:
        """It is to be sent."""
        return self.fallback is not None

    async def check(self, journal: str, name: str | None) -> None:
        """Raise `JournalError` where the file of the SMS is gone or is no journal, before the first MMS."""
        if self.is_asked and not is_url(journal):  # a database holds both
            await STORES.run(_check, store_at(journal, name))

    def in_words(self) -> list[str]:
        """As arguments of a command that goes on."""
        wait = None if self.fallback_wait == NO_FALLBACK.fallback_wait else self.fallback_wait
        return [*words_of({"--fallback": self.fallback}), *super().in_words(), *words_of({"--fallback-wait": wait})]


def _check(store: JournalStore) -> None:
    if store.exists():
        store.check_fallback()
        if store.fallback.exists():
            store.fallback.open_reader().close()


NO_FALLBACK: FallbackOptions = FallbackOptions()
"""Where none of them was given."""


def fallback_facts(found: Report) -> dict[str, str]:
    """How those were sent to whose MMS did not arrive; nothing where none was."""
    return {} if found.fallback is None else {"By SMS": str(found.fallback)}
