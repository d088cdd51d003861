"""Until when the server can have counted a call, which decides when its slot is free. No I/O."""

from __future__ import annotations

import math
from collections import deque

MEMORY, ENOUGH = 512, 15
"""Answers that the floor is the least of, and how many there must be before it is used."""
ALLOWANCE = 2.5
"""For how far the true least may lie below theirs: so many mean excesses, over the root of their number."""


class Floor:
    """The shortest exchange there can be, from the last byte sent to the answer, as the last `MEMORY` answers tell.

    Their least, less an allowance for how far the true least may lie below it: two and a half times their mean excess
    over it, divided by the square root of their number. `jitter`: seconds by which the way to the server may vary.
    """

    def __init__(self, jitter: float) -> None:
        self._jitter = jitter
        self._lags: deque[float] = deque(maxlen=MEMORY)

    def latest(self, sent: float, answered: float | None, *, unusual: bool = False) -> float:
        """The latest moment at which the server can have counted a call, less the way to the server.

        An `unusual` answer, such as a refusal, may have come a shorter way: nothing is taken off, nor learned.
        """
        if answered is None:
            return sent + self._jitter
        floor = 0.0 if unusual else self._below(answered - sent)
        return min(answered - floor, sent + self._jitter)

    def _below(self, lag: float) -> float:
        """The floor of an answer that took `lag`, which is learned from: none if it lies above it."""
        floor = self._estimate()
        self._learn(lag)
        return floor if floor <= lag else 0.0

    def _estimate(self) -> float:
        known = len(self._lags)
        if known < ENOUGH:
            return 0.0
        least = min(self._lags)
        return max(0.0, least - ALLOWANCE * (sum(self._lags) / known - least) / math.sqrt(known))

    def _learn(self, lag: float) -> None:
        self._lags.append(lag)
