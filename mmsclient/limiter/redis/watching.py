"""Looks at a shared cap in Redis, without a part in it: it writes nothing there and never takes a slot."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from mmsclient.errors import LimiterUnavailableError, one_line
from mmsclient.limiter.feedback import RECOVERY
from mmsclient.limiter.redis.calls import client_of
from mmsclient.limiter.redis.settings import LONGEST_TIMEOUT, checked, keys_of

__all__ = ["CapFigures", "CapWatch", "ProcessFigures"]

WINDOW = 10.0
"""Seconds over which calls are counted."""

CALLERS = ":callers"
"""Ends the member that tells how many callers of a process wait."""

_KEPT_FREE = ("lost:", "rejoin:", "kept:", "new:")

Entries = Sequence[tuple[Any, float]]
"""Members of a sorted set, with their scores: times in microseconds, by the clock of Redis."""


@attrs.frozen
class ProcessFigures:
    """What one process has of the cap."""

    process: str
    """Random: Redis knows no other name of it."""
    under_way: int
    """Slots of calls that are being sent."""
    counted: int
    """Slots of calls that have been sent, and that the server still counts."""
    waits: bool
    """It is in line for a slot."""
    queue: int | None
    """Of its callers so many wait for one, as it said when it last spoke to Redis; None if it does not say."""


@attrs.frozen(kw_only=True)
class CapFigures:
    """A shared cap at one moment."""

    full_rate: float
    """Calls a second that the cap allows."""
    rate: float
    """Calls a second that are allowed at present: less after a throttling."""
    paused_for: float
    """Seconds for which nobody sends, after a throttling."""
    calls_per_second: float | None
    """Calls that got a slot, over the last seconds; None at the first look."""
    slots: int
    """Of the account."""
    under_way: int
    """Of these, taken by calls that are being sent."""
    counted: int
    """Taken by calls that have been sent, and that the server still counts."""
    kept_free: int
    """Left unused, since Redis has lost what it knew, was away, or misses a process that may go by its part."""
    processes: tuple[ProcessFigures, ...]
    """Those that have a slot or wait for one; one at rest is in none of these figures."""
    throttlings: int
    """Episodes since the first look."""
    is_known: bool
    """Redis knows the account: some process has shared its cap within a day."""

    @property
    def waiting(self) -> int:
        """Processes in line."""
        return sum(process.waits for process in self.processes)

    @property
    def queue(self) -> int | None:
        """Callers that wait, in all processes; None if one in line does not say how many of its own do."""
        told = [process.queue for process in self.processes]
        return None if None in told else sum(queue or 0 for queue in told)


class CapWatch:
    """Looks at the cap of one account, more than once. Look at least once a second, or the rate is too low.

    Args:
        redis: A URL, as `SharedTokenBucket` takes it.
        account: As there.
        rate: As there: Redis does not hold it.

    Raises:
        ConfigurationError: An argument is wrong, or the redis package is missing.
    """

    def __init__(self, redis: str, *, account: str, rate: float) -> None:
        settings = checked(
            account=account, rate=rate, burst=1, jitter=0.25, on_unavailable="raise", processes=None, timeout=1.0
        )
        self._rule = settings.rule()
        self._lease = settings.lease(self._rule)
        self._keys = keys_of(account)
        self._client = client_of(redis, LONGEST_TIMEOUT)
        self._first_at: float | None = None
        self._first_episode: int | None = None
        self._began: dict[str, float] = {}  # by grant: when it was first seen

    async def look(self) -> CapFigures:
        """The cap as it is now. Raises `LimiterUnavailableError` where Redis cannot be reached."""
        state_key, *zsets = self._keys
        try:
            async with asyncio.timeout(LONGEST_TIMEOUT), self._client.pipeline(transaction=True) as pipeline:
                pipeline.time()
                pipeline.hmget(state_key, ["last", "episode", "held", "slow"])
                for key in zsets:
                    pipeline.zrange(key, 0, -1, withscores=True)
                (seconds, microseconds), state, *entries = await pipeline.execute()
        except Exception as error:
            reason = "no answer" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
            raise LimiterUnavailableError(one_line(f"Redis cannot be reached ({reason})", 300)) from None
        return self._figures(seconds + microseconds / 1e6, state, entries)

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._client.aclose()

    def _figures(self, now: float, state: Sequence[Any], entries: Sequence[Entries]) -> CapFigures:
        busy, line, places, callers, _exchanges, *cooling, _members = entries
        last, episode, held, slow = (None if each is None else float(each) for each in state)
        under_way = [_text(each) for each, at in busy if at / 1e6 > now - self._lease]
        by_kind = [{_text(each) for each, free in of_a_kind if free / 1e6 > now} for of_a_kind in cooling]
        taken = set.intersection(*by_kind)  # a slot that is free for some kind of call is in use no longer
        counted = [each for each in taken if not each.startswith(_KEPT_FREE)]
        seen = [each for each in set.union(*by_kind) if not each.startswith(_KEPT_FREE)]
        overdue = {_text(each) for each, until in places if until / 1e6 <= now}
        told = {_text(each): int(number) for each, number in callers}
        queues = {process: told.get(process + CALLERS) for each, _ in line if (process := _text(each)) not in overdue}
        held_until = 0.0 if held is None else held / 1e6
        share = min(1.0, (1.0 if slow is None else slow) + max(0.0, now - held_until) * RECOVERY)
        return CapFigures(
            full_rate=self._rule.rate,
            rate=share * self._rule.rate,
            paused_for=max(0.0, held_until - now),
            calls_per_second=self._rate(now, [*under_way, *seen]),
            slots=self._rule.slots,
            under_way=len(under_way),
            counted=len(counted),
            kept_free=min(len(taken) - len(counted), max(0, self._rule.slots - len(under_way) - len(counted))),
            processes=_by_process(under_way, counted, queues),
            throttlings=self._throttlings(episode),
            is_known=last is not None,
        )

    def _rate(self, now: float, grants: Iterable[str]) -> float | None:
        """Calls a second; a grant stays in Redis for a second at least."""
        if self._first_at is None:
            self._first_at = now
            self._began = dict.fromkeys(grants, -math.inf)
            return None
        for grant in grants:
            self._began.setdefault(grant, now)
        self._began = {grant: at for grant, at in self._began.items() if at > now - WINDOW or at == -math.inf}
        seconds = min(WINDOW, now - self._first_at)
        return sum(at > now - WINDOW for at in self._began.values()) / seconds if seconds > 0 else None

    def _throttlings(self, episode: float | None) -> int:
        """Redis numbers the episodes from an arbitrary one on, and from another one where it has lost that."""
        if episode is None:
            return 0
        if self._first_episode is None or not 0 <= episode - self._first_episode < 1e6:
            self._first_episode = int(episode)
        return int(episode) - self._first_episode


def _by_process(
    under_way: Iterable[str], counted: Iterable[str], queues: Mapping[str, int | None]
) -> tuple[ProcessFigures, ...]:
    """`queues`: of the processes in line."""
    busy, cooling = (Counter(each.partition(":")[0] for each in found) for found in (under_way, counted))
    return tuple(
        ProcessFigures(process, busy[process], cooling[process], process in queues, queues.get(process, 0))
        for process in sorted({*busy, *cooling, *queues})
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
