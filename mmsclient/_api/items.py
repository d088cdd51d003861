"""The items of an answer: how many are read, and how one is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmsclient._api.types import UnreadableError

MOST_ITEMS = 2000
"""Items of one answer that are read; a page has 25, and a send at most 1000."""


def bounded(items: Sequence[Any], expected: int = 0) -> Sequence[Any]:
    """`items`, unless there are so many that a model of each would hold up the event loop."""
    if len(items) > max(MOST_ITEMS, 2 * expected):
        raise UnreadableError(f"the answer lists {len(items)} items")
    return items


def kept(item: Any) -> Mapping[str, Any]:
    """An item of a list as it came; one that is no object is kept under "item"."""
    return item if isinstance(item, dict) else {"item": item}
