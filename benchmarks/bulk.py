"""What a campaign of a million recipients takes in memory, and one at the cap in time."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg
from attrs import asdict, frozen

from benchmarks.contenders import APP_KEY
from benchmarks.databases import postgres
from benchmarks.report import Goal, Options, Report, Table
from tests.support.counting import CAP

RECIPIENTS = {False: 100_000, True: 1_000_000}
"""In the short form and in full."""
CALLS = 300
"""At the cap."""
RAISED = 200.0
"""Calls a second of an account with a raised cap: more than the two processes can exchange."""
PICTURE = b"GIF89a" + bytes(100_000)
ANSWER = 0.1
"""Seconds that an answer takes. Steady: what an unsteady one costs is the limiter's, and measured by `cap`."""
MOST_MEMORY = 150 * 1024 * 1024
"""Bytes above what the imports take."""
MOST_TIME = 1.03
"""Of `calls / 15` seconds."""


@frozen
class Run:
    recipients: int
    accepted: int
    calls: int
    seconds: float
    memory: int
    """Bytes at the most, above what the imports take."""
    journal: int
    """Bytes of the file, or by which the database grew."""


def run(options: Options) -> Report:
    report = Report("bulk", figures={})
    calls = options.calls or CALLS
    large = _measured(RECIPIENTS[options.full], 1000, RAISED, None)
    rounds = [_measured(10 * calls, 10, float(CAP), CAP) for _ in range(options.rounds)]
    at_cap = sorted(rounds, key=lambda each: each.seconds)[len(rounds) // 2]
    rows = [_row(f"{RAISED:.0f} calls/s allowed", large), _row(f"{CAP} calls/s", at_cap)]
    in_postgres = _in_postgres(options)
    rows += [_row(f"PostgreSQL, {rate:.0f} calls/s", each) for rate, each in in_postgres.items()]
    header = ["", "recipients", "calls", "took", "calls/s", "recipients/s", "peak memory", "journal"]
    report.tables.append(Table("campaigns against the sandbox in a process of its own", header, rows))
    memory = large.memory / 2**20
    text = f"{large.recipients} recipients within {MOST_MEMORY >> 20} MiB above import"
    report.goals.append(Goal(text, f"{memory:.0f} MiB", large.memory <= MOST_MEMORY))
    share = at_cap.seconds / (calls / CAP)
    report.goals.append(Goal(f"at most {MOST_TIME} of calls / {CAP}", f"{share:.3f}", share <= MOST_TIME))
    for rate, each in in_postgres.items():
        memory = each.memory / 2**20
        text = f"PostgreSQL, {rate:.0f} calls/s: {each.recipients} recipients within {MOST_MEMORY >> 20} MiB"
        report.goals.append(Goal(text, f"{memory:.0f} MiB", each.memory <= MOST_MEMORY))
    if CAP in in_postgres:
        share = in_postgres[CAP].seconds / (in_postgres[CAP].calls / CAP)
        report.goals.append(
            Goal(f"PostgreSQL: at most {MOST_TIME} of calls / {CAP}", f"{share:.3f}", share <= MOST_TIME)
        )
    everybody = all(each.accepted == each.recipients for each in (large, *rounds, *in_postgres.values()))
    report.goals.append(Goal("every recipient accepted", "yes" if everybody else "no", everybody))
    report.figures = {
        "memory": large.memory,
        "recipients": large.recipients,
        "seconds": large.seconds,
        "at_cap": [each.seconds for each in rounds],
        "postgres": {str(rate): asdict(each) for rate, each in in_postgres.items()},
    }
    return report


def _in_postgres(options: Options) -> dict[float, Run]:
    """The large campaign in a database, by calls a second; at the cap it takes a minute, so only in full.

    Each in a cluster of its own: PostgreSQL cleans up after a million rows for a minute, beside whatever comes next.
    """
    runs: dict[float, Run] = {}
    for rate, cap in {RAISED: None, **({float(CAP): CAP} if options.full else {})}.items():
        with ExitStack() as stack:
            if url := postgres(stack):
                runs[rate] = _measured(RECIPIENTS[options.full], 1000, rate, cap, store=url)
    return runs


def _row(title: str, run: Run) -> list[str]:
    return [
        title,
        str(run.recipients),
        str(run.calls),
        f"{run.seconds:.2f} s",
        f"{run.calls / run.seconds:.2f}",
        f"{run.recipients / run.seconds:.0f}",
        f"{run.memory / 2**20:.0f} MiB",
        f"{run.journal / 2**20:.0f} MiB",
    ]


def _measured(recipients: int, batch_size: int, rate: float, cap: int | None, store: str = "") -> Run:
    """One campaign, in a process that does nothing else. Its journal is a file, or the database `store`."""
    spawn = multiprocessing.get_context("spawn")
    with _sandbox(cap) as url, ProcessPoolExecutor(1, spawn) as fresh:
        return fresh.submit(_campaign, url, recipients, batch_size, rate, store).result()


def _campaign(url: str, recipients: int, batch_size: int, rate: float, store: str) -> Run:
    import mmsclient.bulk  # noqa: PLC0415 - counted apart from the campaign

    async def main(journal: Path | str, name: str | None) -> tuple[int, int, float, int]:
        async with mmsclient.AsyncMMSClient(APP_KEY, base_url=url, rate=rate) as mms:
            spring = mms.campaign(text="Sale on now", image=PICTURE, journal=journal, name=name, batch_size=batch_size)
            imported = _peak(reset=True)
            began = time.perf_counter()
            async for _ in spring.send(f"+614{n:08}" for n in range(recipients)):
                pass
            took = time.perf_counter() - began
            memory = _peak() - imported
            report = await spring.report()
            accepted = report.counts[mmsclient.bulk.RecipientState.ACCEPTED]
            return accepted, report.calls, took, memory

    if store:
        before = _database_size(store)
        accepted, calls, took, memory = asyncio.run(main(store, f"at {rate:.0f}"))
        return Run(recipients, accepted, calls, took, memory, _database_size(store) - before)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "spring.db")
        accepted, calls, took, memory = asyncio.run(main(file, None))
        return Run(recipients, accepted, calls, took, memory, file.stat().st_size)


def _database_size(url: str) -> int:
    with psycopg.connect(url) as connection:
        ((size,),) = connection.execute("SELECT pg_database_size(current_database())").fetchall()
        return int(size)


def _peak(*, reset: bool = False) -> int:
    """Bytes of memory that this process has held at most; since the last `reset`, where the system can."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@contextmanager
def _sandbox(cap: int | None) -> Iterator[str]:
    """The URL of a sandbox in another process."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, cap), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def _serve(pipe: Connection, cap: int | None) -> None:
    from mmsclient.sandbox import Sandbox  # noqa: PLC0415
    from mmsclient.sandbox.faults import Latency  # noqa: PLC0415

    with (
        suppress(KeyboardInterrupt),
        Sandbox(app_key=APP_KEY, rate=cap, magic=False, mms_balance=Decimal(10**9)) as sandbox,
    ):
        sandbox.faults.add(Latency(ANSWER), call="send-mms")
        pipe.send(sandbox.url)
        pipe.recv()
