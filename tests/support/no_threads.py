"""A system that starts no thread for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

Refuse = Callable[..., None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Lets the next starts of a thread of this name fail, one if no number is given."""
    start = threading.Thread.start
    left: dict[str, int] = {}

    def may_fail(thread: threading.Thread) -> None:
        if left.get(thread.name, 0):
            left[thread.name] -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    def refuse_next(name: str, times: int = 1) -> None:
        left[name] = times

    monkeypatch.setattr(threading.Thread, "start", may_fail)
    return refuse_next
