"""What is told of the worker of an outbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum

from mmsclient.observe.around_calls import OrdersClaimed, OrdersDue, OrdersEnded, OrdersLost
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
        if self._emit is not None:
            self._emit(OrdersClaimed(claim=claim, outbox=self._outbox, orders=orders, recipients=recipients))

    def ended(self, claim: str, states: Iterable[Enum], seconds: float, error: BaseException | None) -> None:
        """It is over, and its orders have come into these states."""
        if self._emit is not None:
            counts = Counter(str(state.value) for state in states)
            told, failure = self._outbox, class_of(error)
            self._emit(OrdersEnded(claim=claim, outbox=told, counts=counts, seconds=seconds, error=failure))

    def due(self, orders: int, oldest: float, unknown: int) -> None:
        """So many orders wait whose time has come, the oldest for so many seconds, and so many are unknown."""
        if self._emit is not None:
            self._emit(OrdersDue(outbox=self._outbox, orders=orders, oldest=oldest, unknown=unknown, error=None))

    def uncounted(self, error: BaseException | None) -> None:
        """What is due is not known any more: it could not be counted, or the worker has ended. None: it was stopped."""
        if self._emit is not None:
            failure = class_of(error)
            self._emit(OrdersDue(outbox=self._outbox, orders=None, oldest=None, unknown=None, error=failure))

    def lost(self, orders: int) -> None:
        """A worker is gone that was sending so many."""
        if self._emit is not None:
            self._emit(OrdersLost(outbox=self._outbox, orders=orders))
