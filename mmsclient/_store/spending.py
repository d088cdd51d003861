"""What the calls of a campaign cost, or may have cost. Rules that no engine changes.

The API documents no price (api-notes.md section 3, send-mms), but that an SMS is paid by the part: so a message has a
weight, 1 for an MMS: `credits_used` of an answer tells what its call cost.
Where no answer tells, each recipient that was accepted, or may have been, counts as the price of a message: the highest
that an answer told, and at least the one that is assumed. A call whose end was not recorded, or whose outcome is
unknown, may have cost that for each of its recipients, whatever became of them since; one that was surely not carried
out cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Self

from attrs import frozen

__all__ = ["CallCost", "highest_price"]


@frozen
class CallCost:
    """A call of a campaign, as far as its cost goes."""

    recipients: int
    is_open: bool
    """Its end was not recorded, or its outcome is unknown."""
    accepted: int
    """How many the API accepted."""
    told: Decimal | None
    """Credits that the answer named."""
    taken: int = 0
    """Recipients that are accepted."""
    doubtful: int = 0
    """Recipients that may have been accepted."""
    text: str | None = None
    """What they got, where each of the campaign has a text of its own."""
    weight: Decimal = Decimal(1)
    """Of a message: 1, or what the parts of its text count."""

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Self:
        """As an engine's query gives it."""
        recipients, is_open, accepted, told, taken, doubtful, text = row
        credits_told = Decimal(told) if told else None
        return cls(recipients, bool(is_open), int(accepted), credits_told, int(taken), int(doubtful), text)

    @property
    def counted(self) -> Decimal:
        """Recipients that it may have cost something for, each with the weight of its message."""
        return self.weight * (self.recipients if self.is_open else max(self.accepted, self.taken + self.doubtful))

    @property
    def price(self) -> Decimal | None:
        """Credits for a message of weight 1, by what the answer told; None where it told nothing."""
        return self.told / (self.accepted * self.weight) if self.told is not None and self.accepted else None

    def at(self, price: Decimal) -> Decimal:
        """Credits that it cost, or may have cost, where a message costs `price`."""
        if self.told is not None and not self.is_open and not self.doubtful:
            return self.told
        return max(self.told or Decimal(0), price * self.counted)


def highest_price(calls: Iterable[CallCost], assumed: Decimal) -> Decimal:
    """The highest price of a message that an answer told; `assumed`, where that is more or none told any."""
    return max((price for call in calls if (price := call.price) is not None), default=assumed).max(assumed)
