"""JSON from strangers, and the values in it, which come as numbers or as texts by endpoint (api-notes.md section 1)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any

MOST_NODES = 200_000
"""Values in one document: more than any answer holds, and few enough not to hold up the event loop."""

DEEPEST = 32
"""Levels of a document that are kept. Below them stands `TOO_DEEP`: what is deeper cannot be shown or pickled."""

TOO_DEEP = "(nested too deep)"

WIRE_TIME = "%Y-%m-%d %H:%M:%S"
"""How the API writes times: without a zone (api-notes.md section 1)."""

LONGEST_NUMBER = 40
"""Characters of a number that is read as one; a longer one stays text."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_STRINGS = re.compile(r'(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?+)++', re.DOTALL)
"""Texts of JSON, the last one with or without its end: no character is tried twice, none kept to come back to."""
_DECIMAL = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?")


def document(text: str, scrub: Callable[[str], str] = str) -> Any:
    """`text` as JSON that can be shown, pickled and written again. Raises `ValueError` or `RecursionError`.

    Lone surrogates become the replacement character, numbers without a sensible size, NaN and the like become text,
    and every text goes through `scrub`.
    """
    if _nodes(text) > MOST_NODES and _nodes_outside_texts(text) > MOST_NODES:
        raise ValueError(f"more than {MOST_NODES} values")
    value = _DECODER.decode(text)
    is_shallow = text.count("[") + text.count("{") <= DEEPEST or _is_shallow(value)
    return value if is_shallow and _is_clean(text, scrub) else _clean(value, DEEPEST, scrub)


def _is_clean(text: str, scrub: Callable[[str], str]) -> bool:
    """No text in this document needs to be cleaned: one look at the whole, where `_clean` looks at each."""
    return "\\" not in text and (text.isascii() or not _SURROGATE.search(text)) and scrub(text) == text


def _is_shallow(value: Any) -> bool:
    """Nothing stands below `DEEPEST`."""
    level, left = [value], DEEPEST + 1
    while left and (level := [each for each in level if isinstance(each, dict | list)]):
        level = [child for each in level for child in (each.values() if isinstance(each, dict) else each)]
        left -= 1
    return left > 0


def _nodes(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def _nodes_outside_texts(text: str) -> int:
    """Counted from text to text, so that other threads run in between; no further than to one too many."""
    nodes = end = 0
    for string in _STRINGS.finditer(text):
        nodes += _nodes(text[end : string.start()])
        end = string.end()
        if nodes > MOST_NODES:
            return nodes
    return nodes + _nodes(text[end:])


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_NUMBER else digits


def _float(digits: str) -> float | str:
    number = float(digits) if len(digits) <= LONGEST_NUMBER else math.inf
    return number if math.isfinite(number) else digits


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=str)


def _clean(value: Any, levels: int, scrub: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return scrub(_SURROGATE.sub("\ufffd", value))
    if not isinstance(value, dict | list):
        return value
    if not levels:
        return TOO_DEEP
    if isinstance(value, list):
        return [_clean(item, levels - 1, scrub) for item in value]
    return {_clean(name, levels, scrub): _clean(item, levels - 1, scrub) for name, item in value.items()}


def object_of(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object; else an empty one."""
    return value if isinstance(value, dict) else {}


def text_of(value: Any) -> str:
    """`value` as text; "" for null, and JSON for what is no plain value."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False)


def text_or_none(value: Any) -> str | None:
    return None if value is None else text_of(value)


def decimal_of(value: Any) -> Decimal | None:
    """A decimal from `2`, `2.5` or `"2.50"`; None for anything else."""
    text = "" if isinstance(value, bool) else text_of(value).strip()
    return Decimal(text) if _DECIMAL.fullmatch(text) else None


def credit_of(value: Any) -> Decimal | None:
    """A decimal of zero or more; None for anything else."""
    amount = decimal_of(value)
    return amount if amount is not None and amount >= 0 else None


def count_of(value: Any) -> int | None:
    """A whole number of zero or more; None for anything else."""
    number = decimal_of(value)
    return int(number) if number is not None and number >= 0 and number == int(number) else None


def time_of(value: Any, zone: tzinfo) -> datetime | None:
    """`YYYY-MM-DD HH:MM:SS`, or with slashes, which says no zone, as a time in `zone` (api-notes.md section 1).

    In the hour that is repeated when daylight saving ends, the earlier of the two: whoever asks for what came since
    then may see something a second time, and misses nothing.
    """
    wall = _wall_time(text_of(value)[:30])
    return None if wall is None else wall.replace(tzinfo=zone)


@lru_cache(maxsize=64)  # the messages of an answer were sent in the same few seconds
def _wall_time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text.replace("/", "-"), WIRE_TIME)
    except ValueError:
        return None


def wall_clock(time: datetime, zone: tzinfo, *, is_end: bool) -> str:
    """`time` as the API writes times: without a zone, in whole seconds.

    In the hour that is repeated when daylight saving ends nobody knows which of the two the API takes it for: then an
    hour more is asked for, before a beginning and after an end. A part of a second is rounded the same way.
    """
    local = time.astimezone(zone)
    offsets = [local.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1)]
    repeated = offsets[0] - offsets[1]
    wall = local.replace(tzinfo=None) + (repeated if is_end else -repeated)
    if is_end and wall.microsecond:
        wall += timedelta(seconds=1)
    return wall.strftime(WIRE_TIME)


def items_of(value: Any) -> Sequence[Any]:
    """A listing's items: a list, or whatever else stands for none or for several."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return list(value.values()) if value and all(key.isdigit() for key in value) else [value]
    return [] if value is None or value == "" else [value]
