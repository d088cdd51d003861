"""Ends of calls that come late in PostgreSQL: what was unknown without them is to be sent again, or has been."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from attrs import frozen

from mmsclient import DeliveryStatus
from mmsclient._store.errors import JournalError
from mmsclient._store.evidence import PROVEN, RESENT
from mmsclient._store.heard import Replied, Reported
from mmsclient._store.models import Claim, Exclusion, Recipient, RecipientResult
from mmsclient._store.models import RecipientState as State
from mmsclient._store.outbox import OrderEnd, OutboxClaim, OutboxState, OutboxStore, OutboxWorkerStore
from mmsclient._store.postgres import database as databases
from mmsclient._store.postgres import evidence
from mmsclient._store.postgres.database import Transaction
from mmsclient._store.protocol import ReportRecorder, SenderJournal
from mmsclient._store.stores import store_at
from mmsclient.bulk import JournalBusyError, Row
from mmsclient.bulk.recipients import check_all
from tests.support.evidence import MESSAGE, end, lose, row
from tests.support.outbox import GIF, claimed, keys, opened, order, working
from tests.support.postgres_server import Server, waits_for_a_lock
from tests.support.waiting import until

ONE, TWO, THREE = 61400000000, 61400000001, 61400000002
LIST = [Row(f"+{phone}", line) for line, phone in enumerate((ONE, TWO, THREE), 1)]

TAKEN_OVER = pytest.raises(JournalBusyError, match="another sender has taken it over")


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


@frozen
class Story:
    """A sender that was frozen during its call, and the next one, which is to send again to those of that call."""

    frozen: SenderJournal
    journal: SenderJournal
    late: Claim
    """Of the first, not ended."""


@pytest.fixture
def story(url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    with taken_over(url, postgres, monkeypatch, resend_unknown=True) as story:
        yield story


@pytest.fixture
def left_unknown(url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    """One in which the next sender leaves them unknown."""
    with taken_over(url, postgres, monkeypatch, resend_unknown=False) as story:
        yield story


@contextmanager
def taken_over(url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch, *, resend_unknown: bool) -> Iterator[Story]:
    store = store_at(url, "spring")
    with ExitStack() as opened:
        with monkeypatch.context() as patch:
            patch.setattr("mmsclient._store.postgres.lease.HEARTBEATS", 0.001)
            frozen = opened.enter_context(closing(store.open(MESSAGE)))
        frozen.add(check_all(LIST))
        late = frozen.claim(2)
        assert late is not None
        take_over(url, postgres)
        journal = opened.enter_context(closing(store.open(MESSAGE, resend_unknown=resend_unknown)))
        yield Story(frozen, journal, late)


def take_over(url: str, postgres: Server) -> None:
    """The lease has run out."""
    postgres.ask("UPDATE mmsclient.lease SET until = clock_timestamp() - interval '1 second'", url)


def found(journal: SenderJournal, phone: int) -> tuple[str, str | None, str | None]:
    of_it: Recipient = row(journal, phone)
    return str(of_it.state), of_it.message_id, of_it.reason


def suppress(journal: SenderJournal, claim: Claim) -> None:
    journal.suppress(claim, dict.fromkeys(claim.phones, "replied STOP"))


def counted(journal: SenderJournal) -> dict[str, int]:
    """As they are recorded, which the journal knows once it has claimed."""
    recorded = journal.reader.summary().counts
    assert {state: journal.counts[state] for state in recorded} == recorded
    return {str(state): count for state, count in recorded.items() if count}


@pytest.mark.parametrize(
    ("state", "left"), [(State.ACCEPTED, (THREE,)), (State.REFUSED, (THREE,)), (State.FAILED, (ONE, TWO, THREE))]
)
def test_what_a_late_answer_says_counts_for_those_who_have_not_been_sent_to_again(
    story: Story, state: State, left: tuple[int, ...]
) -> None:
    end(story.frozen, story.late, state, "A")
    assert found(story.journal, ONE) == (state, f"A-{ONE}", None)
    claim = story.journal.claim(10)
    assert claim is not None
    assert claim.phones == left
    end(story.journal, claim, State.ACCEPTED, "B")
    counted(story.journal)
    story.journal.recorder.record([Reported("C", ONE, DeliveryStatus.DELIVERED)])  # of no call
    assert row(story.journal, ONE).message_id in (f"A-{ONE}", f"B-{ONE}")


def test_a_late_answer_that_says_nothing_leaves_it_to_the_next_sender(story: Story) -> None:
    with TAKEN_OVER:
        end(story.frozen, story.late, State.UNKNOWN)
    assert found(story.journal, ONE) == ("pending", None, RESENT)
    story.journal.recorder.record([Reported("C", ONE, DeliveryStatus.DELIVERED)])
    assert found(story.journal, ONE) == ("accepted", "C", PROVEN)


def test_a_late_answer_may_differ_for_each_recipient(story: Story) -> None:
    results = [RecipientResult(State.ACCEPTED, "A"), RecipientResult(State.REFUSED, None, "it is no mobile number")]
    story.frozen.finish(story.late, results, accepted=1, credits_used=Decimal(1), error=None)
    assert found(story.journal, ONE) == ("accepted", "A", None)
    assert found(story.journal, TWO) == ("refused", None, "it is no mobile number")
    assert story.journal.reader.summary().credits_used == 1


def test_who_was_never_sent_to_is_sent_to_as_if_for_the_first_time(story: Story) -> None:
    story.frozen.suppress(story.late, {TWO: "replied STOP"})
    story.frozen.release(story.late.only([ONE]))
    assert found(story.journal, ONE) == ("pending", None, None)
    assert found(story.journal, TWO) == ("excluded", None, "replied STOP")
    story.journal.recorder.record([Reported("C", ONE, DeliveryStatus.DELIVERED)])
    claim = story.journal.claim(10)
    assert claim is not None
    assert claim.phones == (ONE, THREE)
    assert counted(story.journal) == {"sending": 2, "excluded": 1}


@pytest.mark.parametrize("state", [State.FAILED, State.PENDING, None])
def test_who_was_excluded_while_it_was_unknown_is_not_sent_to_after_a_late_end(
    left_unknown: Story, state: State | None
) -> None:
    """`state`: by the late answer; None where the call was taken back."""
    frozen, journal, late = left_unknown.frozen, left_unknown.journal, left_unknown.late
    journal.exclude([ONE], Exclusion.LISTED)
    assert found(journal, ONE)[0] == "unknown"
    if state is None:
        frozen.release(late)
    else:
        end(frozen, late, state)
    assert journal.reopened()
    assert (found(journal, ONE)[0], found(journal, TWO)[0]) == ("excluded", state or "pending")
    claim = journal.claim(10)
    assert claim is not None
    assert claim.phones == (TWO, THREE)
    assert counted(journal) == {"sending": 2, "excluded": 1}


@pytest.mark.parametrize("state", [State.UNKNOWN, State.FAILED, State.PENDING, State.REFUSED])
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_of_those_who_were_sent_to_again_a_late_answer_is_evidence(story: Story, state: State, is_before: bool) -> None:
    """Whether it comes before the end of the other call or after it. Nobody is sent to for a third time."""
    claim = story.journal.claim(1)
    assert claim is not None
    if not is_before:
        end(story.journal, claim, state)
    with TAKEN_OVER:
        end(story.frozen, story.late, State.ACCEPTED, "A")
    if is_before:
        assert found(story.journal, ONE)[0] == "sending"
        end(story.journal, claim, state)
    assert found(story.journal, ONE) == ("accepted", f"A-{ONE}", PROVEN)
    assert found(story.journal, TWO) == ("accepted", f"A-{TWO}", None)
    assert story.journal.claim_again(claim.ids) is None
    story.journal.begin_run(resend_unknown=True)
    rest = story.journal.claim(10)
    assert rest is not None
    assert rest.phones == (THREE,)
    counted(story.journal)


@pytest.mark.parametrize("ids", ["A", None])
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_who_was_excluded_instead_of_sent_to_again_is_accepted_by_a_late_answer(
    story: Story, ids: str | None, is_before: bool
) -> None:
    claim = story.journal.claim(2)
    assert claim is not None
    if not is_before:
        suppress(story.journal, claim)
    with TAKEN_OVER:
        end(story.frozen, story.late, State.ACCEPTED, ids)
    if is_before:
        suppress(story.journal, claim)
    assert found(story.journal, ONE) == ("accepted", f"A-{ONE}" if ids else None, PROVEN)
    assert story.journal.reader.excluded_among([ONE, THREE]) == {ONE: Exclusion.SUPPRESSED}
    assert not any(story.journal.reader.summary().exclusions.values())
    assert story.journal.claim_again(claim.ids) is None
    rest = story.journal.claim(10)
    assert rest is not None
    assert rest.phones == (THREE,)
    assert counted(story.journal) == {"sending": 1, "accepted": 2}


def test_who_was_put_on_a_list_of_exclusions_is_accepted_by_a_late_answer(story: Story) -> None:
    story.journal.exclude([ONE], Exclusion.LISTED)
    assert found(story.journal, ONE)[0] == "excluded"
    with TAKEN_OVER:
        end(story.frozen, story.late, State.ACCEPTED, "A")
    assert found(story.journal, ONE) == ("accepted", f"A-{ONE}", PROVEN)
    assert found(story.journal, TWO) == ("accepted", f"A-{TWO}", None)


@pytest.mark.parametrize("state", [State.UNKNOWN, State.REFUSED, State.FAILED, State.PENDING])
def test_who_was_excluded_stays_so_where_a_late_answer_says_anything_else(story: Story, state: State) -> None:
    claim = story.journal.claim(2)
    assert claim is not None
    suppress(story.journal, claim)
    with TAKEN_OVER:
        end(story.frozen, story.late, state)
    assert found(story.journal, ONE) == ("excluded", None, "replied STOP")


def test_so_it_is_where_another_campaign_may_have_caused_what_is_heard(story: Story, url: str) -> None:
    """An answer is that of its call, and a report may be another's."""
    with closing(store_at(url, "summer").open(MESSAGE)) as other:
        other.add(check_all(LIST))
        claim = story.journal.claim(1)
        assert claim is not None
        lose(other, 2)
        with TAKEN_OVER:
            end(story.frozen, story.late, State.ACCEPTED, "A")
        end(story.journal, claim, State.FAILED)
        assert found(story.journal, ONE) == ("accepted", f"A-{ONE}", PROVEN)
        other.begin_run(resend_unknown=False)
        assert [found(other, phone)[0] for phone in (ONE, TWO)] == ["unknown", "unknown"]


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_an_answer_that_names_no_message_counts_too(story: Story, is_before: bool) -> None:
    """The API may list fewer messages than it accepted."""
    claim = story.journal.claim(1)
    assert claim is not None
    if not is_before:
        end(story.journal, claim, State.FAILED)
    with TAKEN_OVER:
        end(story.frozen, story.late, State.ACCEPTED)
    if is_before:
        end(story.journal, claim, State.FAILED)
    assert found(story.journal, ONE) == ("accepted", None, PROVEN)
    assert story.journal.claim_again(claim.ids) is None


