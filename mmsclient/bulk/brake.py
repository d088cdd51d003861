"""How many batches of a campaign may be under way, judged by how their answers come. Pure: times are handed in."""

from __future__ import annotations

import math
from collections import deque

WINDOW = 3
"""Batches under way once one was answered: enough to fill the cap where an exchange takes up to 0.16 s."""

MOST = 64
"""Batches under way at the most."""

WAITING = 2
"""Calls that wait for their turn at the limiter: enough to fill the cap, and the fewer of them, the fewer recipients
are `unknown` after a crash though nothing had left."""

SPARE = 1.25
"""How many more calls may be under way than the rate and the shortest exchange need: others take longer."""

NEXT = 1
"""Calls at the limiter, ready for its next grant, beside those that are exchanged or recorded."""

LATELY = 32
"""Answered calls by which the usual time of a call is judged."""

FAR_BEYOND = 3.0
"""How many times the longest of these an answer may take before nothing new starts."""

SHORTEST = 1.0
"""Seconds that an answer may take in any case."""


class Brake:
    """Slow start, a window, and a stop while an answer is overdue.

    What is under way when a server stops answering ends unknown. So one batch goes first; when it is answered well,
    `WINDOW` may be under way. Where these leave room at the limiter unused, the window grows with each answer until the
    rate is reached, as far as the exchanges that were answered are long enough to need more. After a call whose outcome
    is unknown it begins again. What an answer takes to be recorded counts with its exchange, up to as long again: where
    that takes longer, it is the journal that is slow, and more calls under way would only be more to lose.

    A batch keeps its place from `start` to `end`, whatever calls it takes; it has at most one of them under way.

    Args:
        slow_start: Calls that must be answered well, one after the other, before there are several; 0 for none, until
            the first outcome is unknown.
        most: Batches under way at the most.
    """

    def __init__(self, slow_start: int = 1, most: int = MOST) -> None:
        self.answered: bool = False
        """A call was answered."""
        self._slow_start = slow_start
        self._most = most
        self._good = 0  # answers since the beginning, or since an unknown outcome
        self._window = 1 if slow_start else min(WINDOW, most)
        self._starved = False
        self._places: dict[int, float | None] = {}
        self._durations: deque[float] = deque(maxlen=LATELY)
        self._answered_at: dict[int, float] = {}
        self._recordings: deque[float] = deque(maxlen=WINDOW)  # seconds from an answer to the end of its batch

    @property
    def under_way(self) -> int:
        """Batches that have started and not ended."""
        return len(self._places)

    @property
    def window(self) -> int:
        """Batches that may be under way at present."""
        return self._window

    def allows(self, now: float, *, waiting: int) -> bool:
        """Another batch may start. `waiting`: calls under way that wait for their turn at the limiter."""
        if waiting >= WAITING:
            self._starved = False
            return False
        if self.under_way >= self._window:
            self._starved = waiting <= 0
            return False
        called = min((since for since in self._places.values() if since is not None), default=now)
        return now - called <= max(SHORTEST, FAR_BEYOND * max(self._durations, default=0.0))

    def start(self, batch: int) -> None:
        """A batch starts."""
        self._places[batch] = None

    def call(self, batch: int, now: float) -> None:
        """A call of it begins."""
        self._answered_at.pop(batch, None)
        self._places[batch] = now

    def answer(self, batch: int, now: float, *, rate: float, is_good: bool = True) -> None:
        """Its call was answered, in whichever way. `rate`: calls a second that the limiter allows."""
        since, self._places[batch] = self._places[batch], None
        if since is not None:
            self._durations.append(now - since)
        self.answered = True
        self._answered_at[batch] = now
        self._good += is_good
        if self._good < self._slow_start:
            return
        exchange = min(list(self._durations)[-WINDOW:], default=0.0)
        needed = NEXT + math.ceil(SPARE * rate * (exchange + min(exchange, min(self._recordings, default=0.0))))
        wanted = self._window + self._starved if self._window >= WINDOW else WINDOW
        self._window = min(max(WINDOW, min(wanted, needed)), self._most)

    def lose(self, batch: int) -> None:
        """The outcome of its call is unknown."""
        self._places[batch] = None
        self._good = 0
        self._window = 1

    def spare(self, batch: int) -> None:
        """Its call never left, or was throttled."""
        self._places[batch] = None

    def end(self, batch: int, now: float) -> None:
        """The batch has ended, and it is decided whether the campaign goes on after it."""
        self._places.pop(batch, None)
        if (answered_at := self._answered_at.pop(batch, None)) is not None:
            self._recordings.append(now - answered_at)
