"""The limiter of many processes: the slots and the token bucket of one account, kept in Redis by a script."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import secrets
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import attrs

from mmsclient.errors import ConfigurationError, LimiterUnavailableError, one_line
from mmsclient.gate import Gate
from mmsclient.limiter.bucket import (
    EARNED,
    GAP,
    LONGEST_PAUSE,
    MARGIN,
    MINUTE,
    RECOVERY,
    SLOWER,
    SLOWEST,
    LastMinute,
    TokenBucket,
    TokenBucketStats,
    pause_after,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType
    from typing import Self

    from redis.asyncio import Redis, RedisCluster

    from mmsclient.limiter import Grant

__all__ = ["SharedTokenBucket", "SharedTokenBucketStats"]

T = TypeVar("T")

LINGER = 0.4
"""Seconds that a report may wait for company: mostly the process asks for its next call before, in the same trip."""
SOON = 0.02
"""Seconds that a report waits that should not: a cancelled caller is seldom the only one."""
RENEW = 0.5
"""Seconds between two reports that a call is still sending. Less than `jitter + window` by more than a trip takes."""
GRACE = 1.0
"""Seconds that a process may be overdue before it loses its place in the line."""
PROBE = 0.5
"""Seconds between two looks whether Redis is back."""
KEPT = 86_400
"""Seconds without a visit after which Redis forgets an account."""
LONGEST_TIMEOUT = 5.0
"""Seconds: the most that `timeout` may be."""

log = logging.getLogger("mmsclient")


@attrs.frozen(kw_only=True)
class SharedTokenBucketStats(TokenBucketStats):
    """What a `SharedTokenBucket` of this process has done so far; `rate` is what all processes share."""

    round_trips: int
    """Exchanges with Redis, those that failed included."""
    alone: bool
    """Redis is away, and this process goes by its own part of the cap."""


class _Client(Protocol):
    """What is asked of a client of Redis."""

    def evalsha(self, sha: str, numkeys: int, /, *keys_and_args: str) -> Awaitable[list[int]]: ...

    def eval(self, script: str, numkeys: int, /, *keys_and_args: str) -> Awaitable[list[int]]: ...

    def exists(self, /, *names: str) -> Awaitable[int]: ...

    async def aclose(self) -> None: ...


class SharedTokenBucket:
    """Keeps an account's cap for all its processes and machines, as `TokenBucket` does in one, through Redis.

    `redis`: `redis://`, `rediss://` (TLS) or `unix://` URL, or a `redis.asyncio` `Redis` or `RedisCluster`, which
    stays yours to close. `account`: any name; processes with the same one share a cap. Redis sees only a keyed hash.
    `rate`, `burst`, `jitter`: as for `TokenBucket`. `timeout`: seconds that Redis may take, 5 at most.
    Every process of an account must be given the same values. A wrong one is a `ConfigurationError`, and so are a
    second event loop and a missing `redis` package. Close it with `aclose()`, or use it in `async with`.

    **The cap.** The rule of `TokenBucket`, with one set of slots in Redis, on the clock of the Redis server: processes
    tell durations, never times. A call is granted when it is asked for, never ahead. Its slot is free again a second
    (and 6 ms) after the latest moment at which the server can have counted it, which its process tells as soon as it
    knows: when the call is over, at the latest `jitter` after its last byte was sent. The floor is each process's own.

    **The line.** In each process only the first of the queue asks. The answer is a grant, or after how long to ask
    again; a process with more callers keeps a place in line, in the order of asking. It may go when there is room for
    it and for one call of each process before it: so each gets its turn, and none waits for one that is late. A place
    is lost when its process is a second overdue. `burst`, the spacing of queued calls, the pause and the slow-down
    after a throttled call are as in `TokenBucket`, and count the calls of all processes.

    **Round trips.** One a call where another call of the process waits for its turn: the end of the one is told with
    the asking for the other. Else two.
    Asked again where a slot was not free by the time that could be foretold.

    **What dies.** A call that is still sending is reported every half second. The slots of a process that died are
    free `2 * timeout + 1.5` seconds, `jitter` and a second after it was last heard of. So is a grant whose answer was
    lost on the way, unless the process can still give it back.

    **What is forgotten.** Where Redis finds no book of the account, an incomplete one, or one of the future (first
    use, a day without calls, `FLUSHALL`, a restart without a copy, an empty replica), every slot is taken for a
    second and `jitter`. Calls still sending are reported again within that time. A flushed script is sent again.

    **Redis away**, which is: no answer within `timeout`, or an error. `on_unavailable="raise"`: every caller in the
    queue gets `LimiterUnavailableError`, and nothing was sent; the next caller asks anew. `"share"` with
    `processes=N`: this process waits a second and `jitter`, and then goes by a `TokenBucket` of `rate / N` until Redis
    is back, which it looks for twice a second. The way back, too, keeps the cap: the calls made alone take slots for a
    second and `jitter`; and where nobody has visited Redis meanwhile, or it has forgotten, the parts of the other
    processes stay taken for `2 * timeout + 0.5` seconds more, until each has come back for its own.

    Not kept: the cap when Redis is away for some processes only, as it then serves the others in full (with k of N
    processes cut off, the server may see `rate * (1 + k / N)`; the same for as long as a process has not noticed that
    Redis was away); when the clock of Redis jumps ahead; when Redis fails over within `jitter` and a second to a copy
    that lacks the last grants; when a process is suspended between a grant and its call; or when a call sends for
    longer than a dead process keeps its slots while its process is cut off. Redis 5 or newer.
    """

    def __init__(
        self,
        redis: str | Redis | RedisCluster,
        *,
        account: str,
        rate: float = 15,
        burst: int = 5,
        jitter: float = 0.25,
        on_unavailable: Literal["raise", "share"] = "raise",
        processes: int | None = None,
        timeout: float = 1.0,
    ) -> None:
        TokenBucket(rate, burst, jitter=jitter)  # checks them
        slots, window = max(1, int(rate)), max(1.0, 1 / rate)
        if not isinstance(account, str) or not account:
            raise ConfigurationError("account: expected a name that is not empty")  # it may be a key: not shown
        if on_unavailable not in ("raise", "share"):
            raise ConfigurationError(f"on_unavailable={on_unavailable!r}: expected 'raise' or 'share'")
        if (processes is None) != (on_unavailable == "raise"):
            raise ConfigurationError(f"processes={processes!r}: expected a number with on_unavailable='share' only")
        if processes is not None and (type(processes) is not int or not 1 <= processes <= slots):
            raise ConfigurationError(f"processes={processes!r}: expected a whole number, 1 to {slots}, the slots")
        if type(timeout) not in (int, float) or not 0 < timeout <= LONGEST_TIMEOUT:
            raise ConfigurationError(f"timeout={timeout!r}: expected seconds, above 0, at most {LONGEST_TIMEOUT:g}")
        self._client, self._owns_client = _connect(redis, timeout)
        self._timeout = timeout
        self._rate = slots / window
        self._jitter = jitter
        parts = processes or 1
        # Stands in for Redis, and goes by the same floor.
        self._own = TokenBucket(rate / parts, max(1, burst // parts), jitter=jitter)
        self._floor = self._own._floor
        self._settling = jitter + window + MARGIN
        self._lease = 2 * (timeout + RENEW) + RENEW + self._settling
        self._shares = processes is not None
        tag = hashlib.blake2b(account.encode(errors="surrogatepass"), key=b"mmsclient.limiter", digest_size=16)
        self._keys = [
            f"mmsclient:{{{tag.hexdigest()}}}:{part}" for part in ("state", "busy", "cooling", "line", "places")
        ]
        self._rule = {
            "slots": slots,
            "window": _micro(window + MARGIN),
            "jitter": _micro(jitter),
            "gap": _micro(GAP / self._rate),
            "burst": burst,
            "earned": min(burst, 1 + EARNED),
            "lease": _micro(self._lease),
            "renew": _micro(RENEW),
            "grace": _micro(GRACE),
            "kept": KEPT * 1000,
            "longest_pause": _micro(LONGEST_PAUSE),
            "slower": SLOWER,
            "slowest": SLOWEST,
            "recovery": RECOVERY / 1_000_000,
            "processes": parts,
            "share": max(1, int(rate / parts)),
            "rejoin": _micro(2 * timeout + PROBE) if self._shares else 0,
        }
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = ""
        self._turn = Gate(1)
        self._head: asyncio.Future[Grant | None] | None = None
        self._ask_at = -math.inf
        self._in_line = False
        # What to report: slots given back with their latest moment, grants not used, refusals with the pause's end.
        self._free: dict[str, float] = {}
        self._unused: dict[str, float] = {}
        self._over: list[tuple[int, float]] = []
        self._sending: set[str] = set()
        self._report_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._trip: asyncio.Task[None] | None = None
        self._failure: tuple[float, str] = (-math.inf, "")
        self._away_since: float | None = None
        self._alone_from = 0.0
        self._returning = False
        self._stand_in: asyncio.Task[None] | None = None
        self._closed = False
        self._asked = self._trips = self._delays = self._calls = self._waits = self._throttled = self._episodes = 0
        self._in_flight = self._waiting = 0
        self._seconds_waited = 0.0
        self._present_rate = self._rate
        self._minute = LastMinute()

    # --- for the client ------------------------------------------------------------------------------------------

    @property
    def stats(self) -> SharedTokenBucketStats:
        """A snapshot; cheap. `rate` is as of the last visit to Redis."""
        now, own = self._loop.time() if self._loop else 0.0, self._own.stats
        return SharedTokenBucketStats(
            calls=self._calls,
            waits=self._waits,
            seconds_waited=self._seconds_waited,
            throttled=self._throttled + own.throttled,
            throttlings=self._episodes + own.throttlings,
            rate=self._present_rate if self._away_since is None else own.rate,
            in_flight=self._in_flight + own.in_flight,
            waiting=self._waiting,
            share=self._minute.calls(now) / (MINUTE * self._rate),
            round_trips=self._trips,
            alone=self._away_since is not None,
        )

    async def acquire(self) -> Grant:
        """Wait for a slot and a token. A cancelled wait gives back what it held. Always `release` the grant."""
        loop = self._bind_loop()
        asked, delays, queued = loop.time(), self._delays + self._own._waits, self._waiting > 0
        self._waiting += 1
        try:
            async with self._turn:
                grant = await self._be_head(loop, asked)
        finally:
            self._waiting -= 1
            self._plan()
        self._count(asked, loop.time(), waited=queued or self._delays + self._own._waits > delays)
        return grant

    async def aclose(self) -> None:
        """Report what is left to report, and close the connection if it is the limiter's own."""
        if self._closed:
            return
        self._closed = True
        loop = self._bind_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._answer_head(None)
        await self._stop_stand_in()
        if self._trip is not None:
            await asyncio.wait([self._trip])
        if self._away_since is None and (self._free or self._unused or self._over or self._in_line):
            self._trip = loop.create_task(self._visit(loop))
            await asyncio.wait([self._trip])
        if self._owns_client:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- the queue -----------------------------------------------------------------------------------------------

    def _bind_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._process = secrets.token_hex(6)  # not before: a process may fork after making its limiter
        elif self._loop is not loop:
            raise ConfigurationError("a limiter belongs to the event loop of its first call; make one for each loop")
        return loop

    async def _be_head(self, loop: asyncio.AbstractEventLoop, asked: float) -> Grant:
        """Wait for a grant as the first of the queue. Raises at once if a visit failed since this caller came."""
        while True:
            failed, reason = self._failure
            if self._closed:
                raise LimiterUnavailableError("the limiter is closed; nothing was sent")
            if failed >= asked and not self._shares:
                raise LimiterUnavailableError(f"the limiter cannot reach Redis ({reason}); nothing was sent")
            self._head = loop.create_future()
            self._plan()
            try:
                grant = await self._head
            except asyncio.CancelledError:
                if self._head.done() and not self._head.cancelled() and (grant := self._head.result()):
                    self._give_up(grant)
                raise
            finally:
                self._head = None
            if grant is not None:
                return grant

    def _is_asking(self) -> bool:
        return self._head is not None and not self._head.done()

    def _answer_head(self, grant: Grant | None) -> bool:
        """Hand the first of the queue a grant, or have it look again. False if there is nobody."""
        if self._head is None or self._head.done():
            return False
        self._head.set_result(grant)
        return True

    def _give_up(self, grant: Grant) -> None:
        if isinstance(grant, _SharedGrant):
            grant.give_up()
        else:
            grant.release()

    def _count(self, asked: float, now: float, *, waited: bool) -> None:
        self._calls += 1
        if waited:
            self._waits += 1
            self._seconds_waited += now - asked
        self._minute.count(now)

    # --- when to visit Redis -------------------------------------------------------------------------------------

    def _report(self, after: float) -> None:
        """There is something to report: with the next asking, at the latest `after` so many seconds."""
        if self._loop is not None:
            self._report_at = min(self._report_at, self._loop.time() + after)
            self._plan()

    def _plan(self) -> None:
        """Set the timer for the next visit. One at a time: the one that is under way plans again at its end."""
        if self._loop is None or self._closed:
            return
        self._plan_alone(self._loop)
        if self._trip is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._away_since is not None:
            at = self._ask_at
        elif self._is_asking():
            at = min(self._report_at, self._ask_at)
        elif self._in_line and not self._waiting:
            at = self._loop.time() + SOON  # leave the line, so that nobody makes room for us
        else:
            at = self._report_at
        if at < math.inf:
            self._timer = self._loop.call_at(max(at, self._loop.time()), self._go, self._loop)

    def _go(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._trip = loop.create_task(self._visit(loop) if self._away_since is None else self._look(loop))

    # --- visits --------------------------------------------------------------------------------------------------

    async def _visit(self, loop: asyncio.AbstractEventLoop) -> None:
        """Report, ask if somebody waits, and hand on what was granted."""
        asking = self._is_asking()
        more = self._waiting > asking
        self._asked += 1
        want = f"{self._process}:{self._asked}"
        free, unused, over = self._free, self._unused, self._over
        self._free, self._unused, self._over, self._report_at = {}, {}, [], math.inf
        now = loop.time()
        visit: dict[str, Any] = self._rule | {
            "process": self._process,
            "more": more,
            "free": [(grant, _micro(now - latest)) for grant, latest in free.items()],
            "busy": list(self._sending),
            "unused": list(unused),
            "over": [(episode, _micro(until - now)) for episode, until in over],
        }
        if asking:
            visit["want"] = want
        if self._away_since is not None:
            visit["away"] = _micro(now - self._away_since)
        try:
            granted, wait, episode, rate, slowed = await self._run_script(json.dumps(visit))
        except Exception as error:
            # Redis may have done it all the same. To report twice does no harm, and an unknown grant is not used.
            now = loop.time()
            self._free = {grant: at for grant, at in free.items() if now < at + self._lease} | self._free
            self._unused = {grant: at for grant, at in unused.items() if now < at + self._lease} | self._unused
            if asking:
                self._unused[want] = now
            self._over = [report for report in over if now < report[1]] + self._over
            self._fail(loop, error)
        else:
            now = loop.time()
            if self._away_since is not None:
                log.info("the limiter is back at Redis")
                self._away_since = None
            self._ask_at = now + wait / 1_000_000
            self._in_line = more or (asking and not granted)
            self._delays += asking and not granted
            self._present_rate = rate * self._rate / 1_000_000
            self._episodes += slowed
            if granted:
                grant = _SharedGrant(self, loop, want, episode)
                if not self._answer_head(grant):
                    grant.give_up()
        finally:
            self._trip = None
        self._plan()

    async def _run_script(self, visit: str) -> list[int]:
        """Granted or not, wait, episode, rate and whether a report slowed it down, as the script returns them."""
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - an extra

        source, sha = _script()
        try:
            return await self._ask(self._client.evalsha(sha, len(self._keys), *self._keys, visit))
        except NoScriptError:
            return await self._ask(self._client.eval(source, len(self._keys), *self._keys, visit))

    async def _ask(self, command: Awaitable[T]) -> T:
        self._trips += 1
        async with asyncio.timeout(self._timeout):
            return await command

    # --- Redis away ----------------------------------------------------------------------------------------------

    def _fail(self, loop: asyncio.AbstractEventLoop, error: Exception) -> None:
        """A visit brought nothing: every caller of the queue is told so, or this process goes alone."""
        now = loop.time()
        if isinstance(error, TimeoutError) and not str(error):
            reason = f"no answer within {self._timeout:g} s"
        else:
            reason = one_line(f"{type(error).__name__}: {error}", 200)
        self._failure = (now, reason)
        self._delays += 1
        self._in_line = False
        if self._shares:
            self._ask_at = now + PROBE
            if self._away_since is None:
                log.warning("the limiter cannot reach Redis (%s) and goes by its part of the cap", reason)
                self._away_since, self._alone_from = now, now + self._settling
        else:
            self._ask_at = -math.inf
            if self._free or self._unused or self._over:
                self._report_at = now + PROBE
            self._answer_head(None)

    async def _go_alone(self, loop: asyncio.AbstractEventLoop) -> None:
        """A grant for the first of the queue."""
        try:
            if (wait := self._alone_from - loop.time()) > 0:
                await asyncio.sleep(wait)
            grant = await self._own.acquire()
            if not self._answer_head(grant):
                grant.release()
        finally:
            self._stand_in = None

    def _plan_alone(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._stand_in is None:
            if self._is_asking() and self._away_since is not None and not self._returning:
                self._stand_in = loop.create_task(self._go_alone(loop))
        elif not self._waiting:
            self._stand_in.cancel()

    async def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Is Redis back? Then go alone no further, and visit it."""
        try:
            await self._ask(self._client.exists(self._keys[0]))
        except Exception:
            self._ask_at = loop.time() + PROBE
            self._trip = None
            self._plan()
            return
        self._returning = True
        try:
            await self._stop_stand_in()
            await self._visit(loop)
        finally:
            self._returning = False
            self._plan()

    async def _stop_stand_in(self) -> None:
        if self._stand_in is not None:
            self._stand_in.cancel()
            await asyncio.wait([self._stand_in])


class _SharedGrant:
    """A slot in use."""

    __slots__ = ("_answered", "_bucket", "_episode", "_id", "_latest", "_loop", "_over", "_sent", "_timer")

    def __init__(self, bucket: SharedTokenBucket, loop: asyncio.AbstractEventLoop, id_: str, episode: int) -> None:
        self._bucket = bucket
        self._loop = loop
        self._id = id_
        self._episode = episode
        self._sent: float | None = None
        self._answered: float | None = None
        self._latest = math.inf
        self._over = False
        bucket._in_flight += 1
        bucket._sending.add(id_)
        self._timer = loop.call_later(RENEW, self._still_sending)

    def _still_sending(self) -> None:
        self._timer = self._loop.call_later(RENEW, self._still_sending)
        self._bucket._report(SOON)

    def sent(self) -> None:
        self._sent = self._loop.time()
        latest = self._bucket._floor.latest(self._sent, None)
        self._timer.cancel()
        self._timer = self._loop.call_at(latest, self._free, latest)

    def answered(self) -> None:
        self._answered = self._loop.time()

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        if self._over:
            return
        bucket, now = self._bucket, self._loop.time()
        self._end()
        sent = now if self._sent is None else self._sent
        self._free(bucket._floor.latest(sent, self._answered, unusual=throttled or self._sent is None))
        if throttled:
            bucket._throttled += 1
            pause = pause_after(retry_after)
            bucket._over.append((self._episode, now + pause))
            bucket._report(0.0)

    def give_up(self) -> None:
        """Nobody used it."""
        self._end()
        self._bucket._sending.discard(self._id)
        self._bucket._unused[self._id] = self._loop.time()
        self._bucket._report(SOON)

    def _end(self) -> None:
        self._over = True
        self._bucket._in_flight -= 1
        self._timer.cancel()

    def _free(self, latest: float) -> None:
        """Give the slot back; again if it turns out that it was free earlier."""
        self._bucket._sending.discard(self._id)
        if latest < self._latest:
            self._latest = self._bucket._free[self._id] = latest
            self._bucket._report(LINGER)


def _micro(seconds: float) -> int:
    return round(seconds * 1_000_000)


@cache
def _script() -> tuple[str, str]:
    """The script and the name by which Redis knows it."""
    source = resources.files("mmsclient.limiter").joinpath("shared.lua").read_text("utf-8")
    return source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def _connect(redis: str | Redis | RedisCluster, timeout: float) -> tuple[_Client, bool]:
    """A client, and whether it is ours."""
    try:
        from redis.asyncio import Redis, RedisCluster  # noqa: PLC0415 - an extra
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import ExponentialBackoff  # noqa: PLC0415
        from redis.exceptions import ReadOnlyError  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError("the redis package is missing: pip install 'mmsclient[redis]'") from None
    if isinstance(redis, Redis | RedisCluster):
        return redis, False
    if not isinstance(redis, str):
        raise ConfigurationError("redis: expected a URL, or a Redis or RedisCluster of redis.asyncio")
    try:
        client = Redis.from_url(
            redis,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 3),
            retry_on_error=[ReadOnlyError],  # a master that became a replica: connect anew
        )
    except ValueError:  # its text may hold a part of the password
        raise ConfigurationError("redis: expected a redis://, rediss:// or unix:// URL") from None
    return client, True
