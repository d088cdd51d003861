"""What a benchmark hands back, and how it is printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import Factory, define, frozen

from benchmarks.server import MODELS

WIDTH = 100


@frozen
class Options:
    """What the command line asks for."""

    full: bool = False
    """All of it, medians of three rounds at least; else a short form."""
    calls: int | None = None
    """Calls of each run of `cap` and `real`; None for their own number."""
    models: Sequence[str] = tuple(MODELS)
    """Models of the network that `cap` runs through."""

    @property
    def rounds(self) -> int:
        return 3 if self.full else 1


@frozen
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def lines(self) -> Iterable[str]:
        """The table, its first column to the left and the others to the right."""
        widths = [max(len(row[column]) for row in (self.header, *self.rows)) for column in range(len(self.header))]
        yield self.title
        yield _aligned(self.header, widths)
        yield "  ".join("-" * width for width in widths)
        for row in self.rows:
            yield _aligned(row, widths)

    def markdown(self) -> Iterable[str]:
        """The table for a README."""
        yield f"| {' | '.join(self.header)} |"
        yield f"|---|{'---:|' * (len(self.header) - 1)}"
        for row in self.rows:
            yield f"| {' | '.join(row)} |"


@frozen
class Goal:
    text: str
    figure: str
    met: bool


@define
class Report:
    """Tables to read, goals with their verdicts, and the figures themselves, which JSON can hold."""

    name: str
    tables: list[Table] = Factory(list)
    goals: list[Goal] = Factory(list)
    notes: list[str] = Factory(list)
    figures: dict[str, Any] = Factory(dict)
    chart: str | None = None
    """SVG."""

    def lines(self) -> Iterable[str]:
        yield f"== {self.name} ".ljust(WIDTH, "=")
        for table in self.tables:
            yield ""
            yield from table.lines()
        if self.notes:
            yield ""
            yield from self.notes
        if self.goals:
            yield ""
            for goal in self.goals:
                yield f"{'met   ' if goal.met else 'MISSED'}  {goal.text}: {goal.figure}"
        yield ""


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = row
    cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
    return "  ".join(cells).rstrip()
