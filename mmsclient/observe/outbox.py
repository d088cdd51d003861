"""What is told of the worker of an outbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum

from mmsclient.observe.around_calls import OrdersClaimed, OrdersDue, OrdersEnded, OrdersLost
from mmsclient.observe.events import Event
from mmsclient.observe.observer import Emit, class_of

__all__ = ["WorkerObserver"]


class WorkerObserver:
    """Tells the observers of one worker, if there are any.

    Args:
        emit: Tells the observers; None where there are none.
        outbox: Its name.
    """

    def __init__(self, emit: Emit | None, outbox: str) -> None:
        self._emit = emit
        self._outbox = outbox

    @property
    def is_told(self) -> bool:
        """There are observers."""
        return self._emit is not None

    def claimed(self, claim: str, orders: int, recipients: int) -> None:
        """The call of a claim begins, in the task that this is called in."""
        self._tell(OrdersClaimed(claim=claim, outbox=self._outbox, orders=orders, recipients=recipients))

    def ended(self, claim: str, states: Iterable[Enum], seconds: float, error: BaseException | None) -> None:
        """It is over, and its orders have come into these states."""
        counts = Counter(str(state.value) for state in states)
        self._tell(OrdersEnded(claim=claim, outbox=self._outbox, counts=counts, seconds=seconds, error=class_of(error)))

    def due(self, orders: int, oldest: float) -> None:
        """So many orders wait whose time has come, the oldest for so many seconds."""
        self._tell(OrdersDue(outbox=self._outbox, orders=orders, oldest=oldest))

    def lost(self, orders: int) -> None:
        """A worker is gone that was sending so many."""
        self._tell(OrdersLost(outbox=self._outbox, orders=orders))

    def _tell(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)
