"""How long `import mmsclient` takes, against `import httpx`, which it needs.

From byte code, as an installed package has it. In processor time: what else the machine does counts for less.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from benchmarks.report import Goal, Options, Report, Table

ROUNDS = {False: 11, True: 60}
GOAL = 1.75

CODE = """
import sys, time
for name in {blocked}:
    sys.modules[name] = None
began = time.process_time()
import {modules}
print(time.process_time() - began)
"""
NEEDED = "httpx, asyncio, attrs, aiolimiter, anyio.to_thread"
"""What the package imports of others: the least that its import can take."""
COMMAND_LINE = ("click", "rich")
"""httpx imports its own command line, and these, where they are installed."""


def run(options: Options) -> Report:
    report = Report("import", figures={})
    rows = []
    import_seconds("mmsclient", ())  # writes the byte code
    for title, blocked in (("bare", COMMAND_LINE), ("with httpx's command line", ())):
        seconds: dict[str, list[float]] = {"httpx": [], NEEDED: [], "mmsclient": []}
        for _ in range(ROUNDS[options.full]):
            for modules, took in seconds.items():
                took.append(import_seconds(modules, blocked))
        theirs, needed, ours = (median(took) for took in seconds.values())
        ratio, least = _ratio(seconds["mmsclient"], seconds["httpx"]), _ratio(seconds[NEEDED], seconds["httpx"])
        report.figures[title] = {"httpx": theirs, "needed": needed, "mmsclient": ours}
        times = [f"{1000 * each:.0f} ms" for each in (theirs, needed, ours)]
        rows.append([title, *times, f"{least:.2f}", f"{ratio:.2f}"])
        if blocked:
            text = f"`import mmsclient` takes at most {GOAL} of `import httpx`"
            report.goals.append(Goal(text, f"{ratio:.2f}", ratio <= GOAL))
    header = ["", "httpx", "what is needed", "mmsclient", "needed of httpx", "mmsclient of httpx"]
    report.tables.append(Table(f"fresh interpreters, medians; needed are {NEEDED}", header, rows))
    return report


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """The median over the rounds."""
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))


def import_seconds(modules: str, blocked: tuple[str, ...]) -> float:
    """Processor seconds that the import takes in an interpreter of its own, in which `blocked` cannot be imported."""
    command = [sys.executable, "-c", CODE.format(modules=modules, blocked=blocked)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return float(subprocess.run(command, capture_output=True, check=True, text=True, env=environment).stdout)
