"""The line of a message that says how to get no more of them."""

from __future__ import annotations

from typing import Any

from attrs import Attribute

from mmsclient.errors import InvalidRequestError

__all__ = ["check_opt_out_line", "holds", "with_line_below", "with_opt_out_line"]


def check_opt_out_line(_: Any, attribute: Attribute[Any], line: str | None) -> None:
    """A validator. Raises `InvalidRequestError` for what is no line of text."""
    if line is not None and (not isinstance(line, str) or not line.strip() or len(line.splitlines()) != 1):
        raise InvalidRequestError(attribute.name, line, 'one line of text, such as "Reply STOP to opt out"')


def with_opt_out_line(text: str, line: str | None) -> str:
    """`text` with `line` below it, unless it holds that already, in whatever case."""
    if line is None or not isinstance(text, str) or holds(text, line):
        return text
    return with_line_below(text, line)


def holds(text: str, line: str) -> bool:
    """`line` stands in `text`, in whatever case."""
    return line.strip().casefold() in text.casefold()


def with_line_below(text: str, line: str) -> str:
    """`text`, and below it `line`."""
    between = "" if not text or text.endswith(("\n", "\r")) else "\n"
    return f"{text}{between}{line.strip()}"
