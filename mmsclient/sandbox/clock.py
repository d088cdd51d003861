"""A clock for tests."""

from __future__ import annotations

from mmsclient._api.checks import check_seconds


class ManualClock:
    """A clock that moves when it is told to, for `Sandbox(clock=...)`: what is scheduled can be waited for at once.

    The cap is counted by it as well, so give the sandbox `rate=None`.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on by that many seconds."""
        check_seconds("seconds", seconds, zero=True)
        self._now += seconds
