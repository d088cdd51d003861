"""The public types, as a user's checker sees them. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from decimal import Decimal
from typing import assert_type

import httpx
import httpx2

from mmsclient import (
    Account,
    AsyncMMSClient,
    CallResult,
    DeliveryStatus,
    Grant,
    Limiter,
    Listing,
    MessageStatus,
    OptOut,
    Page,
    Reply,
    SentBatch,
    Template,
    TokenBucket,
)


async def calls(mms: AsyncMMSClient) -> None:
    sent = await mms.send(to=["+61400000000"], text="Hello", image=b"GIF89a", subject=None, timeout=5)
    assert_type(sent, SentBatch)
    assert_type(sent.accepted, int)
    assert_type(sent.credits_used, Decimal | None)
    assert_type(sent.refused, tuple[str, ...] | None)
    assert_type([message.id for message in sent.messages], list[str])
    assert_type(mms.replies(), Listing[Reply])
    async for reply in mms.replies():
        assert_type(reply, Reply)
        assert_type(reply.received_at, datetime | None)
        await mms.mark_read([reply, reply.id])
    async for page in mms.opt_outs().pages():
        assert_type(page, Page[OptOut])
    generator: AsyncGenerator[Template, None] = mms.templates()
    await generator.aclose()
    assert_type(await mms.account(), Account)
    status = await mms.message("1")
    assert_type(status, MessageStatus | None)
    if status is not None:
        assert_type(status.status, DeliveryStatus)
    assert_type(await mms.call("GET", "account"), CallResult)
    assert_type(mms.with_options(timeout=1), AsyncMMSClient)


def clients() -> None:
    AsyncMMSClient("key", http_client=httpx.AsyncClient())
    AsyncMMSClient("key", http_client=httpx2.AsyncClient(), limiter=TokenBucket())
    limiter: Limiter = TokenBucket(rate=15)
    AsyncMMSClient("key", limiter=limiter)


class Own:
    async def acquire(self) -> Own:
        return self

    def sent(self) -> None: ...

    def answered(self) -> None: ...

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None: ...


grant: Grant = Own()
AsyncMMSClient("key", limiter=Own())
