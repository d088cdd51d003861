"""The fields of a row: the columns of a CSV file, or what a mapping holds beside the number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mmsclient.bulk.template import field_key
from mmsclient.errors import described

__all__ = ["KNOWN_NAMES", "CSVFields", "is_recipient", "number_in", "places_of"]

KNOWN_NAMES: frozenset[str] = frozenset({"number", "phone", "mobile", "to", "recipient", "msisdn"})
"""What the field with the number may be called."""


class CSVFields(Mapping[str, object]):
    """The cells of a record, by the names of their columns."""

    __slots__ = ("_cells", "_places")

    def __init__(self, places: Mapping[str, int], cells: Sequence[str]) -> None:
        self._places = places
        self._cells = cells

    def __getitem__(self, name: str) -> object:
        place = self._places[name]
        return self._cells[place] if place < len(self._cells) else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self)}>"


def places_of(header: Sequence[str]) -> dict[str, int]:
    """Where the columns are whose names stand in `header` once."""
    names = [field_key(cell) for cell in header]
    return {name: place for place, name in enumerate(names) if name and names.count(name) == 1}


def is_recipient(fields: Iterable[object]) -> bool:
    """It is the row of one recipient, and no mapping of which the numbers are the keys."""
    return any(isinstance(name, str) and field_key(name) in KNOWN_NAMES for name in fields)


def number_in(fields: Mapping[str, object]) -> tuple[str, str | None]:
    """The number in the fields of a row, and why there is none."""
    found = [name for name in fields if name in KNOWN_NAMES]
    if len(found) != 1:
        return "", f"expected the number in one field called {', '.join(sorted(KNOWN_NAMES))}"
    number = fields[found[0]]
    return (number, None) if isinstance(number, str) else (described(number), "expected the number as a string")
