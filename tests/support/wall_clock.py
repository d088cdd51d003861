"""A time of day that moves when told, for campaigns in this process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mmsclient.bulk import Window, schedule

DAY = Window("09:00", "20:00", zone="Australia/Sydney")


class WallClock:
    """Set on a Sunday at noon in Sydney; looked at often, by campaigns that wait."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 29, 1, tzinfo=UTC)
        self.looks = 0

    def __call__(self) -> datetime:
        self.looks += 1
        return self.now

    def pass_hours(self, hours: float) -> None:
        self.now += timedelta(hours=hours)


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    clock = WallClock()
    monkeypatch.setattr(schedule, "wall_clock", clock)
    monkeypatch.setattr(schedule, "LOOK_AGAIN", 0.02)
    return clock
