"""What becomes of the rows of a list, whichever engine takes them in. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import field, frozen

from mmsclient._store.models import Exclusion, ListEntry

__all__ = ["SortedRows", "phones_of", "sort_out"]


@frozen
class SortedRows:
    """Rows of a list, by what is to be done with them."""

    new: list[ListEntry] = field(factory=list)
    """Recipients."""
    again: list[tuple[int, int]] = field(factory=list)
    """The id and the line of those that are known from an earlier run."""
    rejected: list[tuple[int, str, Exclusion, str | None]] = field(factory=list)
    """Line, number, exclusion and reason of what is set aside."""


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
