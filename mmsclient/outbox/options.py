"""The options of an outbox: their defaults and limits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from attrs import Attribute, field, frozen

from mmsclient._api.checks import check_seconds, check_whole
from mmsclient.errors import InvalidRequestError

__all__ = ["KEEP", "STOP_AFTER", "Options"]

KEEP = timedelta(days=30)
"""How long an order is remembered after it has ended."""
STOP_AFTER = 3
"""Calls in a row whose outcome is unknown before a worker stops."""


def _keep(_: Any, attribute: Attribute[timedelta], value: timedelta | None) -> None:
    if value is not None and (not isinstance(value, timedelta) or value <= timedelta(0)):
        raise InvalidRequestError(attribute.name, value, "a timedelta, more than 0, or None")


def _stop_after(_: Any, attribute: Attribute[int], value: int) -> None:
    check_whole(attribute.name, value, 1, error=InvalidRequestError)


def _timeout(_: Any, attribute: Attribute[float | None], value: float | None) -> None:
    if value is not None:
        check_seconds(attribute.name, value, error=InvalidRequestError)


@frozen(kw_only=True)
class Options:
    """What an outbox was asked for. Raises `InvalidRequestError` for a wrong option."""

    keep: timedelta | None = field(default=KEEP, validator=_keep)
    stop_after: int = field(default=STOP_AFTER, validator=_stop_after)
    timeout: float | None = field(default=None, validator=_timeout)
    new_key: bool = False
