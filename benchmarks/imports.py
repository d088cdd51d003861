"""How long `import mmsclient` takes, against `import httpx`, which it needs.

Both from byte code, as an installed package has it.
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
began = time.perf_counter()
import {module}
print(time.perf_counter() - began)
"""
COMMAND_LINE = ("click", "rich")
"""httpx imports its own command line, and these, where they are installed."""


def run(options: Options) -> Report:
    report = Report("import", figures={})
    rows = []
    import_seconds("mmsclient", ())  # writes the byte code
    for title, blocked in (("bare", COMMAND_LINE), ("with httpx's command line", ())):
        seconds: dict[str, list[float]] = {"httpx": [], "mmsclient": []}
        for _ in range(ROUNDS[options.full]):
            for module, took in seconds.items():
                took.append(import_seconds(module, blocked))
        theirs, ours = median(seconds["httpx"]), median(seconds["mmsclient"])
        ratio = median(mine / other for mine, other in zip(seconds["mmsclient"], seconds["httpx"], strict=True))
        report.figures[title] = {"httpx": theirs, "mmsclient": ours}
        rows.append([title, f"{1000 * theirs:.0f} ms", f"{1000 * ours:.0f} ms", f"{ratio:.2f}"])
        if blocked:
            text = f"`import mmsclient` takes at most {GOAL} of `import httpx`"
            report.goals.append(Goal(text, f"{ratio:.2f}", ratio <= GOAL))
    report.tables.append(Table("fresh interpreters, medians", ["", "httpx", "mmsclient", "ratio"], rows))
    return report


def import_seconds(module: str, blocked: tuple[str, ...]) -> float:
    """Seconds that the import takes in an interpreter of its own, in which `blocked` cannot be imported."""
    command = [sys.executable, "-c", CODE.format(module=module, blocked=blocked)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return float(subprocess.run(command, capture_output=True, check=True, text=True, env=environment).stdout)
