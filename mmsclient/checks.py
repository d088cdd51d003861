"""What several options may be. The errors stand where the options do, but for the time zone."""

from __future__ import annotations

import math
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mmsclient.errors import ConfigurationError


def is_whole(value: object, least: int) -> bool:
    """A whole number, `least` or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> bool:
    """A finite number."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def checked_zone(zone: str | ZoneInfo) -> ZoneInfo:
    """The option `timezone`. Raises `ConfigurationError`."""
    try:
        return zone if isinstance(zone, ZoneInfo) else ZoneInfo(zone)
    except (ValueError, TypeError, OSError, ZoneInfoNotFoundError) as error:
        reason = error
    raise ConfigurationError(f"timezone: expected an IANA name ({reason}); on a bare system install tzdata")
