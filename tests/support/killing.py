"""A campaign in a process of its own, to be killed at any moment: `python -m tests.support.killing`."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from attrs import frozen

from mmsclient import AsyncMMSClient
from mmsclient._api.types import Kind
from mmsclient.bulk import Campaign, Report, SMSFallback, Template, preparation
from tests.support.png import PNG

LEASE = 0.5
"""Seconds, of a sender in PostgreSQL."""


def numbers(count: int) -> Iterator[str]:
    return (f"+614{n:08}" for n in range(count))


def rows(count: int, texts: int, pictures: int = 0) -> Iterator[dict[str, object]]:
    """As `numbers`, each with one of so many names and codes."""
    return (
        {"to": number, "name": place % (texts or 1), "code": place % (pictures or 1)}
        for place, number in enumerate(numbers(count))
    )


def picture_of(fields: Mapping[str, Any]) -> bytes:
    """The picture of a row."""
    return PNG + str(fields["code"]).encode()


@frozen
class Plan:
    """What the process does."""

    url: str
    app_key: str
    journal: str
    name: str
    """In a database, "" for a file."""
    recipients: int
    batch_size: int
    rate: float
    suppress: str = ""
    """A suppression list, "" for none."""
    start_at: str = ""
    """In ISO 8601, "" for at once."""
    texts: int = 0
    """Different ones, of a template; 0 for one to all."""
    max_credits: int = 0
    """What it may cost, 0 for anything."""
    pictures: int = 0
    """Different ones, of a function; 0 for one to all."""
    kind: Kind = "mms"
    fallback: bool = False

    def arguments(self) -> list[str]:
        return [
            *(self.url, self.app_key, self.journal, self.name),
            *(str(self.recipients), str(self.batch_size), str(self.rate), self.suppress, self.start_at),
            str(self.texts),
            str(self.max_credits),
            str(self.pictures),
            self.kind,
            "fallback" if self.fallback else "",
        ]

    def campaign(self, mms: AsyncMMSClient, *, resend_silent: bool = False) -> Campaign:
        """It goes on whatever fails; with `resend_silent` it waits for no report that has not come."""
        return mms.campaign(
            text=Template("Sale on now, {name}") if self.texts else "Sale on now",
            image=None if self.kind == "sms" else picture_of if self.pictures else PNG,
            kind=self.kind,
            fallback=SMSFallback(wait=0) if self.fallback else None,
            journal=self.journal,
            name=self.name or None,
            batch_size=self.batch_size,
            stop_after=10**6,
            resend_unknown="silent" if resend_silent else False,
            silent_after=0,
            suppress=self.suppress or None,
            start_at=datetime.fromisoformat(self.start_at) if self.start_at else None,
            max_credits=self.max_credits or None,
        )


async def sent(plan: Plan, *, resend_silent: bool = False) -> Report:
    """The whole list each time, as a service does that knows nothing of its last run."""
    async with AsyncMMSClient(plan.app_key, base_url=plan.url, rate=plan.rate) as mms:
        campaign = plan.campaign(mms, resend_silent=resend_silent)
        is_own = plan.texts or plan.pictures
        listed = rows(plan.recipients, plan.texts, plan.pictures) if is_own else numbers(plan.recipients)
        return await campaign.send_all(listed)


def killed(plan: Plan, delay: float) -> bool:
    """Send in a process that is killed after `delay` seconds; whether it was still at it."""
    return killed_when(plan, lambda: time.sleep(delay))


def killed_when(plan: Plan, wait: Callable[[], object]) -> bool:
    """Send in a process that is killed when `wait` returns; whether it was still at it."""
    command = [sys.executable, "-m", "tests.support.killing", *plan.arguments()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:  # noqa: S603 - our own command
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        try:
            wait()
        finally:
            child.send_signal(signal.SIGKILL)
        return child.wait() == -signal.SIGKILL


def killed_often(plan: Plan, kills: int, longest: float, seed: int) -> int:
    """Kill and resume it at random moments; how many kills met it alive."""
    rng = random.Random(seed)
    longest += LEASE if plan.name else 0  # so long each waits for the lease of the one before
    return sum(killed(plan, rng.uniform(0, longest)) for _ in range(kills))


def asked_for(description: str | None, *, kills: int, recipients: int) -> argparse.Namespace:
    """What the command line of a full run asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--postgres", action="store_true", help="in a cluster of its own, and not in a file")
    parser.add_argument("--kills", type=int, default=kills)
    parser.add_argument("--recipients", type=int, default=recipients)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


@contextmanager
def place_of_a_full_run(in_postgres: bool) -> Iterator[tuple[str, str]]:
    """A journal and its name, which are gone at the end."""
    if in_postgres:
        from tests.support.postgres_server import Server  # noqa: PLC0415 - a child needs no pytest

        server = Server()
        try:
            yield server.new_database(), "spring"
        finally:
            server.remove()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "spring.db"), ""


if __name__ == "__main__":
    *given, kind, fallback = sys.argv[1:]
    url, key, journal, name, recipients, batch_size, rate, suppress, start_at, texts, most, pictures = given
    if name:
        from mmsclient._store.postgres import lease as leases

        leases.LEASE, preparation.LOOK_AGAIN = LEASE, 0.05
    print("ready", flush=True)
    numbered = int(recipients), int(batch_size), float(rate)
    figures = int(texts), int(most), int(pictures)
    plan = Plan(url, key, journal, name, *numbered, suppress, start_at, *figures, cast(Kind, kind), bool(fallback))
    asyncio.run(sent(plan))
