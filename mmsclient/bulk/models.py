"""What campaigns speak of: states, recipients, batches, progress."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from attrs import field, frozen

from mmsclient._store.models import Exclusion, Recipient, RecipientState
from mmsclient._words import counted
from mmsclient.errors import MMSError
from mmsclient.models import SentBatch

__all__ = ["Batch", "Counts", "Exclusion", "Progress", "Recipient", "RecipientState", "UnknownRecipients"]


class Counts(dict[RecipientState, int]):
    """Recipients in each state. Printed, those states that have any."""

    def __repr__(self) -> str:
        return ", ".join(f"{count} {state}" for state, count in self.items() if count) or "none"


@frozen(kw_only=True)
class UnknownRecipients:
    """What is known of the recipients whose outcome no answer told."""

    count: int = 0
    """Still `unknown`."""
    since: datetime | None = None
    """When the first of their calls began, in UTC."""
    heard_of: int = 0
    """Of these, something was heard that proves nothing: too late, or under an id that was named for somebody else."""
    proven: int = 0
    """Recipients that a report or a reply has made `accepted`."""
    accepted: int = 0
    """Named as accepted by the answers of those runs that left somebody unknown."""
    reported: int = 0
    """Of these, reported on by number: so much is silence worth."""
    unaccounted_credits: Decimal | None = None
    """A hint: credits by which the balance fell during the runs, beyond what the answers named. Other sends of the
    account count here too. None where `check_balance` was not asked for or told nothing."""
    objection: str = ""
    """Why `resend_unknown="silent"` does not send to all who have been silent for long, "" where it does."""

    @property
    def reported_share(self) -> float | None:
        """`reported` of `accepted`, from 0 to 1; None where nobody was."""
        return self.reported / self.accepted if self.accepted else None


@frozen(kw_only=True)
class Progress:
    """How far a campaign is."""

    counts: Mapping[RecipientState, int]
    """Recipients in each state, earlier runs included."""
    list_read: bool
    """The list was read to its end, so that the counts hold all of it."""
    calls: int
    """Calls of this run."""
    calls_per_second: float
    """Lately."""
    credits_used: Decimal
    """By all runs of the campaign, as far as the API said."""
    seconds_left: float | None
    """At the present rate; None until there is one, and while the list is being read. Closed hours are not in it."""
    waits_until: datetime | None = None
    """When it goes on, in the zone of its window; None while it is not waiting for that."""
    concurrency: int = 1
    """Calls that may be under way at once at present: 1 in the slow start, and after an unknown outcome."""
    credits_left: Decimal | None = None
    """What `max_credits` leaves, calls under way and unknown recipients taken off; None without it."""
    rate: float | None = None
    """Calls a second that the limiter allows at present; None where it names no rate."""
    throttled: int = 0
    """Calls of this run that the API refused as over the cap; they are made again."""


@frozen(kw_only=True)
class Batch:
    """One call of a campaign and what came of it."""

    number: int
    """In the journal; calls that follow have higher numbers."""
    recipients: tuple[str, ...] = field(repr=False)
    accepted: int
    """Recipients that the API accepted."""
    refused: tuple[str, ...] | None = field(repr=False)
    """Those it refused; None where some were and the answer does not tell which: these are `unknown`."""
    error: MMSError | None
    """Why the call failed, None where it did not."""
    sent: SentBatch | None = field(repr=False)
    """The answer, None where the call failed."""
    progress: Progress = field(repr=False)
    """How far the campaign was when it had been recorded."""

    def __str__(self) -> str:
        said = f": {self.error}" if self.error is not None else ""
        return f"batch {self.number}: {self.accepted} of {counted(len(self.recipients), 'recipient')} accepted{said}"
