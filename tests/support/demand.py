"""Calls on a limiter in virtual time: `exchange` plays the network and the server."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs
from hypothesis import strategies as st

from mmsclient._transport.tokens import acquire_from
from mmsclient.limiter import CallKind, Limiter, SignalsCapacity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


WAY, WORK = 0.02, 0.02
"""The shortest way to the server and back again, and the least work after counting, in seconds."""


@attrs.frozen
class Call:
    """What happens to one call. The seconds come on top of the shortest ones."""

    wait: float = 0.0
    """From the call before it to this one."""
    upload: float = 0.0
    """From the first byte to the last."""
    counted_late: bool = False
    """The server counts when the last byte is there, not the first."""
    up: float = 0.0
    """Jitter on the way there."""
    lag: float = 0.0
    """From the last byte as the client saw it leave to the last byte that the server has read; counted after it, if
    `counted_late`."""
    work: float = 0.0
    down: float = 0.0
    fate: str = "answered"
    """Or `refused` (429 at once), `reset` (no answer, after counting), `lost` (never counted), `dropped` (given up by
    the client as soon as it was sent), `torn` (given up before the last byte was sent) or `untraced` (no stamps)."""
    patience: float = 1e9
    """Seconds after which the caller leaves the queue."""
    kind: CallKind = CallKind.READ
    size: int = 0
    """Bytes of an upload."""


async def exchange(limiter: Limiter, call: Call, arrivals: list[float]) -> None:
    """One call, from the queue to its end; `arrivals` gets the moment at which the server counts it."""
    time, sleep = asyncio.get_running_loop().time, asyncio.sleep
    try:
        async with asyncio.timeout(call.patience):
            grant = await acquire_from(limiter)(call.kind, call.size)
    except TimeoutError:
        return
    upload = 0.0 if call.fate == "untraced" else call.upload
    there = time() + WAY + call.up + upload + call.lag
    counted = there if call.counted_late else time() + WAY + call.up
    if call.fate != "lost":
        arrivals.append(counted)
    await sleep(upload)
    if call.fate not in {"torn", "untraced"}:
        grant.sent()
    if call.fate in {"answered", "refused", "untraced"}:
        work = 0.0 if call.fate == "refused" else WORK + call.work
        await sleep(there - time() + work + WAY + call.down)
        grant.answered()
    elif call.fate == "reset":
        await sleep(there - time() + WAY)
    grant.release(throttled=call.fate == "refused", retry_after=0.5)


async def demand(limiter: Limiter, calls: Iterable[Call]) -> list[float]:
    """Make the calls, each on its own; the moments at which the server counted them."""
    arrivals: list[float] = []
    async with asyncio.TaskGroup() as group:
        for call in calls:
            await asyncio.sleep(call.wait)
            group.create_task(exchange(limiter, call, arrivals))
    return sorted(arrivals)


def fullest(arrivals: list[float], window: float = 1.0) -> int:
    """The most arrivals in any half-open window."""
    log: deque[float] = deque()
    most = 0
    for arrival in arrivals:
        log.append(arrival)
        while arrival - log[0] >= window:
            log.popleft()
        most = max(most, len(log))
    return most


JITTER = st.sampled_from([0.0, 0.0, 0.01, 0.05, 0.15, 0.25])


CALLS = st.builds(
    Call,
    wait=st.sampled_from([0.0] * 12 + [0.01, 0.3, 1.0]),
    upload=st.sampled_from([0.0, 0.0, 0.0, 0.1, 3.0]),
    counted_late=st.booleans(),
    up=JITTER,
    work=st.sampled_from([0.0, 0.0, 0.03, 0.06, 0.3, 5.0]),
    down=JITTER,
    fate=st.sampled_from(["answered"] * 12 + ["refused", "reset", "lost", "dropped", "torn", "untraced"]),
    patience=st.sampled_from([1e9] * 6 + [0.0, 0.1, 1.0]),
)


@attrs.frozen
class Costs:
    """What the calls of each kind take a server, and when it counts them.

    What takes longer before it is counted takes no less after.
    """

    lag: tuple[float, ...]
    """As `Call.lag`."""
    work: tuple[float, ...]
    """As `Call.work`, at least."""
    counted_late: bool

    def of(self, call: Call) -> Call:
        """`call`, as one of its kind."""
        lag = self.lag[call.kind]
        up = min(call.up, 0.25 - lag)  # the server counts at most the `jitter` later than at the soonest
        work = self.work[call.kind] + call.work
        return attrs.evolve(call, lag=lag, up=up, work=work, counted_late=self.counted_late)

    def least(self) -> list[Call]:
        """A call of each kind that takes the least there can be."""
        return [self.of(Call(kind=kind)) for kind in CallKind]


def _ascending(*seconds: float) -> st.SearchStrategy[tuple[float, ...]]:
    return st.lists(st.sampled_from(seconds), min_size=len(CallKind), max_size=len(CallKind)).map(sorted).map(tuple)


COSTS = st.builds(Costs, lag=_ascending(0.0, 0.03, 0.1), work=_ascending(0.0, 0.05, 0.2), counted_late=st.booleans())

MIXED_CALLS = st.builds(attrs.evolve, CALLS, kind=st.sampled_from(CallKind))

PICTURES = Costs(lag=(0.0, 0.0, 0.03), work=(0.0, 0.0, 0.1), counted_late=True)
"""A server that counts a picture when it has read it, and then takes its time."""


def picture(size: int, **seconds: float) -> Call:
    """It lies in the buffers after its last byte was written, the longer the larger; the server counts what it read."""
    return Call(kind=CallKind.UPLOAD, size=size, lag=0.2 * size / 380_000, counted_late=True, **seconds)  # type: ignore[arg-type]


def _pictures(sizes: list[int], number: int, jitter: float, seed: int) -> list[Call]:
    """One of each size that takes the least there can be, then so many at random."""
    rng = random.Random(seed)
    calls = [picture(size) for size in sizes]
    for _ in range(number):
        up, work, down = (rng.uniform(0, jitter) for _ in range(3))
        calls.append(picture(rng.choice(sizes), up=up, work=work, down=down))
    return calls


SIZES = st.sampled_from([5_000, 40_000, 150_000, 380_000]) | st.integers(0, 380_000)

PICTURES_AFTER_EACH_OTHER = st.builds(
    _pictures,
    sizes=st.lists(SIZES, min_size=1, max_size=2),
    number=st.integers(15, 60),
    jitter=st.sampled_from([0.0, 0.0, 0.0, 0.02, 0.05]),
    seed=st.integers(0, 10**6),
)


MODELS: dict[str, Callable[[random.Random], float]] = {
    "none": lambda _: 0.0,
    "uniform": lambda rng: rng.uniform(0, 0.05),
    "exponential": lambda rng: rng.expovariate(50),
}


class Watch:
    """Subscribes to a limiter, and keeps what it showed whenever it told of a change."""

    def __init__(self, limiter: SignalsCapacity) -> None:
        self._limiter = limiter
        self.seen: list[tuple[int, int]] = []
        self.unsubscribe = limiter.on_change(self._look)

    def _look(self) -> None:
        self.seen.append((self._limiter.in_flight, self._limiter.waiting))

    async def shows(self, in_flight: int, waiting: int) -> None:
        """The last signal came, and showed that."""
        for _ in range(3):
            await asyncio.sleep(0)
        assert self.seen[-1] == (in_flight, waiting)


async def fed_by_signals(limiter: Any, calls: int) -> list[float]:
    """As a campaign does: a call starts whenever fewer than two wait, and nothing is polled."""
    arrivals, running, changed = list[float](), set[asyncio.Task[None]](), asyncio.Event()
    unsubscribe = limiter.on_change(changed.set)
    for _ in range(calls):
        while len(running) - limiter.in_flight >= 2:
            changed.clear()
            await changed.wait()
        task = asyncio.create_task(exchange(limiter, Call(), arrivals))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.wait(running)
    unsubscribe()
    return sorted(arrivals)


WRONG_CALLS: list[Any] = [
    ("upload", 0),
    (7, 0),
    (None, 0),
    (CallKind.UPLOAD, None),
    (CallKind.UPLOAD, "5"),
    (CallKind.UPLOAD, 1.5),
    (CallKind.UPLOAD, float("nan")),
    (CallKind.UPLOAD, -5),
    (CallKind.UPLOAD, 10**400),
]
"""A kind and a size of which one is none."""
