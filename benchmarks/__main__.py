"""`python -m benchmarks`: measure, print tables and verdicts."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib import import_module
from pathlib import Path

from attrs import asdict

from benchmarks.report import Options, Report
from benchmarks.server import MODELS

RECORD = Path("docs/benchmarks.json")

MODULES = {
    "cap": "cap",
    "overhead": "overhead",
    "queue": "queues",
    "listing": "listings",
    "shared": "shared",
    "import": "imports",
    "bulk": "bulk",
    "receive": "receive",
    "real": "real",
}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line names; 1 if a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The client against its peers.")
    parser.add_argument("names", nargs="*", choices=[[], *MODULES], metavar="NAME", help=", ".join(MODULES))
    parser.add_argument("--full", action="store_true", help="all of it, medians of at least three rounds")
    parser.add_argument("--real", action="store_true", help="also against nginx and haproxy, which it starts")
    parser.add_argument("--calls", type=int, help="calls of each run at the cap (300)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=tuple(MODELS), help="networks of `cap`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--record", action="store_true", help=f"keep tables and verdicts for the site, in {RECORD}")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the arrivals of `cap` there")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown as well")
    asked = parser.parse_args(arguments)
    names = list(asked.names) or [name for name in MODULES if name != "real"]
    if asked.real and "real" not in names:
        names.append("real")
    options = Options(full=asked.full, calls=asked.calls, models=asked.models)
    reports = [_run(name, options, asked.markdown) for name in names]
    if asked.json:
        asked.json.write_text(json.dumps({report.name: report.figures for report in reports}))
    if asked.record:
        _record(reports, "--full" if asked.full else "")
    for report in reports:
        if asked.svg and report.chart:
            asked.svg.write_text(report.chart)
    missed = [goal for report in reports for goal in report.goals if not goal.met]
    print(f"{sum(len(report.goals) for report in reports)} goals, {len(missed)} missed")
    return 1 if missed else 0


def _run(name: str, options: Options, markdown: bool) -> Report:
    began = time.perf_counter()
    report: Report = import_module(f"benchmarks.{MODULES[name]}").run(options)
    print(*report.lines(), sep="\n")
    if markdown:
        for table in report.tables:
            print(table.title, "", *table.markdown(), "", sep="\n")
    print(f"({name} took {time.perf_counter() - began:.0f} s)\n", flush=True)
    return report


def _record(reports: list[Report], how: str) -> None:
    """Put what was measured in place of what was kept of the same benchmarks."""
    kept = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for report in reports:
        kept[report.name] = {
            "command": f"python -m benchmarks {report.name} {how}".rstrip(),
            "date": time.strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "tables": [asdict(table) for table in report.tables],
            "notes": report.notes,
            "goals": [asdict(goal) for goal in report.goals],
        }
    RECORD.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
