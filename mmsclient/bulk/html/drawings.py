"""The drawings of the report, as SVG inside the page."""

from __future__ import annotations

import math
from collections.abc import Mapping

from attrs import frozen

from mmsclient.bulk.html.markup import Markup, element, joined
from mmsclient.bulk.html.timeline import Bar, Timeline

__all__ = ["shares", "timeline_drawing"]

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 28
"""What stays free at the sides, for the scales."""
LINES = 4
"""Of the scale, about."""
LABEL = 96
"""Width that a time needs below the bars."""
GAP = 0.1
"""Between two bars, of the width of one."""


def shares(parts: Mapping[str, int], title: str) -> Markup:
    """One bar that is divided as `parts` are; their names are its classes."""
    total = sum(parts.values()) or 1
    drawn, before = [], 0
    for name, count in parts.items():
        if count:
            drawn.append(_rectangle(WIDTH * before / total, 0, max(1.0, WIDTH * count / total), 18, name))
        before += count
    return _svg(title, "", 18, joined(drawn), class_="shares")


def timeline_drawing(timeline: Timeline, title: str, description: str) -> Markup:
    """Bars of what arrived and what did not, and a line of what the API accepted."""
    plot = _Plot(timeline)
    steps = " ".join(f"V{plot.y(bar.accepted)} H{plot.x(place + 1)}" for place, bar in enumerate(timeline.bars))
    line = element("path", d=f"M{plot.x(0)} {plot.y(0)} {steps} V{plot.y(0)}", class_="accepted line")
    bars = [plot.bar(place, bar) for place, bar in enumerate(timeline.bars)]
    return _svg(title, description, HEIGHT, joined([plot.scale(), *bars, line, plot.times()]), class_="timeline")


@frozen
class _Plot:
    """Where things stand in the drawing of a timeline."""

    timeline: Timeline

    @property
    def step(self) -> int:
        """Between two lines of the scale."""
        most = max(max(bar.accepted, bar.delivered + bar.undelivered) for bar in self.timeline.bars)
        power: int = 10 ** max(0, math.floor(math.log10(max(1, most / LINES))))
        return next(power * each for each in (1, 2, 5, 10) if power * each * LINES >= most)

    def x(self, place: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * place / len(self.timeline.bars), 2)

    def y(self, count: int) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * count / (self.step * LINES), 2)

    def bar(self, place: int, bar: Bar) -> Markup:
        """What arrived, and above it what did not."""
        left, width = self.x(place + GAP), self.x(place + 1 - GAP) - self.x(place + GAP)
        middle, top = self.y(bar.delivered), self.y(bar.delivered + bar.undelivered)
        drawn = [(middle, self.y(0) - middle, "delivered"), (top, middle - top, "undelivered")]
        return joined(_rectangle(left, y, width, height, name) for y, height, name in drawn if height)

    def scale(self) -> Markup:
        """Lines across, and what they stand for."""
        lines = []
        for count in range(0, self.step * LINES + 1, self.step):
            y = self.y(count)
            lines += [
                element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="scale"),
                element("text", count, x=LEFT - 8, y=y + 4, text_anchor="end"),
            ]
        return joined(lines)

    def times(self) -> Markup:
        """Below the bars, as many as there is room for."""
        bars = self.timeline.bars
        every = max(1, math.ceil(len(bars) * LABEL / (WIDTH - LEFT - RIGHT)))
        words = "%d %b" if self.timeline.seconds >= 86400 else "%H:%M:%S" if self.timeline.seconds < 60 else "%H:%M"
        if self.timeline.seconds < 86400 and bars[0].start.date() != bars[-1].start.date():
            words = f"%d %b {words}"
        return joined(
            element("text", f"{bars[place].start:{words}}", x=self.x(place), y=HEIGHT - 8)
            for place in range(0, len(bars), every)
            if self.x(place) <= WIDTH - LABEL / 2
        )


def _rectangle(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    return element("rect", x=round(x, 2), y=round(y, 2), width=round(width, 2), height=round(height, 2), class_=class_)


def _svg(title: str, description: str, height: int, content: Markup, class_: str) -> Markup:
    name = f"{class_}-title"
    said = [element("title", title, id=name), *([element("desc", description)] if description else [])]
    return element(
        "svg", *said, content, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_labelledby=name, class_=class_
    )
