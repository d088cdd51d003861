"""What an option of the sandbox may be. Validators for attrs; each raises `ConfigurationError`, naming the option."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

from mmsclient._api.checks import check_seconds, check_whole, require

Validator: TypeAlias = Callable[[object, Any, object], None]


def one_of(*values: str) -> Validator:
    expected = "one of " + ", ".join(map(repr, values))
    return lambda _, field, value: require(field.name, value, value in values, expected)


def whole(least: int) -> Validator:
    return lambda _, field, value: check_whole(field.name, value, least)


def whole_or_none(_: object, field: Any, value: object) -> None:
    if value is not None:
        check_whole(field.name, value, 1)


def decimal(_: object, field: Any, value: object) -> None:
    require(field.name, value, isinstance(value, Decimal) and value.is_finite(), "a Decimal")


def decimal_or_none(_: object, field: Any, value: object) -> None:
    require(field.name, value, value is None or (isinstance(value, Decimal) and value.is_finite()), "a Decimal or None")


def url_or_none(_: object, field: Any, value: object) -> None:
    is_url = isinstance(value, str) and value.startswith(("http://", "https://"))
    require(field.name, value, value is None or is_url, "an http or https URL, or None")


def yes_or_no(_: object, field: Any, value: object) -> None:
    require(field.name, value, isinstance(value, bool), "True or False")


def seconds(_: object, field: Any, value: Any) -> None:
    check_seconds(field.name, value, zero=True)
