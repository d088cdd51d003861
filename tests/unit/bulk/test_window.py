"""Windows, against a model that looks at every minute, and the pace of a drip."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from mmsclient.bulk import Window
from mmsclient.bulk.drip import Drip
from mmsclient.errors import InvalidRequestError
from tests.support.fuzzing import cases

MINUTE = timedelta(minutes=1)
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

CHANGES = {
    "Australia/Sydney": ["2026-04-04T16:00", "2026-10-03T16:00"],
    "Australia/Lord_Howe": ["2026-04-04T15:00", "2026-10-03T15:30"],  # by half an hour
    "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00"],
    "America/Santiago": ["2026-04-05T03:00", "2026-09-06T04:00"],  # at midnight
    "America/St_Johns": ["2010-03-14T03:31", "2010-11-07T02:31"],  # at one past midnight
    "Africa/Casablanca": ["2026-02-15T02:00", "2026-03-22T02:00"],  # for a month
    "Antarctica/Troll": ["2026-03-29T01:00", "2026-10-25T01:00"],  # by two hours
    "Asia/Beirut": ["2026-03-28T22:00", "2026-10-24T21:00"],
    "Pacific/Apia": ["2011-12-30T10:00"],  # there was no Friday
    "Asia/Kathmandu": ["2026-05-01T00:00"],  # 5:45, and no change
}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def is_inside(window: Window, moment: datetime) -> bool:
    """By what a clock on the wall shows, as a text."""
    local = moment.astimezone(ZoneInfo(window.zone))
    shown, today = f"{local:%H:%M}", DAYS[local.weekday()]
    opens, closes = window.opens.zfill(5), window.closes.zfill(5)
    if opens < closes:
        return opens <= shown < closes and today in window.days
    return (shown >= opens and today in window.days) or (shown < closes and DAYS[local.weekday() - 1] in window.days)


def first_inside(window: Window, moment: datetime) -> datetime:
    """The first minute from `moment` on that is inside, in UTC."""
    if is_inside(window, moment):
        return moment
    moment = moment.replace(second=0, microsecond=0)
    while not is_inside(window, moment):
        moment += MINUTE
    return moment


times = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 0, 1, 15, 30, 59]))
early = st.builds("{:02}:{:02}".format, st.integers(0, 4), st.sampled_from([0, 1, 15, 30, 45]))
days_of_week = st.lists(st.sampled_from(DAYS), min_size=1, max_size=7, unique=True)


@st.composite
def windows_and_moments(draw: st.DrawFn) -> tuple[Window, datetime]:
    """Near the changes of clocks; the windows begin and end near them as often as not."""
    zone = draw(st.sampled_from(sorted(CHANGES)))
    opens = draw(times | early)
    closes = draw((times | early | st.just("24:00")).filter(lambda time: time != opens))
    change = utc(draw(st.sampled_from(CHANGES[zone])))
    before = timedelta(seconds=draw(st.sampled_from([0, 1, 59, 60]) | st.integers(0, 3 * 86400)))
    return Window(opens, closes, days=draw(days_of_week), zone=zone), change - before


@cases(60)
@given(windows_and_moments())
def test_a_window_opens_when_a_clock_on_the_wall_says_so(case: tuple[Window, datetime]) -> None:
    window, moment = case
    found = window.next_opening(moment)
    assert found.astimezone(UTC) == first_inside(window, moment)
    assert found.tzinfo == ZoneInfo(window.zone)
    for near in (moment, found.astimezone(UTC), found.astimezone(UTC) - timedelta(microseconds=1)):
        assert window.includes(near) is is_inside(window, near)


def openings(window: Window, since: str, count: int) -> list[str]:
    """When it opens, from `since` in UTC on, one after the other."""
    moment = utc(since)
    found: list[str] = []
    while len(found) < count:
        moment = window.next_opening(moment).astimezone(UTC)
        found.append(moment.isoformat())
        while window.includes(moment):
            moment += MINUTE
    return found


def test_a_window_opens_once_a_day_at_the_same_hour_over_a_change() -> None:
    window = Window("09:00", "20:00", zone="Australia/Sydney")
    assert openings(window, "2026-04-03T12:00", 3) == [
        "2026-04-03T22:00:00+00:00",
        "2026-04-04T23:00:00+00:00",  # the clocks were put back at three
        "2026-04-05T23:00:00+00:00",
    ]


def test_an_opening_that_the_clock_passes_over_is_at_the_change() -> None:
    window = Window("02:30", "04:00", zone="Australia/Sydney")
    assert openings(window, "2026-10-03T14:00", 2) == ["2026-10-03T16:00:00+00:00", "2026-10-04T15:30:00+00:00"]
    passed_over = Window("02:15", "02:45", days="sun", zone="Australia/Sydney")
    assert openings(passed_over, "2026-10-03T14:00", 1) == ["2026-10-10T15:15:00+00:00"]


def test_an_hour_that_comes_twice_is_inside_twice() -> None:
    window = Window("02:15", "02:30", days="sun", zone="Australia/Sydney")
    assert openings(window, "2026-04-04T12:00", 2) == ["2026-04-04T15:15:00+00:00", "2026-04-04T16:15:00+00:00"]


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    window = Window("20:00", "02:00", days="fri", zone="UTC")
    assert window.includes(utc("2026-11-27T20:00"))
    assert window.includes(utc("2026-11-28T01:59"))
    assert not window.includes(utc("2026-11-28T02:00"))
    assert not window.includes(utc("2026-11-28T20:00"))
    assert not window.includes(utc("2026-11-27T01:00"))


@pytest.mark.parametrize(
    ("given_days", "days", "shown"),
    [
        ("mon-sat", tuple(DAYS[:6]), "mon-sat"),
        ("Fri, mon,WED", ("mon", "wed", "fri"), "mon,wed,fri"),
        ("fri-mon", ("mon", "fri", "sat", "sun"), "mon,fri,sat,sun"),
        ("mon-tue,sun", ("mon", "tue", "sun"), "mon,tue,sun"),
        (("sat", "sun"), ("sat", "sun"), "sat,sun"),
        ("sun-sat", tuple(DAYS), "mon-sun"),
    ],
)
def test_days(given_days: str | tuple[str, ...], days: tuple[str, ...], shown: str) -> None:
    window = Window("9:00", "24:00", days=given_days, zone="Europe/Berlin")
    assert window.days == days
    assert str(window) == f"9:00-24:00 {shown} (Europe/Berlin)"


def test_a_window_is_a_value() -> None:
    window = Window("09:00", "20:00", days="mon-sat", zone="Australia/Sydney")
    assert pickle.loads(pickle.dumps(window)) == window == evolve(window)  # noqa: S301
    assert hash(window) == hash(evolve(window))
    assert Window("09:00", "20:00", zone="UTC").days == tuple(DAYS)
    with pytest.raises(FrozenInstanceError):
        window.opens = "10:00"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"opens": "9am"}, "opens"),
        ({"opens": "24:00"}, "opens"),
        ({"opens": 9}, "opens"),
        ({"closes": "20:60"}, "closes"),
        ({"closes": "09:00"}, "closes"),
        ({"closes": "9:00"}, "closes"),
        ({"days": "mo-fr"}, "days"),
        ({"days": ""}, "days"),
        ({"days": "mon-"}, "days"),
        ({"days": "mon-wed-fri"}, "days"),
        ({"days": None}, "days"),
        ({"days": []}, "days"),
        ({"zone": "Sydney"}, "zone"),
        ({"zone": "Australia"}, "zone"),
        ({"zone": "../etc/passwd"}, "zone"),
        ({"zone": ""}, "zone"),
        ({"zone": None}, "zone"),
    ],
)
def test_a_wrong_window_is_refused(wrong: dict[str, object], argument: str) -> None:
    right = {"opens": "09:00", "closes": "20:00", "zone": "Australia/Sydney"}
    with pytest.raises(InvalidRequestError) as caught:
        Window(**{**right, **wrong})  # type: ignore[arg-type]
    assert caught.value.argument == argument


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="a datetime with a time zone"):
        Window("09:00", "20:00", zone="UTC").includes(datetime(2026, 11, 29, 10))


# The drip ---------------------------------------------------------------------------------------------------------


@cases(100)
@given(st.integers(1, 1_000_000), st.integers(1, 1000), st.lists(st.floats(0, 100), max_size=30))
def test_no_minute_has_more_than_its_recipients(per_minute: int, most: int, delays: list[float]) -> None:
    drip = Drip(per_minute, most)
    assert 1 <= drip.size <= most
    if most >= per_minute // 60:
        assert drip.spacing >= 0.5  # no more calls than that needs
    assert drip.size * (per_minute // drip.size) > per_minute * 0.99 or per_minute < 60
    begun, now = [], 0.0
    for delay in [*delays, *([0.0] * 200)]:
        now = max(now, drip.next_at) + delay
        drip.began(now)
        begun.append(now)
    for start in begun:
        within = sum(start <= time < start + 59.999 for time in begun)
        assert within * drip.size <= per_minute


@cases(50)
@given(st.integers(1, 10_000), st.data())
def test_no_minute_of_batches_that_differ_has_more_than_its_recipients(per_minute: int, data: st.DataObject) -> None:
    drip = Drip(per_minute, 1000)
    begun, now = [], 0.0
    for count in data.draw(st.lists(st.integers(1, drip.size), min_size=1, max_size=20)) * 40:
        now = max(now, drip.next_at)
        drip.began_uneven(now, count)
        begun.append((now, count))
    for start, _ in begun[:20]:
        assert sum(count for time, count in begun if start <= time < start + 59.999) <= per_minute
    assert sum(count for _, count in begun) * 60 / per_minute >= 0.95 * drip.next_at or drip.next_at < 120


@pytest.mark.parametrize(
    ("per_minute", "most", "size", "spacing"),
    [
        (1, 1000, 1, 60),
        (60, 1000, 1, 1),
        (100, 1000, 1, 0.6),
        (600, 1000, 10, 1),
        (600, 4, 4, 0.4),
        (10**6, 1000, 1000, 0.06),
    ],
)
def test_batches_of_a_drip(per_minute: int, most: int, size: int, spacing: float) -> None:
    drip = Drip(per_minute, most)
    assert drip.size == size
    assert drip.spacing == pytest.approx(spacing)


def test_a_drip_goes_on_where_an_earlier_run_was() -> None:
    drip = Drip(60, 1000)
    for ago, waits in ((0.25, 0.75), (5.0, 0.0), (-3600.0, 1.0)):  # the last: a clock that was put back
        drip.began(100.0, ago=ago)
        assert drip.next_at == 100.0 + waits
