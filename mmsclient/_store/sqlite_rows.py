"""Many rows in one statement of SQLite.

Python gives the interpreter away for each step of SQLite, and gets it back milliseconds later where an event loop is
busy: a statement for all rows is one step, one for each row are many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["MOST_ROWS", "in_parts"]

MOST_ROWS = 100
"""In one statement: some builds of SQLite take no more than 999 values."""


def in_parts(sql: str, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, list[Any]]]:
    """`sql` with places for rows in place of `{rows}`, and their values, as often as all of `rows` need."""
    for first in range(0, len(rows), MOST_ROWS):
        part = rows[first : first + MOST_ROWS]
        row = f"({', '.join('?' * len(part[0]))})"
        yield sql.format(rows=", ".join([row] * len(part))), [value for values in part for value in values]
