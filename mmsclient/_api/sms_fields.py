"""The fields that the calls of SMS have in common, checked, as they go out (api-notes.md section 3, SMS)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from attrs import frozen

from mmsclient._api.checks import check_whole, checked_line, checked_time
from mmsclient._api.sms_sender import checked_sender
from mmsclient._api.sms_text import MOST_PARTS, Alphabet, parts
from mmsclient._api.values import WIRE_TIME
from mmsclient.errors import InvalidRequestError

MOST_MINUTES = 1440
"""Minutes that a message may be delayed."""

_CODE = re.compile(r"[A-Za-z0-9-]+")


@frozen(kw_only=True, eq=False, repr=False)
class Options:
    """What may be said of a message beside its text and recipients."""

    sender: str | None = None
    custom_string: str | None = None
    source: str | None = None
    schedule_at: datetime | None = None
    delay: int | None = None

    def fields(self, zone: tzinfo) -> Mapping[str, Any]:
        """As they go out; times in `zone`. Raises `InvalidRequestError`."""
        fields = {
            "from": None if self.sender is None else checked_sender(self.sender),
            "custom_string": None if self.custom_string is None else _checked_custom_string(self.custom_string),
            "source": None if self.source is None else checked_line("source", self.source),
            "schedule_time": self._schedule(zone),
            "delay": self.delay,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def check(self) -> None:
        """Raise `InvalidRequestError` for what cannot go out."""
        self.fields(UTC)

    def _schedule(self, zone: tzinfo) -> str | None:
        if self.delay is not None:
            check_whole("delay", self.delay, 1, MOST_MINUTES, error=InvalidRequestError)
        if self.schedule_at is None:
            return None
        if self.delay is not None:
            raise InvalidRequestError("delay", self.delay, "either schedule_at or delay")
        return _checked_schedule(self.schedule_at, zone)


def checked_sms_text(text: str) -> str:
    """`text` if the API takes it. Raises `InvalidRequestError`."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequestError("text", text, "a text that is not empty")
    found = parts(text)
    if not found.fits:
        most = MOST_PARTS * found.alphabet.each
        why = "" if found.alphabet is Alphabet.GSM else f", since {found.unicode_because[0]!r} makes it Unicode"
        expected = f"at most {most} characters ({MOST_PARTS} parts){why}"
        raise InvalidRequestError("text", f"{found.length} characters", expected)
    return text


def _checked_custom_string(custom_string: str) -> str:
    if not isinstance(custom_string, str) or not _CODE.fullmatch(custom_string):
        raise InvalidRequestError("custom_string", custom_string, "letters, digits and dashes")
    return custom_string


def _checked_schedule(time: datetime, zone: tzinfo) -> str:
    """`time` as the API writes times, in whole seconds, not earlier.

    One in the hour that is repeated when daylight saving ends is refused: the API could not tell which is meant.
    """
    checked_time("schedule_at", time)
    if time.timestamp() <= datetime.now(UTC).timestamp():
        raise InvalidRequestError("schedule_at", str(time), "a time to come")
    local = (time + timedelta(microseconds=-time.microsecond % 1_000_000)).astimezone(zone)
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        expected = f"a time outside the hour that is repeated in {zone}: the API's times do not tell the two apart"
        raise InvalidRequestError("schedule_at", str(time), expected)
    return local.strftime(WIRE_TIME)
