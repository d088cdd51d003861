"""What campaigns speak of: states, recipients, batches, progress."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from attrs import frozen

from mmsclient.errors import MMSError
from mmsclient.models import DeliveryStatus, SentBatch


class RecipientState(StrEnum):
    """What became of a recipient. Each is in exactly one state."""

    PENDING = "pending"
    """To be sent."""
    SENDING = "sending"
    """Its call is under way, or the process died while it was."""
    ACCEPTED = "accepted"
    """The API took it for delivery."""
    REFUSED = "refused"
    """The API refused it, or the call that it was in. Not sent again."""
    FAILED = "failed"
    """Surely not sent: throttled, or the call never left. Sent when the campaign is resumed."""
    UNKNOWN = "unknown"
    """It may have been sent. Not sent again unless you say so."""
    EXCLUDED = "excluded"
    """Set aside before sending; `Exclusion` says why."""


class Exclusion(StrEnum):
    """Why a recipient was set aside."""

    INVALID = "invalid"
    """No phone number."""
    DUPLICATE = "duplicate"
    """The same phone stood in the list before."""
    OPTED_OUT = "opted out"
    """The API lists it as unsubscribed."""
    LISTED = "listed"
    """It stands in `exclude=`."""


@frozen(kw_only=True)
class Recipient:
    """One recipient of a campaign, and what became of it."""

    number: str
    """As it goes out (`+61400000000`); as you wrote it where it is invalid or a duplicate."""
    state: RecipientState
    line: int
    """Where it stands in the list: the line of a CSV file, else its place from 1."""
    message_id: str | None = None
    """The message's id; None where there is none, also for one accepted that the API did not list."""
    exclusion: Exclusion | None = None
    """Why it was set aside, None where it was not."""
    reason: str | None = None
    """What is to be said about its state, in words."""
    batch: int | None = None
    """The number of the call that it last went into."""
    delivery: DeliveryStatus | None = None
    """What the last delivery report said of it, None where none came."""
    reported_at: datetime | None = None
    """When that report came, in UTC."""


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
    """At the present rate; None until there is one, and while the list is being read."""


@frozen(kw_only=True)
class Batch:
    """One call of a campaign and what came of it."""

    number: int
    """In the journal; calls that follow have higher numbers."""
    recipients: tuple[str, ...]
    accepted: int
    """Recipients that the API accepted."""
    refused: tuple[str, ...] | None
    """Those it refused; None where some were and the answer does not tell which: these are `unknown`."""
    error: MMSError | None
    """Why the call failed, None where it did not."""
    sent: SentBatch | None
    """The answer, None where the call failed."""
    progress: Progress
    """How far the campaign was when it had been recorded."""