def test_a_report_does_not_count_for_more_than_a_refusal(story: Story) -> None:
    claim = story.journal.claim(1)
    assert claim is not None
    end(story.journal, claim, State.REFUSED)
    story.journal.recorder.record([Reported("C", ONE, DeliveryStatus.DELIVERED)])
    assert found(story.journal, ONE)[0] == "refused"


@frozen
class Hearsay:
    """A reply under the id that the late answer names."""

    kind: str
    seconds_ago: float

    def note(self, recorder: ReportRecorder, message_id: str) -> None:
        recorder.record([Replied(message_id, ONE, time.time() - self.seconds_ago, self.kind)])


HEARSAY = pytest.mark.parametrize("hearsay", [Hearsay("mms", 36000), Hearsay("sms", 0)], ids=["of another zone", "sms"])


@HEARSAY
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_an_answer_counts_for_more_than_a_reply(story: Story, hearsay: Hearsay, is_before: bool) -> None:
    claim = story.journal.claim(1)
    assert claim is not None
    if is_before:
        hearsay.note(story.journal.recorder, f"A-{ONE}")
    with TAKEN_OVER:
        end(story.frozen, story.late, State.ACCEPTED, "A")
    if not is_before:
        hearsay.note(story.journal.recorder, f"A-{ONE}")
    end(story.journal, claim, State.FAILED)
    assert found(story.journal, ONE) == ("accepted", f"A-{ONE}", PROVEN)
    assert story.journal.claim_again(claim.ids) is None


