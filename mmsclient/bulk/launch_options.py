"""Checks of the options that say how a campaign begins, and what it may cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from attrs import Attribute

from mmsclient._api.checks import check_whole, is_number
from mmsclient._api.phone_numbers import MAX_RECIPIENTS
from mmsclient.bulk.recipients import Row, phone_of, row_of
from mmsclient.errors import InvalidRequestError

__all__ = [
    "check_callable",
    "check_not_negative",
    "max_credits",
    "message_price",
    "seconds",
    "test_rows",
    "test_timeout",
]


def max_credits(value: Decimal | float | None) -> Decimal | None:
    """A converter. Raises `InvalidRequestError` for what is no number of credits."""
    return None if value is None else _credits("max_credits", value, "a number of credits, 0 or more")


def message_price(value: Decimal | float) -> Decimal:
    """A converter. Raises `InvalidRequestError` for what is no price of a message."""
    price = _credits("credits_per_message", value, "a number of credits, more than 0")
    if not price:
        raise InvalidRequestError("credits_per_message", value, "a number of credits, more than 0")
    return price


def _credits(name: str, value: Any, expected: str) -> Decimal:
    is_finite = value.is_finite() if isinstance(value, Decimal) else is_number(value)
    if not is_finite or value < 0:
        raise InvalidRequestError(name, value, expected)
    return Decimal(int(value) if isinstance(value, float) and value.is_integer() else str(value))


def test_rows(value: str | Iterable[str | Row | Mapping[str, object]]) -> tuple[Row, ...]:
    """A converter: each phone once. Raises `InvalidRequestError` for what is no phone number."""
    given = [value] if isinstance(value, str | Mapping) else value
    if not isinstance(given, Iterable):
        raise InvalidRequestError("test", value, "phone numbers, as for `to`")
    rows: dict[int, Row] = {}
    for row in (row_of(item, 0) for item in given):
        if row.problem is not None:
            raise InvalidRequestError("test", row.number, row.problem)
        rows.setdefault(phone_of(row.number, "test"), row)
    if len(rows) > MAX_RECIPIENTS:
        raise InvalidRequestError("test", f"{len(rows)} numbers", f"at most {MAX_RECIPIENTS}")
    return tuple(rows.values())


def seconds(name: str, value: timedelta | float) -> float:
    """`value` in seconds. Raises `InvalidRequestError` for what is no duration."""
    found = value.total_seconds() if isinstance(value, timedelta) else value
    if not is_number(found) or found < 0:
        raise InvalidRequestError(name, value, "a timedelta or seconds, 0 or more")
    return float(found)


def test_timeout(value: timedelta | float) -> float:
    """A converter, as `seconds`."""
    return seconds("test_timeout", value)


def check_not_negative(_: Any, attribute: Attribute[int], value: int) -> None:
    """A validator: a whole number from 0."""
    check_whole(attribute.name, value, 0, error=InvalidRequestError)


def check_callable(_: Any, attribute: Attribute[Any], value: object) -> None:
    """A validator: a function, or None."""
    if value is not None and not callable(value):
        raise InvalidRequestError(attribute.name, value, "an async function, or None")
