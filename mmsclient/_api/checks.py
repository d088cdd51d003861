"""What the API takes, and what options may be: every check of what a caller hands in, but for phone numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec, TypeGuard, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mmsclient._api.media import MAX_BYTES, Image, too_large
from mmsclient.errors import ConfigurationError, InvalidRequestError

P = ParamSpec("P")
T = TypeVar("T")

MAX_TEXT = 1000
MAX_SUBJECT = 40
LONGEST_LINE = 200

MOST_SECONDS = 1e9
"""Seconds that an option may be at most; timers cannot do much more."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def keeps_arguments_secret(function: Callable[P, T]) -> Callable[P, T]:
    """A `function` whose `ConfigurationError` does not lead to its arguments, one of which is a key or a password.

    Whoever reports a traceback with the local variables of its frames would send them away.
    """

    @wraps(function)
    def quiet(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ConfigurationError as error:
            problem = error.with_traceback(None)
        problem.__context__ = None
        del args, kwargs
        raise problem

    return quiet


def is_whole(value: object, least: int) -> bool:
    """A whole number, `least` or more; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> TypeGuard[float]:
    """A finite number; True and False are none."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def require(
    name: str,
    value: object,
    ok: bool,
    expected: str,
    *,
    error: type[ConfigurationError] | type[InvalidRequestError] = ConfigurationError,
) -> None:
    """Raise `error` for the option or argument `name` unless `ok`. Both kinds read the same."""
    if ok:
        return
    if issubclass(error, InvalidRequestError):
        raise error(name, value, expected)
    raise error(f"{name}: expected {expected}, got {value!r}")


def check_whole(
    name: str,
    value: object,
    least: int,
    most: int | None = None,
    *,
    error: type[ConfigurationError] | type[InvalidRequestError] = ConfigurationError,
) -> None:
    """A whole number, `least` to `most`. Raises `error`."""
    ok = is_whole(value, least) and (most is None or not is_whole(value, most + 1))
    expected = f"a whole number, {least} or more" if most is None else f"a whole number from {least} to {most}"
    require(name, value, ok, expected, error=error)


def check_seconds(
    name: str,
    value: object,
    *,
    zero: bool = False,
    most: float = MOST_SECONDS,
    error: type[ConfigurationError] | type[InvalidRequestError] = ConfigurationError,
) -> None:
    """Seconds, more than 0 or, if `zero` is let through, 0 or more; at most `most`. Raises `error`."""
    ok = is_number(value) and (0 < value <= most or (zero and value == 0))
    expected = "seconds, 0 or more" if zero else "seconds, more than 0"
    if most < MOST_SECONDS or (is_number(value) and value > most):
        expected += f" and at most {most:,.10g}"
    require(name, value, ok, expected, error=error)


def checked_zone(zone: str | ZoneInfo) -> ZoneInfo:
    """The option `timezone`. Raises `ConfigurationError`."""
    try:
        return zone if isinstance(zone, ZoneInfo) else ZoneInfo(zone)
    except (ValueError, TypeError, OSError, ZoneInfoNotFoundError) as error:
        reason = error
    raise ConfigurationError(f"timezone: expected an IANA name ({reason}); on a bare system install tzdata")


def checked_text(text: str, image: Image) -> str:
    """`text` as it goes out: new lines as CR LF (api-notes.md section 3). Raises `InvalidRequestError`."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequestError("text", text, "a text that is not empty")
    outgoing = re.sub(r"\r\n|\r|\n", "\r\n", text)
    if len(outgoing) > MAX_TEXT:
        raise InvalidRequestError(
            "text",
            f"{len(outgoing)} characters",
            f"at most {MAX_TEXT} characters, each new line counting two",
        )
    room = MAX_BYTES - len(encoded(outgoing, "text"))
    if len(image.data) > room:
        raise too_large(image.kind.upper(), len(image.data), image.source, room)
    return outgoing


def checked_subject(subject: str | None) -> str | None:
    """`subject` if it is one line of at most 40 characters. Raises `InvalidRequestError`."""
    if subject is None:
        return None
    if not isinstance(subject, str) or len(subject) > MAX_SUBJECT or _CONTROL.search(subject):
        raise InvalidRequestError("subject", subject, f"one line of at most {MAX_SUBJECT} characters")
    encoded(subject, "subject")
    return subject


def checked_key(key: object) -> str:
    """The key of a keyed send. Raises `InvalidRequestError`."""
    return checked_line("key", key)


def checked_line(argument: str, value: object) -> str:
    """One line of 1 to 200 characters. Raises `InvalidRequestError`."""
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_LINE or _CONTROL.search(value):
        raise InvalidRequestError(argument, value, f"one line of 1 to {LONGEST_LINE} characters")
    encoded(value, argument)
    return value


def encoded(text: str, argument: str) -> bytes:
    """`text` as UTF-8. Raises `InvalidRequestError`, which says where it cannot be: the text may be a secret."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        problem = character_at(text, error.start)
    raise InvalidRequestError(argument, problem, "text without lone surrogates")


def character_at(text: str, index: int) -> str:
    """What stands there, for an error that is not to hold the text."""
    return f"U+{ord(text[index]):04X} as character {index + 1}"


def check_texts(argument: str, values: Mapping[str, str] | None) -> None:
    if values is None:
        return
    if not isinstance(values, Mapping) or not all(isinstance(text, str) for pair in values.items() for text in pair):
        raise InvalidRequestError(argument, values, "a mapping of strings to strings")
    for text in (text for pair in values.items() for text in pair):
        encoded(text, argument)


def check_json(value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        return
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"what JSON can hold ({type(error).__name__}: {error})"
    raise InvalidRequestError("json", value, problem)


def checked_time(argument: str, time: datetime) -> datetime:
    """An aware datetime of a year from 1970 to 9998: the zone may move it by a day. Raises `InvalidRequestError`."""
    if not isinstance(time, datetime) or time.utcoffset() is None:
        raise InvalidRequestError(argument, str(time), "a datetime with a time zone")
    if not 1970 <= time.year < 9999:
        raise InvalidRequestError(argument, str(time), "a time in a year from 1970 to 9998")
    return time


def check_range(since: datetime | None, until: datetime | None) -> None:
    """Bounds in order, either left out. Raises `InvalidRequestError`."""
    for name, time in (("since", since), ("until", until)):
        if time is not None:
            checked_time(name, time)
    if since is not None and until is not None and since.timestamp() > until.timestamp():
        raise InvalidRequestError("since", str(since), f"a time before until ({until})")


def checked_kind(kind: str) -> str:
    """A kind of message that can come in. Raises `InvalidRequestError`."""
    if kind not in ("mms", "sms"):
        raise InvalidRequestError("kind", kind, "'mms' or 'sms'")
    return kind


def checked_id(argument: str, value: object, expected: str = "a message's id") -> str:
    """An id that is not empty. Raises `InvalidRequestError`."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError(argument, value, expected)
    return value
