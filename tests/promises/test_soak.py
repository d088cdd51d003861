"""Everything at once, for a while: campaigns that are killed, a Redis that is killed, receivers that are restarted.

Three processes send campaigns under one cap that is shared through Redis, to a server that misbehaves and posts each
delivery report twice and in disorder; two workers receive them. Afterwards the journals, what the server carried out
and what was handled are compared. `MMSCLIENT_TEST_SOAK=600` runs it for ten minutes instead of a few seconds.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest
from attrs import define, field, frozen

from mmsclient import AsyncMMSClient, SharedTokenBucket
from mmsclient.bulk import RecipientState, read_report
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import CutConnection, Latency, Reset, TruncatedBody, server_error
from tests.conftest import PNG
from tests.support.receiving import Process
from tests.support.redis_server import Server, free_port
from tests.support.waiting import until

SECONDS = float(os.environ.get("MMSCLIENT_TEST_SOAK", "5"))
WORKERS = 3
RATE = 60
RECIPIENTS = 100_000
"""Of each worker: more than it can send to."""


@frozen
class Assignment:
    """What a sending process does."""

    url: str
    app_key: str
    redis: str
    journal: Path
    worker: int

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.promises.test_soak", self.url, self.app_key, self.redis]
        return subprocess.Popen(  # noqa: S603 - our own command
            [*command, str(self.journal), str(self.worker)],
            cwd=Path(__file__).parent.parent.parent,
            stdout=subprocess.PIPE,
        )

    async def send(self) -> None:
        """Send until SIGTERM, and then drain; print a line once the journal is resumed and SIGTERM is heard."""
        cap = SharedTokenBucket(
            self.redis, account="soak", rate=RATE, timeout=0.5, on_unavailable="share", processes=WORKERS
        )
        numbers = (f"+6140{self.worker}{number:06}" for number in range(RECIPIENTS))
        async with cap, AsyncMMSClient(self.app_key, base_url=self.url, limiter=cap, timeout=2) as mms:
            sending = mms.campaign(
                text="Soak", image=PNG, journal=self.journal, batch_size=7, stop_after=RECIPIENTS
            ).send(numbers)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sending.stop)
            await anext(sending)
            print("sending", flush=True)
            async for _ in sending:
                pass


@define
class Workers:
    """The sending processes, started anew after each kill."""

    assignments: list[Assignment]
    running: dict[int, subprocess.Popen[bytes]] = field(factory=dict)
    kills: int = 0

    def start(self) -> None:
        for assignment in self.assignments:
            if assignment.worker not in self.running:
                self.running[assignment.worker] = assignment.start()

    def kill(self, worker: int) -> None:
        process = self.running.pop(worker)
        assert process.poll() is None, f"worker {worker} ended by itself with {process.returncode}"
        put_an_end_to(process)
        self.kills += 1

    def stop(self) -> None:
        """Let all drain and end, each once it is at work."""
        for process in self.running.values():
            assert process.stdout is not None
            assert process.stdout.readline() == b"sending\n"
            process.terminate()
        for process in self.running.values():
            assert process.wait(timeout=60) == 0

    def close(self) -> None:
        for process in self.running.values():
            put_an_end_to(process)


def put_an_end_to(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.kill()


@pytest.fixture
def redis() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@contextmanager
def receiving(folder: Path) -> Iterator[Process]:
    process = Process("starlette", folder, free_port(), options=("--workers", "2"))
    process.start()
    try:
        yield process
    finally:
        process.stop()


def misbehave(sandbox: Sandbox) -> None:
    sandbox.faults.add(Latency(0.01, jitter=0.05, carried_out=True), call="send-mms")
    for fault in (Reset(carried_out=True), Reset(carried_out=False), server_error(), TruncatedBody(), CutConnection()):
        sandbox.faults.add(fault, call="send-mms", share=0.01)


def torture(workers: Workers, redis: Server, receiver: Process, seconds: float) -> None:
    """Kill and restart everything once, and go on for so long."""
    rng = random.Random(os.getpid())
    end = time.monotonic() + seconds
    for turn in count():
        time.sleep(rng.uniform(0.5, 1.5))
        if turn >= 4 and time.monotonic() > end:
            return
        if turn % 4 == 1:
            redis.signal(signal.SIGKILL)
            time.sleep(rng.uniform(0.0, 1.0))
            redis.start()
        elif turn % 4 == 3:
            receiver.stop()
            receiver.start()
        else:
            workers.kill(rng.randrange(WORKERS))
            workers.start()


def test_nobody_twice_and_no_callback_lost_whatever_dies(tmp_path: Path, redis: Server) -> None:
    with (
        receiving(tmp_path) as receiver,
        Sandbox(
            rate=RATE,
            magic=False,
            callback_url=receiver.url,
            duplicates=1,
            disorder=0.5,
            callback_attempts=1000,
            callback_backoff=0.05,
            deliver_after=0.1,
        ) as sandbox,
        ExitStack() as stack,
    ):
        misbehave(sandbox)
        journals = [tmp_path / f"{worker}.db" for worker in range(WORKERS)]
        workers = Workers(
            [
                Assignment(sandbox.url, sandbox.app_key, redis.url, journal, worker)
                for worker, journal in enumerate(journals)
            ]
        )
        stack.callback(workers.close)
        workers.start()
        until(lambda: all(each.exists() for each in journals))
        torture(workers, redis, receiver, SECONDS)
        workers.start()
        workers.stop()
        until(lambda: not sandbox.callbacks_open, 120)
        states = asyncio.run(compared(sandbox, journals))
        handled = receiver.handled
        events = {f"{message.id} Delivered" for message in sandbox.messages}
        assert events - set(handled) == set()
        assert sandbox.callbacks_lost == []
        assert sum(times > 1 for times in handled.values()) == 0
        throttled = sum(arrival.throttled for arrival in sandbox.arrivals)
        assert throttled <= 0.02 * len(sandbox.arrivals)
        assert sandbox.errors == []
    shown = {str(state): number for state, number in states.items()}
    print(f"\n{SECONDS:.0f} s, {workers.kills} kills, {throttled} throttled; {shown}; {len(events)} callbacks")


async def compared(sandbox: Sandbox, journals: list[Path]) -> Counter[RecipientState]:
    """Each journal against what the server did."""
    states: Counter[RecipientState] = Counter()
    accounted = 0
    for journal in journals:
        report = await read_report(str(journal))
        async for recipient in report.recipients():
            times = sandbox.carried_out(recipient.number)
            states[recipient.state] += 1
            accounted += times
            assert times <= 1, recipient
            assert recipient.state is not RecipientState.SENDING, recipient
            if recipient.state is RecipientState.ACCEPTED:
                assert times == 1, recipient
            elif recipient.state is not RecipientState.UNKNOWN:
                assert times == 0, recipient
    assert accounted == sum(len(send.recipients) for send in sandbox.sends)
    assert states[RecipientState.ACCEPTED] > 0
    return states


if __name__ == "__main__":
    url, app_key, redis_url, journal, worker = sys.argv[1:]
    asyncio.run(Assignment(url, app_key, redis_url, Path(journal), int(worker)).send())
