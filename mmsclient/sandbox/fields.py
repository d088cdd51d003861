"""The fields of a call, read strictly; each raises `Refusal`, naming the field."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from mmsclient.sandbox.answers import Refusal, empty, invalid
from mmsclient.sandbox.records import TIME_FORMAT, ZONE

MAX_RECIPIENTS = 1000

Fields = Mapping[str, Any]


def refuse(error: Refusal) -> NoReturn:
    """Raise it, in an expression."""
    raise error


def numbers_of(numbers: Any, expected: str = "it must be a JSON array of strings") -> list[str]:
    """The recipients of a send."""
    if not isinstance(numbers, list) or not all(isinstance(number, str) for number in numbers):
        raise invalid("numbers", expected)
    check_unicode({"numbers": numbers})
    check_count(numbers)
    return numbers


def check_count(numbers: Sequence[Any]) -> None:
    """From 1 to 1000."""
    if not numbers:
        raise empty("numbers")
    if len(numbers) > MAX_RECIPIENTS:
        raise invalid("numbers", f"{len(numbers)} are more than {MAX_RECIPIENTS}")


def check_unicode(fields: Fields) -> None:
    """JSON can write half a character, which no text has."""
    for name, value in fields.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise invalid(ascii(name)[1:-1], "it holds half a character") from None


def text_of(fields: Fields, name: str, longest: int) -> str:
    """A text of at most so many characters; "" where there is none."""
    text = fields.get(name, "")
    if not isinstance(text, str):
        raise invalid(name, "it must be text, not a file")
    if len(text) > longest:
        raise invalid(name, f"{len(text)} characters are more than {longest}")
    return text


def page_of(fields: Fields) -> int:
    """The page that is asked for."""
    text = fields.get("page") or "1"
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise invalid("page", "it must be a number from 1")
    return int(text)


def time_of(fields: Fields, name: str) -> datetime | None:
    """A time as the service writes it; None where there is none."""
    text = fields.get(name)
    if text is None or text == "":
        return None
    if not isinstance(text, str):
        raise invalid(name, "it must be text")
    try:
        return datetime.strptime(text, TIME_FORMAT).replace(tzinfo=ZONE)
    except ValueError:
        raise invalid(name, "it must be YYYY-MM-DD HH:MM:SS") from None


def unix_time_of(value: Any) -> datetime:
    """A time in Unix seconds."""
    try:
        return datetime.fromtimestamp(int("" if isinstance(value, bool) else value), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        raise invalid("date_before", "it must be a time in Unix seconds") from None
