"""Random histories of keyed sends against a model and the sandbox's count, and real processes that are killed.

The full run, on both engines: `python -m tests.promises.test_keyed_histories --histories 5000 --kills 60 --keys 4000`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import pytest
from attrs import define, frozen
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mmsclient import (
    AsyncMMSClient,
    InsufficientCreditError,
    KeyReusedError,
    MMSError,
    OutcomeUnknownError,
    RateLimitError,
    RecipientsError,
    SendInProgressError,
    SentBatch,
)
from mmsclient._store.ledger import SendState
from mmsclient._store.postgres import lease as leases
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import (
    CutConnection,
    Fault,
    Latency,
    Reject,
    Reset,
    TruncatedBody,
    bad_gateway,
    server_error,
    throttle,
)
from tests.conftest import until
from tests.support.callbacks import reports_recorded
from tests.support.keyed import TEXT, DiedError, File, Mortal, Place, Tables, place_in, send
from tests.support.postgres_server import Server
from tests.support.waiting import until as soon

# A history of one key, with two processes on one ledger ---------------------------------------------------------------


@frozen
class Trouble:
    """What goes wrong with a call, and what that means."""

    fault: Fault | None
    state: SendState
    error: type[MMSError] | None
    carried_out: bool


UNKNOWN, FAILED, REFUSED = SendState.UNKNOWN, SendState.FAILED, SendState.REFUSED
TROUBLES = {
    "none": Trouble(None, SendState.ACCEPTED, None, True),
    "reset after": Trouble(Reset(carried_out=True), UNKNOWN, OutcomeUnknownError, True),
    "reset before": Trouble(Reset(carried_out=False), UNKNOWN, OutcomeUnknownError, False),
    "500 after": Trouble(server_error(), UNKNOWN, OutcomeUnknownError, True),
    "500 before": Trouble(server_error(carried_out=False), UNKNOWN, OutcomeUnknownError, False),
    "502": Trouble(bad_gateway(), UNKNOWN, OutcomeUnknownError, False),
    "cut": Trouble(CutConnection(), UNKNOWN, OutcomeUnknownError, True),
    "truncated": Trouble(TruncatedBody(), UNKNOWN, OutcomeUnknownError, True),
    "late": Trouble(Latency(30, carried_out=True), UNKNOWN, OutcomeUnknownError, True),
    "throttled": Trouble(throttle(), FAILED, RateLimitError, False),
    "credit": Trouble(Reject("LEDGER_ERROR"), FAILED, InsufficientCreditError, False),
    "recipients": Trouble(Reject("RECIPIENTS_ERROR"), REFUSED, RecipientsError, False),
}


@frozen
class Step:
    """A send with the key."""

    process: Literal[0, 1]
    trouble: str
    text: str
    retry_refused: bool
    also: Literal[None, 0, 1]
    """The process that sends with it at the same moment."""
    death: Literal[None, "after the claim", "before the end"]
    cancelled_after: int | None
    """Passes of the event loop after which the caller leaves."""


STEPS = st.builds(
    Step,
    process=st.sampled_from((0, 1)),
    trouble=st.sampled_from([*sorted(TROUBLES), *("throttled", "credit", "recipients", "none") * 4]),
    text=st.sampled_from((TEXT, TEXT, TEXT, "Another")),
    retry_refused=st.booleans(),
    also=st.sampled_from((None, None, 0, 1)),
    death=st.sampled_from((None,) * 14 + ("after the claim", "before the end")),
    cancelled_after=st.none() | st.none() | st.integers(0, 60),
)
LONGEST = 600.0
"""Seconds that the last reports may take."""

HISTORIES = st.lists(STEPS, min_size=1, max_size=8)


@define
class Model:
    """What the ledger should hold for the key."""

    state: SendState | None = None
    text: str = ""
    carried_out: int = 0
    error: type[MMSError] | None = None

    def may_send(self, step: Step) -> bool:
        if self.state is None:
            return True
        free = self.state is FAILED or (self.state is REFUSED and step.retry_refused)
        return free and self.text == step.text

    def told(self, step: Step) -> type[MMSError] | None:
        """The error of a step that sends nothing; None where it gets the result again."""
        return KeyReusedError if self.text != step.text else self.error

    def end(self, step: Step, state: SendState, error: type[MMSError] | None, *, carried_out: bool) -> None:
        self.state, self.text, self.error = state, step.text, error
        self.carried_out += carried_out


class World:
    """A sandbox, and two clients that stand for processes on one ledger."""

    def __init__(self, place: Place, api: Sandbox) -> None:
        self.api = api
        self.place = place
        self.runner = asyncio.Runner()
        self.processes: list[AsyncMMSClient] = []
        self.serial = itertools.count()
        self.seen: Counter[str] = Counter()

    def __enter__(self) -> World:
        self.runner.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.run(self._stop())
        self.runner.close()

    async def _start(self) -> None:
        self.processes = [self._process(), self._process()]

    async def _stop(self) -> None:
        for process in self.processes:
            await process.aclose()

    def _process(self) -> AsyncMMSClient:
        mms = self.api.client(rate=None, max_attempts=1, ledger=self.place.at)
        assert mms._keyed is not None
        mms._keyed._ledger = Mortal(mms._keyed._ledger, self.place)
        return mms

    async def live(self, history: Sequence[Step]) -> None:
        number = next(self.serial)
        key, phone, model = f"order-{number}", f"+614{number:08}", Model()
        for step in history:
            await self._take(step, key, phone, model)
            await until(
                lambda: self.api.carried_out(phone) == model.carried_out
            )  # an abandoned call may come to it late
            assert self.api.carried_out(phone) == model.carried_out <= 1

    async def _take(self, step: Step, key: str, phone: str, model: Model) -> None:
        trouble = TROUBLES[step.trouble]
        sends = model.may_send(step)
        self.seen[step.trouble if sends else f"{model.state} again"] += 1
        rule = nullcontext() if trouble.fault is None else self.api.faults.add(trouble.fault, call="send-mms")
        with rule:
            if sends and step.death:
                await self._die(step, key, phone)
                model.end(step, UNKNOWN, OutcomeUnknownError, carried_out=self._was_sent(step, trouble))
            elif sends and step.cancelled_after is not None and trouble.fault is None:
                await self._leave(step, key, phone)
                if self.api.carried_out(phone) > model.carried_out:
                    model.end(step, SendState.ACCEPTED, None, carried_out=True)
                elif (state := self.place.states().get(key)) != model.state:  # else it had not been claimed yet
                    assert state == FAILED
                    model.end(step, FAILED, None, carried_out=False)
            else:
                found = await self._send(step, key, phone)
                if sends and step.trouble == "late":  # the other one has no more time to wait for it
                    found = [each for each in found if not isinstance(each, SendInProgressError)]
                    assert found
                if sends:
                    model.end(step, trouble.state, trouble.error, carried_out=trouble.carried_out)
                self._compare(found, model.told(step), repeated=not sends)

    def _was_sent(self, step: Step, trouble: Trouble) -> bool:
        return step.death == "before the end" and trouble.carried_out

    def _compare(
        self, found: Sequence[SentBatch | BaseException], error: type[MMSError] | None, *, repeated: bool
    ) -> None:
        for each in found:
            if error is None:
                assert isinstance(each, SentBatch), each
            else:
                assert type(each) is error, each
        if error is None:
            fresh = [each for each in found if isinstance(each, SentBatch) and not each.repeated]
            assert len(fresh) == (0 if repeated else 1)

    async def _send(self, step: Step, key: str, phone: str) -> list[SentBatch | BaseException]:
        timeout = 1.0 if step.trouble == "late" else 30.0
        who = [step.process] if step.also is None else [step.process, step.also]
        calls = (
            send(self.processes[each], key, phone, text=step.text, retry_refused=step.retry_refused, timeout=timeout)
            for each in who
        )
        return list(await asyncio.gather(*calls, return_exceptions=True))

    async def _leave(self, step: Step, key: str, phone: str) -> None:
        """The caller is cancelled at some moment; its send ends, if it has left."""
        mms = self.processes[step.process]
        call = send(mms, key, phone, text=step.text, retry_refused=step.retry_refused)
        sending = asyncio.create_task(call)
        for _ in range(step.cancelled_after or 0):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        assert mms._keyed is not None
        while under_way := [each.task for each in mms._keyed._under_way.values() if each.task]:
            await asyncio.wait(under_way)

    async def _die(self, step: Step, key: str, phone: str) -> None:
        mms = self.processes[step.process]
        assert mms._keyed is not None
        mortal = mms._keyed._ledger
        assert isinstance(mortal, Mortal)
        mortal.dies_after_claim = step.death == "after the claim"
        mortal.dies_before_finish = step.death == "before the end"
        timeout = 1.0 if step.trouble == "late" else 30.0
        with pytest.raises(DiedError):
            await send(mms, key, phone, text=step.text, retry_refused=step.retry_refused, timeout=timeout)
        await mms.aclose()
        self.processes[step.process] = self._process()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_in(request.param, request, tmp_path)


def live(world: World, histories: int) -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    phases = [Phase.generate, Phase.shrink]

    @settings(max_examples=histories, suppress_health_check=quiet, phases=phases)
    @given(HISTORIES)
    def lived(history: list[Step]) -> None:
        world.runner.run(world.live(history))

    lived()


def test_histories_are_what_the_model_says(place: Place) -> None:
    with Sandbox(rate=None, magic=False) as api, World(place, api) as world:
        live(world, 25)
        assert not world.api.errors


# Real processes, killed at random -------------------------------------------------------------------------------------


@frozen
class Plan:
    """What a child does."""

    url: str
    app_key: str
    ledger: str
    keys: int
    seed: int

    def arguments(self) -> list[str]:
        return [self.url, self.app_key, self.ledger, str(self.keys), str(self.seed)]


def phone_of(number: int) -> str:
    return f"+614{number:08}"


async def send_all(plan: Plan) -> Mapping[str, SentBatch | BaseException]:
    """The child: every order in an order of its own, as a worker does that knows nothing of the others."""
    numbers = list(range(plan.keys))
    random.Random(plan.seed).shuffle(numbers)
    room = asyncio.Semaphore(16)
    ends: dict[str, SentBatch | BaseException] = {}
    async with AsyncMMSClient(plan.app_key, base_url=plan.url, rate=None, ledger=plan.ledger, max_attempts=2) as mms:

        async def one(number: int) -> None:
            async with room:
                phone = phone_of(number)
                (ends[phone],) = await asyncio.gather(send(mms, f"order-{number}", phone), return_exceptions=True)

        await asyncio.gather(*map(one, numbers))
    return ends


@frozen
class Outcome:
    interrupted: int
    """Kills that met a process alive."""
    unknown: int
    """When all keys had been sent with, and as many reports had come as did by then."""
    ends: Counter[str]
    """When all reports had come."""


async def killed(at: str, api: Sandbox, *, keys: int, kills: int, most: int, seed: int) -> Outcome:
    """Two processes at a time, each killed at a random moment; then one that lives, and the comparison.

    The reports of all are recorded, here. `most`: the calls that are made, at most, between a start or a kill and the
    next kill.
    """
    async with AsyncMMSClient(api.app_key, base_url=api.url, ledger=at) as mms:
        assert mms.ledger is not None
        async with reports_recorded(mms.ledger, api):
            return await asyncio.to_thread(_killed, at, api, keys=keys, kills=kills, most=most, seed=seed)


def _killed(at: str, api: Sandbox, *, keys: int, kills: int, most: int, seed: int) -> Outcome:
    rng = random.Random(seed)
    plans = (Plan(api.url, api.app_key, at, keys, rng.randrange(2**32)) for _ in itertools.count())
    interrupted = 0
    for _ in range(kills // 2):
        pair = [child(next(plans)), child(next(plans))]
        for process in pair:
            calls = len(api.arrivals) + rng.randint(0, most)
            soon(lambda: len(api.arrivals) >= calls or process.poll() is not None)  # noqa: B023
            time.sleep(rng.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        interrupted += sum(process.wait() == -signal.SIGKILL for process in pair)
        for process in pair:
            assert process.stdout is not None
            process.stdout.close()
    api.faults.clear()
    before = asyncio.run(send_all(next(plans)))
    soon(lambda: api.callbacks_open == 0, LONGEST)
    assert api.callbacks_lost == []
    ends = asyncio.run(send_all(next(plans)))
    assert len(before) == len(ends) == keys
    for phone, end in ends.items():
        assert isinstance(end, SentBatch | OutcomeUnknownError), end
        assert api.carried_out(phone) == isinstance(end, SentBatch), phone
    kinds = Counter(type(end).__name__ for end in ends.values())
    assert len(api.sends) == kinds["SentBatch"]
    return Outcome(interrupted, sum(isinstance(end, OutcomeUnknownError) for end in before.values()), kinds)


def child(plan: Plan) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.promises.test_keyed_histories", "--child", *plan.arguments()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own command
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def add_faults(api: Sandbox) -> None:
    api.faults.add(Latency(0.01, jitter=0.03, carried_out=True), call="send-mms")
    for fault in (Reset(carried_out=True), Reset(carried_out=False), server_error(), throttle()):
        api.faults.add(fault, call="send-mms", share=0.02)


def test_two_processes_that_are_killed_at_random_carry_no_key_out_twice(place: Place) -> None:
    with Sandbox(rate=None, magic=False) as api:
        add_faults(api)
        outcome = asyncio.run(killed(place.at, api, keys=500, kills=6, most=40, seed=3))
        assert not api.errors
    assert "sending" not in place.states().values()
    assert outcome.interrupted >= 3
    assert outcome.ends["SentBatch"] > 100
    assert outcome.ends["OutcomeUnknownError"] > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=5)
    parser.add_argument("--histories", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--keys", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("SQLite", "PostgreSQL"), help="both, if left out")
    asked = parser.parse_args()
    if asked.child:
        url, key, ledger, keys, seed = asked.child
        leases.LEASE = 1.0
        print("ready", flush=True)
        asyncio.run(send_all(Plan(url, key, ledger, int(keys), int(seed))))
        return
    server = Server()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for engine, histories, kills in (
                ("SQLite", File(Path(folder) / "histories.db"), File(Path(folder) / "kills.db")),
                ("PostgreSQL", Tables(server.url, "histories"), Tables(server.url, "kills")),
            ):
                if asked.engine in (None, engine):
                    print(f"{engine}:", flush=True)
                    measure(asked, histories, kills)
    finally:
        server.remove()


def measure(asked: argparse.Namespace, histories: Place, kills: Place) -> None:
    with Sandbox(rate=None, magic=False) as api, World(histories, api) as world:
        began = time.monotonic()
        live(world, asked.histories)
        took = time.monotonic() - began
        steps = sum(world.seen.values())
        print(f"{next(world.serial)} histories, {steps} steps in {took:.0f} s, as the model says: {dict(world.seen)}")
    with Sandbox(rate=None, magic=False) as api:
        add_faults(api)
        began = time.monotonic()
        most = max(1, asked.keys // asked.kills)  # so that nearly all of them meet a living process
        outcome = asyncio.run(killed(kills.at, api, keys=asked.keys, kills=asked.kills, most=most, seed=asked.seed))
        took = time.monotonic() - began
    print(f"{asked.kills} kills, {outcome.interrupted} of a living process; {took:.0f} s; no key twice")
    print(f"{outcome.unknown} of {asked.keys} unknown before the last reports, {dict(outcome.ends)} after them")
    print("each unknown one that was carried out is told as sent; none that was not")


if __name__ == "__main__":
    main()
