"""What is told of an outbox's worker, and that telling keeps it from nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from math import isnan
from pathlib import Path
from time import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mmsclient import AsyncMMSClient
from mmsclient._store.errors import JournalError, JournalUnavailableError
from mmsclient._store.models import Owner
from mmsclient._store.sqlite_outbox import SQLiteOutboxWorker
from mmsclient._store.stores import outbox_at
from mmsclient.limiter import NoLimit
from mmsclient.observe import CallWaited, OrdersClaimed, OrdersDue, OrdersEnded, OrdersLost
from mmsclient.observe.outbox import WorkerObserver
from mmsclient.observe.prometheus import PrometheusObserver
from mmsclient.outbox import Outbox, OutboxState, OutboxStoppedError, counting
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, Reject, Respond
from tests.conftest import PNG, until
from tests.support.observing import Told
from tests.support.outbox import claimed, opened, order, state_of, working

ONE = "+61400000000"
ORDER: dict[str, Any] = {"to": ONE, "text": "Ready", "image": PNG}
GAUGES = ("due", "oldest_due_seconds", "unknown")


class Watched:
    def __init__(self) -> None:
        self.told = Told()
        self.registry = CollectorRegistry()
        self.observer = [self.told, PrometheusObserver(self.registry)]

    def gauge(self, name: str) -> float:
        value = self.registry.get_sample_value(f"mmsclient_outbox_{name}", {"outbox": "outbox.db"})
        assert value is not None
        return value


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(counting, "COUNT_EVERY", 0.05)
    monkeypatch.setattr(counting, "IDLE_FOR_ONE", 0)
    return Watched()


@pytest.fixture
async def mms(api: Sandbox, watched: Watched) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(limiter=NoLimit(), observer=watched.observer) as mms:
        yield mms


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def counts(watched: Watched) -> list[OrdersDue]:
    return [event for event in watched.told.of(OrdersDue) if event.orders is not None]


async def test_what_waits_for_another_try_is_due(
    mms: AsyncMMSClient, api: Sandbox, watched: Watched, path: Path
) -> None:
    api.faults.add(Respond(429, headers={"retry-after": "60"}), times=1)
    async with Outbox(mms, path) as outbox:
        await outbox.put(key="a", **ORDER)
        await until(lambda: any(event.orders == 1 for event in counts(watched)))
        assert (watched.gauge("due"), watched.gauge("oldest_due_seconds") > 0, watched.gauge("unknown")) == (1, True, 0)
        assert time() - watched.gauge("counted_timestamp_seconds") < 60
        outbox.stop()


@pytest.mark.parametrize("problem", [JournalUnavailableError, JournalError])
async def test_a_count_that_fails_keeps_the_worker_from_nothing(  # noqa: PLR0917
    mms: AsyncMMSClient,
    watched: Watched,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    problem: type[JournalError],
) -> None:
    def due(self: SQLiteOutboxWorker) -> Any:
        raise problem("outbox.db", "canceling statement due to statement timeout")

    monkeypatch.setattr(SQLiteOutboxWorker, "due", due)
    async with Outbox(mms, path) as outbox:
        for key in "ab":
            await outbox.put(key=key, **ORDER)
            found = await outbox.result(key, timeout=60)
            assert found is not None
            assert found.state is OutboxState.ACCEPTED
        await until(lambda: len(watched.told.of(OrdersDue)) > 2)
        assert await outbox.is_healthy()
    first, *_, last = watched.told.of(OrdersDue)
    assert (first.orders, first.error, last.error) == (None, problem.__name__.replace("Journal", "Outbox"), None)
    told = [each for each in caplog.records if "could not be counted" in each.getMessage()]
    assert len(told) == 1


async def test_the_first_claim_comes_before_the_first_count(
    mms: AsyncMMSClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def noted(name: str, real: Any) -> Any:
        def work(self: SQLiteOutboxWorker) -> Any:
            made.append(name)
            return real(self)

        return work

    for name in ("claim", "due"):
        monkeypatch.setattr(SQLiteOutboxWorker, name, noted(name, getattr(SQLiteOutboxWorker, name)))
    async with Outbox(mms, path) as outbox:
        await until(lambda: "due" in made)
        outbox.stop()
    assert made[0] == "claim"


async def test_figures_of_a_worker_that_ended_are_not_told_on(
    mms: AsyncMMSClient, api: Sandbox, watched: Watched, path: Path
) -> None:
    outbox = await Outbox(mms, path).__aenter__()
    await until(lambda: counts(watched))
    with api.faults.add(Reject("AUTH_FAILED")):
        await outbox.put(key="a", **ORDER)
        with pytest.raises(OutboxStoppedError):
            await outbox.stopped()
    assert watched.told.of(OrdersDue)[-1].error == "OutboxStoppedError"
    assert all(isnan(watched.gauge(name)) for name in GAUGES)
    assert watched.gauge("counted_timestamp_seconds") > 0  # so that it shows for how long
    await outbox.aclose()


async def test_nothing_is_missed_of_a_worker_that_was_stopped(
    mms: AsyncMMSClient, watched: Watched, path: Path
) -> None:
    async with Outbox(mms, path) as outbox:
        await until(lambda: counts(watched))
        outbox.stop()
    assert all(isnan(watched.gauge(name)) for name in (*GAUGES, "counted_timestamp_seconds"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the client that nobody closes
def test_a_call_that_the_end_of_the_loop_cut_is_told_as_it_was_recorded(
    api: Sandbox, watched: Watched, path: Path
) -> None:
    api.faults.add(Latency(60))

    async def main() -> None:
        mms = await api.client(limiter=NoLimit(), observer=watched.observer).__aenter__()
        outbox = await Outbox(mms, path).__aenter__()
        await outbox.put(key="a", **ORDER)
        await until(lambda: any(event.left for event in watched.told.of(CallWaited)))

    asyncio.run(main())
    gc.collect()
    assert dict(watched.told.one(OrdersEnded).counts) == {"unknown": 1}
    with opened(str(path)) as store:
        assert state_of(store, "a") is OutboxState.UNKNOWN


async def test_an_end_that_was_not_recorded_is_not_counted(
    mms: AsyncMMSClient, watched: Watched, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(*args: object) -> int:
        raise JournalError("outbox.db", "malformed")

    with monkeypatch.context() as broken:
        broken.setattr(SQLiteOutboxWorker, "finish", finish)
        outbox = await Outbox(mms, path).__aenter__()
        await outbox.put(key="a", **ORDER)
        with pytest.raises(Exception, match="malformed"):
            await outbox.stopped()
        await outbox.aclose()
    assert not watched.told.one(OrdersEnded).counts
    async with Outbox(mms, path) as again:
        again.stop()
    assert watched.told.one(OrdersLost).orders == 1


async def test_what_a_dead_worker_was_sending_is_told_by_one_that_is_stopped_at_once(
    mms: AsyncMMSClient, watched: Watched, path: Path
) -> None:
    with opened(str(path)) as store:
        store.put(order("a"))
        with working(store, Owner(mms.base_url, mms.key_fingerprint)) as worker:
            claimed(worker)
    async with Outbox(mms, path) as outbox:
        outbox.stop()
    assert watched.told.one(OrdersLost).orders == 1


async def test_two_outboxes_of_one_name_are_told_apart(mms: AsyncMMSClient, watched: Watched, tmp_path: Path) -> None:
    """As long as both are there: what is opened later may have the name again."""
    paths = [tmp_path / folder / "outbox.db" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()

    def due(name: str) -> float | None:
        return watched.registry.get_sample_value("mmsclient_outbox_due", {"outbox": name})

    async with Outbox(mms, paths[0]) as first, Outbox(mms, paths[1]) as second:
        await second.put(key="a", **ORDER, not_before=datetime.now(UTC) - timedelta(hours=1))
        await second.result("a", timeout=60)
        await until(lambda: due("outbox.db") == due("outbox.db (2)") == 0)
        first.stop()
        second.stop()
    assert {event.outbox for event in watched.told.of(OrdersClaimed)} == {"outbox.db (2)"}
    async with Outbox(mms, paths[1]) as again:
        await again.put(key="b", **ORDER)
        await again.result("b", timeout=60)
        again.stop()
    assert watched.told.of(OrdersClaimed)[-1].outbox == "outbox.db"
    assert str(tmp_path) not in str(watched.told.of(OrdersDue))


def test_two_workers_of_one_outbox_have_one_name() -> None:
    """Also those of a database: others of it are other schemas."""
    told = Told()
    stores = [outbox_at(f"postgresql://user:secret@db.example/shop{query}") for query in ("", "", "?schema=other")]
    observers = [WorkerObserver(told, store.shown, store.identity) for store in stores]
    for observer in observers:
        observer.lost(1)
    observers[0].over(None)
    another = WorkerObserver(told, stores[2].shown, stores[2].identity)
    another.lost(1)
    assert [event.outbox for event in told.of(OrdersLost)] == ["shop", "shop", "shop (2)", "shop (2)"]


def test_without_an_observer_nothing_is_made() -> None:
    def states() -> Any:
        raise AssertionError
        yield

    WorkerObserver(None, "outbox.db", "outbox.db").ended("claim", states(), 1.0, None)


async def test_the_log_does_not_quote_an_answer(
    mms: AsyncMMSClient, api: Sandbox, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults.add(Respond(200, f"<p>{ONE} Ready</p>".encode()))
    outbox = await Outbox(mms, path, stop_after=1).__aenter__()
    await outbox.put(key="a", **ORDER)
    with pytest.raises(OutboxStoppedError, match=r"\+61400000000 Ready"):
        await outbox.stopped()
    await outbox.aclose()
    assert "the outbox stopped after 1 call in a row" in caplog.text
    assert ONE[1:] not in caplog.text
