"""How servers count calls, applied to a list of arrivals in seconds, sorted; and figures over runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import floor

CAP = 15
"""Calls a second that the server allows."""


def log_of_the_last_second(arrivals: Sequence[float], cap: int = CAP) -> int:
    """Calls that a strict server refuses: `cap` are in the second before. A refused call is not counted."""
    log: deque[float] = deque()
    refused = 0
    for arrival in arrivals:
        while log and arrival - log[0] >= 1:
            log.popleft()
        if len(log) >= cap:
            refused += 1
        else:
            log.append(arrival)
    return refused


def aligned_seconds(arrivals: Sequence[float], cap: int = CAP) -> int:
    """Calls beyond `cap` in a second of the clock."""
    seconds = [floor(arrival) for arrival in arrivals]
    return sum(max(0, seconds.count(second) - cap) for second in set(seconds))


def gcra(arrivals: Sequence[float], cap: int = CAP, burst: int = 5) -> int:
    """Calls that a token bucket of `burst`, refilled evenly, refuses. A refused call takes no token."""
    interval = 1 / cap
    due = float("-inf")
    refused = 0
    for arrival in arrivals:
        if arrival < due - (burst - 1) * interval:
            refused += 1
        else:
            due = max(due, arrival) + interval
    return refused


def used(arrivals: Sequence[float], cap: int = CAP) -> float:
    """Share of the cap that was used between the first arrival and the last."""
    return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) / cap


def per_second(arrivals: Sequence[float]) -> list[int]:
    """Arrivals in each second after the first arrival."""
    counts = [0] * (floor(arrivals[-1] - arrivals[0]) + 1)
    for arrival in arrivals:
        counts[floor(arrival - arrivals[0])] += 1
    return counts


def gaps(arrivals: Sequence[float]) -> list[float]:
    """Seconds between arrivals."""
    return [later - earlier for earlier, later in pairwise(arrivals)]


def share_below(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` of the values do not exceed."""
    return sorted(values)[max(0, -floor(-share * len(values)) - 1)]


def grows_in_proportion(cost: Callable[[int], float], sizes: Sequence[int]) -> float:
    """Cost per item at the largest size over the least cost per item of the others."""
    *smaller, largest = sizes
    return (cost(largest) / largest) / min(cost(size) / size for size in smaller)
