"""Eight processes on an account with a raised cap: a thousand calls a second, and as many as the machine can make.

Eight clients, Redis and the server they call may keep this machine busy at fewer calls a second than the cap allows. So
what they make with a cap out of reach is measured first, and the goal is held at a cap that leaves them room.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import closing

import redis
from attrs import asdict, evolve, frozen

from benchmarks.report import Goal, Report, Table
from benchmarks.server import HOST, Server, Setting
from benchmarks.shared_load import SOON, Demand, by_our_client, redis_server, started_processes
from mmsclient import SharedTokenBucket
from tests.support import counting

CAP, USED = 1000, 0.95
"""Calls a second of an account with a raised cap, and the part of it that should be used."""
ROOM = 0.6
"""The part of what the machine can make, at most, at which the limiter alone decides."""
OUT_OF_REACH = 20_000
"""Calls a second that no machine makes here."""
ROUNDS = 3
"""Of which the median is taken: the machine is shared."""
PROCESSES, CALLERS = 8, 32
"""Who share it, and the callers of each."""
WARM = 2.0
"""Seconds until they are at their pace."""
UNLIMITED = 6.0
"""Seconds at the cap out of reach."""
MOST_OF_REDIS = 0.5
"""Of a core."""


@frozen
class Figures:
    cap: int
    calls: int
    """After the first `WARM` seconds."""
    refused: int
    """By the log of the last second."""
    used: float
    redis: float
    """Cores."""


def add_to(report: Report, program: str, seconds: float) -> None:
    """Measure, and add tables and goals."""
    possible = OUT_OF_REACH * _measured(program, OUT_OF_REACH, UNLIMITED).used
    caps = [CAP] if ROOM * possible >= CAP else [CAP, int(ROOM * possible) // 10 * 10]
    found = [_median([_measured(program, cap, seconds) for _ in range(ROUNDS)]) for cap in caps]
    rows = [
        [f"{each.cap}", f"{each.calls}", f"{each.refused}", f"{each.used:.3f}", f"{each.redis:.2f}"] for each in found
    ]
    header = ["calls/s allowed", "calls", "refused by the log", "cap used", "cores of Redis"]
    machine = f"{os.cpu_count()} processors for all of it, {possible:.0f} calls/s where the cap is out of reach"
    report.tables.append(Table(f"{PROCESSES} processes, after {WARM:g} s; {machine}", header, rows))
    report.figures["raised"] = {"out of reach": possible, "runs": [asdict(each) for each in found]}
    for each in found:
        report.goals += [
            Goal(f"{each.cap} calls/s: no call refused by the log", f"{each.refused}", each.refused == 0),
            Goal(f"{each.cap} calls/s: Redis takes under half a core", f"{each.redis:.2f}", each.redis < MOST_OF_REDIS),
        ]
    able = found[-1]
    report.goals.append(Goal(f"{able.cap} calls/s: at least {USED} of the cap", f"{able.used:.3f}", able.used >= USED))


def _median(runs: list[Figures]) -> Figures:
    """The one in the middle by what it used; with the refusals of all."""
    middle = sorted(runs, key=lambda run: run.used)[len(runs) // 2]
    return evolve(middle, refused=sum(run.refused for run in runs))


def _measured(program: str, cap: int, seconds: float) -> Figures:
    with (
        redis_server(program) as port,
        closing(redis.Redis(HOST, port)) as watching,
        Server(Setting()) as server,
        started_processes(PROCESSES, __name__) as pool,
    ):
        start = time.monotonic() + SOON
        url, certificate = server.url, server.certificate
        demand = Demand(f"redis://{HOST}:{port}/0", url, certificate, start, start + seconds, cap, CALLERS)
        drives = [pool.submit(_drive, demand) for _ in range(PROCESSES)]
        time.sleep(max(0.0, start + WARM - time.monotonic()))
        began, spent = time.monotonic(), _processor_seconds(watching)
        time.sleep(max(0.0, start + seconds - time.monotonic()))
        core = (_processor_seconds(watching) - spent) / (time.monotonic() - began)
        for drive in drives:
            drive.result()
        arrivals = [each for each in server.seen().arrivals if start + WARM <= each < start + seconds]
    refused = counting.log_of_the_last_second(arrivals, cap)
    return Figures(cap, len(arrivals), refused, counting.used(arrivals, cap), core)


def _drive(demand: Demand) -> int:
    return asyncio.run(by_our_client(demand, SharedTokenBucket(demand.redis, account="benchmark", rate=demand.cap)))


def _processor_seconds(client: redis.Redis) -> float:
    usage: dict[str, float] = client.info("cpu")
    return float(usage["used_cpu_sys"]) + float(usage["used_cpu_user"])
