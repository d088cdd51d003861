"""The options that say how fast a command may call, and the limiter made of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from mmsclient import SharedTokenBucket, TokenBucket, _environment
from mmsclient._base_client import RATE
from mmsclient.cli.status import UsageError
from mmsclient.cli.whole import WHOLE
from mmsclient.cli.words import words_of
from mmsclient.limiter import Limiter


@Parameter(name="*", group=Group("Cap"))
@dataclass(frozen=True, kw_only=True)
class Cap:
    """The account's cap, and who else shares it."""

    rate: float = RATE
    """Calls a second: the account's cap, or this process's part of it."""
    redis: str | None = None
    """URL of the Redis through which all processes of the account share the cap. Left out: MMSCLIENT_REDIS, or the cap
    is this process's alone."""
    account: str | None = None
    """Name under which they share it, the same for all. Left out: MMSCLIENT_ACCOUNT."""
    processes: Annotated[int | None, WHOLE] = None
    """How many share it: while Redis is away, each goes by its part of the cap. Left out: MMSCLIENT_PROCESSES, or
    nothing is sent then."""

    @asynccontextmanager
    async def limiter(self) -> AsyncIterator[Limiter]:
        """The limiter that a client is given. Raises `UsageError` where an option lacks another."""
        url = _environment.setting(_environment.REDIS) if self.redis is None else self.redis
        if url is None:
            self._check_alone()
            yield TokenBucket(self.rate)
            return
        account = _environment.setting(_environment.ACCOUNT) if self.account is None else self.account
        if account is None:
            raise UsageError(f"--redis: needs --account NAME, or {_environment.ACCOUNT}")
        processes = _processes_of_environment() if self.processes is None else self.processes
        away: Literal["raise", "share"] = "raise" if processes is None else "share"
        async with SharedTokenBucket(
            url,
            account=account,
            rate=self.rate,
            on_unavailable=away,
            processes=processes,
        ) as limiter:
            yield limiter

    def in_words(self) -> list[str]:
        """As arguments of the command. A URL may hold a password."""
        return words_of(
            {
                "--rate": None if self.rate == RATE else self.rate,
                "--redis": None if self.redis is None else "URL",
                "--account": None if self.account is None else "NAME",  # it may be a key
                "--processes": self.processes,
            }
        )

    def _check_alone(self) -> None:
        for option, value in (("--account", self.account), ("--processes", self.processes)):
            if value is not None:
                raise UsageError(f"{option}: needs --redis URL, or {_environment.REDIS}")


def _processes_of_environment() -> int | None:
    given = _environment.setting(_environment.PROCESSES)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and int(given)):
        raise UsageError(f"{_environment.PROCESSES}: expected a whole number, 1 or more, got {given!r}")
    return int(given)


ALONE = Cap()
