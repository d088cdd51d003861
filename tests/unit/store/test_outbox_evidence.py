"""Evidence about unknown orders: what proves that a call was carried out, on both engines."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from mmsclient import DeliveryStatus
from mmsclient._store.errors import JournalBusyError
from mmsclient._store.evidence import PROOF_WINDOW
from mmsclient._store.heard import Heard, Replied, Reported
from mmsclient._store.ledger import KeyClaim, Ledger, SendEnd, SendState
from mmsclient._store.models import Claim, RecipientResult, RecipientState
from mmsclient._store.outbox import HeldOrder, OrderEnd, OutboxClaim, OutboxState, OutboxStore, OutboxWorkerStore
from mmsclient._store.outbox_evidence import replaces_proof
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import Database
from mmsclient._store.postgres.maintenance import purge
from mmsclient._store.protocol import ReportRecorder, SenderJournal
from mmsclient._store.stores import is_url, ledger_at, store_at
from mmsclient.bulk import Row
from mmsclient.bulk.recipients import check_all
from tests.support.evidence import MESSAGE, row
from tests.support.keyed import HELLO, held, owner, state
from tests.support.outbox import GIF, ONE, THREE, TWO, claimed, opened, order, state_of, working
from tests.support.postgres_server import Server

WAITING, SENDING, ACCEPTED, REFUSED, UNKNOWN, _ = OutboxState


@pytest.fixture
def recorder(outbox: OutboxStore) -> Iterator[ReportRecorder]:
    with closing(outbox.open_recorder()) as recorder:
        yield recorder


def report(message_id: str, phone: int = ONE) -> Reported:
    return Reported(message_id, phone, DeliveryStatus.DELIVERED)


def whole(claim: OutboxClaim, found: OutboxState) -> list[OrderEnd]:
    """A call that ended without an answer."""
    return [OrderEnd(found, {"error": {}}, ((None, None),) * len(each.phones)) for each in claim.orders]


def answer(*told: tuple[RecipientState, str | None], found: OutboxState = ACCEPTED) -> list[OrderEnd]:
    """The answer to a call of one order."""
    result = {"sent": "said"} if found is ACCEPTED else {"sent": "said", "error": {}}
    return [OrderEnd(found, result, told)]


def accepted(message_id: str | None = "named") -> list[OrderEnd]:
    return answer((RecipientState.ACCEPTED, message_id))


def sent(outbox: OutboxStore, worker: OutboxWorkerStore, key: str, *phones: int) -> OutboxClaim:
    """An order of a message of its own that is being sent."""
    outbox.put(order(key, *phones, text=key))
    claim = claimed(worker)
    assert [each.key for each in claim.orders] == [key]
    return claim


def lost(outbox: OutboxStore, worker: OutboxWorkerStore, key: str, *phones: int) -> OutboxClaim:
    """An order whose call ended without an answer."""
    claim = sent(outbox, worker, key, *phones)
    worker.finish(claim, whole(claim, UNKNOWN))
    return claim


def found(outbox: OutboxStore, key: str) -> HeldOrder:
    order = outbox.find(key)
    assert order is not None
    return order


def told(outbox: OutboxStore, key: str) -> list[tuple[str | None, str | None, bool]]:
    """State, message id and whether evidence told, of each recipient."""
    return [(each.state, each.message_id, each.proven) for each in found(outbox, key).recipients]


def back(place: str, seconds: float) -> None:
    """Let all claims be so much older."""
    sql = "UPDATE {table} SET claimed = claimed - {by}, doubted = doubted - {by}"
    if is_url(place):
        with psycopg.connect(place) as connection:
            connection.execute(sql.format(table="mmsclient.outbox", by=f"make_interval(secs => {seconds!r})").encode())
    else:
        with closing(sqlite3.connect(place, isolation_level=None)) as file:
            file.execute(sql.format(table="outbox", by=repr(seconds)))


# What proves ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", [report("A"), Replied("A", ONE, None), Replied("A", ONE, time.time() + 1e6)])
def test_a_report_or_a_reply_proves_an_unknown_order(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder, heard: Heard
) -> None:
    lost(outbox, worker, "a")
    number = found(outbox, "a").number
    assert number is not None
    for _ in range(2):
        recorder.record([heard])
        settled = found(outbox, "a")
        assert (settled.state, settled.result, settled.number) == (ACCEPTED, {}, number + 1)
        assert told(outbox, "a") == [("accepted", "A", True)]
    assert [each.key for each in outbox.ended(number, 9)] == ["a"]


def test_a_reply_to_another_text_proves_no_order_in_a_file(tmp_path: Path) -> None:
    with (
        opened(str(tmp_path / "outbox.db")) as outbox,
        working(outbox) as worker,
        closing(outbox.open_recorder()) as told,
    ):
        lost(outbox, worker, "order 17")
        told.record([Replied("A", ONE, None, original="order 5")])
        assert found(outbox, "order 17").state is UNKNOWN
        told.record([Replied("A", ONE, None, original="order\n17")])
        assert found(outbox, "order 17").state is ACCEPTED


def test_one_phone_proves_the_order_and_the_others_are_unknown_until_they_are_heard_of(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    lost(outbox, worker, "a", ONE, TWO, THREE)
    recorder.record([report("B", TWO)])
    first = found(outbox, "a")
    assert first.state is ACCEPTED
    assert told(outbox, "a") == [("unknown", None, False), ("accepted", "B", True), ("unknown", None, False)]
    recorder.record([report("C", THREE), report("A", ONE)])
    assert [message_id for _, message_id, _ in told(outbox, "a")] == ["A", "B", "C"]
    assert found(outbox, "a").number == first.number  # it is no other end


def test_orders_of_one_call_are_proven_by_their_own_phones(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    for key, phone in (("a", ONE), ("b", TWO)):
        outbox.put(order(key, phone))
    claim = claimed(worker)
    worker.finish(claim, whole(claim, UNKNOWN))
    recorder.record([report("A")])
    assert (state_of(outbox, "a"), state_of(outbox, "b")) == (ACCEPTED, UNKNOWN)
    recorder.record([report("B", TWO)])
    assert state_of(outbox, "b") is ACCEPTED


def test_a_report_before_the_end_counts(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    claim = sent(outbox, worker, "a")
    recorder.record([report("A")])
    assert state_of(outbox, "a") is SENDING
    worker.finish(claim, whole(claim, UNKNOWN))
    assert told(outbox, "a") == [("accepted", "A", True)]


def test_a_report_before_the_death_of_the_worker_is_found_counts(outbox: OutboxStore) -> None:
    with working(outbox) as dead:
        sent(outbox, dead, "a")
        sent(outbox, dead, "b", TWO)
        with closing(outbox.open_recorder()) as recorder:
            recorder.record([report("A")])
    with working(outbox) as worker:
        assert worker.lose_dead() == 2
    assert (state_of(outbox, "a"), state_of(outbox, "b")) == (ACCEPTED, UNKNOWN)


def test_an_answer_that_does_not_say_whom_is_completed(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    claim = sent(outbox, worker, "a", ONE, TWO, THREE)
    unknown = (RecipientState.UNKNOWN, None)
    worker.finish(claim, answer(unknown, (RecipientState.ACCEPTED, "B"), unknown, found=UNKNOWN))
    recorder.record([report("A"), report("B", TWO)])
    assert state_of(outbox, "a") is UNKNOWN
    assert told(outbox, "a") == [("accepted", "A", True), ("accepted", "B", False), ("unknown", None, False)]
    recorder.record([report("C", THREE)])
    settled = found(outbox, "a")
    assert (settled.state, settled.result) == (ACCEPTED, {"sent": "said"})


def test_an_order_that_was_cancelled_instead_of_sent_again_is_proven_too(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    lost(outbox, worker, "a")
    assert outbox.resend("a")
    assert outbox.cancel("a")
    sent(outbox, worker, "b", TWO)
    recorder.record([report("B", TWO), report("A")])
    assert found(outbox, "a").state is ACCEPTED
    assert told(outbox, "a") == [("accepted", "A", True)]
    assert worker.claim() is None


def test_an_order_that_was_cancelled_before_it_was_ever_sent_stays_so(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    claim = sent(outbox, worker, "a")
    worker.finish(claim, whole(claim, WAITING))
    assert outbox.cancel("a")
    recorder.record([report("A")])
    assert found(outbox, "a").state is OutboxState.CANCELLED


# What proves nothing --------------------------------------------------------------------------------------------------


def test_what_proves_nothing(outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder) -> None:
    outbox.put(order("a", text="a", not_before=2e9))
    recorder.record([report("early")])  # nothing was sent yet
    worker.finish(sent(outbox, worker, "answered"), accepted("named"))
    lost(outbox, worker, "b")
    recorder.record(
        [
            report("of another", TWO),
            report("nobody", 0),
            report("named"),
            Replied("before the call", ONE, time.time() - 3600),
        ]
    )
    assert (state_of(outbox, "a"), state_of(outbox, "b")) == (WAITING, UNKNOWN)
    recorder.record([report("B")])
    assert told(outbox, "b") == [("accepted", "B", True)]


@pytest.mark.parametrize(("ago", "is_proof"), [(PROOF_WINDOW - 60, True), (PROOF_WINDOW + 1, False)])
def test_what_is_heard_proves_for_three_days(
    place: tuple[str, str], outbox: OutboxStore, worker: OutboxWorkerStore, ago: float, is_proof: bool
) -> None:
    lost(outbox, worker, "a")
    back(place[0], ago)
    with closing(outbox.open_recorder()) as recorder:
        recorder.record([report("A")])
    assert (state_of(outbox, "a") is ACCEPTED) is is_proof


def test_what_another_order_may_have_caused_proves_nothing_until_that_is_known(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    lost(outbox, worker, "a")
    other = sent(outbox, worker, "b")
    recorder.record([report("A")])
    assert state_of(outbox, "a") is UNKNOWN
    worker.finish(other, whole(other, UNKNOWN))
    assert worker.settle() == 0
    assert (state_of(outbox, "a"), state_of(outbox, "b")) == (UNKNOWN, UNKNOWN)
    worker.finish(other, accepted("B"))
    assert worker.settle() == 1
    assert (state_of(outbox, "a"), state_of(outbox, "b")) == (ACCEPTED, ACCEPTED)
    assert worker.settle() == 0


def test_an_answer_that_names_the_id_later_takes_it_from_the_other(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    lost(outbox, worker, "a")
    other = sent(outbox, worker, "b")
    recorder.record([report("B")])
    worker.finish(other, accepted("B"))
    assert worker.settle() == 0
    assert state_of(outbox, "a") is UNKNOWN


def test_an_id_that_an_answer_names_for_another_phone_proves_nothing(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    claim = sent(outbox, worker, "a")
    recorder.record([report("B")])
    worker.finish(sent(outbox, worker, "b", TWO), accepted("B"))
    worker.finish(claim, whole(claim, UNKNOWN))
    assert state_of(outbox, "a") is UNKNOWN


def test_an_answer_without_an_id_may_have_caused_it(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    lost(outbox, worker, "a")
    worker.finish(sent(outbox, worker, "b"), accepted(None))
    recorder.record([report("A")])
    assert state_of(outbox, "a") is UNKNOWN


@pytest.mark.parametrize("end", [WAITING, REFUSED])
def test_calls_that_were_not_carried_out_stand_in_nobodys_way(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder, end: OutboxState
) -> None:
    lost(outbox, worker, "a")
    other = sent(outbox, worker, "b")
    worker.finish(other, whole(other, end))
    recorder.record([report("A")])
    assert state_of(outbox, "a") is ACCEPTED


def test_an_id_proves_one_order_alone(outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder) -> None:
    lost(outbox, worker, "a")
    recorder.record([report("A")])
    lost(outbox, worker, "b")
    recorder.record([report("A")])
    assert state_of(outbox, "b") is UNKNOWN
    recorder.record([report("B")])
    assert (told(outbox, "a"), told(outbox, "b")) == ([("accepted", "A", True)], [("accepted", "B", True)])


# The worker's own word, and what an operator sends again --------------------------------------------------------------


@pytest.mark.parametrize("end", [WAITING, ACCEPTED, REFUSED, UNKNOWN])
def test_the_workers_own_word_comes_late_and_counts(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder, end: OutboxState
) -> None:
    claim = lost(outbox, worker, "a")
    recorder.record([report("A")])
    assert state_of(outbox, "a") is ACCEPTED
    ends = accepted("named") if end is ACCEPTED else whole(claim, end)
    for _ in range(2):
        assert worker.finish(claim, ends) == 1
        if end is UNKNOWN:
            assert told(outbox, "a") == [("accepted", "A", True)]
        else:
            assert state_of(outbox, "a") is end
            assert told(outbox, "a") == [("accepted" if end is ACCEPTED else None, ends[0].recipients[0][1], False)]


def test_an_order_that_its_worker_lets_wait_again_late_has_its_picture(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    claim = lost(outbox, worker, "a")
    recorder.record([report("A")])
    worker.purge(1000.0)
    assert worker.finish(claim, whole(claim, WAITING)) == 1
    assert claimed(worker).picture == GIF


def test_evidence_keeps_an_order_from_being_sent_again(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    lost(outbox, worker, "a")
    assert outbox.resend("a")
    recorder.record([report("A")])
    assert told(outbox, "a") == [("accepted", "A", True)]
    assert worker.claim() is None


def test_what_was_sent_twice_may_have_caused_anything_since_the_first_time(
    place: tuple[str, str], outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder
) -> None:
    lost(outbox, worker, "a")
    back(place[0], 3600)
    recorder.record([Replied("early", ONE, time.time() - 60)])
    assert state_of(outbox, "a") is ACCEPTED
    lost(outbox, worker, "b")
    assert outbox.resend("b")
    again = claimed(worker)
    worker.finish(again, accepted("named"))
    lost(outbox, worker, "c")
    recorder.record([report("of either")])
    assert state_of(outbox, "c") is UNKNOWN


@pytest.mark.parametrize("end", OutboxState)
def test_a_late_word_of_a_second_call_says_nothing_of_the_first(end: OutboxState) -> None:
    order = OrderEnd(end, {}, ())
    assert replaces_proof(order, is_doubted=False) is (end is not UNKNOWN)
    assert replaces_proof(order, is_doubted=True) is (end is ACCEPTED)


@pytest.mark.parametrize("end", [WAITING, REFUSED])
def test_a_late_word_keeps_the_proof_of_what_was_sent_twice(
    outbox: OutboxStore, worker: OutboxWorkerStore, recorder: ReportRecorder, end: OutboxState
) -> None:
    lost(outbox, worker, "a")
    assert outbox.resend("a")
    again = claimed(worker)
    worker.finish(again, whole(again, UNKNOWN))
    recorder.record([report("A")])
    assert worker.finish(again, whole(again, end)) == 1
    assert told(outbox, "a") == [("accepted", "A", True)]


# What an operator does ------------------------------------------------------------------------------------------------


def test_settling_by_hand(place: tuple[str, str], outbox: OutboxStore) -> None:
    with working(outbox) as dead:
        sent(outbox, dead, "a")
        sent(outbox, dead, "b", TWO)
        if not is_url(place[0]):
            with pytest.raises(JournalBusyError):
                outbox.settle()
        with closing(outbox.open_recorder()) as recorder:
            recorder.record([report("A")])
    assert outbox.settle() == 1
    assert outbox.settle() == 0
    assert (state_of(outbox, "a"), state_of(outbox, "b")) == (ACCEPTED, UNKNOWN)


def test_what_was_heard_is_forgotten_with_its_orders(
    path: Path,
) -> None:
    with opened(str(path)) as outbox, working(outbox) as worker, closing(sqlite3.connect(path)) as file:
        lost(outbox, worker, "a")
        with closing(outbox.open_recorder()) as recorder:
            recorder.record([report("A"), report("A2")])
        assert file.execute("SELECT count(*) FROM heard").fetchone() == (2,)
        worker.purge(-1.0)
        assert file.execute("SELECT count(*) FROM heard").fetchone() == (0,)


def test_a_purge_keeps_what_was_heard_as_long_as_its_orders(url: str) -> None:
    with opened(url) as outbox, working(outbox) as worker:
        lost(outbox, worker, "a")
        lost(outbox, worker, "b", TWO)
        with closing(outbox.open_recorder()) as recorder:
            recorder.record([report("A"), report("A2"), report("B", TWO)])
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE mmsclient.evidence SET heard = heard - interval '90 days'")
        connection.execute("UPDATE mmsclient.outbox SET ended = ended - interval '90 days' WHERE key = 'a'")
    database = Database(Address.of(url))
    try:
        purge(database, 30)
    finally:
        database.close()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT message_id FROM mmsclient.evidence").fetchall() == [("B",)]


# Campaigns and keyed sends in the same database -----------------------------------------------------------------------


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


@pytest.fixture
def shared(url: str) -> Iterator[OutboxStore]:
    with opened(url) as outbox:
        yield outbox


@pytest.fixture
def sender(shared: OutboxStore) -> Iterator[OutboxWorkerStore]:
    with working(shared) as worker:
        yield worker


@pytest.fixture
async def keyed(url: str) -> AsyncIterator[Ledger]:
    ledger = ledger_at(url, owner(), keep=1e6)
    yield ledger
    await ledger.aclose()


@pytest.fixture
def journal(url: str) -> Iterator[SenderJournal]:
    """Of a campaign to one phone, which is being sent to."""
    with closing(store_at(url, "spring").open(MESSAGE)) as journal:
        journal.add(check_all([Row(f"+{ONE}", 1)]))
        yield journal


def call(journal: SenderJournal) -> Claim:
    claim = journal.claim(1)
    assert claim is not None
    return claim


def end(journal: SenderJournal, claim: Claim, found: RecipientState, message_id: str | None = None) -> None:
    journal.finish(claim, [RecipientResult(found, message_id)], accepted=1, credits_used=None, error=None)


async def keyed_send(outbox: Ledger, key: str, phone: int = ONE) -> KeyClaim:
    claim = KeyClaim(key, phones=(phone,))
    assert await outbox.claim(claim, HELLO, retry_refused=False) is None
    return claim


async def test_what_is_recorded_with_any_of_them_counts_for_orders(
    shared: OutboxStore, sender: OutboxWorkerStore, keyed: Ledger, journal: SenderJournal
) -> None:
    lost(shared, sender, "a", TWO)
    lost(shared, sender, "b", THREE)
    await keyed.record(report("A", TWO))
    journal.recorder.record([report("B", THREE)])
    assert (state_of(shared, "a"), state_of(shared, "b")) == (ACCEPTED, ACCEPTED)


async def test_what_is_recorded_with_the_outbox_counts_for_all_of_them(
    shared: OutboxStore, keyed: Ledger, journal: SenderJournal
) -> None:
    end(journal, call(journal), RecipientState.UNKNOWN)
    await keyed.finish(await keyed_send(keyed, "a", TWO), SendEnd(SendState.UNKNOWN, {}))
    with closing(shared.open_recorder()) as recorder:
        recorder.record([report("C"), report("A", TWO)])
    assert row(journal, ONE).state is RecipientState.ACCEPTED
    assert state(await held(keyed)) is SendState.ACCEPTED


@pytest.mark.parametrize("known", [True, False])
async def test_a_campaign_and_an_order_to_one_phone(
    shared: OutboxStore, sender: OutboxWorkerStore, journal: SenderJournal, known: bool
) -> None:
    """Neither takes what the other may have caused, nor an id that the other's answer named."""
    claim = call(journal)
    claim_of_order = sent(shared, sender, "a")
    journal.recorder.record([report("A")])
    end(journal, claim, RecipientState.UNKNOWN)
    assert (row(journal, ONE).state, state_of(shared, "a")) == (RecipientState.UNKNOWN, SENDING)
    sender.finish(claim_of_order, accepted("A") if known else whole(claim_of_order, UNKNOWN))
    journal.recorder.record([report("A")])
    assert row(journal, ONE).state is RecipientState.UNKNOWN
    assert state_of(shared, "a") is (ACCEPTED if known else UNKNOWN)
    journal.recorder.record([report("C")])
    assert row(journal, ONE).state is (RecipientState.ACCEPTED if known else RecipientState.UNKNOWN)