@pytest.mark.parametrize("ids", ["A", None])
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_an_answer_to_the_second_call_stays_and_the_first_may_have_arrived(
    story: Story, ids: str | None, is_before: bool
) -> None:
    """Which counts where another message goes to those whom this one did not reach."""
    claim = story.journal.claim(1)
    assert claim is not None
    if not is_before:
        end(story.journal, claim, State.ACCEPTED, "B")
    with TAKEN_OVER:
        end(story.frozen, story.late, State.ACCEPTED, ids)
    if is_before:
        end(story.journal, claim, State.ACCEPTED, "B")
    assert found(story.journal, ONE) == ("accepted", f"B-{ONE}", None)
    story.journal.recorder.record([Reported(f"B-{ONE}", ONE, DeliveryStatus.FAILED)])
    assert story.journal.reader.reached_before([ONE, TWO]).keys() == {ONE}


@pytest.mark.parametrize("state", [State.REFUSED, State.FAILED, State.PENDING])
def test_a_former_call_that_was_not_carried_out_is_none(story: Story, state: State) -> None:
    """Whoever was sent to again since is as if for the first time."""
    claim = story.journal.claim(1)
    assert claim is not None
    with TAKEN_OVER:
        end(story.frozen, story.late, state)
    story.journal.release(claim)
    assert found(story.journal, ONE) == ("pending", None, None)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.REFUSED])
