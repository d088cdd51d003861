"""Keyed sends of one message, and ledgers that stand in for a process that dies."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from mmsclient import AsyncMMSClient, SentBatch
from mmsclient._store.ledger import Fingerprint, KeyClaim, KeyedSend, Ledger, SendEnd
from mmsclient._store.models import Owner
from mmsclient._store.sqlite_ledger import SQLiteLedger
from tests.conftest import PNG
from tests.support.waiting import until

TEXT = "Your order"
DAY = 86400.0


async def send(mms: AsyncMMSClient, key: str, to: str | list[str], **options: Any) -> SentBatch:
    return await mms.send(**{"to": to, "text": TEXT, "image": PNG, "key": key, **options})


def owner(key: str = "a-key", base_url: str = "https://example.com", *, is_new_key: bool = False) -> Owner:
    return Owner(base_url, lambda salt: f"{key} with {salt.hex()}", is_new_key)


def ledger(path: Path, whose: Owner | None = None, keep: float = 30 * DAY) -> SQLiteLedger:
    return SQLiteLedger(path, whose or owner(), keep=keep)


def until_collected(dropped: weakref.ref[Any]) -> None:
    """Wait until nobody holds it any more, its own thread included."""
    until(lambda: dropped() is None)


class DiedError(BaseException):
    """The process would be dead by now."""


class Mortal:
    """A ledger whose process dies when told to: what it was to record is lost, and its lock goes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger: Ledger | None = ledger
        self.dies_after_claim = False
        self.dies_before_finish = False

    @property
    def living(self) -> Ledger:
        if self._ledger is None:
            raise DiedError
        return self._ledger

    def die(self) -> None:
        """The operating system takes back what the process had."""
        if self._ledger is not None:
            dropped = weakref.ref(self._ledger)
            self._ledger = None
            until_collected(dropped)

    async def claim(self, claim: KeyClaim, fingerprint: Fingerprint, *, retry_refused: bool) -> KeyedSend | None:
        held = await self.living.claim(claim, fingerprint, retry_refused=retry_refused)
        if self.dies_after_claim and held is None:
            self.die()
            raise DiedError
        return held

    async def finish(self, claim: KeyClaim, end: SendEnd) -> bool:
        if self.dies_before_finish:
            self.die()
            raise DiedError
        return await self.living.finish(claim, end)

    async def aclose(self) -> None:
        if self._ledger is not None:
            await self._ledger.aclose()
