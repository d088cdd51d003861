"""The benchmarks: their counters against arrivals made by hand, and a short run of the command."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks.chart import draw
from benchmarks.report import Goal, Report, Table
from tests.support import counting

ROOT = Path(__file__).parent.parent.parent


def every(gap: float, calls: int, start: float = 100.0) -> list[float]:
    return [start + number * gap for number in range(calls)]


@pytest.mark.parametrize(
    ("arrivals", "refused"),
    [
        ([], 0),
        ([7.0] * 15, 0),
        ([7.0] * 18, 3),
        ([7.0] * 15 + [7.99], 1),
        ([7.0] * 15 + [8.0], 0),
        ([7.0] * 15 + [7.5] * 10 + [8.0] * 15, 10),  # what was refused does not count
        (every(1 / 16, 32), 2),
    ],
)
def test_the_log_of_the_last_second(arrivals: list[float], refused: int) -> None:
    assert counting.log_of_the_last_second(arrivals) == refused


@pytest.mark.parametrize(
    ("arrivals", "refused"),
    [([], 0), ([7.5] * 15 + [8.0] * 15, 0), ([7.0] * 16 + [8.1] * 17, 3), (every(1 / 16, 32), 2)],
)
def test_aligned_seconds(arrivals: list[float], refused: int) -> None:
    assert counting.aligned_seconds(arrivals) == refused


@pytest.mark.parametrize(
    ("arrivals", "refused"),
    [
        ([], 0),
        ([7.0] * 5, 0),
        ([7.0] * 8, 3),
        ([7.0] * 5 + [7.06], 1),
        ([7.0] * 5 + [7.07], 0),
        ([7.0] * 5 + [8.0] * 5, 0),
        (every(1 / 14, 100), 0),
    ],
)
def test_gcra(arrivals: list[float], refused: int) -> None:
    assert counting.gcra(arrivals) == refused


def test_used_and_per_second() -> None:
    assert counting.used(every(0.1, 31)) == pytest.approx(10 / 15)
    assert counting.per_second([3.5, 3.6, 4.4, 4.6, 6.5]) == [3, 1, 0, 1]


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0), (0.0, 1.0)])
def test_share_below(share: float, value: float) -> None:
    assert counting.share_below([4.0, 2.0, 3.0, 1.0], share) == value


def test_growth_in_proportion() -> None:
    cost = {10: 20.0, 100: 300.0, 1000: 4000.0}
    assert counting.grows_in_proportion(cost.__getitem__, list(cost)) == pytest.approx(2)


def test_a_report_is_read_well() -> None:
    table = Table("Two", ["", "a", "bb"], [["first", "1", "2"], ["x", "100", "2"]])
    report = Report("some", tables=[table], goals=[Goal("the first", "1", True), Goal("the second", "2", False)])
    assert list(table.lines()) == ["Two", "         a  bb", "-----  ---  --", "first    1   2", "x      100   2"]
    assert list(table.markdown()) == ["|  | a | bb |", "|---|---:|---:|", "| first | 1 | 2 |", "| x | 100 | 2 |"]
    assert [line for line in report.lines() if "the " in line] == ["met     the first: 1", "MISSED  the second: 2"]


def test_the_chart_is_well_formed() -> None:
    svg = ET.fromstring(draw({"one & two": every(1 / 20, 300), "three": every(0.07, 300)}, "Arrivals"))  # noqa: S314
    assert {"one & two", "three", "75 of 300 refused, 1.33 of the cap"} <= {text.text for text in svg.iter()}


def test_a_short_run(tmp_path: Path) -> None:
    for peer in ("aiometer", "asynciolimiter", "httpx_limiter", "pyrate_limiter"):
        pytest.importorskip(peer, reason="the benchmarks need: pip install 'mmsclient[bench]'")
    figures, chart = tmp_path / "figures.json", tmp_path / "chart.svg"
    arguments: list[str | Path] = ["cap", "--calls", "20", "--models", "none", "--json", figures, "--svg", chart]
    command: list[str | Path] = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode in (0, 1), done.stderr
    assert "log of 1 s" in done.stdout
    arrivals = json.loads(figures.read_text())["cap"]["arrivals"]["none"]
    assert len(arrivals) == 8
    assert all(len(run) == 20 and run == sorted(run) for runs in arrivals.values() for run in runs)
    assert ET.parse(chart).getroot().tag.endswith("svg")  # noqa: S314
