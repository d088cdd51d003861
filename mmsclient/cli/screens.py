"""A campaign while it is sent: changing in place on a terminal, a few lines in a pipe, an object a call for scripts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from mmsclient._api.phone_numbers import masked
from mmsclient._words import counted
from mmsclient.bulk import Batch, Progress, RecipientState
from mmsclient.cli.live import LiveBlock, is_steerable
from mmsclient.cli.output import Facts, Form, duration, printable, to_json

__all__ = ["Bar", "Screen"]

FREE_LINES = 20
"""Lines that are printed as they come."""
SHORTEST_GAP, LONGEST_GAP = 1.0, 60.0
"""Seconds between two lines after these: more and more, a twentieth of the time since the beginning."""
WIDEST_BAR = 50
"""Columns of it."""
LAST_FAILURES = 4
"""Calls that went wrong which stay on the screen."""
FEW_NUMBERS = 3
"""Refused numbers that are named."""


class Screen:
    """Takes the batches of a campaign as they end. Prints lines: one for each call at first, fewer later.

    Args:
        clock: Seconds that pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._printed = 0
        self._held: list[Batch] = []

    @staticmethod
    def of(form: Form) -> Screen:
        """The one that fits `form`."""
        if form is Form.TABLE and is_steerable(console := Console()):
            return LiveScreen(console)
        return JSONScreen() if form is Form.JSON else Screen()

    def start(self) -> None:
        """Before the first batch."""

    def show(self, batch: Batch) -> None:
        """A batch has ended."""
        self._held.append(batch)
        now = self._clock()
        gap = min(LONGEST_GAP, max(SHORTEST_GAP, (now - self._began) / 20))
        if self._printed < FREE_LINES or now - self._last >= gap:
            self._last = now
            self._print()

    def tick(self, progress: Progress | None) -> None:
        """A moment has passed. `progress`: how far the campaign is, None where nobody knows."""

    def stop(self) -> None:
        """After the last batch."""
        if self._held:
            self._print()

    def _print(self) -> None:
        *others, batch = self._held
        self._held = []
        self._printed += 1
        wrong = sum(map(_is_wrong, others))
        since = [f"{counted(len(others), 'call')} before it, {wrong} of them not accepted in full"] if others else []
        print(
            printable("; ".join([f"call {batch.number}: {_outcome(batch)}", _rate(batch.progress), *since])), flush=True
        )


class JSONScreen(Screen):
    """Prints an object for each."""

    def show(self, batch: Batch) -> None:
        print(to_json({"event": "batch", **_facts_of_batch(batch)}), flush=True)


