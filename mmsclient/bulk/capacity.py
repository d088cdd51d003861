"""Whether another call of a campaign may start: what the limiter has room for, and what the brake allows."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mmsclient.bulk.brake import MOST, Brake
from mmsclient.bulk.sender import Sender
from mmsclient.errors import MMSError, NotSentError, OutcomeUnknownError, RateLimitError
from mmsclient.limiter import SignalsCapacity

__all__ = ["Capacity", "rate_of"]

log: logging.Logger = logging.getLogger(__name__)

UNLIMITED = 20.0
"""Calls a second that are aimed at where the limiter names no rate: a little more than the API's documented cap."""


class Capacity:
    """Starts calls as the cap and the time of an answer need them, and none while an answer is overdue."""

    def __init__(self, client: Sender, *, slow_start: int = 1, most: int = MOST) -> None:
        self._client = client
        self._brake = Brake(slow_start, most)
        self._unanswered = 0

    @property
    def was_answered(self) -> bool:
        """A call was answered."""
        return self._brake.answered

    @property
    def window(self) -> int:
        """Batches that may be under way at present."""
        return self._brake.window

    @property
    def has_signals(self) -> bool:
        """The limiter tells when its figures change."""
        return isinstance(self._client.limiter, SignalsCapacity)

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` when the limiter's figures change, if it tells; returns what ends that."""
        limiter = self._client.limiter
        return limiter.on_change(callback) if isinstance(limiter, SignalsCapacity) else lambda: None

    def rate(self, unlimited: float) -> float:
        """Calls a second that the limiter allows; `unlimited` where it names no rate."""
        rate = rate_of(self._client)
        return unlimited if rate is None else rate

    def allows_batch(self, now: float) -> bool:
        """Another batch may start."""
        granted = getattr(self._client.stats.limiter, "in_flight", None)
        waiting = self._unanswered - granted if isinstance(granted, int) else 0
        return self._brake.allows(now, waiting=waiting)

    def begin_batch(self, batch: int) -> None:
        """A batch starts."""
        self._brake.start(batch)

    def begin_call(self, batch: int, now: float) -> None:
        """A call of a batch starts; it has at most one under way."""
        self._unanswered += 1
        self._brake.call(batch, now)

    def end_call(self, batch: int, now: float, error: BaseException | None) -> None:
        """A call of a batch has ended, with `error` if it failed."""
        self._unanswered -= 1
        before = self._brake.window
        if isinstance(error, NotSentError | RateLimitError) or (error is not None and not isinstance(error, MMSError)):
            self._brake.spare(batch)
        elif isinstance(error, OutcomeUnknownError):
            self._brake.lose(batch)
        else:
            self._brake.answer(batch, now, rate=self.rate(UNLIMITED), is_good=error is None)
        if before == 1 < self._brake.window:
            log.info("calls are answered: up to %d may be under way now, and more as the cap needs", self.window)
        elif before > 1 == self._brake.window:
            log.info("the outcome of a call is unknown: one call at a time, until one is answered")

    def end_batch(self, batch: int, now: float) -> None:
        """A batch has ended, and it is decided whether the campaign goes on after it."""
        self._brake.end(batch, now)


def rate_of(client: Sender) -> float | None:
    """Calls a second that its limiter allows; None where it names no rate."""
    rate = getattr(client.stats.limiter, "rate", None)
    return float(rate) if isinstance(rate, float | int) else None
