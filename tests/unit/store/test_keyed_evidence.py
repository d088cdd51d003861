"""Evidence about unknown keyed sends: what proves that a call was carried out, on both engines."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import DeliveryStatus, LedgerUnavailableError
from mmsclient._store.call_evidence import HEARD_OF, Evidence, OtherCall, calls_of, proof
from mmsclient._store.evidence import PROOF_WINDOW
from mmsclient._store.heard import Heard, Replied, Reported
from mmsclient._store.ledger import KeyClaim, KeyedSend, Ledger, SendEnd, SendState
from mmsclient._store.models import Claim, RecipientResult, RecipientState
from mmsclient._store.protocol import SenderJournal
from mmsclient._store.stores import store_at
from mmsclient.bulk import Row
from mmsclient.bulk.recipients import check_all
from tests.support.evidence import MESSAGE, row
from tests.support.keyed import HELLO, File, Place, Tables, held, opened, place_in, state
from tests.support.postgres_server import Server

ONE, TWO = 61400000000, 61400000001
ACCEPTED, FAILED, REFUSED, SENDING, UNKNOWN = (
    SendState.ACCEPTED,
    SendState.FAILED,
    SendState.REFUSED,
    SendState.SENDING,
    SendState.UNKNOWN,
)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_in(request.param, request, tmp_path)


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Ledger]:
    store = opened(place)
    yield store
    await store.aclose()


async def sent(store: Ledger, key: str, *phones: int, end: SendEnd | None = SendEnd(UNKNOWN, {})) -> KeyClaim:  # noqa: B008
    claim = KeyClaim(key, phones=phones)
    assert await store.claim(claim, HELLO, retry_refused=False) is None
    if end is not None:
        await store.finish(claim, end)
    return claim


def accepted(*messages: tuple[str, int]) -> SendEnd:
    return SendEnd(ACCEPTED, {"raw": {}}, messages)


def report(message_id: str, phone: int = ONE) -> Reported:
    return Reported(message_id, phone, DeliveryStatus.DELIVERED)


def heard_of(found: KeyedSend | None) -> object:
    assert found is not None
    assert found.state is ACCEPTED
    return found.result[HEARD_OF]


# The rule -------------------------------------------------------------------------------------------------------------


def test_what_proves_a_call() -> None:
    began, window = 1000.0, PROOF_WINDOW
    for at, is_proof in ((began - 0.1, False), (began, True), (began + window, True), (began + window + 0.1, False)):
        found = proof(began, [Evidence(at, ONE, "A")], [])
        assert (found == {HEARD_OF: [[ONE, "A"]]}) is is_proof
        assert (found is None) is not is_proof
    assert proof(began, [], []) is None
    heard = [Evidence(began + 3, TWO, "C"), Evidence(began + 2, ONE, "B"), Evidence(began + 1, ONE, "A")]
    assert proof(began, heard, []) == {HEARD_OF: [[ONE, "A"], [TWO, "C"]]}


@pytest.mark.parametrize(
    ("call", "may_have"),
    [
        (OtherCall(ONE, 1000.0, "sending", ()), True),
        (OtherCall(ONE, 1000.0, "unknown", ()), True),
        (OtherCall(ONE, 1000.0, "refused", ()), False),
        (OtherCall(ONE, 1000.0, "failed", ()), False),
        (OtherCall(ONE, 1000.0, "accepted", ()), True),
        (OtherCall(ONE, 1000.0, "accepted", ("A",)), True),
        (OtherCall(ONE, 1000.0, "accepted", ("B",)), False),
        (OtherCall(TWO, 1000.0, "sending", ()), False),
        (OtherCall(ONE, 1000.1, "sending", ()), False),
        (OtherCall(ONE, 1000.0 - PROOF_WINDOW - 1, "sending", ()), False),
    ],
)
def test_what_another_call_may_have_caused(call: OtherCall, may_have: bool) -> None:
    heard = Evidence(1000.0, ONE, "A")
    assert call.may_have_caused(heard) is may_have
    assert (proof(900.0, [heard], [call]) is None) is may_have


CALLS = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from([ONE, TWO]), st.none() | st.sampled_from("ABC")), max_size=12
)


@given(CALLS)
def test_calls_come_once_each_with_all_their_ids(rows: list[tuple[str, int, str | None]]) -> None:
    calls = calls_of((call, phone, 1.0, "accepted", None, message_id, 1.0) for call, phone, message_id in rows)
    assert len(calls) == len({row[:2] for row in rows})
    assert sum(len(call.message_ids) for call in calls) == sum(row[2] is not None for row in rows)


# The stores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", [report("A"), Replied("A", ONE, None), Replied("A", ONE, time.time() + 1e6)])
async def test_a_report_or_a_reply_proves_an_unknown_send(store: Ledger, heard: Heard) -> None:
    await sent(store, "a", ONE)
    assert state(await held(store)) is UNKNOWN
    for _ in range(2):
        await store.record(heard)
        assert heard_of(await held(store)) == [[ONE, "A"]]


async def test_one_phone_proves_the_call_and_more_are_told_of_as_they_are_heard_of(store: Ledger) -> None:
    await sent(store, "a", ONE, TWO)
    await store.record(report("B", TWO))
    assert heard_of(await held(store)) == [[TWO, "B"]]
    await store.record(report("A", ONE))
    assert heard_of(await held(store)) == [[TWO, "B"], [ONE, "A"]]


async def test_a_report_before_the_end_counts(place: Place, store: Ledger) -> None:
    """Also where the process died then."""
    await sent(store, "a", ONE, end=None)
    await store.record(report("A"))
    other = opened(place)
    assert state(await held(other)) is SENDING
    await store.aclose()
    assert heard_of(await held(other)) == [[ONE, "A"]]
    await other.aclose()


async def test_what_proves_nothing(store: Ledger) -> None:
    await store.record(report("early"))  # nothing was sent yet
    await store.record(Replied("early", ONE, None))
    await sent(store, "answered", ONE, end=accepted(("named", ONE)))
    await sent(store, "a", ONE)
    await store.record(report("of another", TWO))
    await store.record(report("nobody", 0))
    await store.record(report("named"))
    await store.record(Replied("before the call", ONE, time.time() - 3600))
    assert state(await held(store)) is UNKNOWN
    await store.record(report("A"))
    assert heard_of(await held(store)) == [[ONE, "A"]]


async def test_what_another_send_may_have_caused_proves_nothing_until_that_is_known(store: Ledger) -> None:
    await sent(store, "a", ONE)
    other = await sent(store, "b", ONE, end=None)
    await store.record(report("A"))
    assert state(await held(store)) is UNKNOWN
    await store.finish(other, SendEnd(UNKNOWN, {}))
    assert state(await held(store)) is UNKNOWN
    assert state(await held(store, "b")) is UNKNOWN
    await store.finish(other, accepted(("B", ONE)))
    assert heard_of(await held(store)) == [[ONE, "A"]]


async def test_an_answer_that_names_the_id_later_takes_it_from_the_other(store: Ledger) -> None:
    await sent(store, "a", ONE)
    other = await sent(store, "b", ONE, end=None)
    await store.record(report("B"))
    await store.finish(other, accepted(("B", ONE)))
    assert state(await held(store)) is UNKNOWN


async def test_an_id_that_an_answer_names_for_another_phone_proves_nothing(store: Ledger) -> None:
    await sent(store, "a", ONE)
    await store.record(report("B"))
    await sent(store, "b", TWO, end=accepted(("B", TWO)))
    assert state(await held(store)) is UNKNOWN


@pytest.mark.parametrize("end", [FAILED, REFUSED])
async def test_sends_that_were_not_carried_out_stand_in_nobodys_way(store: Ledger, end: SendState) -> None:
    await sent(store, "a", ONE)
    await sent(store, "b", ONE, end=SendEnd(end, {}))
    await store.record(report("A"))
    assert heard_of(await held(store)) == [[ONE, "A"]]


async def test_an_id_proves_one_send_alone(store: Ledger) -> None:
    await sent(store, "a", ONE)
    await store.record(report("A"))
    assert heard_of(await held(store)) == [[ONE, "A"]]
    await sent(store, "b", ONE)
    assert state(await held(store, "b")) is UNKNOWN
    await store.record(report("B"))
    assert heard_of(await held(store, "b")) == [[ONE, "B"]]
    assert heard_of(await held(store)) == [[ONE, "A"]]


@pytest.mark.parametrize("end", [state for state in SendState if state is not SENDING])
async def test_the_senders_own_word_comes_late_and_counts(store: Ledger, end: SendState) -> None:
    claim = await sent(store, "a", ONE, end=None)
    await store.finish(claim, SendEnd(UNKNOWN, {}))
    await store.record(report("A"))
    assert heard_of(await held(store)) == [[ONE, "A"]]
    assert await store.finish(claim, SendEnd(end, {"said": "late"}))
    found = await held(store)
    if end is FAILED:
        assert found is None
    elif end is UNKNOWN:
        assert heard_of(found) == [[ONE, "A"]]
    else:
        assert found is not None
        assert (found.state, found.result) == (end, {"said": "late"})


async def test_a_key_that_is_sent_again_is_proven_by_its_last_call_alone(store: Ledger) -> None:
    await sent(store, "a", ONE, end=SendEnd(FAILED, {}))
    await store.record(report("early"))
    await sent(store, "a", ONE)
    assert state(await held(store)) is UNKNOWN
    await store.record(report("A"))
    assert heard_of(await held(store)) == [[ONE, "A"]]


async def test_what_was_heard_is_forgotten_with_its_sends(
    place: Place, store: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sent(store, "a", ONE)
    await sent(store, "b", ONE, end=accepted(("named", ONE)))
    await store.record(report("A"))
    place.age(100 * 86400.0)
    for engine in ("sqlite_ledger", "postgres.ledger"):
        monkeypatch.setattr(f"mmsclient._store.{engine}.PURGE_EVERY", 0.0)
    await sent(store, "c", TWO, end=None)
    assert place.recipients() == [TWO]


async def test_a_closed_ledger_says_so(store: Ledger) -> None:
    await store.aclose()
    with pytest.raises(LedgerUnavailableError, match="closed"):
        await store.record(report("A"))


# Files of version 1 ---------------------------------------------------------------------------------------------------


def version_1(path: Path) -> None:
    """As version 1 left it: a send that is unknown."""
    place = File(path)
    opened(place)
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for change in (
            "DROP TABLE recipient",
            "DROP TABLE message",
            "DROP TABLE heard",
            "DROP TABLE heard_kind",
            "ALTER TABLE send DROP COLUMN proven",
            "PRAGMA user_version = 1",
        ):
            file.execute(change)
        file.execute(
            "INSERT INTO send VALUES ('a', 'old', ?, ?, ?, ?, 'unknown', '', 1.0, 2e10, '{}')",
            (HELLO.text, HELLO.subject, HELLO.image, HELLO.recipients),
        )


async def test_a_file_of_version_1_is_migrated_at_the_first_claim_and_a_copy_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "sends.db"
    version_1(path)
    before = path.read_bytes()
    stores = [opened(File(path)), opened(File(path))]
    assert path.read_bytes() == before
    for store in stores:
        assert state(await held(store)) is UNKNOWN
    await sent(stores[0], "b", ONE)
    await stores[1].record(report("A"))
    assert heard_of(await held(stores[1], "b")) == [[ONE, "A"]]
    for store in stores:
        await store.aclose()
    assert sorted(os.listdir(tmp_path)) == ["sends.db", "sends.db-v1"]
    with closing(sqlite3.connect(tmp_path / "sends.db-v1")) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
        assert copy.execute("SELECT key, state FROM send").fetchall() == [("a", "unknown")]


async def test_a_migration_that_fails_leaves_a_file_of_version_1_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "sends.db"
    version_1(path)
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE heard (other)")
    for _ in range(2):
        store = opened(File(path))
        with pytest.raises(LedgerUnavailableError, match="already exists"):
            await held(store)
        await store.aclose()
    assert os.listdir(tmp_path) == ["sends.db"]  # no copy for each attempt
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (1,)


# A campaign in the same database --------------------------------------------------------------------------------------


@pytest.fixture
def tables(postgres: Server) -> Tables:
    return Tables(postgres.new_database())


@pytest.fixture
async def keyed(tables: Tables) -> AsyncIterator[Ledger]:
    store = opened(tables)
    yield store
    await store.aclose()


@pytest.fixture
def journal(tables: Tables) -> Iterator[SenderJournal]:
    """Of a campaign to one phone, which is being sent to."""
    with closing(store_at(tables.at, "spring").open(MESSAGE)) as journal:
        journal.add(check_all([Row(f"+{ONE}", 1)]))
        yield journal


def call(journal: SenderJournal) -> Claim:
    claim = journal.claim(1)
    assert claim is not None
    return claim


def end(journal: SenderJournal, claim: Claim, found: RecipientState, message_id: str | None = None) -> None:
    results = [RecipientResult(found, message_id)]
    journal.finish(claim, results, accepted=1, credits_used=None, error=None)


def recipient(journal: SenderJournal) -> RecipientState:
    return row(journal, ONE).state


async def test_an_id_that_a_campaign_names_proves_no_keyed_send(keyed: Ledger, journal: SenderJournal) -> None:
    claim = call(journal)
    await sent(keyed, "a", ONE)
    await keyed.record(report("C"))
    assert state(await held(keyed)) is UNKNOWN
    end(journal, claim, RecipientState.ACCEPTED, "C")
    assert state(await held(keyed)) is UNKNOWN
    await keyed.record(report("A"))
    assert heard_of(await held(keyed)) == [[ONE, "A"]]


async def test_an_id_that_a_keyed_send_names_proves_nobody_in_a_campaign(keyed: Ledger, journal: SenderJournal) -> None:
    claim = call(journal)
    send = await sent(keyed, "a", ONE, end=None)
    journal.recorder.record([report("A", ONE)])
    end(journal, claim, RecipientState.UNKNOWN)
    assert recipient(journal) is RecipientState.UNKNOWN
    await keyed.finish(send, accepted(("A", ONE)))
    journal.recorder.record([report("A", ONE)])
    assert recipient(journal) is RecipientState.UNKNOWN
    journal.recorder.record([report("C", ONE)])
    assert recipient(journal) is RecipientState.ACCEPTED


async def test_what_either_may_have_caused_proves_neither(keyed: Ledger, journal: SenderJournal) -> None:
    claim = call(journal)
    send = await sent(keyed, "a", ONE)
    end(journal, claim, RecipientState.UNKNOWN)
    await keyed.record(report("A"))
    assert state(await held(keyed)) is UNKNOWN
    assert recipient(journal) is RecipientState.UNKNOWN
    await keyed.finish(send, SendEnd(FAILED, {}))
    await keyed.record(report("A"))
    assert recipient(journal) is RecipientState.ACCEPTED
    assert await held(keyed) is None


async def test_what_is_recorded_with_a_campaign_counts_for_keyed_sends(keyed: Ledger, journal: SenderJournal) -> None:
    await sent(keyed, "a", TWO)
    journal.recorder.record([report("A", TWO)])
    assert heard_of(await held(keyed)) == [[TWO, "A"]]


async def test_an_id_that_a_campaign_names_for_another_phone_proves_no_keyed_send(
    keyed: Ledger, journal: SenderJournal
) -> None:
    claim = call(journal)
    await sent(keyed, "a", TWO)
    await keyed.record(report("C", TWO))
    end(journal, claim, RecipientState.ACCEPTED, "C")
    assert state(await held(keyed)) is UNKNOWN


async def test_an_id_that_a_keyed_send_names_for_another_phone_proves_nobody_in_a_campaign(
    keyed: Ledger, journal: SenderJournal
) -> None:
    claim = call(journal)
    journal.recorder.record([report("A")])
    await sent(keyed, "a", TWO, end=accepted(("A", TWO)))
    end(journal, claim, RecipientState.UNKNOWN)
    assert recipient(journal) is RecipientState.UNKNOWN
