"""How many recipients a campaign may still call, so that it never costs more than `max_credits`.

What counts, and as how much, stands in `mmsclient._store.spending`. A batch keeps room for its recipients until it is
known what became of them, however often it is tried or divided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from mmsclient._store.models import Claim
from mmsclient._store.models import RecipientState as State
from mmsclient._store.spending import CallCost, highest_price
from mmsclient.bulk.control import Stop
from mmsclient.bulk.errors import BudgetReachedError
from mmsclient.bulk.outcome import Next, Outcome
from mmsclient.bulk.weights import Weights
from mmsclient.models import SentBatch

__all__ = ["Budget"]

OVER = "it would have cost more than max_credits"


class Budget:
    """Counts what all runs of a campaign cost, or may have cost.

    Args:
        limit: Credits that they may cost; None for any.
        assumed: Credits that a message of weight 1 costs, as long as no answer tells more.
        weights: Of messages.
    """

    def __init__(self, limit: Decimal | None, assumed: Decimal, weights: Weights) -> None:
        self.limit = limit
        self.weights = weights
        self.price: Decimal = assumed
        """Credits that a message of weight 1 costs, as far as is known."""
        self._told = Decimal(0)
        self._untold = Decimal(0)  # weight of messages that were accepted, or may have been, at an untold price
        self._reserved: dict[int, tuple[int, Decimal]] = {}  # of batches under way: recipients, weight of a message

    @property
    def spent(self) -> Decimal:
        """Credits, those that may have been spent included, and those of calls under way."""
        reserved = sum((count * weight for count, weight in self._reserved.values()), Decimal(0))
        return self._told + self.price * (self._untold + reserved)

    @property
    def left(self) -> Decimal | None:
        """Credits that may still be spent; None for any number."""
        return None if self.limit is None else max(Decimal(0), self.limit - self.spent)

    def add(self, calls: Iterable[CallCost]) -> None:
        """Count calls that have ended."""
        calls = [self.weights.weighed(call) for call in calls]
        self._add(calls)

    def _add(self, calls: Sequence[CallCost]) -> None:
        self.price = highest_price(calls, self.price)
        for call in calls:
            if call.told is not None and call.at(self.price) == call.told:
                self._told += call.told
            else:
                self._untold += call.counted

    def spend(self, credits_used: Decimal) -> None:
        """Count what was spent elsewhere, and is to be within the limit."""
        self._told += credits_used

    def size(self, wanted: int, *, others_under_way: bool) -> int:
        """Recipients that a batch may have which would have `wanted`; 0 while others are under way and too few fit."""
        if self.left is None or self.dearest * wanted <= self.left:
            return wanted
        return 0 if others_under_way else int(self.left // self.dearest)

    @property
    def dearest(self) -> Decimal:
        """Credits that any message of the campaign costs at the most."""
        return self.price * self.weights.heaviest

    def reserve(self, claim: Claim) -> None:
        """A batch starts."""
        self._reserved[claim.batch] = (len(claim.ids), self.weights.of(claim.message))

    def objection(self) -> str:
        """Why no call may leave now, "" where one may."""
        return "" if self.covers_calls() else OVER

    def covers_calls(self) -> bool:
        """There is enough for all that is under way: an answer may tell a higher price than was known before."""
        return self.limit is None or self.spent <= self.limit

    def count(self, batch: int, recipients: int, outcome: Outcome, sent: SentBatch | None) -> None:
        """A call of a batch, to so many recipients, has ended."""
        if outcome.next in (Next.TRY_AGAIN, Next.SPLIT):  # it cost nothing, and those of it are called again
            return
        states = [result.state for result in outcome.results]
        accepted, unknown = states.count(State.ACCEPTED), states.count(State.UNKNOWN)
        told = None if sent is None else sent.credits_used
        reserved, weight = self._reserved.get(batch, (0, Decimal(1)))
        self._reserved[batch] = max(0, reserved - recipients), weight
        cost = CallCost(recipients, False, max(accepted, outcome.accepted), told, accepted, unknown, weight=weight)
        self._add([cost])

    def end(self, batch: int) -> None:
        """A batch has ended."""
        self._reserved.pop(batch, None)

    def stop(self) -> Stop:
        """What ends a campaign before the call that would cost too much."""
        assert self.limit is not None  # noqa: S101
        return Stop(BudgetReachedError(self.limit, self.spent, self.dearest), "before a call that would cost too much")
