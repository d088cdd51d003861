"""Campaigns of small lists, and whether what they tell is so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from mmsclient import AsyncMMSClient, DeliveryStatus, InboundMessage
from mmsclient._store.heard import Reported
from mmsclient._store.sqlite_recorder import SQLiteRecorder
from mmsclient.bulk import (
    Campaign,
    CampaignStatus,
    JournalError,
    Recipient,
    RecipientState,
    Report,
    read_status,
)
from mmsclient.limiter import Grant, NoLimit
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Respond
from tests.conftest import PNG

TEXT = "Sale\non now"


class Doled:
    """A limiter that grants as many tokens as it is told to."""

    def __init__(self, tokens: int) -> None:
        self._tokens = asyncio.Semaphore(tokens)
        self._free = NoLimit()

    def grant(self, tokens: int) -> None:
        for _ in range(tokens):
            self._tokens.release()

    async def acquire(self) -> Grant:
        await self._tokens.acquire()
        return await self._free.acquire()


def numbers(count: int, start: int = 0) -> list[str]:
    return [f"+614{n:08}" for n in range(start, start + count)]


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def campaign(mms: AsyncMMSClient, journal: Path | None, **options: Any) -> Campaign:
    options = {"text": TEXT, "image": PNG, "batch_size": 25, **options}
    return mms.campaign(journal=journal, **options)


async def rows(report: Report) -> list[Recipient]:
    return [recipient async for recipient in report.recipients()]


async def agrees(report: Report, api: Sandbox, listed: Sequence[str]) -> None:
    """Every number is in one state, that state is true, and nobody got two."""
    found = await rows(report)
    assert sorted(row.number for row in found) == sorted(listed)
    for row in found:
        times = api.carried_out(row.number)
        assert times <= 1
        if row.state is RecipientState.ACCEPTED:
            assert times == 1, row
        elif row.state is not RecipientState.UNKNOWN:
            assert times == 0, row
    assert sum(report.counts.values()) == len(listed)
    for state in RecipientState:
        assert report.counts[state] == sum(row.state is state for row in found)


async def finished(mms: AsyncMMSClient, journal: Path | None, listed: Sequence[str], **options: Any) -> Report:
    return await campaign(mms, journal, **options).send_all(listed)


def success(data: Any) -> Respond:
    """A fault that answers with `data`."""
    body = {"meta": {"code": 200, "status": "SUCCESS"}, "msg": "OK", "data": data}
    return Respond(200, json.dumps(body).encode(), {"content-type": "application/json"})


def inbound(number: str, original_id: str, received_at: datetime | None = None) -> InboundMessage:
    """A reply to an MMS."""
    return InboundMessage(
        id="1",
        sender=number,
        text="thanks",
        received_at=received_at,
        received_at_text="",
        kind="MMS",
        original_message_id=original_id,
        original_text="",
        custom_string=None,
    )


async def status_when(place: tuple[str, str], condition: Callable[[CampaignStatus], object]) -> CampaignStatus:
    """How it stands once that is so."""
    async with asyncio.timeout(60):
        while True:
            with suppress(JournalError):  # it is not there yet
                if condition(found := await read_status(place[0], place[1] or None)):
                    return found
            await asyncio.sleep(0.02)


def report_failed(api: Sandbox, status: DeliveryStatus = DeliveryStatus.FAILED, journal: str = "spring.db") -> None:
    """Delivery reports say that no MMS has arrived, or what else became of them."""
    with closing(SQLiteRecorder.open(journal)) as recorder:
        recorder.record([Reported(message.id, int(message.to[1:]), status) for message in api.mms.messages])
