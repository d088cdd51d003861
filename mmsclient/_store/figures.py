"""What a journal says of a campaign's course: rules and sizes that no engine changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import field, frozen

from mmsclient._store.models import Exclusion, RecipientState
from mmsclient.models import DeliveryStatus

__all__ = ["FEW", "LAST_SPAN", "LONG_BREAK", "Course", "Figures", "ReasonCount", "SetAside", "UnknownCall", "grain_of"]

LONG_BREAK = 60.0
"""Seconds between the beginnings of two calls which are no time of sending: a night, a pause, a crash."""
FEW = 20
"""Reasons, calls and rows that are held of each kind."""
GRAINS = 600
"""Spans into which the time of sending is divided at the most; counts are kept by span."""

LAST_SPAN = 20_000
"""The span in which all later reports are counted: they may come for days."""


@frozen
class ReasonCount:
    """Recipients in one state for one reason."""

    state: RecipientState
    exclusion: Exclusion | None
    reason: str | None
    count: int


@frozen
class SetAside:
    """A row of the list to which nothing is sent."""

    line: int
    exclusion: Exclusion
    reason: str | None


@frozen
class UnknownCall:
    """A call that left recipients without an outcome. Times are Unix seconds."""

    batch: int
    started: float
    count: int
    state: RecipientState
    """`UNKNOWN`, or `SENDING` where it is under way or its process has died."""
    error: str | None


@frozen
class Course:
    """How calls followed each other. Times are Unix seconds."""

    started: float | None
    ended: float | None
    sending_seconds: float
    """From the first call to the last answer, without breaks of more than `LONG_BREAK`."""
    failed_calls: int
    throttled: int
    runs: int


@frozen(kw_only=True)
class Figures:
    """What became of a campaign, in time and by reasons."""

    course: Course
    grain: float
    """Seconds of a span; spans are counted from `course.started`."""
    accepted: Mapping[int, int]
    """Recipients that the API accepted, by the span of the answer."""
    reports: Mapping[tuple[int, DeliveryStatus], int]
    """Accepted recipients by the span, up to `LAST_SPAN`, and the status of their last report."""
    reasons: tuple[ReasonCount, ...]
    """Why recipients were refused, failed, unknown or set aside: the most frequent ones."""
    rejected: tuple[SetAside, ...]
    """The first rows that were set aside, duplicates and lists of exclusions left out."""
    unknown: tuple[UnknownCall, ...] = field(factory=tuple)
    """The first calls without an outcome."""


def grain_of(started: float | None, ended: float | None) -> float:
    """Seconds of a span: whole ones."""
    return 1.0 if started is None or ended is None else max(1.0, (ended - started) // GRAINS)


def counted_reports(rows: Iterable[tuple[int, str, int]]) -> dict[tuple[int, DeliveryStatus], int]:
    """Reports by span and status, of rows that hold both and how many there were."""
    found: Counter[tuple[int, DeliveryStatus]] = Counter()
    for span, status, count in rows:
        found[max(0, span), DeliveryStatus(status)] += count
    return dict(found)


def reason_count(row: tuple[str, str | None, str | None, int]) -> ReasonCount:
    """Of state, exclusion, reason and count."""
    state, exclusion, reason, count = row
    return ReasonCount(RecipientState(state), None if exclusion is None else Exclusion(exclusion), reason, count)


def set_aside(row: tuple[int, str, str | None]) -> SetAside:
    """Of line, exclusion and reason."""
    line, exclusion, reason = row
    return SetAside(line, Exclusion(exclusion), reason)


def unknown_call(row: tuple[int, float, int, str, str | None]) -> UnknownCall:
    """Of batch, beginning, count, state and error."""
    batch, started, count, state, error = row
    return UnknownCall(batch, started, count, RecipientState(state), error)
