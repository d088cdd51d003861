"""What a call costs the processor with the cap out of the way, against the bare HTTP library, in turn."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from multiprocessing import get_context
from statistics import median
from types import ModuleType
from typing import Any

import httpx
import httpx2
from attrs import frozen

from benchmarks.contenders import APP_KEY, FILES, FORM, HEADERS, PICTURE
from benchmarks.report import Goal, Options, Report, Table
from benchmarks.server import Certificate, Server, Setting
from mmsclient import AsyncMMSClient, TokenBucket
from mmsclient.observe import Event

AT_ONCE = 8
"""Calls under way at a time."""
BATCH = 200
"""Calls in a row of one contender, before it is the next one's turn."""
TURNS = {False: 5, True: 30}
"""Batches of each contender, in the short form and in full."""
GOALS = {"send": 1.25, "account": 1.20}
"""Processor seconds of a call, as a multiple of the bare library's, by how its name begins."""
OBSERVED, GOAL_OBSERVED = ", observed", 1.02
"""The same call with an observer that counts, as a multiple of itself without one."""

Call = Callable[[], Awaitable[Any]]


class Counting:
    """An observer that counts the events by their kind."""

    def __init__(self) -> None:
        self.counts: Counter[type[Event]] = Counter()

    def __call__(self, event: Event) -> None:
        self.counts[type(event)] += 1


@frozen
class Cost:
    """Medians over the batches."""

    cpu: float
    """Processor seconds of a call."""
    rate: float
    """Calls a second."""
    ratio: float
    """Processor time as a multiple of the bare library's in the same turn."""
    observed: float
    """With an observer, as a multiple of the same call without one in the same turn; else 1."""


def run(options: Options) -> Report:
    report = Report("overhead")
    with Server(Setting(work=(0, 0))) as server, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for library in ("httpx", "httpx2"):
            costs = pool.submit(measure, library, server.url, server.certificate, TURNS[options.full]).result()
            report.figures[library] = {name: {"cpu": cost.cpu, "rate": cost.rate} for name, cost in costs.items()}
            report.tables.append(_table(library, costs))
            for name, cost in costs.items():
                goal = GOALS.get(name.partition(",")[0])
                if name.endswith(OBSERVED):
                    text = f"{name} on {library}: at most {GOAL_OBSERVED} of the same without an observer"
                    report.goals.append(Goal(text, f"{cost.observed:.3f}", cost.observed <= GOAL_OBSERVED))
                elif goal is not None:
                    text = f"{name} on {library}: at most {goal} of the processor time"
                    report.goals.append(Goal(text, f"{cost.ratio:.2f}", cost.ratio <= goal))
    return report


def measure(library: str, url: str, certificate: Certificate, turns: int) -> dict[str, Cost]:
    """The cost of each way to call, in this process."""
    return asyncio.run(_measure({"httpx": httpx, "httpx2": httpx2}[library], url, certificate, turns))


async def _measure(library: ModuleType, url: str, certificate: Certificate, turns: int) -> dict[str, Cost]:
    async with AsyncExitStack() as stack:

        async def pool() -> Any:
            limits = library.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
            options = {"verify": certificate.for_client(), "timeout": 30, "limits": limits, "trust_env": False}
            return await stack.enter_async_context(library.AsyncClient(**options))

        async def client(**options: Any) -> AsyncMMSClient:
            options = {"base_url": url, "http_client": await pool(), "max_in_flight": AT_ONCE, **options}
            return await stack.enter_async_context(AsyncMMSClient(APP_KEY, **options))

        async def in_one_piece() -> None:
            request = bare.build_request("POST", f"{url}/send-mms", data=FORM, files=FILES, headers=HEADERS)
            request.read()
            await bare.send(request)

        bare, unlimited = await pool(), await client(rate=None)
        limited = await client(limiter=TokenBucket(10_000, 10_000))
        observed = await client(rate=None, observer=Counting())
        kinds: list[dict[str, Call]] = [
            {
                "bare POST": lambda: bare.post(f"{url}/send-mms", data=FORM, files=FILES, headers=HEADERS),
                "bare POST, body in one piece": in_one_piece,
                "send, rate=None": lambda: unlimited.send(to="0400000000", text="Sale on now", image=PICTURE),
                "send, rate=None, observed": lambda: observed.send(to="0400000000", text="Sale on now", image=PICTURE),
                "send, TokenBucket": lambda: limited.send(to="0400000000", text="Sale on now", image=PICTURE),
            },
            {
                "bare GET": lambda: bare.get(f"{url}/account", headers=HEADERS),
                "account, rate=None": unlimited.account,
                "account, rate=None, observed": observed.account,
                "account, TokenBucket": limited.account,
            },
        ]
        costs: dict[str, Cost] = {}
        for calls in kinds:
            costs |= await _in_turn(calls, turns)
        return costs


async def _in_turn(calls: dict[str, Call], turns: int) -> dict[str, Cost]:
    """Batches of each in turn, A B C A B C; the first of `calls` is what the others are compared with."""
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    wall: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            gc.collect()
            began, began_wall = time.process_time(), time.perf_counter()
            await asyncio.gather(*(_several(call, BATCH // AT_ONCE) for _ in range(AT_ONCE)))
            if turn:  # the first is to warm up
                cpu[name].append((time.process_time() - began) / BATCH)
                wall[name].append((time.perf_counter() - began_wall) / BATCH)
    bare = cpu[next(iter(calls))]

    def as_multiple(name: str, of: list[float]) -> float:
        return median(mine / theirs for mine, theirs in zip(cpu[name], of, strict=True))

    return {
        name: Cost(
            cpu=median(cpu[name]),
            rate=1 / median(wall[name]),
            ratio=as_multiple(name, bare),
            observed=as_multiple(name, cpu[name.removesuffix(OBSERVED)]),
        )
        for name in calls
    }


async def _several(call: Call, times: int) -> None:
    for _ in range(times):
        await call()


def _table(library: str, costs: dict[str, Cost]) -> Table:
    return Table(
        f"on {library}, {AT_ONCE} calls at a time, TLS",
        ["", "processor time a call", "of bare", "calls a second"],
        [[name, f"{1e6 * cost.cpu:.0f} us", f"{cost.ratio:.2f}", f"{cost.rate:.0f}"] for name, cost in costs.items()],
    )
