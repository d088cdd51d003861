"""The commands that the limiter sends to Redis, each within a timeout."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs

from mmsclient._extras import needed
from mmsclient.errors import ConfigurationError
from mmsclient.limiter.protocol import CallKind

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

T = TypeVar("T")

_KINDS = frozenset(CallKind)


class Client(Protocol):
    """What is needed of a client of Redis."""

    def evalsha(self, sha: str, numkeys: int, /, *keys_and_args: str) -> Awaitable[bytes | str]: ...

    def eval(self, script: str, numkeys: int, /, *keys_and_args: str) -> Awaitable[bytes | str]: ...

    def exists(self, /, *names: str) -> Awaitable[int]: ...

    async def aclose(self) -> None: ...


@attrs.frozen
class SyncResult:
    """What the script returns."""

    granted: int
    """So many of what was asked for, the first ones."""
    wait: float
    """Seconds after which to ask again."""
    episode: int
    """Of throttling, that a call granted now belongs to."""
    speed: float
    """The present rate, as a share of the full one."""
    slowed: int
    """Episodes that the reports of this sync have begun."""
    pause: float
    """Seconds for which nobody sends, after a refusal."""
    now: int
    """By the clock of Redis, in microseconds."""
    least_size: int
    """Bytes: a slot that is free for an upload of that many, or more, is free for any of them."""
    exchanges: Sequence[tuple[CallKind, float, int]] = ()
    """Of other processes, which are new to this one: the kind of call, seconds, bytes."""


class RedisCalls:
    """Runs the script and probes the server, one command at a time.

    Args:
        redis: A URL, or a client of redis-py.
        keys: The account's keys.
        timeout: Seconds that a command may take.

    Raises:
        ConfigurationError: `redis` is neither, or the redis package is missing.
    """

    def __init__(self, redis: str | Redis | RedisCluster, keys: Sequence[str], timeout: float) -> None:
        self._client, self._owns_client = _connect(redis, timeout)
        self._keys = keys
        self._timeout = timeout
        self.round_trips: int = 0
        """Commands sent, those that failed included."""

    async def sync(self, request: Mapping[str, object]) -> SyncResult:
        """Runs the script. Raises whatever the client raises, and `TimeoutError`."""
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - an extra

        source, sha = script()
        argument = json.dumps(request)
        try:
            result = await self._send(self._client.evalsha(sha, len(self._keys), *self._keys, argument))
        except NoScriptError:
            result = await self._send(self._client.eval(source, len(self._keys), *self._keys, argument))
        granted, wait, episode, rate, slowed, pause, now, least_size, *exchanges = map(int, result.split())
        return SyncResult(
            granted=granted,
            wait=wait / 1_000_000,
            episode=episode,
            speed=rate / 1_000_000,
            slowed=slowed,
            pause=pause / 1_000_000,
            now=now,
            least_size=least_size,
            exchanges=_exchanges(exchanges),
        )

    async def probe(self) -> None:
        """Returns if Redis answers; raises as `sync` does."""
        await self._send(self._client.exists(self._keys[0]))

    async def aclose(self) -> None:
        """Closes the client if it is the limiter's own."""
        if self._owns_client:
            await self._client.aclose()

    async def _send(self, command: Awaitable[T]) -> T:
        self.round_trips += 1
        async with asyncio.timeout(self._timeout):
            return await command


def _exchanges(numbers: Sequence[int]) -> list[tuple[CallKind, float, int]]:
    """As `SyncResult.exchanges`. A newer version may know other kinds."""
    each = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    return [(CallKind(kind), exchange / 1_000_000, size) for kind, exchange, size in each if kind in _KINDS]


@cache
def script() -> tuple[str, str]:
    """The script, and the name by which Redis knows it."""
    source = resources.files("mmsclient.limiter.redis").joinpath("script.lua").read_text("utf-8")
    return source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def _connect(redis: str | Redis | RedisCluster, timeout: float) -> tuple[Client, bool]:
    """A client, and whether it is ours."""
    with needed("redis", "a shared cap"):
        from redis.asyncio import Redis, RedisCluster  # noqa: PLC0415 - an extra
    if isinstance(redis, Redis | RedisCluster):
        return redis, False
    return client_of(redis, timeout), True


def client_of(url: str, timeout: float) -> Redis:
    """A client of the server at `url`; `timeout`: seconds of a command.

    Raises:
        ConfigurationError: It is no such URL, or the redis package is missing.
    """
    with needed("redis", "a shared cap"):
        from redis.asyncio import Redis  # noqa: PLC0415 - an extra
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import ExponentialBackoff  # noqa: PLC0415
        from redis.exceptions import ReadOnlyError  # noqa: PLC0415
    if not isinstance(url, str):
        raise ConfigurationError("redis: expected a URL, or a Redis or RedisCluster of redis.asyncio")
    try:
        return Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 3),
            retry_on_error=[ReadOnlyError],  # a master that became a replica: connect anew
        )
    except ValueError:  # its text may hold a part of the password
        raise ConfigurationError("redis: expected a redis://, rediss:// or unix:// URL") from None
