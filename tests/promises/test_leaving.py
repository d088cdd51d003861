"""Whoever leaves a campaign, however he does, leaves nothing in it that is under way."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from mmsclient import LimiterUnavailableError, TokenBucket
from mmsclient._store.models import Claim, ListEntry, Message
from mmsclient._store.protocol import SenderJournal
from mmsclient._store.sqlite_opening import open_journal
from mmsclient.bulk import RecipientState, Report, read_report
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.recorder import Recorder
from mmsclient.bulk.waiting import all_done
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency
from tests.conftest import PNG, until
from tests.support.campaigns import agrees, campaign, finished, numbers

pytestmark = pytest.mark.usefixtures("impatient")

LIST = numbers(3000)
ACCEPTED, FAILED, PENDING, UNKNOWN, SENDING = (
    RecipientState.ACCEPTED,
    RecipientState.FAILED,
    RecipientState.PENDING,
    RecipientState.UNKNOWN,
    RecipientState.SENDING,
)


@pytest.fixture
def slow(api: Sandbox) -> Sandbox:
    api.faults.add(Latency(0.1, carried_out=True), call="send-mms")
    return api


async def drained(api: Sandbox, path: Path) -> Report:
    """The report of a campaign that was left in the middle; what it says is what was carried out."""
    report = await read_report(path)
    assert report.counts[SENDING] == report.counts[UNKNOWN] == report.counts[FAILED] == 0
    assert report.counts[ACCEPTED] == sum(len(send.recipients) for send in api.sends) > 0
    assert report.counts[PENDING] > 0
    return report


@pytest.mark.parametrize("way", ["break", "raise", "cancel", "cancel twice", "time out", "cancel scope"])
async def test_whoever_leaves_the_client_drains_its_campaigns(slow: Sandbox, path: Path, way: str) -> None:
    async def work(end: Callable[[], object]) -> None:
        """`end` is called with the first batch: something was sent then, and much is not."""
        async with slow.client(rate=50) as mms:
            async for _ in campaign(mms, path, batch_size=10).send(LIST):
                end()
                if way == "break":
                    break
                if way == "raise":
                    raise KeyError

    async def leave() -> None:
        if way == "time out":
            async with asyncio.timeout(None) as limit:
                await work(lambda: limit.reschedule(asyncio.get_running_loop().time()))
        elif way == "cancel scope":
            with anyio.CancelScope() as scope:
                await work(scope.cancel)
        else:
            await work(begun.set)

    begun = asyncio.Event()
    task = asyncio.create_task(leave())
    if way in ("cancel", "cancel twice"):
        await begun.wait()
        task.cancel()
        if way == "cancel twice":
            await asyncio.sleep(0)
            task.cancel()
    with suppress(asyncio.CancelledError, TimeoutError, KeyError):
        await task
    await drained(slow, path)


HEAD = """
import asyncio, signal, sys
from mmsclient import AsyncMMSClient

url, key, journal = sys.argv[1:]
recipients = [f"+614{{n:08}}" for n in range(3000)]

async def main():
    async with AsyncMMSClient(key, base_url=url, rate=50) as mms:
        spring = mms.campaign(text="Sale", image={image!r}, journal=journal, batch_size=10)
        {loop}

asyncio.run(main())
"""

WAYS = {
    "raise": "async for _ in spring.send(recipients): raise KeyError",
    "break": "async for _ in spring.send(recipients): break",
    "exit": "async for _ in spring.send(recipients): sys.exit(5)",
    "terminate": """sending = spring.send(recipients)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sending.stop)
        async for batch in sending:
            print("batch", batch.number, flush=True)
        print(await spring.report(), flush=True)""",
    "interrupt": """async for batch in spring.send(recipients):
            print("batch", batch.number, flush=True)""",
}
SIGNALS = {"terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
STATUSES = {"raise": 1, "break": 0, "exit": 5, "terminate": 0, "interrupt": -signal.SIGINT}


@pytest.mark.parametrize("way", WAYS)
async def test_a_program_that_ends_early_leaves_nothing_under_way(slow: Sandbox, path: Path, way: str) -> None:
    program = HEAD.format(image=PNG, loop=WAYS[way])
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", program, slow.url, slow.app_key, str(path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        if way in SIGNALS:
            assert child.stdout is not None
            await child.stdout.readline()
            child.send_signal(SIGNALS[way])
        out, err = await asyncio.wait_for(child.communicate(), 60)
    finally:
        with suppress(ProcessLookupError):
            child.kill()
    assert child.returncode == STATUSES[way], err.decode()
    assert b"never" not in err  # "Task exception was never retrieved" and the like
    report = await drained(slow, path)
    if way == "terminate":
        assert out.decode().splitlines()[-1] == str(report)
    async with slow.client(rate=None) as mms:
        await agrees(await finished(mms, path, LIST, text="Sale", batch_size=1000), slow, LIST)


def test_a_campaign_in_a_global_leaves_no_traceback(api: Sandbox) -> None:
    code = f"""
import asyncio
from mmsclient import AsyncMMSClient
spring = None
async def main():
    global spring
    async with AsyncMMSClient({api.app_key!r}, base_url={api.url!r}) as mms:
        spring = mms.campaign(text="Hi", image={PNG!r})
        print(await spring.send_all(["+61400000000"]))
asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "1 accepted" in ran.stdout


class Away:
    """A limiter that lets some calls go and fails for the next when told."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.waiting = 0
        self.told = asyncio.Event()
        self.bucket = TokenBucket(rate=1000)

    async def acquire(self):  # type: ignore[no-untyped-def]
        self.calls -= 1
        if self.calls >= 0:
            return await self.bucket.acquire()
        self.waiting += 1
        await self.told.wait()
        raise LimiterUnavailableError("Redis is away")


async def test_what_was_claimed_and_never_left_is_pending_again(api: Sandbox, path: Path) -> None:
    limiter = Away(calls=4)
    async with api.client(limiter=limiter) as mms:
        sending = campaign(mms, path, batch_size=10, check_account=False).send(LIST)
        for _ in range(4):
            await anext(sending)
        await until(lambda: limiter.waiting)
        sending.stop()
        limiter.told.set()
        batches = [batch async for batch in sending]
    assert batches == []  # it was taken back, as if it had not begun
    report = await drained(api, path)
    assert (report.counts[ACCEPTED], report.counts[PENDING]) == (40, 2960)


async def test_who_leaves_twice_as_impatiently_closes_the_client_all_the_same(slow: Sandbox, path: Path) -> None:
    """What waits for its turn then is given up; it is pending as soon as the loop goes on."""
    limiter = Away(calls=4)

    async def work() -> None:
        async with slow.client(limiter=limiter) as mms:
            clients.append(mms)
            await campaign(mms, path, batch_size=10, check_account=False).send_all(LIST)

    clients: list[object] = []
    task = asyncio.create_task(work())
    await until(lambda: limiter.waiting)
    for _ in range(10):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    (mms,) = clients
    async with asyncio.timeout(60):
        await mms.aclose()  # type: ignore[attr-defined]
    await drained(slow, path)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # that is what is tested
@pytest.mark.parametrize("way", ["returns", "raises", "stops"])
def test_a_loop_that_ends_without_closing_its_client_gives_back_what_never_left(
    api: Sandbox, path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsclient.bulk.capacity.UNLIMITED", 1.0)  # three under way, however slow the machine is

    async def main() -> None:
        limiter = Away(calls=8)
        mms = api.client(limiter=limiter)
        sending = campaign(mms, path, batch_size=10, check_account=False).send(LIST)
        for _ in range(4):
            await anext(sending)
        await until(lambda: limiter.waiting == 3)  # the whole window: each has its connection, and no token
        claimed.append((await read_report(path)).counts[SENDING])
        if way == "raises":
            raise KeyError
        if way == "stops":
            sending.stop()
            await asyncio.sleep(0)  # it waits for its calls, and is cancelled then

    claimed: list[int] = []
    with suppress(KeyError):
        asyncio.run(main())
    gc.collect()
    assert claimed == [30]
    report = asyncio.run(read_report(path))
    assert report.counts[SENDING] == report.counts[UNKNOWN] == 0
    assert report.counts[ACCEPTED] == sum(len(send.recipients) for send in api.sends) == 80
    assert report.counts[PENDING] == 3000 - 80


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the client that nobody closes
def test_a_loop_that_ends_gives_back_what_queues_behind_the_calls_of_others(api: Sandbox, path: Path) -> None:
    async def main() -> None:
        limiter = Away(calls=0)
        mms = api.client(limiter=limiter, max_in_flight=1)
        account = asyncio.create_task(mms.account())
        await until(lambda: limiter.waiting)
        batch = asyncio.create_task(anext(campaign(mms, path, batch_size=10, check_account=False).send(LIST)))
        await until(lambda: mms.stats.waiting)
        assert (await read_report(path)).counts[SENDING] == 10
        assert not account.done()
        assert not batch.done()

    asyncio.run(main())
    gc.collect()
    counts = asyncio.run(read_report(path)).counts
    assert (counts[SENDING], counts[PENDING]) == (0, sum(counts.values()))


async def test_a_claim_whose_caller_is_cancelled_twice_is_given_back() -> None:
    is_claiming, go_on = threading.Event(), threading.Event()

    def claim(journal: SenderJournal) -> Claim | None:
        is_claiming.set()
        go_on.wait(30)
        return journal.claim(10)

    thread = await JournalThread.open(lambda: open_journal(None, Message("Hi", "", PNG)), None)
    entries = [ListEntry(line, f"+{phone}", phone) for line, phone in enumerate(range(61400000000, 61400000010), 1)]
    await thread.run(lambda: thread.journal.add(entries))
    claiming = asyncio.create_task(Recorder(thread, asyncio.Event()).claim(claim))
    await until(is_claiming.is_set)
    for _ in range(2):
        claiming.cancel()
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait([claiming])
    assert claiming.cancelled()
    await thread.run(lambda: None)
    assert (thread.journal.counts[SENDING], thread.journal.counts[PENDING]) == (0, 10)
    await thread.close()


async def test_who_waits_for_the_calls_is_cancelled_when_they_are_done() -> None:
    """The journal is closed after that, and what they record goes into it."""
    going_on = asyncio.Event()
    calls = [asyncio.create_task(going_on.wait()) for _ in range(2)]
    waiting = asyncio.create_task(all_done(*calls))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert all(call.done() for call in calls)
