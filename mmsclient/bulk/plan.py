"""What a run is going to do, told before its first call."""

from __future__ import annotations

from attrs import field, frozen

from mmsclient._store.models import RecipientState, number_of
from mmsclient._store.protocol import SenderJournal
from mmsclient._words import counted

__all__ = ["Plan", "Sample", "plan_of"]

SAMPLES = 3
"""Messages that are shown."""


@frozen(kw_only=True)
class Sample:
    """What a recipient is going to get, of a message of its own."""

    number: str
    text: str
    """As it goes out."""
    subject: str | None


@frozen(kw_only=True)
class Plan:
    """What a run is going to do."""

    recipients: int
    """To be sent to."""
    messages: int
    """Different ones, by text, subject and picture: 1 where all get the same."""
    calls: int
    """At least: more where a call is tried again or cut in halves."""
    seconds: float | None
    """That so many calls take at the client's rate, or so many recipients at `recipients_per_minute`, inside the hours
    of the campaign; None where there is neither."""
    samples: tuple[Sample, ...] = field(default=(), repr=False)
    """Where each gets a message of its own: the texts of the first recipients."""

    def __str__(self) -> str:
        messages = f", {counted(self.messages, 'different message')}" if self.messages > 1 else ""
        took = "" if self.seconds is None else f", which take {self.seconds:,.0f} s at least"
        return f"{counted(self.recipients, 'recipient')}{messages}: {counted(self.calls, 'call')}{took}"


def plan_of(
    journal: SenderJournal, batch_size: int, rate: float | None, per_minute: int | None, tests: int = 0
) -> Plan:
    """What a run with `journal` is going to do. Walks through all recipients.

    Args:
        journal: With the whole list.
        batch_size: Recipients a call, at the most.
        rate: Calls a second, None for no limit.
        per_minute: Recipients, None for no limit.
        tests: Recipients of these that are sent to first, in calls of their own.
    """
    messages, calls = journal.reader.calls_ahead(batch_size)
    samples = journal.reader.first_messages(SAMPLES)
    recipients = journal.counts[RecipientState.PENDING] + journal.counts[RecipientState.FAILED]
    if tests and not samples:
        calls = -(-tests // batch_size) + -(-(recipients - tests) // batch_size)
    at_the_cap = None if rate is None else calls / rate
    return Plan(
        recipients=recipients,
        messages=messages,
        calls=calls,
        seconds=at_the_cap if per_minute is None else max(at_the_cap or 0.0, 60 * recipients / per_minute),
        samples=tuple(
            Sample(number=number_of(phone), text=message.text, subject=message.subject or None)
            for phone, message in samples
        ),
    )
