"""How much of the cap was used, and how long callers waited for it."""

from __future__ import annotations

MINUTE = 60


class Usage:
    """Counts calls as they are granted, and, second by second, those of the last minute.

    Args:
        rate: Calls a second that the cap allows.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._seconds = [(0, 0)] * MINUTE  # (second, calls granted in it)
        self.calls: int = 0
        self.waits: int = 0
        self.seconds_waited: float = 0.0

    def count(self, asked: float, granted: float, *, waited: bool) -> None:
        """A call was granted that was asked for then."""
        self.calls += 1
        if waited:
            self.waits += 1
            self.seconds_waited += granted - asked
        second, calls = self._seconds[int(granted) % MINUTE]
        self._seconds[int(granted) % MINUTE] = (int(granted), calls + 1 if second == int(granted) else 1)

    def share(self, now: float) -> float:
        """Calls of the minute before now, as a share of what the cap allows in a minute."""
        calls = sum(calls for second, calls in self._seconds if second > now - MINUTE)
        return calls / (MINUTE * self._rate)
