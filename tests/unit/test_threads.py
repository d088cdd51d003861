"""The threads that the package uses are its own: an application may hold all of its, each until a send has ended."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio.from_thread
import anyio.to_thread
import fastapi
import httpx
import psycopg
import pytest

import mmsclient
from mmsclient import AsyncMMSClient, MMSError
from mmsclient._threads import Threads
from mmsclient.bulk import RecipientState, html_report, read_report, read_status
from mmsclient.outbox import Outbox
from mmsclient.sandbox import Sandbox
from tests.conftest import PNG, until
from tests.support.no_threads import Refuse
from tests.support.no_threads import refuse as refuse  # noqa: PLC0414 - a fixture
from tests.support.pictures import from_a_phone
from tests.support.postgres_server import Server

ONE = "+61400000000"
ANYIO = "AnyIO worker thread"
MANY = [f"+614{number:08}" for number in range(1000)]
"""Whose answer is large."""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    return path


@pytest.fixture
async def mms(api: Sandbox, tmp_path: Path) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None, ledger=tmp_path / "sends.db") as mms:
        yield mms


@pytest.fixture
async def taken() -> AsyncIterator[None]:
    """All threads of the application are at work, and none comes free."""
    theirs = anyio.to_thread.current_default_thread_limiter()
    holders = [object() for _ in range(int(theirs.total_tokens))]
    for holder in holders:
        theirs.acquire_on_behalf_of_nowait(holder)
    async with asyncio.timeout(60):
        yield
    for holder in holders:
        theirs.release_on_behalf_of(holder)


async def a_file(mms: AsyncMMSClient, picture: Path) -> int:
    return (await mms.send(to=ONE, text="Hi", image=picture)).accepted


async def a_large_answer(mms: AsyncMMSClient, picture: Path) -> int:
    return (await mms.send(to=MANY, text="Hi", image=PNG)).accepted // len(MANY)


async def a_repeat(mms: AsyncMMSClient, picture: Path) -> int:
    sent = [await mms.send(to=ONE, text="Hi", image=PNG, key="a") for _ in range(2)]
    assert sent[1].repeated
    return sent[1].accepted


async def a_fitted_picture(mms: AsyncMMSClient, picture: Path) -> int:
    return (await mms.send(to=ONE, text="Hi", image=from_a_phone(200, 150), fit=True)).accepted


async def a_campaign(mms: AsyncMMSClient, picture: Path) -> int:
    journal = picture.with_suffix(".db")
    await mms.campaign(text="Hi", image=PNG, journal=journal).send_all([ONE])
    assert "Delivered" in await html_report(journal)
    report = await read_report(journal)
    assert report.counts == (await read_status(journal)).counts
    return report.counts[RecipientState.ACCEPTED]


async def own_pictures(mms: AsyncMMSClient, picture: Path) -> int:
    """Their function is the application's, and may send itself."""

    def made(fields: Mapping[str, Any]) -> Path:
        anyio.from_thread.run(partial(mms.send, to=MANY, text="Hi", image=picture))
        return picture

    campaign = mms.campaign(text="Hi", image=made, journal=picture.with_suffix(".db"))
    return (await campaign.send_all([ONE])).counts[RecipientState.ACCEPTED]


@pytest.mark.parametrize("call", [a_file, a_large_answer, a_repeat, a_fitted_picture, a_campaign, own_pictures])
async def test_an_application_that_holds_all_its_threads(
    call: Any, mms: AsyncMMSClient, picture: Path, taken: None
) -> None:
    assert await call(mms, picture) == 1


async def test_a_picture_is_read_where_no_thread_can_be_started(
    mms: AsyncMMSClient, picture: Path, refuse: Refuse
) -> None:
    refuse(ANYIO, 2)
    assert await a_file(mms, picture) == 1
    assert await a_fitted_picture(mms, picture) == 1


async def test_own_pictures_wait_for_a_thread(
    mms: AsyncMMSClient,
    picture: Path,
    refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("mmsclient.bulk.own_pictures.PAUSE", 0.001)
    refuse(ANYIO, 3)
    campaign = mms.campaign(text="Hi", image=lambda _: PNG, journal=picture.with_suffix(".db"))
    assert (await campaign.send_all([ONE])).counts[RecipientState.ACCEPTED] == 1
    assert caplog.text.count("no thread can be started") == 1


async def test_what_needs_a_thread_says_that_none_can_be_started(
    mms: AsyncMMSClient, picture: Path, refuse: Refuse
) -> None:
    await a_campaign(mms, picture)
    refuse(ANYIO, 100)
    with pytest.raises(MMSError, match="no thread can be started") as caught:
        await asyncio.wait_for(in_another_loop(read_report, picture.with_suffix(".db")), 60)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


async def in_another_loop(call: Callable[..., Awaitable[Any]], *arguments: object) -> object:
    """It has no idle thread yet."""
    return await asyncio.to_thread(lambda: asyncio.run(call(*arguments)))  # type: ignore[arg-type]


async def test_an_order_in_a_transaction_of_the_application(postgres: Server, api: Sandbox, taken: None) -> None:
    """In as many as it likes at a time: all may wait for one, which goes on with its next order."""
    url = postgres.new_database()
    locked = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' HAVING count(*) >= 41"
    async with api.client() as mms, Outbox(mms, url) as outbox:
        put = partial(outbox.put, to=ONE, text="Hi", image=PNG)
        await outbox.counts()  # the tables are there
        with ExitStack() as stack:
            first, *others = [stack.enter_context(closing(psycopg.connect(url))) for _ in range(42)]
            await put(key="a", connection=first)
            waiting = [asyncio.ensure_future(put(key="a", connection=each)) for each in others]
            await until(lambda: postgres.ask(locked))
            await put(key="b", connection=first)
            first.commit()
            await asyncio.gather(*waiting)


async def test_plain_endpoints_that_send(mms: AsyncMMSClient, picture: Path) -> None:
    app = fastapi.FastAPI()

    @app.post("/orders/{number}")
    def order(number: int) -> int:
        return anyio.from_thread.run(partial(mms.send, to=ONE, text="Hi", image=picture, key=str(number))).accepted

    theirs = anyio.to_thread.current_default_thread_limiter()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None) as browser:  # noqa: S113
        orders = [asyncio.ensure_future(browser.post(f"/orders/{number}")) for number in range(60)]
        _, late = await asyncio.wait(orders, timeout=60)
        theirs.total_tokens *= 2  # let them end that would not
        answers = await asyncio.gather(*orders)
    assert not late
    assert [answer.json() for answer in answers] == [1] * 60


async def test_no_more_threads_than_there_may_be() -> None:
    threads = Threads(2)
    at_work, go_on = threading.Semaphore(0), threading.Event()
    most = 0

    def work() -> None:
        at_work.release()
        go_on.wait(60)

    async def count() -> None:
        nonlocal most
        for _ in range(2):
            await Threads().run(at_work.acquire)
        most = 2 + at_work.acquire(blocking=False)
        go_on.set()

    await asyncio.gather(count(), *(threads.run(work) for _ in range(5)))
    assert most == 2


def test_all_threads_are_run_in_one_place() -> None:
    """Those of anyio and of asyncio by default are the application's."""
    folder = Path(mmsclient.__file__).parent
    words = ("to_thread", "run_in_executor")
    users = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in words)
    }
    assert users == {"_threads.py"}
