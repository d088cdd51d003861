"""`mmsclient outbox` as a script and a service manager run it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from mmsclient import DeliveryStatus
from mmsclient._store.heard import Reported
from mmsclient._store.models import Owner
from mmsclient.limiter import NoLimit
from mmsclient.outbox import Outbox, OutboxState
from mmsclient.outbox.options import KEEP
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject, server_error
from tests.conftest import PNG
from tests.support.command import Cli, started
from tests.support.outbox import keys, opened, working
from tests.support.waiting import until


def put(api: Sandbox, store: str, *keys: str, keep: timedelta = KEEP, **options: Any) -> None:
    """As a program does."""

    async def put_all() -> None:
        async with api.client(limiter=NoLimit()) as mms:
            outbox = Outbox(mms, store, keep=keep)
            for key in keys:
                await outbox.put(**{"key": key, "to": "+61400000000", "text": key, "image": PNG, **options})
            await outbox.aclose()

    asyncio.run(put_all())


def sent(api: Sandbox, store: str, *keys: str) -> None:
    """Send until these have ended."""

    async def send() -> None:
        async with api.client(limiter=NoLimit()) as mms, Outbox(mms, store, stop_after=100) as outbox:
            for key in keys:
                result = await outbox.result(key, timeout=60)
                assert result is not None
                assert result.is_over

    asyncio.run(send())


def test_status_list_and_cancel(cli: Cli, api: Sandbox, place: tuple[str, str]) -> None:
    store, _ = place
    put(api, store, "order-1", "order-2", "order-3")
    cancelled = cli("outbox", "cancel", store, "order-2", "order-4")
    assert (cancelled.status, cancelled.out) == (1, "cancelled order-2\n")
    assert cancelled.error == "not cancelled: 'order-4' is not there"
    shown = cli("outbox", "status", store)
    assert shown.status == 0
    assert shown.out.splitlines()[:6] == [
        "Waiting: 2",
        "Sending: 0",
        "Accepted: 0",
        "Refused: 0",
        "Unknown: 0",
        "Cancelled: 1",
    ]
    assert shown.out.splitlines()[6].startswith("Could be sent since: 20")
    api.faults.add(server_error(), call="send-mms", times=1)
    sent(api, store, "order-1", "order-3")
    shown = cli("outbox", "status", store, "--json")
    (counts,) = shown.documents
    assert (shown.status, counts["unknown"], counts["accepted"], counts["oldest_due"]) == (4, 1, 1, None)
    listed = cli("outbox", "list", store)
    assert [line.split("\t")[0] for line in listed.out.splitlines()] in (
        ["unknown", "cancelled", "accepted"],
        ["accepted", "cancelled", "unknown"],
    )
    (unknown,) = cli("outbox", "list", store, "--state", "unknown", "--json").documents
    assert (unknown["recipients"], unknown["accepted"], unknown["attempts"]) == (1, None, 1)
    assert "may have been carried out" in unknown["error"]
    assert cli("outbox", "cancel", store, unknown["key"]).error == f"not cancelled: '{unknown['key']}' is unknown"


def test_a_store_that_is_not_there(cli: Cli) -> None:
    assert cli("outbox", "status", "outbox.db").status == 1
    assert os.listdir() == ["sale.png"]
    assert cli("outbox", "status", "mysql://shop:secret@host/shop").status == 2


def test_a_key_that_was_changed_is_said_to_be(cli: Cli, api: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    put(api, "outbox.db", "order-1")
    sent(api, "outbox.db", "order-1")
    put(api, "outbox.db", "order-2")
    api.keys.add("new")
    monkeypatch.setenv("MMSCLIENT_APP_KEY", "new")
    assert "(--new-key) where the account is the same" in cli("outbox", "run", "outbox.db").error
    with started("outbox", "run", "outbox.db", "--new-key") as process:
        until(lambda: len(api.messages) == 2)
        process.terminate()
        process.wait(timeout=60)


def test_a_worker_stops_for_the_accounts_sake(cli: Cli, api: Sandbox) -> None:
    put(api, "outbox.db", "order-1")
    api.faults.add(Reject("LEDGER_ERROR", "No credit.", 400), call="send-mms")
    stopped = cli("outbox", "run", "outbox.db")
    assert stopped.status == 1
    assert "what was not sent is still waiting" in stopped.err


def test_a_worker_of_its_own_sends_until_it_is_told_to_stop(cli: Cli, api: Sandbox, place: tuple[str, str]) -> None:
    """It begins before anything is there, and prints a line for each order that ends."""
    store, _ = place
    cli("outbox", "status", store)
    with started("outbox", "run", store, "--json") as worker:
        assert worker.stdout is not None
        until(lambda: cli("outbox", "status", store).status == 0)
        put(api, store, "order-1", to=["+61400000000", "+61400000001"])
        line = json.loads(worker.stdout.readline())
        assert (line["key"], line["state"], line["recipients"], line["accepted"]) == ("order-1", "accepted", 2, 2)
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate()
    assert (worker.returncode, out) == (143, "")
    assert err == "mmsclient: stopping: waiting for the calls under way; once more ends it at once\n"
    assert len(api.sends) == 1
    assert OutboxState.ACCEPTED in cli("outbox", "list", store).out


def test_a_worker_of_its_own_forgets_no_order_that_is_to_be_kept_for_longer(cli: Cli, api: Sandbox) -> None:
    put(api, "outbox.db", "order-1", keep=timedelta(days=365))
    sent(api, "outbox.db", "order-1")
    with closing(sqlite3.connect("outbox.db")) as file, file:
        file.execute("UPDATE outbox SET ended = ended - 4e6")
    put(api, "outbox.db", "order-2")
    with started("outbox", "run", "outbox.db") as process:
        until(lambda: len(api.messages) == 2)  # and it forgets before it sends
        process.terminate()
        process.wait(timeout=60)
    assert [line["key"] for line in cli("outbox", "list", "outbox.db", "--json").documents] == ["order-1", "order-2"]


def test_reconcile(cli: Cli, api: Sandbox, place: tuple[str, str]) -> None:
    """What a worker left, and what was heard before anybody found that it is gone."""
    store, _ = place
    put(api, store, "order-1", to="+61400000000")
    put(api, store, "order-2", to="+61400000001")
    with opened(store) as outbox, closing(outbox.open_recorder()) as recorder:
        with working(outbox, Owner(api.url, lambda _: "")) as dead:
            assert [keys(dead.claim()), keys(dead.claim())] == [["order-1"], ["order-2"]]
            recorder.record([Reported("A", 61400000000, DeliveryStatus.DELIVERED)])
        done = cli("outbox", "reconcile", store)
        assert (done.status, done.out) == (4, "Settled now: 1\nStill unknown: 1\n")
        recorder.record([Reported("B", 61400000001, DeliveryStatus.DELIVERED)])
    done = cli("outbox", "reconcile", store, "--json")
    assert (done.status, done.documents) == (0, [{"settled": 0, "unknown": 0}])
