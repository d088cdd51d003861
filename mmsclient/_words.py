"""Words that go with numbers."""

from __future__ import annotations

from decimal import Decimal


def counted(number: int | Decimal, noun: str) -> str:
    """`number` with `noun` in its singular or plural: 1 call, 2 replies, 0.5 credits."""
    if number == 1:
        return f"{number} {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"
