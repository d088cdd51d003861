"""Orders for the outbox, and stores of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmsclient._store.models import Owner, RecipientState
from mmsclient._store.outbox import Order, OrderEnd, OutboxClaim, OutboxState, OutboxStore, OutboxWorkerStore
from mmsclient._store.stores import outbox_at

OWNER = Owner("https://api.example", lambda salt: f"{salt.hex()}-key")
GIF = b"GIF89a"
ONE, TWO, THREE = 61400000000, 61400000001, 61400000002


def order(key: str, *phones: int, text: str = "Hi", picture: bytes = GIF, not_before: float | None = None) -> Order:
    return Order(key, text, "Sale", picture, phones or (ONE,), not_before)


def end(claim: OutboxClaim, state: OutboxState, **options: Any) -> list[OrderEnd]:
    """The same end for each order of a claim."""
    of_each = RecipientState(state) if state in ("accepted", "refused") else None
    return [
        OrderEnd(state, {"sent": str(state)}, tuple((of_each, f"id-{phone}") for phone in order.phones), **options)
        for order in claim.orders
    ]


@contextmanager
def opened(place: str, keep: float | None = None) -> Iterator[OutboxStore]:
    store = outbox_at(place, keep=keep)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def working(store: OutboxStore, owner: Owner = OWNER) -> Iterator[OutboxWorkerStore]:
    """A worker; at the end it has died, as far as it had claimed anything."""
    worker = store.open_worker(owner)
    try:
        yield worker
    finally:
        worker.close()


def keys(claim: OutboxClaim | None) -> list[str]:
    return [] if claim is None else [each.key for each in claim.orders]


def claimed(worker: OutboxWorkerStore) -> OutboxClaim:
    claim = worker.claim()
    assert claim is not None
    return claim


def state_of(store: OutboxStore, key: str) -> OutboxState | None:
    held = store.find(key)
    return None if held is None else held.state