def test_who_is_settled_while_a_call_is_taken_back_is_not_in_its_next_try(story: Story, state: State) -> None:
    claim = story.journal.claim(3)
    assert claim is not None
    story.journal.release(claim)
    end(story.frozen, story.late, state, "A")
    again = story.journal.claim_again(claim.ids)
    assert again is not None
    assert again.phones == (THREE,)
    counted(story.journal)


def test_an_answer_that_comes_while_the_next_sender_writes_waits_for_it(story: Story, url: str) -> None:
    """Neither of the two transactions sees what the other writes."""
    with psycopg.connect(url) as sender:
        sender.execute("SET search_path = mmsclient")
        sender.execute("SELECT 1 FROM lease FOR UPDATE")
        sender.execute("UPDATE recipient SET state = 'unknown', reason = NULL WHERE state = 'pending' AND batch = 1")
        thread = threading.Thread(target=end, args=(story.frozen, story.late, State.ACCEPTED, "A"))
        thread.start()
        try:
            until(lambda: waits_for_a_lock(url, "UPDATE lease%"))
        finally:
            sender.commit()
            thread.join()
    assert found(story.journal, ONE) == ("accepted", f"A-{ONE}", None)


def held_once_noted(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """A recorder has noted what it heard, and goes on when it may."""
    monkeypatch.setattr(databases, "IDLE", 60_000)
    note, noted, may_go_on = evidence.note, threading.Event(), threading.Event()

    def held(transaction: Transaction, news: Sequence[tuple[int, str, str, str | None]]) -> None:
        note(transaction, news)
        noted.set()
        assert may_go_on.wait(60)

    monkeypatch.setattr(evidence, "note", held)
    return noted, may_go_on


def test_a_late_answer_and_a_report_of_it_wait_for_each_other(
    story: Story, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever notes evidence has locked what it may settle."""
    claim = story.journal.claim(1)
    assert claim is not None
    noted, may_go_on = held_once_noted(monkeypatch)
    with closing(store_at(url, "spring").open_recorder()) as recorder, ThreadPoolExecutor() as pool:
        heard = [Reported(f"A-{ONE}", ONE, DeliveryStatus.DELIVERED)]
        recording = pool.submit(recorder.record, heard)
        assert noted.wait(60)
        with psycopg.connect(url) as another, pytest.raises(psycopg.errors.LockNotAvailable):
            another.execute("SELECT 1 FROM mmsclient.lease FOR UPDATE NOWAIT")
        ending = pool.submit(end, story.frozen, story.late, State.ACCEPTED, "A")
        try:
            until(lambda: waits_for_a_lock(url, "UPDATE lease%"))
        finally:
            may_go_on.set()
        recording.result()
        with TAKEN_OVER:
            ending.result()
    end(story.journal, claim, State.FAILED)
    assert found(story.journal, ONE) == ("accepted", f"A-{ONE}", PROVEN)


def test_what_may_be_settled_is_locked_once(story: Story, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is noted; also an order."""
    with opened(url) as outbox, working(outbox) as worker:
        claim = resent(outbox, worker, ONE)
        rows, statements = Transaction.rows, list[str]()

        def noting(transaction: Transaction, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
            statements.append(sql)
            return rows(transaction, sql, values)

        with monkeypatch.context() as patch:
            patch.setattr(Transaction, "rows", noting)
            story.journal.recorder.record([Reported("A", ONE, DeliveryStatus.DELIVERED)])
        assert sum("FROM lease" in sql and "FOR UPDATE" in sql for sql in statements) == 1
        assert sum("FROM outbox" in sql and "FOR UPDATE" in sql for sql in statements) == 1
        worker.finish(claim, told(claim, OutboxState.WAITING))


# Orders of an outbox --------------------------------------------------------------------------------------------------


@pytest.fixture
def outbox_place(url: str) -> str:
    return url


def resent(outbox: OutboxStore, worker: OutboxWorkerStore, *phones: int) -> OutboxClaim:
    """The call of an order that somebody has sent again, since it was unknown without its end."""
    outbox.put(order("a", *phones))
    claim = claimed(worker)
    worker.finish(claim, told(claim, OutboxState.UNKNOWN))
    assert outbox.resend("a")
    return claim


def told(claim: OutboxClaim, state: OutboxState, *of_each: tuple[State, str | None]) -> list[OrderEnd]:
    """The end of the one order of a claim."""
    (only,) = claim.orders
    return [OrderEnd(state, {"sent": "said"} if of_each else {}, of_each or ((None, None),) * len(only.phones))]


def held(outbox: OutboxStore) -> tuple[str, list[tuple[str | None, str | None]]]:
    """State of the order, and state and message id of each of its recipients."""
    of_it = outbox.find("a")
    assert of_it is not None
    return str(of_it.state), [(each.state, each.message_id) for each in of_it.recipients]


NAMED = State.ACCEPTED, "A"


@pytest.mark.parametrize("state", [OutboxState.ACCEPTED, OutboxState.REFUSED])
def test_a_late_end_takes_an_order_back_that_has_not_been_sent_again(
    outbox: OutboxStore, worker: OutboxWorkerStore, state: OutboxState
) -> None:
    claim = resent(outbox, worker)
    for _ in range(2):
        assert worker.finish(claim, told(claim, state, (State(state), "A"))) == 1
        assert held(outbox) == (state, [(state, "A")])
    assert worker.claim() is None
    assert [each.key for each in outbox.ended(1, 9)] == ["a"]


def test_an_order_that_was_surely_not_sent_is_sent_as_if_for_the_first_time(
    outbox: OutboxStore, worker: OutboxWorkerStore
) -> None:
    claim = resent(outbox, worker)
    assert worker.finish(claim, told(claim, OutboxState.WAITING)) == 1
    with closing(outbox.open_recorder()) as recorder:
        recorder.record([Reported("C", ONE, DeliveryStatus.DELIVERED)])
    assert held(outbox) == ("waiting", [(None, None)])
    assert keys(worker.claim()) == ["a"]


def test_a_late_end_that_says_nothing_changes_nothing(outbox: OutboxStore, worker: OutboxWorkerStore) -> None:
    claim = resent(outbox, worker)
    assert worker.finish(claim, told(claim, OutboxState.UNKNOWN)) == 0
    assert keys(worker.claim()) == ["a"]


def test_an_answer_that_names_some_makes_an_order_unknown_again(outbox: OutboxStore, worker: OutboxWorkerStore) -> None:
    claim = resent(outbox, worker, ONE, TWO)
    assert worker.finish(claim, told(claim, OutboxState.UNKNOWN, NAMED, (State.UNKNOWN, None))) == 1
    assert held(outbox) == ("unknown", [NAMED, ("unknown", None)])
    assert worker.claim() is None


@pytest.mark.parametrize("state", [OutboxState.UNKNOWN, OutboxState.WAITING])
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_of_an_order_that_was_sent_again_a_late_answer_is_evidence(
    outbox: OutboxStore, worker: OutboxWorkerStore, state: OutboxState, is_before: bool
) -> None:
    """Also where another order may have caused what is heard: an answer is that of its call."""
    claim = resent(outbox, worker, ONE, TWO)
    again = claimed(worker)
    outbox.put(order("other", ONE, text="Another"))
    claimed(worker)
    if not is_before:
        worker.finish(again, told(again, state))
    assert worker.finish(claim, told(claim, OutboxState.ACCEPTED, NAMED, (State.ACCEPTED, None))) == 0
    if is_before:
        assert held(outbox)[0] == "sending"
        worker.finish(again, told(again, state))
    assert held(outbox) == ("accepted", [NAMED, (State.ACCEPTED, None)])
    assert worker.claim() is None
    assert not outbox.resend("a")


def test_an_answer_that_names_no_message_counts_for_an_order_too(
    outbox: OutboxStore, worker: OutboxWorkerStore
) -> None:
    claim = resent(outbox, worker, ONE)
    again = claimed(worker)
    worker.finish(claim, told(claim, OutboxState.ACCEPTED, (State.ACCEPTED, None)))
    worker.finish(again, told(again, OutboxState.WAITING))
    assert held(outbox) == ("accepted", [(State.ACCEPTED, None)])
    assert worker.claim() is None


def test_a_late_answer_to_an_order_and_a_report_of_it_wait_for_each_other(
    outbox: OutboxStore, worker: OutboxWorkerStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = resent(outbox, worker, ONE)
    again = claimed(worker)
    noted, may_go_on = held_once_noted(monkeypatch)
    with closing(outbox.open_recorder()) as recorder, ThreadPoolExecutor() as pool:
        recording = pool.submit(recorder.record, [Reported("A", ONE, DeliveryStatus.DELIVERED)])
        assert noted.wait(60)
        ending = pool.submit(worker.finish, claim, told(claim, OutboxState.ACCEPTED, NAMED))
        try:
            until(lambda: waits_for_a_lock(url, "SELECT id, coalesce(claim%"))
        finally:
            may_go_on.set()
        recording.result()
        assert ending.result() == 0
    worker.finish(again, told(again, OutboxState.WAITING))
    assert held(outbox) == ("accepted", [NAMED])


@pytest.mark.parametrize("answered", [True, False], ids=["by its answer", "whole"])
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_an_order_that_a_late_answer_accepts_is_not_told_to_be_refused(
    outbox: OutboxStore, worker: OutboxWorkerStore, is_before: bool, answered: bool
) -> None:
    claim = resent(outbox, worker, ONE)
    again = claimed(worker)
    refused = told(again, OutboxState.REFUSED, *([(State.REFUSED, None)] * answered))
    if not is_before:
        worker.finish(again, refused)
        with closing(outbox.open_recorder()) as recorder:
            recorder.record([Reported("C", ONE, DeliveryStatus.DELIVERED)])
        assert held(outbox)[0] == "refused"
    worker.finish(claim, told(claim, OutboxState.ACCEPTED, NAMED))
    worker.finish(again, refused)
    assert held(outbox) == ("accepted", [NAMED])


@HEARSAY
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_an_answer_to_an_order_counts_for_more_than_a_reply(
    outbox: OutboxStore, worker: OutboxWorkerStore, hearsay: Hearsay, is_before: bool
) -> None:
    claim = resent(outbox, worker, ONE)
    again = claimed(worker)
    with closing(outbox.open_recorder()) as recorder:
        if is_before:
            hearsay.note(recorder, "A")
        worker.finish(claim, told(claim, OutboxState.ACCEPTED, NAMED))
        if not is_before:
            hearsay.note(recorder, "A")
    worker.finish(again, told(again, OutboxState.WAITING))
    assert held(outbox) == ("accepted", [NAMED])
    assert worker.claim() is None


def test_the_end_of_the_second_call_stays(outbox: OutboxStore, worker: OutboxWorkerStore) -> None:
    claim = resent(outbox, worker)
    again = claimed(worker)
    assert worker.finish(again, told(again, OutboxState.ACCEPTED, (State.ACCEPTED, "B"))) == 1
    assert worker.finish(claim, told(claim, OutboxState.ACCEPTED, NAMED)) == 0
    assert held(outbox) == ("accepted", [(State.ACCEPTED, "B")])


@pytest.mark.parametrize("message_id", ["A", None])
def test_an_order_that_was_cancelled_instead_of_sent_again_is_accepted_by_a_late_answer(
    outbox: OutboxStore, worker: OutboxWorkerStore, message_id: str | None
) -> None:
    claim = resent(outbox, worker, ONE, TWO)
    assert outbox.cancel("a")
    of_each = [(State.ACCEPTED, message_id), (State.REFUSED, None)]
    for _ in range(2):
        assert worker.finish(claim, told(claim, OutboxState.ACCEPTED, *of_each)) == 1
        assert held(outbox) == ("accepted", of_each)
    assert worker.claim() is None


def test_so_is_one_that_was_cancelled_after_its_second_call_was_taken_back(
    outbox: OutboxStore, worker: OutboxWorkerStore
) -> None:
    claim = resent(outbox, worker)
    again = claimed(worker)
    worker.finish(again, told(again, OutboxState.WAITING))
    assert outbox.cancel("a")
    worker.finish(claim, told(claim, OutboxState.ACCEPTED, NAMED))
    assert held(outbox) == ("accepted", [NAMED])


@pytest.mark.parametrize("state", [OutboxState.WAITING, OutboxState.REFUSED, OutboxState.UNKNOWN])
def test_it_stays_cancelled_where_a_late_answer_says_anything_else(
    outbox: OutboxStore, worker: OutboxWorkerStore, state: OutboxState
) -> None:
    claim = resent(outbox, worker)
    assert outbox.cancel("a")
    assert worker.finish(claim, told(claim, state)) == 0
    assert held(outbox)[0] == "cancelled"


def partly_answered_again(outbox: OutboxStore, worker: OutboxWorkerStore) -> OutboxClaim:
    """The first call of an order to three that was unknown, and whose second one named the first of them.

    It is to be sent again to the others.
    """
    claim = resent(outbox, worker, ONE, TWO, THREE)
    again = claimed(worker)
    worker.finish(again, told(again, OutboxState.UNKNOWN, NAMED, (State.UNKNOWN, None), (State.UNKNOWN, None)))
    assert outbox.resend("a")
    return claim


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_a_late_answer_to_the_first_call_counts_for_whom_the_last_one_refuses(
    outbox: OutboxStore, worker: OutboxWorkerStore, is_before: bool
) -> None:
    claim = partly_answered_again(outbox, worker)
    third = claimed(worker)
    assert third.phones == (TWO, THREE)
    late = told(claim, OutboxState.ACCEPTED, (State.ACCEPTED, "A1"), (State.ACCEPTED, "B1"), (State.REFUSED, None))
    if is_before:
        assert worker.finish(claim, late) == 0
    worker.finish(third, told(third, OutboxState.REFUSED, (State.REFUSED, None), (State.REFUSED, None)))
    if not is_before:
        assert worker.finish(claim, late) == 0
    assert held(outbox) == ("accepted", [NAMED, (State.ACCEPTED, "B1"), (State.REFUSED, None)])
    number = outbox.last_number()
    with closing(outbox.open_recorder()) as recorder:
        recorder.record([Reported("C1", THREE, DeliveryStatus.DELIVERED)])
    assert worker.settle() == 0
    assert (held(outbox)[1][2], outbox.last_number()) == ((State.REFUSED, None), number)


def test_who_is_proven_while_an_order_is_claimed_is_not_sent_to_again(
    outbox: OutboxStore, worker: OutboxWorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query sees what was committed when it began, and locks what it finds later."""
    partly_answered_again(outbox, worker)
    rows = Transaction.rows

    def proven_meanwhile(transaction: Transaction, sql: str, values: Sequence[object] = ()) -> list[Any]:
        seen = rows(transaction, sql, values)
        if "SKIP LOCKED" in sql:
            transaction.execute("UPDATE outbox_recipient SET state = 'accepted' WHERE phone = %s", (TWO,))
        return seen

    monkeypatch.setattr(Transaction, "rows", proven_meanwhile)
    assert claimed(worker).phones == (THREE,)


def test_an_order_that_a_late_answer_makes_unknown_again_has_its_picture(
    outbox: OutboxStore, worker: OutboxWorkerStore
) -> None:
    claim = resent(outbox, worker, ONE, TWO)
    assert outbox.cancel("a")
    worker.purge(1000.0)
    worker.finish(claim, told(claim, OutboxState.UNKNOWN, NAMED, (State.UNKNOWN, None)))
    assert outbox.resend("a")
    assert claimed(worker).picture == GIF


def test_an_order_whose_picture_is_gone_says_so(
    outbox: OutboxStore, worker: OutboxWorkerStore, url: str, postgres: Server
) -> None:
    outbox.put(order("a"))
    postgres.ask("DELETE FROM mmsclient.outbox_picture", url)
    with pytest.raises(JournalError, match="the picture of 'a' is gone; put the same order again, or cancel it"):
        worker.claim()
    outbox.put(order("a"))
    assert claimed(worker).picture == GIF
