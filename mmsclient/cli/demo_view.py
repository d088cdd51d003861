"""How the demo is shown: plain lines in a pipe; on a terminal the same lines above a table that keeps changing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal

from attrs import Factory, define
from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mmsclient._words import counted
from mmsclient.cli.output import Facts, Form, printable


@define
class Score:
    """What the demo counts."""

    recipients: int = 0
    accepted: int = 0
    refused: int = 0
    credits_used: Decimal = Decimal(0)
    statuses: Counter[str] = Factory(Counter)
    answered: int = 0
    replies: int = 0
    opt_outs: int = 0

    @property
    def delivered(self) -> int:
        """Messages that arrived."""
        return self.statuses["Delivered"]

    @property
    def failed_in_words(self) -> str:
        """Such as `2: Expired 1, Failed 1`."""
        failed = {status: count for status, count in self.statuses.items() if status != "Delivered"}
        return f"{sum(failed.values())}: {_in_words(failed)}" if failed else "0"

    @property
    def statuses_in_words(self) -> str:
        """Such as `Delivered 34, Expired 1, Failed 1`."""
        return _in_words(self.statuses)


def _seconds(at: float | None) -> str:
    return "" if at is None else f"{at:5.2f} s  "


def _in_words(statuses: Mapping[str, int]) -> str:
    by_count = sorted(statuses.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{status} {count}" for status, count in by_count)


class Stage:
    """Takes the demo's lines. Shows none: for `--json`."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """While the demo runs."""
        yield

    def step(self, title: str, code: str) -> None:
        """A new step, and the SDK call that it makes."""

    def fact(self, text: str, at: float | None = None, *, good: bool = True) -> None:
        """Something that is so, or that happened `at` so many seconds from the beginning."""

    def summary(self, facts: dict[str, str]) -> None:
        """The end."""


class PlainStage(Stage):
    """Lines, each as soon as it is known."""

    def step(self, title: str, code: str) -> None:
        print(f"\n{title}: {code}", flush=True)

    def fact(self, text: str, at: float | None = None, *, good: bool = True) -> None:
        print(f"  {_seconds(at)}{printable(text)}", flush=True)

    def summary(self, facts: dict[str, str]) -> None:
        width = max(map(len, facts)) + 2
        print("\nSummary")
        for name, value in facts.items():
            print(f"  {name:{width}}{printable(value)}")


class LiveStage(Stage):
    """Lines that scroll, and under them a table of `score` and of the server's last second."""

    def __init__(self, score: Score, last_second: Callable[[], int], cap: int) -> None:
        self._score = score
        self._last_second = last_second
        self._cap = cap
        self._console = Console(highlight=False)

    @contextmanager
    def open(self) -> Iterator[None]:
        with Live(console=self._console, get_renderable=self._table, refresh_per_second=15):
            yield

    def step(self, title: str, code: str) -> None:
        if len(title) + 2 + len(code) <= self._console.width:
            self._console.print(Text.assemble("\n", (title, "bold"), "  ", (code, "cyan")))
        else:
            self._console.print(Text(f"\n{title}", "bold"), Padding.indent(Text(code, "cyan"), 2), sep="\n")

    def fact(self, text: str, at: float | None = None, *, good: bool = True) -> None:
        line = Table.grid()  # whose second column wraps beside the time, not under it
        line.add_row(f"  {_seconds(at)}", Text(printable(text), "" if good else "yellow"))
        self._console.print(line)

    def summary(self, facts: dict[str, str]) -> None:
        self._console.print(Text("\nSummary", "bold"), Facts(facts), sep="\n")

    def _table(self) -> Padding:
        score, calls = self._score, self._last_second()
        bar = Text.assemble(("█" * calls, "green"), ("░" * (self._cap - calls), "dim"))
        table = Table(show_header=False, expand=True)
        table.add_column(style="bold", min_width=9)
        table.add_column()
        credits_used = counted(score.credits_used, "credit")
        table.add_row("Sent", f"{score.accepted} accepted, {score.refused} refused, {credits_used}")
        table.add_row("Delivered", str(score.delivered))
        table.add_row("Failed", score.failed_in_words)
        table.add_row("Answered", str(score.answered))
        table.add_row("Server", bar + Text(f" {calls} of {self._cap} calls in a second"))
        return Padding(table, (1, 0, 0, 0))


def stage_for(form: Form, score: Score, last_second: Callable[[], int], cap: int) -> Stage:
    """The stage that fits where the demo's output goes."""
    match form:
        case Form.TABLE:
            return LiveStage(score, last_second, cap)
        case Form.PLAIN:
            return PlainStage()
        case Form.JSON:
            return Stage()


def busiest_second(times: Sequence[float]) -> int:
    """The most of `times`, given in order, that lie within one second."""
    busiest = first = 0
    for place, time in enumerate(times):
        while time - times[first] >= 1:
            first += 1
        busiest = max(busiest, place - first + 1)
    return busiest