async def test_an_id_that_a_campaign_names_proves_no_order(
    shared: OutboxStore, sender: OutboxWorkerStore, journal: SenderJournal
) -> None:
    claim = call(journal)
    lost(shared, sender, "a")
    journal.recorder.record([report("C")])
    assert state_of(shared, "a") is UNKNOWN
    end(journal, claim, RecipientState.ACCEPTED, "C")
    assert sender.settle() == 0
    journal.recorder.record([report("A")])
    assert told(shared, "a") == [("accepted", "A", True)]


@pytest.mark.parametrize("known", [True, False])
async def test_a_keyed_send_and_an_order_to_one_phone(
    shared: OutboxStore, sender: OutboxWorkerStore, keyed: Ledger, known: bool
) -> None:
    claim = lost(shared, sender, "order")
    send = await keyed_send(keyed, "a")
    await keyed.record(report("A"))
    assert state_of(shared, "order") is UNKNOWN
    await keyed.finish(send, SendEnd(SendState.UNKNOWN, {}))
    assert state(await held(keyed)) is SendState.UNKNOWN
    if known:
        sender.finish(claim, accepted("O"))
        assert state(await held(keyed)) is SendState.ACCEPTED
    else:
        await keyed.finish(send, SendEnd(SendState.ACCEPTED, {"raw": {}}, (("A", ONE),)))
        assert sender.settle() == 0
        await keyed.record(report("O"))
        assert told(shared, "order") == [("accepted", "O", True)]


async def test_ids_that_answers_named_are_not_kept(url: str, shared: OutboxStore, sender: OutboxWorkerStore) -> None:
    sender.finish(sent(shared, sender, "a"), accepted("A"))
    with closing(shared.open_recorder()) as recorder:
        recorder.record([report("A"), report("B")])
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT message_id FROM mmsclient.evidence").fetchall()
    assert found == [("B",)]
