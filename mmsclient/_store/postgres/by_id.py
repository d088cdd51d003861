"""Updates of recipients by their ids.

Ids come with their range, which lies together: a new table has no statistics that would lead to the index by its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any

from mmsclient._store.postgres.database import Transaction, columns

__all__ = ["runs_of", "update"]

GAP = 16
"""Ids that lie no further apart are looked for together."""


def update(transaction: Transaction, sql: str, rows: Iterable[Sequence[Any]], width: int, *keys: int) -> int:
    """Run a statement for `rows` of `width` values, the first of which is an id; how many rows it changed.

    It is given the columns of rows whose ids lie together, then `keys`, and the first and the last of these ids.
    """
    runs = runs_of(sorted(rows, key=itemgetter(0)))
    values = [(*columns(run, width), *keys, run[0][0], run[-1][0]) for run in runs]
    return transaction.execute_all(sql, values) if values else 0


def runs_of(rows: Sequence[Sequence[Any]]) -> list[Sequence[Sequence[Any]]]:
    """`rows` in parts whose ids lie together: those of one message of several may be scattered over the list."""
    if not rows:
        return []
    starts = [0, *(place for place in range(1, len(rows)) if rows[place][0] - rows[place - 1][0] > GAP), len(rows)]
    return [rows[start:end] for start, end in pairwise(starts)]
