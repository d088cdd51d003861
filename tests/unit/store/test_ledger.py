"""The ledger of keyed sends, on both engines: what is held for a key, and by whom it may be claimed."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import weakref
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from mmsclient import LedgerUnavailableError
from mmsclient._store.ledger import Fingerprint, KeyClaim, KeyedSend, Ledger, SendEnd, SendState, may_claim
from mmsclient._store.models import Owner
from tests.support.keyed import (
    DAY,
    HELLO,
    Place,
    claimed,
    held,
    opened,
    owner,
    place_in,
    state,
    until_collected,
)
from tests.support.waiting import until

OTHER = Fingerprint.of("Another", "", b"image", ["+61400000000"])
ENDS = [state for state in SendState if state is not SendState.SENDING]

Open = Callable[..., Ledger]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_in(request.param, request, tmp_path)


@pytest.fixture
async def another(place: Place) -> AsyncIterator[Open]:
    """Opens ledgers, each of a sender of its own, and closes them."""
    ledgers: list[Ledger] = []

    def open_one(whose: Owner | None = None, keep: float | None = 30 * DAY) -> Ledger:
        ledgers.append(opened(place, whose, keep))
        return ledgers[-1]

    yield open_one
    for each in ledgers:
        await each.aclose()


@pytest.fixture
def store(another: Open) -> Ledger:
    return another()


def test_fingerprints() -> None:
    same = Fingerprint.of("text", "subject", b"image", ["+1", "+2"])
    assert Fingerprint.of("text", "subject", b"image", ("+2", "+1")) == same
    others = {
        "text": Fingerprint.of("x", "subject", b"image", ["+1", "+2"]),
        "subject": Fingerprint.of("text", "x", b"image", ["+1", "+2"]),
        "image": Fingerprint.of("text", "subject", b"x", ["+1", "+2"]),
        "recipients": Fingerprint.of("text", "subject", b"image", ["+1"]),
    }
    for part, other in others.items():
        assert same.differences(other) == (part,)
    assert same.differences(Fingerprint.of("subject", "text", b"image", ["+1"])) == ("text", "subject", "recipients")


@pytest.mark.parametrize(("each", "retry_refused"), [*itertools.product(SendState, (False, True))])
def test_what_may_be_claimed(each: SendState, retry_refused: bool) -> None:
    free = each is SendState.FAILED or (each is SendState.REFUSED and retry_refused)
    assert may_claim(KeyedSend(HELLO, each, 0.0, {}), HELLO, retry_refused=retry_refused) is free
    assert not may_claim(KeyedSend(HELLO, each, 0.0, {}), OTHER, retry_refused=retry_refused)
    assert may_claim(None, HELLO, retry_refused=retry_refused)


@pytest.mark.parametrize("retry_refused", [False, True])
async def test_an_end_is_held_and_only_what_may_be_claimed_is(
    another: Open, store: Ledger, retry_refused: bool
) -> None:
    began = time.time()
    for end in ENDS:
        assert await store.finish(await claimed(store, end), SendEnd(end, {"why": "ü\ud800\0"}))
    await store.aclose()
    later = another()
    for end in ENDS:
        found = await held(later, end, retry_refused=retry_refused)
        if may_claim(KeyedSend(HELLO, end, 0.0, {}), HELLO, retry_refused=retry_refused):
            assert found is None
        else:
            assert found is not None
            assert (found.fingerprint, found.state, found.result) == (HELLO, end, {"why": "ü\ud800\0"})
            assert began <= found.sent_at <= time.time()


async def test_what_may_be_claimed_is_what_was_sent_with_it(store: Ledger) -> None:
    await store.finish(await claimed(store), SendEnd(SendState.FAILED, {}))
    found = await store.claim(KeyClaim("a"), OTHER, retry_refused=True)
    assert found is not None
    assert found.fingerprint == HELLO


async def test_a_claim_is_on_the_disk_before_it_is_told(place: Place, store: Ledger) -> None:
    claim = await claimed(store)
    assert place.states() == {"a": "sending"}
    assert store.may_leave(claim)


async def test_another_living_sender_is_left_alone(another: Open, store: Ledger) -> None:
    claim = await claimed(store)
    other = another()
    assert state(await held(other)) is SendState.SENDING
    await store.finish(claim, SendEnd(SendState.ACCEPTED, {}))
    assert state(await held(other)) is SendState.ACCEPTED


async def test_what_a_dead_sender_was_sending_is_unknown(place: Place, another: Open) -> None:
    dying, other = opened(place), another()
    await held(other, "b")  # it is open before
    for key in ("a", "c"):
        await claimed(dying, key)
    gone = weakref.ref(dying)
    del dying
    until_collected(gone)
    until(lambda: place.senders() == 1)
    assert state(await held(other)) is SendState.UNKNOWN
    await other.aclose()
    await held(another(), "d")
    assert place.states() == {"a": "unknown", "b": "unknown", "c": "unknown", "d": "sending"}


async def test_a_late_end_of_one_who_was_taken_for_dead_makes_an_unknown_send_known(
    place: Place, another: Open, store: Ledger
) -> None:
    claim = await claimed(store)
    place.take_for_dead()
    other = another()
    assert state(await held(other)) is SendState.UNKNOWN
    assert state(await held(store)) is SendState.UNKNOWN
    assert await store.finish(claim, SendEnd(SendState.ACCEPTED, {}))
    assert state(await held(other)) is SendState.ACCEPTED


async def test_what_its_own_sender_claims_again_was_never_ended(store: Ledger) -> None:
    await claimed(store)
    assert state(await held(store)) is SendState.UNKNOWN


async def test_an_end_of_an_older_claim_changes_nothing(store: Ledger) -> None:
    first = await claimed(store)
    await store.finish(first, SendEnd(SendState.FAILED, {}))
    assert await store.finish(first, SendEnd(SendState.FAILED, {}))  # it may come again
    second = await claimed(store)
    assert not await store.finish(first, SendEnd(SendState.FAILED, {}))
    assert not await store.finish(KeyClaim("a"), SendEnd(SendState.FAILED, {}))
    await store.finish(second, SendEnd(SendState.ACCEPTED, {}))
    assert state(await held(store)) is SendState.ACCEPTED


async def test_many_claims_of_the_same_keys_by_several_senders(another: Open) -> None:
    stores = [another() for _ in range(4)]
    keys = [f"key {number}" for number in range(10)]
    claims = [
        store.claim(KeyClaim(key), HELLO, retry_refused=False)
        for number, store in enumerate(stores)
        for key in (keys if number % 2 else reversed(keys))
    ]
    results = await asyncio.gather(*claims)
    assert sum(result is None for result in results) == len(keys)
    assert {state(result) for result in results} == {None, SendState.SENDING}


async def test_keys_are_kept_and_then_forgotten(place: Place, another: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = another(keep=100)
    for key, end in (("old", SendState.ACCEPTED), ("lost", SendState.UNKNOWN)):
        await store.finish(await claimed(store, key), SendEnd(end, {}))
    await claimed(store, "sending")
    place.age(90)
    for engine in ("sqlite_ledger", "postgres.ledger"):
        monkeypatch.setattr(f"mmsclient._store.{engine}.PURGE_EVERY", 0.0)
    assert await held(store, "old")
    assert await held(store, "lost")
    place.age(20)
    await claimed(store, "new")
    assert sorted(place.states()) == ["new", "sending"]


async def test_the_longest_that_anybody_asks_for_is_how_long_keys_are_kept(place: Place, another: Open) -> None:
    year = another(keep=365 * DAY)
    await year.finish(await claimed(year, "old"), SendEnd(SendState.ACCEPTED, {}))
    place.age(40 * DAY)
    for keep in (30 * DAY, None):
        await claimed(another(keep=keep), f"of one who asks for {keep}")
    assert state(await held(another(), "old")) is SendState.ACCEPTED
    place.age(330 * DAY)
    await claimed(another(keep=None), "new")
    assert "old" not in place.states()


async def test_keys_are_kept_where_nobody_has_said_how_long(place: Place, another: Open) -> None:
    store = another(keep=None)
    await store.finish(await claimed(store, "old"), SendEnd(SendState.ACCEPTED, {}))
    place.age(400 * DAY)
    await claimed(another(keep=None), "new")
    assert sorted(place.states()) == ["new", "old"]


async def test_keys_may_be_kept_for_longer_than_there_are_dates(place: Place, another: Open) -> None:
    store = another(keep=timedelta.max.total_seconds())
    await claimed(store)
    assert await held(another())


async def test_another_owner(place: Place, another: Open, store: Ledger) -> None:
    await claimed(store)
    with pytest.raises(LedgerUnavailableError, match="this client calls"):
        await held(another(owner(base_url="https://elsewhere.example")))
    with pytest.raises(LedgerUnavailableError, match="another APPKEY"):
        await held(another(owner("changed")))
    assert state(await held(another(owner("changed", is_new_key=True)))) is SendState.SENDING
    assert state(await held(another(owner("changed")))) is SendState.SENDING
    with pytest.raises(LedgerUnavailableError, match="another APPKEY"):
        await held(another())


async def test_a_result_is_json_that_anybody_can_read(place: Place, store: Ledger) -> None:
    await store.finish(await claimed(store), SendEnd(SendState.ACCEPTED, {"raw": {"data": [1, "2"]}}))
    (result,) = place.results()
    assert json.loads(str(result)) == {"raw": {"data": [1, "2"]}}


async def test_a_ledger_that_is_closed_twice_or_never_used(place: Place, another: Open, store: Ledger) -> None:
    await another().aclose()
    await held(store)
    await store.aclose()
    await store.aclose()
    assert place.senders() == 0
