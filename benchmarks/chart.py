"""The chart of arrivals a second, as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from tests.support.counting import CAP, log_of_the_last_second, per_second, used

COLUMNS = 2
WIDTH, HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 420, 90, 34, 58, 46, 50
SECONDS, MOST = 21, 32
"""What a panel shows."""
GOOD, OVER, INK, FAINT = "#2a78a8", "#d1495b", "#333", "#999"


def draw(runs: Mapping[str, Sequence[float]], title: str) -> str:
    """A panel for each run: bars of the arrivals in each second, those above the cap in red."""
    rows = -(-len(runs) // COLUMNS)
    width, height = LEFT + COLUMNS * (WIDTH + GAP_X), TOP + rows * (HEIGHT + GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _text(LEFT, 22, title, size=14, weight="bold"),
    ]
    for number, (name, arrivals) in enumerate(runs.items()):
        x = LEFT + number % COLUMNS * (WIDTH + GAP_X)
        y = TOP + number // COLUMNS * (HEIGHT + GAP_Y)
        parts += [f'<g transform="translate({x} {y})">', *_panel(name, arrivals), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, arrivals: Sequence[float]) -> Iterable[str]:
    refused = log_of_the_last_second(arrivals)
    yield _text(0, -8, name, weight="bold")
    yield _text(WIDTH, -8, f"{refused} of {len(arrivals)} refused, {used(arrivals):.2f} of the cap", anchor="end")
    scale, step = HEIGHT / MOST, WIDTH / SECONDS
    for second, count in enumerate(per_second(arrivals)[:SECONDS]):
        yield _bar(second * step, min(count, CAP) * scale, HEIGHT, step, GOOD)
        if count > CAP:
            yield _bar(second * step, (min(count, MOST) - CAP) * scale, HEIGHT - CAP * scale, step, OVER)
    for value in (0, CAP, 2 * CAP):
        y = HEIGHT - value * scale
        line = f'stroke="{INK}" stroke-dasharray="4 3"' if value == CAP else 'stroke="#ddd"'
        yield f'<line x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" {line}/>'
        yield _text(-6, y + 4, str(value), anchor="end", colour=FAINT)
    for second in range(0, SECONDS, 5):
        yield _text((second + 0.5) * step, HEIGHT + 15, f"{second} s", anchor="middle", colour=FAINT)


def _bar(x: float, height: float, bottom: float, step: float, colour: str) -> str:
    return (
        f'<rect x="{x + 1:.1f}" y="{bottom - height:.1f}" width="{step - 2:.1f}" height="{height:.1f}" '
        f'fill="{colour}"/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: str = "normal", colour: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
