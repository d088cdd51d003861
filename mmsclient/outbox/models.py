"""What the outbox speaks of: orders, their recipients, counts."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from mmsclient._store.outbox import OutboxState
from mmsclient.errors import MMSError
from mmsclient.models import SentBatch

__all__ = ["OutboxCounts", "OutboxRecipient", "OutboxResult", "OutboxState"]


@frozen(kw_only=True)
class OutboxRecipient:
    """One recipient of an order."""

    number: str
    """In E.164."""
    state: OutboxState
    """That of its order, unless the answer tells more of it: accepted, refused or unknown."""
    message_id: str | None = None
    """The message's id; None where there is none, also for one accepted that the API did not list."""
    proven: bool = False
    """It is accepted by a delivery report or a reply under this id, since no answer told."""


@frozen(kw_only=True)
class OutboxResult:
    """An order, and what has become of it so far."""

    key: str
    state: OutboxState
    recipients: tuple[OutboxRecipient, ...] = field(repr=False)
    sent: SentBatch | None
    """What the API answered for this order, as `send` returns it; None as long as there is no answer. `credits_used` is
    None where other orders were in the same call. `raw` is without the list of messages, each of which has its own.
    Where it was sent again after an answer: what all its answers told, `raw` being the last one's, and `credits_used`
    the sum. Where it is `proven`, no answer told, and this is what reports and replies have told so far."""
    error: MMSError | None
    """Why it was refused, is unknown, or was not sent yet; None where nothing went wrong."""
    put_at: datetime
    """When it was put, in UTC, as all times here; by the database's clock in PostgreSQL."""
    not_before: datetime | None
    sent_at: datetime | None
    """When its last call was about to leave; None before the first."""
    ended_at: datetime | None
    """When it came into a state that lasts."""
    attempts: int
    """Calls that it was in."""
    number: int | None
    """Its place among all ends of the outbox, for `Outbox.results(after=…)`; None as long as it has not ended."""

    @property
    def is_over(self) -> bool:
        """It is neither waiting nor sending."""
        return self.state.is_over

    def __str__(self) -> str:
        return f"{self.key}: {self.state}" + (f": {self.error}" if self.error is not None else "")


@frozen(kw_only=True)
class OutboxCounts:
    """How many orders are in each state."""

    waiting: int = 0
    sending: int = 0
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    cancelled: int = 0
    oldest_due: datetime | None = None
    """Since when the oldest order could have been sent that is waiting, in UTC; None where none is due."""
