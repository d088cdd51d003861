"""The options that say when a campaign may send, and what is told while it waits for that."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import partial
from typing import Annotated
from zoneinfo import ZoneInfo

from cyclopts import Group, Parameter

from mmsclient.bulk import CampaignOptions, Progress, Window
from mmsclient.cli import stdio
from mmsclient.cli.output import Form, to_json
from mmsclient.cli.status import UsageError, complain
from mmsclient.cli.whole import WHOLE
from mmsclient.cli.words import words_of


@Parameter(name="*", group=Group("Hours"))
@dataclass(frozen=True, kw_only=True)
class HoursOptions:
    """When calls may start."""

    window: str | None = None
    """Hours of the day, such as 09:00-20:00: calls start only inside. Needs --zone."""
    days: str | None = None
    """Days on which the window opens, such as mon-sat or mon,wed,fri. Left out: all."""
    zone: str | None = None
    """Time zone of the window and of --start-at, such as Australia/Sydney."""
    start_at: str | None = None
    """Time before which nothing is sent, such as 2026-12-01T09:00, with --zone, or 2026-12-01T09:00+11:00."""
    per_minute: Annotated[int | None, WHOLE, Parameter(name="--per-minute")] = None
    """Recipients a minute at most, spread evenly: calls become as small as that needs."""

    def of_campaign(self, form: Form) -> CampaignOptions:
        """Those of `AsyncMMSClient.campaign`. Raises `UsageError` where one lacks another."""
        return {
            "window": self._window(),
            "start_at": self._start_at(),
            "recipients_per_minute": self.per_minute,
            "on_progress": Announcer(form),
        }

    def in_words(self) -> list[str]:
        """As arguments of the command."""
        return words_of(
            {
                "--window": self.window,
                "--days": self.days,
                "--zone": self.zone,
                "--start-at": self.start_at,
                "--per-minute": self.per_minute,
            }
        )

    def _window(self) -> Window | None:
        if self.window is None:
            if self.days is not None:
                raise UsageError("--days: needs --window, such as --window 09:00-20:00")
            return None
        if self.zone is None:
            raise UsageError("--window: needs --zone, such as --zone Australia/Sydney")
        opens, separator, closes = self.window.partition("-")
        if not separator:
            raise UsageError(f"--window: expected hours such as 09:00-20:00, got {self.window!r}")
        return Window(opens.strip(), closes.strip(), days=self.days or "mon-sun", zone=self.zone)

    def _start_at(self) -> datetime | None:
        if self.start_at is None:
            return None
        try:
            start = _time_of(self.start_at)
        except ValueError:
            raise UsageError(f"--start-at: expected such as 2026-12-01T09:00+11:00, got {self.start_at!r}") from None
        if start.tzinfo is not None:
            return start
        if self.zone is None:
            raise UsageError(f"--start-at: needs --zone, or an offset, such as {start.isoformat()}+11:00")
        zone = Window("00:00", "24:00", zone=self.zone).zone  # which is checked there
        return start.replace(tzinfo=ZoneInfo(zone))


AT_ONCE = HoursOptions()


def _time_of(text: str) -> datetime:
    """A date, or a date and a time. Raises `ValueError`, also for a date with an offset, which `fromisoformat` takes
    for a time of that day: any character may stand before a time there."""
    with suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), time.min)
    if "T" not in text and " " not in text:
        raise ValueError(text)
    return datetime.fromisoformat(text)


class Announcer:
    """Tells when a campaign goes on that waits for its hours."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._until: datetime | None = None

    def __call__(self, progress: Progress) -> None:
        until = progress.waits_until
        if until == self._until:
            return
        self._until = until
        if self._form is Form.JSON:
            event = {"event": "reopened"} if until is None else {"event": "waiting", "until": until}
            stdio.STDOUT.submit(partial(print, to_json(event), flush=True))
        elif until is None:
            complain("its hours have begun: going on")
        else:
            complain(f"waiting for its hours: it goes on at {until:%a %Y-%m-%d %H:%M:%S %z}")
