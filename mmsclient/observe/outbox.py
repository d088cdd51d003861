"""What is told of the worker of an outbox."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from threading import Lock
from weakref import WeakValueDictionary

from attrs import define

from mmsclient.observe.around_calls import OrdersClaimed, OrdersDue, OrdersEnded, OrdersLost
from mmsclient.observe.observer import Emit, class_of

__all__ = ["WorkerObserver"]


@define(eq=False)
class _Use:
    """The use of a name, as long as this is there."""

    identity: str


_uses: WeakValueDictionary[tuple[str, int], _Use] = WeakValueDictionary()
"""The names of the outboxes of this process, each with its number among those of the same name."""
_lock = Lock()


def _use(name: str, identity: str) -> tuple[str, _Use]:
    """What an outbox is called: `name`, with a number where another one of this process is called so already."""
    with _lock:
        number = 1
        while (use := _uses.get((name, number))) is not None and use.identity != identity:
            number += 1
        if use is None:
            use = _uses[name, number] = _Use(identity)
    return name if number == 1 else f"{name} ({number})", use


class WorkerObserver:
    """Tells the observers of one worker, if there are any.

    Args:
        emit: Tells the observers; None where there are none.
        shown: The outbox, as errors show it. Observers are told the last part alone.
        identity: Tells it from any other. Never told.
    """

    def __init__(self, emit: Emit | None, shown: str, identity: str) -> None:
        self._emit = emit
        self._outbox = ""
        self._name_use: _Use | None = None
        if emit is not None:
            self._outbox, self._name_use = _use(os.path.basename(shown), identity)

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
        """What is due is not known any more: it could not be counted."""
        if self._emit is not None:
            failure = class_of(error)
            self._emit(OrdersDue(outbox=self._outbox, orders=None, oldest=None, unknown=None, error=failure))

    def over(self, error: BaseException | None) -> None:
        """The worker has ended, by an error or by being stopped, and tells nothing more."""
        self.uncounted(error)
        self._name_use = None

    def lost(self, orders: int) -> None:
        """A worker is gone that was sending so many."""
        if self._emit is not None:
            self._emit(OrdersLost(outbox=self._outbox, orders=orders))
