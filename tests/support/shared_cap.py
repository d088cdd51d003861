"""Processes that share a cap, in one virtual loop: a real Redis runs the script, with the loop's clock for its own."""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import TYPE_CHECKING, Any

import attrs
import redis as redis_package
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from mmsclient.errors import LimiterUnavailableError
from mmsclient.limiter import Limiter, SharedTokenBucket
from mmsclient.limiter.redis.calls import script
from mmsclient.limiter.redis.settings import keys_of
from tests.support.demand import MODELS, Call, exchange
from tests.support.redis_server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmsclient.limiter import Grant


class Network:
    """The way to Redis, and Redis on the virtual clock."""

    def __init__(self, server: Server, seed: int = 0) -> None:
        self.redis = redis_package.Redis(port=server.port)
        self._sha = self.redis.script_load(script()[0].replace("redis.call('TIME')", "{ARGV[2], ARGV[3]}"))
        self._rng = random.Random(seed)
        self.fastest, self.slowest = 0.0, 0.002
        """Seconds of a way to Redis, or back."""
        self.fault = ""
        """Or `refused` (no connection), `silent` (no answer), `lost` (carried out, and no answer) or `frozen` (carried
        out when that is over, whether or not anybody still waits for it)."""
        self.on_result: Callable[[], object] | None = None
        """Called when the limiter has taken a result, and before any of its callers has."""
        self._commands = set[asyncio.Task[Any]]()

    async def sync(self, count: int, arguments: tuple[str, ...]) -> Any:
        return await self._command(lambda: self._sync(count, arguments))

    async def exists(self) -> Any:
        return await self._command(lambda: 1)

    async def _command(self, carry_out: Callable[[], Any]) -> Any:
        await self._way()
        if self.fault == "refused":
            raise RedisConnectionError("refused")
        if self.fault == "silent":
            await asyncio.sleep(3600)
        command = asyncio.create_task(self._when_it_runs(carry_out))
        self._commands.add(command)
        command.add_done_callback(self._commands.discard)
        result = await asyncio.shield(command)
        if self.fault == "lost":
            await asyncio.sleep(3600)
        await self._way()
        if self.on_result is not None:
            asyncio.get_running_loop().call_soon(self.on_result)
        return result

    async def _when_it_runs(self, carry_out: Callable[[], Any]) -> Any:
        while self.fault == "frozen":  # noqa: ASYNC110 - the clock jumps
            await asyncio.sleep(0.01)
        return carry_out()

    def _sync(self, count: int, arguments: tuple[str, ...]) -> Any:
        now = asyncio.get_running_loop().time()
        return self.redis.evalsha(self._sha, count, *arguments, str(int(now)), str(int(now % 1 * 1e6)))

    def forget(self, account: str) -> None:
        self.redis.delete(*keys_of(account))

    async def _way(self) -> None:
        await asyncio.sleep(self._rng.uniform(self.fastest, self.slowest))


class VirtualRedis(Redis):
    """A client of Redis that goes by way of a `Network`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        return await self.network.sync(numkeys, keys_and_args)

    async def exists(self, *names: Any) -> Any:
        return await self.network.exists()


class Processes:
    """Limiters of one account, as in so many processes."""

    def __init__(self, server: Server, count: int, seed: int = 0, **options: Any) -> None:
        self.account = secrets.token_hex(8)
        self._options = options
        self.network = Network(server, seed)
        self.limiters = [self.another() for _ in range(count)]

    def another(self, network: Network | None = None) -> SharedTokenBucket:
        return SharedTokenBucket(VirtualRedis(network or self.network), account=self.account, **self._options)

    @property
    def keys(self) -> list[str]:
        return keys_of(self.account)

    async def close(self) -> None:
        for limiter in self.limiters:
            await limiter.aclose()
        self.network.redis.close()

    @property
    def trips(self) -> int:
        return sum(limiter.stats.round_trips for limiter in self.limiters)


@attrs.frozen
class Patient:
    """Asks again where the limiter cannot reach Redis."""

    limiter: Limiter

    async def acquire(self) -> Grant:
        while True:
            try:
                return await self.limiter.acquire()
            except LimiterUnavailableError:
                await asyncio.sleep(0.2)


async def busy(
    limiter: Limiter,
    arrivals: list[float],
    until: float,
    *,
    seed: int = 0,
    model: str = "uniform",
) -> None:
    """Forty callers that make one call after the other."""
    rng, jitter, loop = random.Random(seed), MODELS[model], asyncio.get_running_loop()

    async def caller() -> None:
        while loop.time() < until:
            await exchange(limiter, Call(up=jitter(rng), work=rng.uniform(0, 0.06), down=jitter(rng)), arrivals)

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(caller())
