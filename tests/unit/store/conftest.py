"""An outbox and its worker, for the tests of what they hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmsclient._store.outbox import OutboxStore, OutboxWorkerStore
from tests.support.outbox import opened, working


@pytest.fixture
def outbox_place(place: tuple[str, str]) -> str:
    """Where it is: with each engine, unless a module says otherwise."""
    return place[0]


@pytest.fixture
def outbox(outbox_place: str) -> Iterator[OutboxStore]:
    with opened(outbox_place) as outbox:
        yield outbox


@pytest.fixture
def worker(outbox: OutboxStore) -> Iterator[OutboxWorkerStore]:
    with working(outbox) as worker:
        yield worker