class LiveScreen(Screen):
    """Shows a bar, figures and the last calls that went wrong, at the end of a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._block = LiveBlock(console)
        self._progress: Progress | None = None
        self._failures: deque[tuple[str, str]] = deque(maxlen=LAST_FAILURES)

    def start(self) -> None:
        self._block.start()

    def show(self, batch: Batch) -> None:
        self._progress = batch.progress  # drawn at the next tick: there may be hundreds of calls a second
        if _is_wrong(batch):
            self._failures.appendleft((f"Call {batch.number}", _outcome(batch)))

    def tick(self, progress: Progress | None) -> None:
        self._progress = progress or self._progress
        if self._progress is not None:
            bar = Bar.of(self._progress.counts, is_whole=self._progress.list_read)
            self._block.update(Group(bar, Facts(_facts_of_progress(self._progress) | dict(self._failures))))

    def stop(self) -> None:
        self.tick(None)
        self._block.stop()
        self._block.console.print()  # between the figures and the report


@frozen
class Bar:
    """How many recipients are done with, of how many."""

    done: int
    total: int
    is_whole: bool
    """The list was read to its end."""

    @classmethod
    def of(cls, counts: Mapping[RecipientState, int], *, is_whole: bool) -> Bar:
        """The bar of a campaign. `counts`: recipients in each state."""
        total = sum(counts.values()) - counts[RecipientState.EXCLUDED]
        open_states = (RecipientState.PENDING, RecipientState.SENDING, RecipientState.FAILED)
        return cls(total - sum(counts[state] for state in open_states), total, is_whole)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        share = self.done / self.total if self.total else 1.0
        said = (
            f"{self.done} of {self.total}, {share:.0%}" if self.is_whole else f"{self.done}, and the list is read yet"
        )
        beside = options.max_width - len(said) - 3
        width = min(WIDEST_BAR, beside) if beside >= len(said) else options.max_width
        full = int(width * share) if self.is_whole else 0
        done, left = ("#", "-") if options.ascii_only else ("█", "░")
        bar = Text.assemble((done * full, "green"), (left * (width - full), "dim"))
        yield Text.assemble(" ", bar, "  ", said) if beside >= len(said) else Group(bar, Text(said))


def _is_wrong(batch: Batch) -> bool:
    return batch.error is not None or batch.refused != ()


def _outcome(batch: Batch) -> str:
    said = f"{batch.accepted} of {len(batch.recipients)} accepted"
    if batch.error is not None:
        return f"{said}: {batch.error}"
    if batch.refused:
        more = ["..."] if len(batch.refused) > FEW_NUMBERS else []
        said = f"{said}; refused: {', '.join([*map(masked, batch.refused[:FEW_NUMBERS]), *more])}"
    return said


def _rate(progress: Progress) -> str:
    """Rate, throttlings, credits and time left, each once it is known."""
    rate = [f"{progress.calls_per_second:.1f} calls/s"] if progress.calls_per_second else []
    throttled = [f"{progress.throttled} throttled"] if progress.throttled else []
    left = [] if progress.seconds_left is None else [f"{progress.seconds_left:.0f} s left"]
    slow = ["one call at a time"] if progress.concurrency == 1 else []
    return ", ".join([*rate, *throttled, counted(progress.credits_used, "credit"), *left, *slow])


def _facts_of_progress(progress: Progress) -> dict[str, str]:
    counts = progress.counts
    always = (RecipientState.ACCEPTED, RecipientState.REFUSED, RecipientState.UNKNOWN)
    sometimes = (RecipientState.FAILED, RecipientState.EXCLUDED)
    states = [*always, *(state for state in sometimes if counts[state])]
    cap = "" if progress.rate is None else f" of {progress.rate:.3g}"
    slow = ", one call at a time" if progress.concurrency == 1 else ""
    left = "" if progress.credits_left is None else f", {progress.credits_left} left to spend"
    waits = progress.waits_until
    facts = {
        "Recipients": ", ".join(f"{counts[state]} {state}" for state in states),
        "Rate": f"{progress.calls_per_second:.1f}{cap} calls/s{slow}",
        "Throttled": counted(progress.throttled, "call"),
        "Credits used": f"{progress.credits_used}{left}",
    }
    if waits is not None:
        facts["Goes on at"] = f"{waits:%a %Y-%m-%d %H:%M:%S %z}"
    elif progress.seconds_left:
        facts["Time left"] = duration(progress.seconds_left)
    return facts


def _facts_of_batch(batch: Batch) -> dict[str, Any]:
    progress = batch.progress
    return {
        "number": batch.number,
        "recipients": len(batch.recipients),
        "accepted": batch.accepted,
        "refused": batch.refused,
        "error": None if batch.error is None else str(batch.error),
        "counts": progress.counts,
        "calls_per_second": round(progress.calls_per_second, 3),
        "rate": None if progress.rate is None else round(progress.rate, 3),
        "throttled": progress.throttled,
        "credits_used": progress.credits_used,
        "credits_left": progress.credits_left,
        "concurrency": progress.concurrency,
        "seconds_left": None if progress.seconds_left is None else round(progress.seconds_left, 1),
    }
