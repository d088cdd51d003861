"""Leaves a file of SQLite to others between two transactions."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from time import monotonic, sleep

__all__ = ["PAUSE", "Turns"]

PAUSE = 0.005
"""Seconds between two transactions: SQLite lets nobody queue, so a sender would rarely meet a file that is free."""


class Turns(AbstractContextManager[None]):
    """Entered for each transaction of one who records, and left after it."""

    def __init__(self) -> None:
        self._ended = -math.inf

    def __enter__(self) -> None:
        if (left := self._ended + PAUSE - monotonic()) > 0:
            sleep(left)

    def __exit__(self, *_: object) -> None:
        self._ended = monotonic()
