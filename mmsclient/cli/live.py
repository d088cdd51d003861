"""Lines at the end of a terminal that change in place, whatever is printed above them and however wide it becomes."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.control import Control
from rich.file_proxy import FileProxy
from rich.segment import ControlType, Segment
from rich.text import Text

__all__ = ["LiveBlock", "is_steerable"]

MARGIN = 2
"""Columns that stay free: a terminal shows Ctrl-C there, as ^C."""


def is_steerable(console: Console) -> bool:
    """The console is a terminal on which lines can change in place."""
    return console.is_terminal and not console.is_dumb_terminal


class LiveBlock:
    """Shows something that changes at the end of a terminal. Elsewhere it is printed once, when it has ended.

    The cursor stays visible: a process that a signal kills leaves the terminal as it should be. Where the terminal has
    become narrower, its lines were broken into several: as many are taken back.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console: Console = Console() if console is None else console
        self._shown: RenderableType = Text("")
        self._widths: list[int] = []  # of the lines that are on the screen
        self._stderr: Any = None
        self._hook = _Hook(self)

    def start(self) -> None:
        """What is printed by the console, or on a stderr that is a terminal too, comes above the block from now on."""
        self.console.push_render_hook(self._hook)
        if is_steerable(self.console) and sys.stderr.isatty():
            self._stderr, sys.stderr = sys.stderr, FileProxy(self.console, sys.stderr)

    def update(self, shown: RenderableType) -> None:
        """Show something else in it."""
        self._shown = shown
        self.refresh()

    def refresh(self) -> None:
        """Show it anew: the terminal may have another size."""
        if is_steerable(self.console):
            self.console.print(Control())

    def stop(self) -> None:
        """Leave it where it is."""
        try:
            if is_steerable(self.console):
                self.console.print(Control())
        finally:
            self.console.pop_render_hook()
            if self._stderr is not None:
                sys.stderr, self._stderr = self._stderr, None
        self.console.print(Text("") if is_steerable(self.console) else self._shown)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def taken_back(self) -> Control:
        """What makes room where it is: the cursor is at the beginning of it then."""
        width, height = self.console.size
        rows = min(height, sum(max(1, -(-line // width)) for line in self._widths))
        up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * (rows - 1)
        return Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *up)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(1, options.max_width - MARGIN)
        lines = console.render_lines(self._shown, options.update(width=width, height=None), pad=False)
        lines = [_stripped(line) for line in lines[: max(1, console.size.height - 1)]]
        self._widths = [Segment.get_line_length(line) for line in lines]
        for number, line in enumerate(lines):
            if number:
                yield Segment.line()
            yield from line


def _stripped(line: list[Segment]) -> list[Segment]:
    """Without the blanks at its end, which would make rows of their own where the terminal becomes narrower."""
    line = [segment for segment in line if not segment.is_control]
    while line and not line[-1].text.strip():
        line.pop()
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else []


class _Hook(RenderHook):
    """Prints a block anew below whatever is printed."""

    def __init__(self, block: LiveBlock) -> None:
        self._block = block

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        block = self._block
        return [block.taken_back(), *renderables, block] if is_steerable(block.console) else renderables
