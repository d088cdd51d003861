"""What becomes of the rows of a list, whichever engine takes them in. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from attrs import define, field, frozen

from mmsclient._store.models import Exclusion, ListEntry

__all__ = ["EarlierRows", "Rejected", "SortedRows", "phones_of", "sort_out"]

Rejected: TypeAlias = tuple[int, str, Exclusion, str | None]
"""Line, number, exclusion and reason of what is set aside."""


@frozen
class SortedRows:
    """Rows of a list, by what is to be done with them."""

    new: list[ListEntry] = field(factory=list)
    """Recipients."""
    again: list[tuple[int, int]] = field(factory=list)
    """The id and the line of those that are known from an earlier run."""
    rejected: list[Rejected] = field(factory=list)


def phones_of(entries: Iterable[ListEntry]) -> list[int]:
    """Each phone once."""
    return list({entry.phone: None for entry in entries if entry.phone is not None})


def sort_out(entries: Sequence[ListEntry], known: Iterable[tuple[int, int, int, int]], run: int) -> SortedRows:
    """Sort the rows of the list of `run`; the same again changes nothing.

    Args:
        entries: The rows.
        known: Phone, line, run and id of those recipients among them that the journal has.
        run: Its number.
    """
    found = SortedRows()
    ids: dict[int | None, int] = {}
    lines: dict[int | None, int] = {}  # in this list
    for phone, line_before, of_run, each in known:
        ids[phone] = each
        if of_run == run:
            lines[phone] = line_before
    for entry in entries:
        line = lines.get(entry.phone)
        if entry.problem is not None and (line is not None or entry.phone not in ids):
            found.rejected.append((entry.line, entry.given, entry.exclusion, entry.problem))
        elif line is None:
            lines[entry.phone] = entry.line
            if entry.phone in ids:
                found.again.append((ids[entry.phone], entry.line))
            else:
                found.new.append(entry)
        elif line != entry.line:
            reason = f"the same phone as in line {line}"
            found.rejected.append((entry.line, entry.given, Exclusion.DUPLICATE, reason))
    return found


@define
class EarlierRows:
    """What earlier lists have set aside, and the present one has not named yet: maybe in another line."""

    _lines: dict[str, list[int]] = field(factory=dict)
    """By number."""
    _left: dict[str, list[int]] = field(factory=dict)
    """What they are of the numbers that were looked at last, once these rows are written."""

    @classmethod
    def of(cls, rows: Iterable[tuple[str, int]]) -> EarlierRows:
        """`rows`: numbers and lines."""
        lines: defaultdict[str, list[int]] = defaultdict(list)
        for number, line in rows:
            lines[number].append(line)
        return cls(dict(lines))

    def among(self, rejected: Sequence[Rejected]) -> tuple[list[tuple[int, Rejected]], list[Rejected]]:
        """Those of some rows that stood in another line, each with that; and those that are new."""
        lines = {(line, number) for line, number, *_ in rejected}
        known = {number: self._lines.get(number, ()) for _, number, *_ in rejected}
        in_place = {(line, number) for number, of_it in known.items() for line in of_it} & lines
        self._left = {
            number: sorted(line for line in of_it if (line, number) not in in_place) for number, of_it in known.items()
        }
        moved: list[tuple[int, Rejected]] = []
        new: list[Rejected] = []
        for row in rejected:
            line, number, *_ = row
            if (line, number) in in_place:
                continue
            if left := self._left[number]:
                moved.append((left.pop(), row))
            else:
                new.append(row)
        return moved, new

    def written(self) -> None:
        """The rows that were looked at last are."""
        self._lines |= self._left
