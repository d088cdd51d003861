"""What happened when: figures in spans of a round length."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, tzinfo

from attrs import frozen

from mmsclient._store.figures import Figures

__all__ = ["Bar", "Timeline", "timeline_of"]

MOST_BARS = 48
NEARLY_ALL = 0.99
"""The share of the reports after which the chart ends; the last bar holds the rest."""
LENGTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
"""Seconds that a bar may stand for, and whole days."""
DAY = 86400


@frozen
class Bar:
    """What happened in one span of time."""

    start: datetime
    accepted: int
    delivered: int
    undelivered: int
    """A final status other than Delivered."""


@frozen
class Timeline:
    """What happened in spans of equal length."""

    seconds: int
    bars: tuple[Bar, ...]
    later: int
    """Reports that came after the last bar, which counts them too."""

    @property
    def has_reports(self) -> bool:
        """There was a delivery report."""
        return any(bar.delivered or bar.undelivered for bar in self.bars)


def timeline_of(figures: Figures, zone: tzinfo) -> Timeline | None:
    """What happened when, in `zone`; None where nothing did."""
    started = figures.course.started
    if started is None:
        return None
    final = {at: count for at, count in figures.reports.items() if at[1].is_final}
    accepted = {span: count for span, count in figures.accepted.items() if count}
    last_answer = max(accepted, default=0)
    heard: Counter[int] = Counter()
    for (span, _), count in final.items():
        heard[span] += count
    last = max(last_answer, _nearly_last(heard))
    seconds = _round_length((last + 1) * figures.grain / MOST_BARS)
    offset = _offset(started, zone)
    first = int((started + offset) // seconds)

    def place(span: int) -> int:
        return int((started + min(span, last) * figures.grain + offset) // seconds) - first

    taken, delivered, undelivered = Counter[int](), Counter[int](), Counter[int]()
    for span, count in accepted.items():
        taken[place(span)] += count
    for (span, status), count in final.items():
        (delivered if status.is_delivered else undelivered)[place(span)] += count
    bars = (
        Bar(_time((first + each) * seconds - offset, zone), taken[each], delivered[each], undelivered[each])
        for each in range(place(last) + 1)
    )
    return Timeline(seconds, tuple(bars), sum(count for (span, _), count in final.items() if span > last))


def _nearly_last(spans: Counter[int]) -> int:
    """The span by which nearly all had come."""
    wanted, found = math.ceil(spans.total() * NEARLY_ALL), 0
    for span in sorted(spans):
        found += spans[span]
        if found >= wanted:
            return span
    return 0


def _round_length(seconds: float) -> int:
    return next((length for length in LENGTHS if length >= seconds), math.ceil(seconds / DAY) * DAY)


def _offset(seconds: float, zone: tzinfo) -> float:
    offset = _time(seconds, zone).utcoffset()
    return 0.0 if offset is None else offset.total_seconds()


def _time(seconds: float, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone)
