"""What an option of the sandbox may be. Validators for attrs; each raises `ConfigurationError`, naming the option."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

from mmsclient.checks import is_number, is_whole
from mmsclient.errors import ConfigurationError

Validator: TypeAlias = Callable[[object, Any, object], None]


def check(option: str, value: object, ok: bool, expected: str) -> None:
    """Raise `ConfigurationError` unless `ok`."""
    if not ok:
        raise ConfigurationError(f"{option}: expected {expected}, got {value!r}")


def one_of(*values: str) -> Validator:
    expected = "one of " + ", ".join(map(repr, values))
    return lambda _, field, value: check(field.name, value, value in values, expected)


def whole(least: int) -> Validator:
    return lambda _, field, value: check(field.name, value, is_whole(value, least), f"a whole number, {least} or more")


def whole_or_none(_: object, field: Any, value: object) -> None:
    check(field.name, value, value is None or is_whole(value, 1), "a whole number, 1 or more, or None")


def decimal(_: object, field: Any, value: object) -> None:
    check(field.name, value, isinstance(value, Decimal) and value.is_finite(), "a Decimal")


def decimal_or_none(_: object, field: Any, value: object) -> None:
    check(field.name, value, value is None or (isinstance(value, Decimal) and value.is_finite()), "a Decimal or None")


def url_or_none(_: object, field: Any, value: object) -> None:
    is_url = isinstance(value, str) and value.startswith(("http://", "https://"))
    check(field.name, value, value is None or is_url, "an http or https URL, or None")


def yes_or_no(_: object, field: Any, value: object) -> None:
    check(field.name, value, isinstance(value, bool), "True or False")


def seconds(_: object, field: Any, value: Any) -> None:
    check(field.name, value, is_number(value) and value >= 0, "seconds, 0 or more")
