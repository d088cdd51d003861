"""The hours in which a campaign may send, on the clocks of its recipients. Pure: times are handed in."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import Attribute, field, frozen

from mmsclient._api.checks import checked_time
from mmsclient.errors import InvalidRequestError

__all__ = ["Window"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)
_DAY, _SECOND = timedelta(days=1), timedelta(seconds=1)


def _checked_days(days: str | Iterable[str]) -> tuple[str, ...]:
    """The days in the order of the week. Raises `InvalidRequestError`."""
    found: set[str] = set()
    try:
        for part in (days if isinstance(days, str) else ",".join(days)).lower().split(","):
            first, dash, last = part.partition("-")
            begin, end = (_DAYS.index(day.strip()) for day in (first, last if dash else first))
            found.update(_DAYS[(begin + n) % 7] for n in range((end - begin) % 7 + 1))
    except (TypeError, ValueError):
        raise InvalidRequestError("days", days, 'days such as "mon-sat" or "mon,wed,fri"') from None
    return tuple(day for day in _DAYS if day in found)


def _check_time(_: Any, attribute: Attribute[str], value: object) -> None:
    name = attribute.name
    if not isinstance(value, str) or not _TIME.fullmatch(value) or (name == "opens" and value == "24:00"):
        raise InvalidRequestError(name, value, 'a time such as "09:00"')


def _checked_zone(zone: str) -> str:
    try:
        return ZoneInfo(zone).key
    except (ValueError, TypeError, AttributeError, OSError, ZoneInfoNotFoundError):
        raise InvalidRequestError("zone", zone, 'the IANA name of a time zone, such as "Australia/Sydney"') from None


@frozen
class Window:
    """Hours of the day, on some days of the week, in a time zone.

    ```python
    window = Window("09:00", "20:00", days="mon-sat", zone="Australia/Sydney")
    ```

    It goes by what a clock on the wall shows there. Where that is put forward over the opening, the window opens at
    once; where it is put back, an hour inside comes twice.

    Raises:
        InvalidRequestError: A time, a day or the zone is none, or the window is empty.
    """

    opens: str = field(validator=_check_time)
    """`HH:MM`."""
    closes: str = field(validator=_check_time)
    """`HH:MM`, up to `24:00`: the first minute outside. Where it is before `opens`, that of the next day."""
    days: tuple[str, ...] = field(default=_DAYS, converter=_checked_days, kw_only=True)
    """The days on which it opens, in the order of the week. Taken as `mon-sat`, `mon,wed,fri` or `fri-mon`; left out,
    all."""
    zone: str = field(converter=_checked_zone, kw_only=True)
    """The IANA name of the recipients' time zone."""

    def __attrs_post_init__(self) -> None:
        if _minute_of(self.opens) == _minute_of(self.closes):
            raise InvalidRequestError(
                "closes", self.closes, 'another time than opens; a whole day is "00:00" to "24:00"'
            )

    def __str__(self) -> str:
        first, last = self.days[0], self.days[-1]
        is_row = len(self.days) > 2 and self.days == _checked_days(f"{first}-{last}")
        days = f"{first}-{last}" if is_row else ",".join(self.days)
        return f"{self.opens}-{self.closes} {days} ({self.zone})"

    def includes(self, time: datetime) -> bool:
        """It is open at `time`, which has a time zone."""
        local = checked_time("time", time).astimezone(ZoneInfo(self.zone))
        minute, opens, closes = local.hour * 60 + local.minute, _minute_of(self.opens), _minute_of(self.closes)
        if opens < closes:
            return opens <= minute < closes and self._opens_on(local.date())
        return (minute >= opens and self._opens_on(local.date())) or (
            minute < closes and self._opens_on(local.date() - _DAY)
        )

    def next_opening(self, time: datetime) -> datetime:
        """The first moment from `time` on at which it is open, in its zone: `time` itself where it is."""
        zone = ZoneInfo(self.zone)
        if self.includes(time):
            return time.astimezone(zone)
        openings = (each for each in self._candidates(time.astimezone(UTC)) if self.includes(each))
        return next(openings).astimezone(zone)

    def _opens_on(self, day: date) -> bool:
        return _DAYS[day.weekday()] in self.days

    def _candidates(self, time: datetime) -> Iterator[datetime]:
        """The moments after `time` at which it may open, in order: where the clock shows `opens`, or is changed."""
        zone = ZoneInfo(self.zone)
        hour, minute = divmod(_minute_of(self.opens), 60)
        begin = time.replace(microsecond=0)
        for start in (begin + n * _DAY for n in itertools.count()):
            found = {_change(zone, start, start + _DAY)}
            for days in (-1, 0, 1, 2):  # those on which some part of the 24 hours may fall
                local = datetime.combine(start.astimezone(zone).date() + days * _DAY, datetime.min.time(), zone)
                at = local.replace(hour=hour, minute=minute)
                found |= {at.replace(fold=fold).astimezone(UTC) for fold in (0, 1)}
            yield from sorted(each for each in found if each is not None and max(start, time) < each <= start + _DAY)


def _minute_of(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)


def _change(zone: ZoneInfo, start: datetime, end: datetime) -> datetime | None:
    """The moment between two, in UTC and of whole seconds, at which the zone's clocks are changed; None for none."""
    before = start.astimezone(zone).utcoffset()
    if end.astimezone(zone).utcoffset() == before:
        return None
    while end - start > _SECOND:
        middle = (start + (end - start) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            start = middle
        else:
            end = middle
    return end
