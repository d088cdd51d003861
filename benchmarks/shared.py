"""Several processes on one account: who keeps the cap, who gets how much of it, and what it costs Redis."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median

import limits
import limits.aio.storage
import limits.aio.strategies
import redis
from attrs import asdict, frozen

from benchmarks import shared_outbox, shared_raised
from benchmarks.contenders import bare, post
from benchmarks.report import Goal, Options, Report, Table
from benchmarks.server import HOST, Server, Setting
from benchmarks.shared_load import SOON, Demand, by_our_client, redis_server, started_processes
from mmsclient import SharedTokenBucket, TokenBucket
from tests.support import counting
from tests.support.counting import CAP

PROCESSES = 4
SECONDS = {False: 10.0, True: 25.0}
"""How long they ask, in the short form and in full."""
POLL = 0.02
"""Seconds between the questions of a process that polls."""
MODELS = {False: ["uniform"], True: ["none", "uniform"]}
"""In the short form and in full."""
OURS, OWN, POLLED = "SharedTokenBucket", "each its own TokenBucket", "limits, moving window"
LEAST_USED, UNFAIR, ROUND_TRIPS = 0.90, 0.15, 2.5
"""The goals: share of the cap, how far a process may be off its share, and Redis round trips a call."""


@frozen
class Figures:
    refused: int
    """By the log of the last second."""
    used: float
    unfair: float
    """How far the worst served process is off its share, as a part of it."""
    round_trips: float
    """Commands that clients sent to Redis, a call."""


def run(options: Options) -> Report:
    report = Report("shared")
    program = shutil.which("redis-server")
    if program is None:
        report.notes.append("skipped: redis-server is not installed")
        return report
    kinds = [OURS, OWN, POLLED]
    figures: dict[str, dict[str, list[Figures]]] = {
        kind: {model: [] for model in MODELS[options.full]} for kind in kinds
    }
    for kind, by_model in figures.items():
        for model, runs in by_model.items():
            for number in range(options.rounds):
                with redis_server(program) as port:
                    runs.append(_measure(kind, Setting(model, seed=number), port, SECONDS[options.full]))
    _fill(report, figures)
    for model in figures[OURS]:
        _add_outbox(report, model, program, SECONDS[options.full], options.rounds)
    shared_raised.add_to(report, program, SECONDS[options.full])
    return report


def _add_outbox(report: Report, model: str, program: str, seconds: float, rounds: int) -> None:
    runs = []
    for number in range(rounds):
        with redis_server(program) as port:
            runs.append(shared_outbox.measured(Setting(model, seed=number), f"redis://{HOST}:{port}/0", seconds))
    found = [run for run in runs if run is not None]
    if not found:
        return
    refused, used = max(run.refused for run in found), median(run.used for run in found)
    most = median(run.most for run in found)
    rows = [[f"jitter {model}", f"{median(run.calls for run in found):g}", f"{refused}", f"{used:.3f}", f"{most:.2f}"]]
    header = ["", "calls", "refused by the log", "cap used", "the busiest worker's part"]
    title = f"{shared_outbox.WORKERS} workers of one outbox in PostgreSQL, one account"
    report.tables.append(Table(title, header, rows))
    report.figures.setdefault("outbox", {})[model] = [asdict(run) for run in found]
    report.goals += [
        Goal(f"outbox, {model}: no call refused by the log", f"{refused}", refused == 0),
        Goal(f"outbox, {model}: at least {LEAST_USED:.2f} of the cap", f"{used:.3f}", used >= LEAST_USED),
    ]


def _measure(kind: str, setting: Setting, redis_port: int, seconds: float) -> Figures:
    with Server(setting) as server, started_processes(PROCESSES, __name__) as pool:
        start = time.monotonic() + SOON  # one clock for all processes of a machine
        demand = Demand(f"redis://{HOST}:{redis_port}/0", server.url, server.certificate, start, start + seconds)
        with _commands(demand.redis) as commands:
            drives = [pool.submit(_drive, kind, demand) for _ in range(PROCESSES)]
            served = [drive.result() for drive in drives]
        arrivals = server.seen().arrivals
    share = sum(served) / PROCESSES
    return Figures(
        refused=counting.log_of_the_last_second(arrivals),
        used=counting.used(arrivals),
        unfair=max(abs(calls - share) for calls in served) / share,
        round_trips=commands[0] / len(arrivals),
    )


def _drive(kind: str, demand: Demand) -> int:
    return asyncio.run(KINDS[kind](demand))


async def _shared(demand: Demand) -> int:
    return await by_our_client(demand, SharedTokenBucket(demand.redis, account="benchmark", rate=demand.cap))


async def _own(demand: Demand) -> int:
    return await by_our_client(demand, TokenBucket(CAP))


async def _polled(demand: Demand) -> int:
    storage = limits.aio.storage.RedisStorage(f"async+{demand.redis}", implementation="redispy")
    window = limits.aio.strategies.MovingWindowRateLimiter(storage)
    item = limits.RateLimitItemPerSecond(CAP)
    async with bare(demand.certificate.for_client()) as client:

        async def send() -> None:
            while not await window.hit(item, "account"):  # noqa: ASYNC110 - it has nothing to wait for
                await asyncio.sleep(POLL)
            await post(client, demand.url)

        return await demand.ask(send)


KINDS = {OURS: _shared, OWN: _own, POLLED: _polled}


@contextmanager
def _commands(address: str) -> Iterator[list[int]]:
    """Counts the commands that clients send meanwhile; those of scripts are not round trips."""
    count, end = [0], "the end of the count"

    def watch(monitor: redis.client.Monitor) -> None:
        for seen in monitor.listen():  # type: ignore[no-untyped-call]
            if end in seen["command"]:
                break
            count[0] += seen["client_type"] != "lua"

    with (
        redis.Redis.from_url(address, socket_timeout=None) as client,
        client.monitor() as monitor,
        ThreadPoolExecutor(1) as thread,
    ):
        watching = thread.submit(watch, monitor)
        try:
            yield count
        finally:
            client.echo(end)
        watching.result()


def _fill(report: Report, figures: dict[str, dict[str, list[Figures]]]) -> None:
    for model in figures[OWN]:
        rows = []
        for kind, by_model in figures.items():
            runs = by_model[model]
            report.figures.setdefault(kind, {})[model] = [asdict(run) for run in runs]
            rows.append(
                [
                    kind,
                    f"{median(run.refused for run in runs):g}",
                    f"{median(run.used for run in runs):.3f}",
                    f"{100 * median(run.unfair for run in runs):.0f} %",
                    f"{median(run.round_trips for run in runs):.2f}",
                ]
            )
        header = ["", "refused by the log", "cap used", "off its share", "round trips a call"]
        report.tables.append(Table(f"{PROCESSES} processes on one account, jitter {model}", header, rows))
        report.goals += _goals(model, figures[OURS][model])


def _goals(model: str, runs: list[Figures]) -> list[Goal]:
    refused = max(run.refused for run in runs)
    used, unfair = median(run.used for run in runs), median(run.unfair for run in runs)
    trips = median(run.round_trips for run in runs)
    return [
        Goal(f"{model}: no call refused by the log", f"{refused}", refused == 0),
        Goal(f"{model}: at least {LEAST_USED:.2f} of the cap", f"{used:.3f}", used >= LEAST_USED),
        Goal(f"{model}: each process within 15 % of its share", f"{100 * unfair:.0f} %", unfair <= UNFAIR),
        Goal(f"{model}: at most {ROUND_TRIPS} Redis round trips a call", f"{trips:.2f}", trips <= ROUND_TRIPS),
    ]
