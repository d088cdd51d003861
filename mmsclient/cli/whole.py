"""Options that take a whole number: what is none is refused, and not rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cyclopts import Parameter, Token

__all__ = ["WHOLE"]


def _whole(type_: Any, tokens: Sequence[Token]) -> int:
    del type_
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, got {text!r}") from None


WHOLE: Parameter = Parameter(converter=_whole)
"""Of an option that is an `int`."""
