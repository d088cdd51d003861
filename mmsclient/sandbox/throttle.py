"""The cap as the service counts it: a log of the calls in the last second."""

from __future__ import annotations

from collections import deque

from mmsclient.sandbox.records import Arrival

WINDOW = 1.0
"""Seconds."""


class Window:
    """The calls of one key that counted in the last second (api-notes.md section 1)."""

    def __init__(self) -> None:
        self._log: deque[Arrival] = deque()

    def admit(self, arrival: Arrival, rate: int | None) -> bool:
        """Count `arrival`, unless `rate` calls are in the window already. A refused call is not counted."""
        while self._log and arrival.at - self._log[0].at >= WINDOW:
            self._log.popleft()
        if rate is not None and len(self._log) >= rate:
            return False
        self._log.append(arrival)
        return True

    def withdraw(self, arrival: Arrival) -> None:
        """Take back a call that was refused as throttled later on."""
        if arrival in self._log:
            self._log.remove(arrival)
