"""How fast a command calls, and with whom it shares the account's cap."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from mmsclient import TokenBucket
from mmsclient.cli.cap import Cap
from mmsclient.sandbox import Sandbox
from tests.support.command import ACCOUNT, Cli
from tests.support.redis_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.stop()


def granted(server: Server) -> int:
    """Places of the accounts that Redis knows."""
    with redis.Redis.from_url(server.url) as connection:
        return len(connection.keys("mmsclient:*:state"))


def test_the_cap_is_shared_through_redis(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert granted(server) == 0
    assert cli("account", "--redis", server.url, "--account", ACCOUNT).status == 0
    assert granted(server) == 1
    assert cli("account", "--redis", server.url, "--account", "another").status == 0
    assert granted(server) == 2
    monkeypatch.setenv("MMSCLIENT_REDIS", server.url)
    monkeypatch.setenv("MMSCLIENT_ACCOUNT", ACCOUNT)
    assert cli("account").status == 0
    assert granted(server) == 2


def test_while_redis_is_away(cli: Cli, server: Server, api: Sandbox) -> None:
    server.stop()
    shared = ["account", "--redis", server.url, "--account", ACCOUNT]
    failed = cli(*shared)
    assert failed.status == 1
    assert failed.error.endswith("nothing was sent")
    assert "Redis" in failed.error
    assert not api.calls
    assert cli(*shared, "--processes", "4").status == 0
    assert len(api.calls) == 1


def test_the_number_of_processes_from_the_environment(
    cli: Cli, server: Server, api: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSCLIENT_REDIS", server.url)
    monkeypatch.setenv("MMSCLIENT_ACCOUNT", ACCOUNT)
    for value in ("0", "-1", "1.5", "four", "²"):
        monkeypatch.setenv("MMSCLIENT_PROCESSES", value)
        wrong = cli("account")
        expected = f"MMSCLIENT_PROCESSES: expected a whole number, 1 or more, got {value!r}"
        assert (wrong.status, wrong.error) == (2, expected)
    monkeypatch.setenv("MMSCLIENT_PROCESSES", "16")
    assert cli("account").status == 2  # more than the cap has slots
    assert not api.calls
    assert cli("account", "--processes", "4").status == 0
    server.stop()
    monkeypatch.setenv("MMSCLIENT_PROCESSES", "4")
    assert cli("account").status == 0
    monkeypatch.setenv("MMSCLIENT_PROCESSES", "")  # as if it were not set
    assert cli("account").status == 1
    monkeypatch.delenv("MMSCLIENT_REDIS")  # then nobody shares it
    monkeypatch.setenv("MMSCLIENT_PROCESSES", "16")
    assert cli("account").status == 0
    assert api.calls == {"account": 3}


async def test_a_part_of_the_cap() -> None:
    async with Cap(rate=5).limiter() as limiter:
        assert isinstance(limiter, TokenBucket)
        assert limiter.stats.rate == 5


def test_a_rate_that_is_none(cli: Cli, api: Sandbox) -> None:
    wrong = cli("account", "--rate", "0")
    assert (wrong.status, wrong.error) == (2, "rate: expected calls a second, more than 0, got 0.0")
    assert not api.calls


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--account", "shop"], "--account: needs --redis URL, or MMSCLIENT_REDIS"),
        (["--processes", "4"], "--processes: needs --redis URL, or MMSCLIENT_REDIS"),
        (["--redis", "redis://127.0.0.1:1"], "--redis: needs --account NAME, or MMSCLIENT_ACCOUNT"),
    ],
)
def test_options_that_lack_another(cli: Cli, api: Sandbox, options: list[str], error: str) -> None:
    wrong = cli("account", *options)
    assert (wrong.status, wrong.error) == (2, error)
    assert not api.calls
