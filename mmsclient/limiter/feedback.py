"""What a throttling response does to all callers: a pause, then a slower rate that recovers."""

from __future__ import annotations

import asyncio
import math

PAUSE = 1.0
"""Seconds that a throttling response holds every caller if it names none."""

LONGEST_RETRY_AFTER = 60.0
"""Seconds that a server may ask for. A limiter holds its callers no longer, and a call that is to wait longer is not
retried."""

SLOWER, SLOWEST, RECOVERY = 0.8, 0.1, 1 / 150
"""After it: factor on the rate, least share of the full rate, share of the full rate regained a second."""


def pause_after(retry_after: float | None) -> float:
    """Seconds that a throttling response holds every caller."""
    return PAUSE if retry_after is None else min(retry_after, LONGEST_RETRY_AFTER)


class Pause:
    """Holds every caller after a throttling response."""

    def __init__(self) -> None:
        self.until: float = -math.inf

    def extend(self, now: float, retry_after: float | None) -> None:
        """Holds callers for `retry_after` seconds from now, or longer if it did so already."""
        self.extend_to(now + pause_after(retry_after))

    def extend_to(self, until: float) -> None:
        """Holds callers until then, or longer if it did so already."""
        self.until = max(self.until, until)

    async def wait(self) -> None:
        """Waits for its end."""
        loop = asyncio.get_running_loop()
        while (left := self.until - loop.time()) > 0:  # noqa: ASYNC110 - a pause may grow while it lasts
            await asyncio.sleep(left)


class Slowdown:
    """The present rate: lower after each episode of throttling, and regained with time.

    Refusals of calls that were granted before the last one belong to its episode and slow down no further.

    Args:
        rate: The full rate, in calls a second.
        pause: Extended by each refusal; None: its own.
    """

    def __init__(self, rate: float, pause: Pause | None = None) -> None:
        self.pause: Pause = pause or Pause()
        self.episodes: int = 0
        """How many there were so far."""
        self._full = rate
        self._slow = rate

    @property
    def is_on(self) -> bool:
        """An episode has not been recovered from; see `recover`."""
        return self._slow < self._full

    def rate(self, now: float) -> float:
        """Calls a second at present."""
        regained = max(0.0, now - self.pause.until) * RECOVERY * self._full
        return min(self._full, self._slow + regained)

    def throttle(self, now: float, episode: int, retry_after: float | None) -> None:
        """A call was refused that was granted when there were `episode` episodes."""
        if episode == self.episodes:
            self.episodes += 1
            self._slow = max(SLOWER * self.rate(now), SLOWEST * self._full)
        self.pause.extend(now, retry_after)

    def recover(self, now: float) -> float:
        """Ends the slowdown if the full rate is regained.

        Returns:
            Calls a second at present.
        """
        rate = self.rate(now)
        if rate >= self._full:
            self._slow = self._full
        return rate
