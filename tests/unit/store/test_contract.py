"""What a journal promises, whichever engine keeps it: each test runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsclient import DeliveryStatus
from mmsclient._store.evidence import Silent
from mmsclient._store.heard import Replied, Reported
from mmsclient._store.models import Claim, ListEntry, Message, Owner, RecipientResult
from mmsclient._store.protocol import JournalReader, SenderJournal
from mmsclient._store.spending import CallCost
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.stores import JournalStore, store_at
from mmsclient.bulk import Exclusion, JournalBusyError, JournalError, JournalMismatchError, RecipientState, Row
from mmsclient.bulk.recipients import check_all
from mmsclient.bulk.report import report_from
from tests.support.postgres_server import PASSWORD

MESSAGE = Message("Hi", "Sale", b"GIF89a")
OWNER = Owner("https://api.example", lambda salt: f"{salt.hex()}-key")
ONE, TWO, THREE = 61400000000, 61400000001, 61400000002
ACCEPTED, FAILED, UNKNOWN = RecipientState.ACCEPTED, RecipientState.FAILED, RecipientState.UNKNOWN
PENDING, REFUSED, SENDING = RecipientState.PENDING, RecipientState.REFUSED, RecipientState.SENDING


@pytest.fixture
def store(place: tuple[str, str]) -> JournalStore:
    journal, name = place
    return store_at(journal, name or None)


def listing(*phones: int) -> list[Row]:
    return [Row(f"+{phone}", line) for line, phone in enumerate(phones, 1)]


def unlisted(*phones: int) -> list[ListEntry]:
    return [ListEntry(0, f"+{phone}", phone) for phone in phones]


def states(journal: JournalReader) -> dict[int, str]:
    return {int(recipient.number): recipient.state for _, recipient in journal.recipients(None, 0)}


def claimed(journal: SenderJournal, limit: int = 10) -> Claim:
    claim = journal.claim(limit)
    assert claim is not None
    return claim


def finish(journal: SenderJournal, state: RecipientState, limit: int = 10) -> Claim:
    claim = claimed(journal, limit)
    results = [RecipientResult(state, f"id-{phone}", "why") for phone in claim.phones]
    journal.finish(claim, results, accepted=len(results), credits_used=Decimal("0.1"), error="what")
    return claim


def agrees(journal: SenderJournal) -> None:
    """The counts are those that are recorded."""
    assert journal.counts == journal.reader.summary().counts


def test_what_a_run_did_not_come_to_is_left_for_the_next(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE, TWO, THREE)))
        finish(journal, ACCEPTED, 1)
        finish(journal, FAILED, 1)
    with closing(store.open(MESSAGE)) as journal:
        assert states(journal.reader) == {ONE: "accepted", TWO: "failed", THREE: "pending"}
        assert claimed(journal).phones == (TWO, THREE)
        assert journal.claim(10) is None
        assert journal.credits_used == Decimal("0.2")
        agrees(journal)
    with closing(store.open_reader()) as reader:
        (row,) = [row for _, row in reader.recipients(ACCEPTED, 0)]
        assert (row.message_id, row.reason, row.line, row.batch) == (f"id-{ONE}", "why", 1, 1)


@pytest.mark.parametrize("resend", [False, True])
def test_what_was_being_sent_is_unknown_and_not_sent_again_unless_asked_for(store: JournalStore, resend: bool) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE, TWO)))
        claimed(journal, 1)
    with closing(store.open(MESSAGE, resend_unknown=resend)) as journal:
        assert journal.counts[UNKNOWN] == (0 if resend else 1)
        assert claimed(journal).phones == ((ONE, TWO) if resend else (TWO,))
        agrees(journal)


def test_a_second_run_with_an_open_journal(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE, TWO, THREE)))
        claimed(journal, 1)
        finish(journal, FAILED, 1)
        journal.begin_run(resend_unknown=False)
        assert journal.ready == 2
        assert states(journal.reader) == {ONE: "unknown", TWO: "failed", THREE: "pending"}
        assert claimed(journal).phones == (TWO, THREE)


def test_an_exclusion_reaches_those_that_are_waiting_and_stays(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE, TWO)))
        journal.exclude([TWO, THREE], Exclusion.OPTED_OUT)
        assert journal.ready == 1
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE, TWO, THREE)))
        assert (journal.ready, journal.counts[RecipientState.EXCLUDED]) == (1, 2)
        assert journal.reader.summary().exclusions[Exclusion.OPTED_OUT] == 2
        agrees(journal)


@pytest.mark.parametrize("resend", [True, Silent(0)], ids=["all", "silent"])
def test_an_exclusion_reaches_those_that_were_unknown(store: JournalStore, resend: bool | Silent) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE, TWO, THREE)))
        ids = [f"id-{phone}" for phone in finish(journal, ACCEPTED, 1).phones]
        journal.recorder.record([Reported(each, ONE, DeliveryStatus.DELIVERED) for each in ids])
        finish(journal, UNKNOWN, 2)
    with closing(store.open(MESSAGE)) as journal:
        journal.exclude([TWO], Exclusion.LISTED)
        assert journal.counts[UNKNOWN] == 2
    with closing(store.open_copy(MESSAGE, resend_unknown=resend)) as copy:
        assert states(copy.reader)[TWO] == "excluded"
    with closing(store.open(MESSAGE, resend_unknown=resend)) as journal:
        assert (journal.ready, journal.counts[RecipientState.EXCLUDED]) == (1, 1)
        assert claimed(journal).phones == (THREE,)
        agrees(journal)
    with closing(store.open(MESSAGE, resend_unknown=True)) as journal:
        assert claimed(journal).phones == (THREE,)
        journal.recorder.record([Reported("late", TWO, DeliveryStatus.DELIVERED)])
        assert states(journal.reader)[TWO] == "accepted"  # it may have got it, and did


def test_a_recipient_is_sent_to_only_from_a_state_that_allows_it(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE)))
        claim = claimed(journal, 1)
        with pytest.raises(JournalError, match="another program"):
            journal.claim_again(claim.ids)
        result = [RecipientResult(ACCEPTED)]
        journal.finish(claim, result, accepted=1, credits_used=None, error=None)
        with pytest.raises(JournalError, match="another program"):
            journal.finish(claim, result, accepted=1, credits_used=None, error=None)
        with pytest.raises(JournalError, match="another program"):
            journal.claim_again(claim.ids)
        with pytest.raises(JournalError, match="another program"):
            journal.release(claim)
        agrees(journal)


def test_a_claim_is_undone_or_made_again(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE, TWO, THREE)))
        released = claimed(journal, 2)
        journal.release(released)
        assert states(journal.reader) == dict.fromkeys((ONE, TWO, THREE), "pending")
        assert journal.ready == 1  # none is claimed twice in one run, unless by `claim_again`
        failed = finish(journal, FAILED)
        assert failed.batch > released.batch  # what is under way goes by it
        again = journal.claim_again(failed.ids)
        assert again is not None
        assert again.batch > failed.batch
        assert states(journal.reader)[THREE] == "sending"
        agrees(journal)
        assert journal.reader.summary().calls == 2


def test_a_number_comes_once_however_many_runs(store: JournalStore) -> None:
    for _ in range(3):
        with closing(store.open(MESSAGE)) as journal:
            journal.add(check_all(listing(ONE, TWO)))
            while journal.claim(1):
                pass
            agrees(journal)
    with closing(store.open_reader()) as reader:
        assert reader.summary().calls == 2


def test_rows_that_are_no_phone_of_their_own_are_set_aside(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        for run in range(2):
            rows = [*listing(ONE, TWO, ONE), Row("no\0ne\ud800", 4), Row("+61400000001", 5), Row("B", 6), Row("a", 7)]
            journal.begin_list()
            with translated_errors(journal.path):
                journal.add(check_all(rows[:4]))
                journal.add(check_all(rows[4:]))
            journal.end_list()
            assert journal.counts[RecipientState.EXCLUDED] == 5, run
            agrees(journal)
            journal.begin_run(resend_unknown=False)
        (first, *others) = journal.reader.rejected_rows((-1, ""))
        assert (first.number, first.line, first.reason) == (f"+{ONE}", 3, "the same phone as in line 1")
        assert [row.line for row in others] == [4, 5, 6, 7]
        assert [row.line for row in journal.reader.rejected_rows((5, f"+{TWO}"))] == [6, 7]
        assert journal.reader.summary().exclusions == {
            Exclusion.INVALID: 3,
            Exclusion.DUPLICATE: 2,
            Exclusion.OPTED_OUT: 0,
            Exclusion.LISTED: 0,
            Exclusion.SUPPRESSED: 0,
            Exclusion.ARRIVED: 0,
            Exclusion.NO_MESSAGE: 0,
        }


@pytest.mark.parametrize(
    ("listed", "worse"),
    [
        ("three one bad one bad one two", 0),  # a row more above the others
        ("bad one bad one two", 0),  # one less
        ("two one bad one bad one", 0),
        ("bad bad bad two", 1),
        ("two worse", 1),
    ],
)
def test_a_row_that_stands_in_another_line_of_the_next_list_is_set_aside_once(
    store: JournalStore, listed: str, worse: int
) -> None:
    phones = {"one": f"+{ONE}", "two": f"+{TWO}", "three": f"+{THREE}"}
    for numbers in ("one bad one bad one two", listed, listed):
        rows = [Row(phones.get(number, number), line) for line, number in enumerate(numbers.split(), 1)]
        with closing(store.open(MESSAGE)) as journal:
            journal.begin_list()
            journal.add(check_all(rows[:2]))
            journal.add(check_all(rows[2:]))
            journal.end_list()
            agrees(journal)
            journal.begin_run(resend_unknown=False)
            summary = journal.reader.summary()
    assert (summary.exclusions[Exclusion.DUPLICATE], summary.exclusions[Exclusion.INVALID]) == (2, 2 + worse)


def test_a_list_that_is_shorter_than_one_that_was_cut_short_is_not_that_list(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.begin_list()
        journal.add(check_all(listing(ONE, TWO, THREE)))
    for phones, is_read in (((ONE, TWO), False), ((ONE, TWO, THREE), True), ((ONE,), True)):
        with closing(store.open(MESSAGE)) as journal:
            journal.begin_list()
            journal.add(check_all(listing(*phones)))
            journal.end_list()
            assert journal.list_read is is_read
        with closing(store.open_reader()) as reader:
            assert reader.summary().list_read is is_read


@pytest.mark.parametrize("field", ["text", "subject", "image"])
def test_another_message_is_refused(store: JournalStore, field: str) -> None:
    store.open(MESSAGE).close()
    other: bytes | str = b"other" if field == "image" else "other"
    message = evolve(MESSAGE, **{field: other})  # type: ignore[arg-type]
    with pytest.raises(
        JournalMismatchError, match=f"another {field}; use another name|another {field}; use a new file"
    ):
        store.open(message)
    with pytest.raises(JournalMismatchError):
        store.open_copy(message, resend_unknown=False)
    store.open(MESSAGE).close()


def test_a_journal_belongs_to_the_owner_that_it_was_begun_by(store: JournalStore) -> None:
    other_key = Owner(OWNER.base_url, lambda salt: f"{salt.hex()}-other")
    with closing(store.open(MESSAGE, OWNER)) as journal:
        journal.add(check_all(listing(ONE)))
        finish(journal, ACCEPTED)
    with pytest.raises(JournalMismatchError, match=r"a campaign at https://api\.example, and this client calls"):
        store.open(MESSAGE, Owner("https://other.example", OWNER.fingerprint))
    with pytest.raises(JournalMismatchError, match="with another APPKEY"):
        store.open(MESSAGE, other_key)
    store.open(MESSAGE, evolve(other_key, is_new_key=True)).close()
    with pytest.raises(JournalMismatchError, match="with another APPKEY"):
        store.open(MESSAGE, OWNER)
    with closing(store.open_reader()) as reader:
        assert reader.message() == MESSAGE


def unsent(journal: SenderJournal, state: RecipientState) -> None:
    """All of a call are in `state`, as an answer leaves them that tells that nothing was sent."""
    claim = claimed(journal)
    results = [RecipientResult(state, reason="why")] * len(claim.ids)
    journal.finish(claim, results, accepted=0, credits_used=None, error="what")


def test_a_journal_with_which_nothing_was_sent_takes_another_key(
    store: JournalStore, caplog: pytest.LogCaptureFixture
) -> None:
    other_key = Owner(OWNER.base_url, lambda salt: f"{salt.hex()}-other")
    with closing(store.open(MESSAGE, OWNER)) as journal:
        journal.add(check_all(listing(ONE, TWO)))
        unsent(journal, PENDING)
    assert not caplog.messages
    store.open_copy(MESSAGE, other_key, resend_unknown=False).close()
    assert not caplog.messages
    with closing(store.open(MESSAGE, other_key)) as journal:
        unsent(journal, FAILED)
        journal.release(journal.claim_again([1]))  # type: ignore[arg-type]
    (told,) = caplog.messages
    assert told.endswith("nothing was sent with the APPKEY that it was begun with; it takes this one")
    with pytest.raises(JournalMismatchError, match="a campaign at https://api"):
        store.open(MESSAGE, Owner("https://other.example", OWNER.fingerprint))
    with closing(store.open(MESSAGE, OWNER)) as journal:
        assert len(caplog.messages) == 2
        unsent(journal, FAILED)
    store.open(MESSAGE, OWNER).close()
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("state", [ACCEPTED, UNKNOWN, REFUSED, SENDING, None])
def test_a_journal_that_may_have_sent_keeps_its_key(store: JournalStore, state: RecipientState | None) -> None:
    """None: it was unknown, and is to be sent again."""
    with closing(store.open(MESSAGE, OWNER)) as journal:
        journal.add(check_all(listing(ONE, TWO)))
        if state is SENDING:
            claimed(journal, 1)
        else:
            claim = claimed(journal, 1)
            results = [RecipientResult(state or UNKNOWN)]
            journal.finish(claim, results, accepted=None, credits_used=None, error="what")
    if state is None:
        with closing(store.open(MESSAGE, OWNER, resend_unknown=True)) as journal:
            unsent(journal, PENDING)
            assert set(states(journal.reader).values()) == {PENDING}
    other_key = Owner(OWNER.base_url, lambda salt: f"{salt.hex()}-other")
    with pytest.raises(JournalMismatchError, match="with another APPKEY"):
        store.open(MESSAGE, other_key)
    with pytest.raises(JournalMismatchError, match="with another APPKEY"):
        store.open_copy(MESSAGE, other_key, resend_unknown=False)
    store.open(MESSAGE, OWNER).close()


def test_a_second_sender_is_refused_until_the_first_has_ended(store: JournalStore) -> None:
    first = store.open(MESSAGE)
    assert first.may_send
    with pytest.raises(JournalBusyError):
        store.open(MESSAGE)
    first.close()
    first.close()
    store.open(MESSAGE).close()


def test_a_report_finds_its_recipient(store: JournalStore) -> None:
    """Before its call's answer or after it, with a phone or without; a final status stays."""
    with closing(store.open(MESSAGE)) as journal, closing(store.open_recorder()) as recorder:
        journal.add(check_all(listing(ONE, TWO, THREE)))
        recorder.record([Reported(f"id-{ONE}", ONE, DeliveryStatus.DELIVERED)])
        finish(journal, ACCEPTED)
        for status in (DeliveryStatus.DISPATCHED, DeliveryStatus.DELIVERED, DeliveryStatus.FAILED):
            journal.recorder.record([Reported(f"id-{TWO}", 0, status)])
        recorder.record([Reported("\0\ud800", 0, DeliveryStatus.DELIVERED)])
        found = [row for _, row in journal.reader.recipients(None, 0)]
        assert [row.delivery for row in found] == [DeliveryStatus.DELIVERED, DeliveryStatus.DELIVERED, None]
        assert found[0].reported_at is not None
        assert found[0].reported_at.utcoffset() is not None
        summary = journal.reader.summary()
        assert summary.deliveries == {DeliveryStatus.DELIVERED: 2}
        assert summary.delivery_seconds is not None
        assert summary.started is not None
        assert summary.ended is not None
        assert summary.started <= summary.ended


def test_a_message_that_is_reported_as_delivered_has_arrived_whatever_was_said_before(store: JournalStore) -> None:
    failed, delivered = DeliveryStatus.FAILED, DeliveryStatus.DELIVERED
    with closing(store.open(MESSAGE)) as journal, closing(store.open_recorder()) as recorder:
        journal.add(check_all(listing(ONE, TWO)))
        finish(journal, ACCEPTED)
        for status in (failed, delivered, failed):
            recorder.record([Reported(f"id-{ONE}", ONE, status)])
        recorder.record([Reported(f"id-{TWO}", TWO, status) for status in (failed, delivered, failed)])
        assert journal.reader.summary().deliveries == {delivered: 2}


def test_who_is_suppressed_before_a_call_leaves_is_excluded_for_good(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE, TWO, THREE)))
        claim = claimed(journal)
        journal.suppress(claim, {TWO: "replied STOP"})
        agrees(journal)
        rest = claim.only([ONE, THREE])
        results = [RecipientResult(ACCEPTED, "A"), RecipientResult(FAILED)]
        journal.finish(rest, results, accepted=1, credits_used=None, error=None)
        agrees(journal)
        again = journal.claim_again(rest.ids[1:])
        assert again is not None
        journal.suppress(again, {THREE: "by hand"})
        agrees(journal)
        assert journal.reader.summary().calls == 1  # the second one never was
        with pytest.raises(JournalError, match="another program changed it"):
            journal.suppress(claim, {TWO: "again"})
    with closing(store.open(MESSAGE, resend_unknown=True)) as journal:
        journal.add(check_all(listing(ONE, TWO, THREE)))
        assert journal.claim(10) is None
        assert states(journal.reader) == {ONE: "accepted", TWO: "excluded", THREE: "excluded"}
        found = [row for _, row in journal.reader.recipients(RecipientState.EXCLUDED, 0)]
        assert [(row.exclusion, row.reason, row.batch) for row in found] == [
            (Exclusion.SUPPRESSED, "replied STOP", None),
            (Exclusion.SUPPRESSED, "by hand", None),
        ]
        assert journal.reader.summary().exclusions[Exclusion.SUPPRESSED] == 2


def test_a_rehearsal_writes_nothing(store: JournalStore) -> None:
    with closing(store.open_copy(MESSAGE, resend_unknown=False)) as copy:
        copy.add(check_all(listing(ONE, TWO, THREE)))
        assert copy.ready == 3
    with pytest.raises(JournalError):
        store.open_reader()
    with closing(store.open(MESSAGE)) as journal:
        journal.exclude([THREE], Exclusion.LISTED)
        journal.add(check_all([*listing(ONE, TWO), Row("x", 9)]))
        finish(journal, ACCEPTED, 1)
        journal.recorder.record([Reported(f"id-{ONE}", ONE, DeliveryStatus.DELIVERED)])
        claimed(journal, 1)
    with closing(store.open_copy(MESSAGE, resend_unknown=False)) as copy:
        copy.add(check_all(listing(ONE, TWO, THREE, 61400000003)))
        assert copy.ready == 1
    with closing(store.open_copy(MESSAGE, resend_unknown=True)) as copy:
        assert states(copy.reader) == {ONE: "accepted", TWO: "pending"}
        assert copy.reader.summary().deliveries == {DeliveryStatus.DELIVERED: 1}
        assert [row.line for row in copy.reader.rejected_rows((-1, ""))] == [9]
    with closing(store.open_reader()) as reader:
        assert states(reader) == {ONE: "accepted", TWO: "sending"}
        assert reader.summary().counts[RecipientState.EXCLUDED] == 1


def test_what_a_dead_sender_left_is_settled_without_a_campaign(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE, TWO, THREE)))
        claimed(journal, 2)
        with pytest.raises(JournalBusyError):
            store.settle()
        assert states(journal.reader) == {ONE: "sending", TWO: "sending", THREE: "pending"}
    with closing(store.open_recorder()) as recorder:
        recorder.record([Reported("A", ONE, DeliveryStatus.DELIVERED)])
    with closing(store.open_copy(MESSAGE, resend_unknown=False)) as copy:
        assert states(copy.reader) == {ONE: "accepted", TWO: "unknown", THREE: "pending"}
    with closing(store.open_reader()) as reader:
        assert states(reader) == {ONE: "sending", TWO: "sending", THREE: "pending"}
    assert (store.settle(), store.settle()) == (1, 0)
    with closing(store.open_reader()) as reader:
        assert states(reader) == {ONE: "accepted", TWO: "unknown", THREE: "pending"}
        assert (reader.summary().unknown.proven, reader.summary().unknown.count) == (1, 1)
    with closing(store.open(MESSAGE, resend_unknown=Silent(0))) as journal:
        assert claimed(journal).phones == (THREE,)


def test_a_rehearsal_sends_again_to_the_silent_alone(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.note_balance(Decimal("9.50"), is_after=False)
        journal.add(check_all(listing(ONE, TWO, THREE)))
        finish(journal, ACCEPTED, 1)
        journal.recorder.record([Reported(f"id-{ONE}", ONE, DeliveryStatus.DELIVERED)])
        finish(journal, UNKNOWN, 2)
        journal.recorder.record([Replied("A", THREE, 1.8e9 - 86400 * 365 * 20)])  # long ago
        journal.recorder.record([Replied("B", TWO, None)])
        journal.note_balance(Decimal("9.00"), is_after=True)
    with closing(store.open_copy(MESSAGE, resend_unknown=Silent(0))) as copy:
        assert states(copy.reader) == {ONE: "accepted", TWO: "accepted", THREE: "pending"}
        assert copy.ready == 1
        assert copy.reader.summary().unknown.unaccounted_credits == Decimal("0.30")
    with closing(store.open_reader()) as reader:
        assert states(reader) == {ONE: "accepted", TWO: "accepted", THREE: "unknown"}


@pytest.mark.parametrize("state", [RecipientState.EXCLUDED, RecipientState.SENDING])
def test_a_call_leaves_nobody_in_a_state_that_none_leads_to(store: JournalStore, state: RecipientState) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all(listing(ONE)))
        claim = claimed(journal, 1)
        with pytest.raises(ValueError, match="accepted, failed, pending, refused, unknown"):
            journal.finish(claim, [RecipientResult(state)], accepted=0, credits_used=None, error=None)
        journal.finish(claim, [RecipientResult(FAILED)], accepted=0, credits_used=None, error=None)


texts = st.text(st.characters(codec=None), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(texts, texts), min_size=2, max_size=2), texts, st.integers(), st.decimals(0, 10**40))
def test_whatever_an_answer_says_is_recorded_or_an_error_of_the_journal(
    journals: Callable[[], SenderJournal],
    ends: list[tuple[str, str]],
    error: str,
    accepted: int,
    credits_used: Decimal,
) -> None:
    journal = journals()
    claim = claimed(journal, 2)
    results = [RecipientResult(ACCEPTED, message_id, reason) for message_id, reason in ends]
    try:
        with translated_errors(journal.path):
            journal.finish(claim, results, accepted=accepted, credits_used=credits_used, error=error)
            assert str(report_from(journal.reader, None))
    except JournalError:
        assert not -(2**63) <= accepted < 2**63
    else:
        found = [row.state for _, row in journal.reader.recipients(None, claim.ids[0] - 1)]
        assert found == [ACCEPTED] * 2


@pytest.fixture
def journals(store: JournalStore) -> Iterator[Callable[[], SenderJournal]]:
    """One journal, with two more recipients each time."""
    journal = store.open(MESSAGE)
    phones = iter(range(ONE, ONE + 10**6))

    def with_two_more() -> SenderJournal:
        while journal.ready:
            journal.claim(10)
        journal.add(check_all(listing(next(phones), next(phones))))
        return journal

    yield with_two_more
    journal.close()


def test_no_password_in_what_is_shown(store: JournalStore) -> None:
    assert PASSWORD not in repr(store)
    assert PASSWORD not in store.shown


def test_recipients_of_no_list_stay_themselves_when_they_come_in_one(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.exclude([THREE], Exclusion.LISTED)
        journal.add(check_all(listing(ONE)))
        journal.add_unlisted(unlisted(ONE, TWO, THREE, TWO))  # a number may be given twice
        assert journal.ready == 2
        journal.add(check_all([Row(f"+{TWO}", 2)]))
        found = journal.reader.recipients_of([TWO, THREE, 61400000009])
        assert [(row.number, row.line, row.state) for _, row in found] == [
            (f"+{TWO}", 2, "pending"),
            (f"+{THREE}", 0, "excluded"),
        ]
        claim = journal.claim_again([found[0][0]])  # before one that stands before it
        assert claim is not None
        assert journal.ready == 1
        journal.finish(claim, [RecipientResult(ACCEPTED, "id")], accepted=1, credits_used=None, error=None)
        assert claimed(journal).phones == (ONE,)
        assert journal.claim(10) is None
        assert journal.reader.rejected_rows((-1, "")) == []
        agrees(journal)
    with closing(store.open(MESSAGE)) as journal:
        journal.add_unlisted(unlisted(TWO, THREE))
        assert states(journal.reader) == {ONE: "unknown", TWO: "accepted", THREE: "excluded"}


def test_what_calls_cost_or_may_have_is_read_back(store: JournalStore) -> None:
    with closing(store.open(MESSAGE)) as journal:
        journal.add(check_all([Row(f"+{ONE + place}", place) for place in range(1, 9)]))
        ends = [
            (ACCEPTED, 2, Decimal("4.5"), None),
            (UNKNOWN, None, None, "no answer"),
            (FAILED, 0, None, "throttled"),
        ]
        for state, accepted, told, error in ends:
            claim = claimed(journal, 2)
            journal.finish(claim, [RecipientResult(state)] * 2, accepted=accepted, credits_used=told, error=error)
        claimed(journal, 1)
        expected = [
            CallCost(2, is_open=False, accepted=2, told=Decimal("4.5"), taken=2),
            CallCost(2, is_open=True, accepted=0, told=None, doubtful=2),
            CallCost(2, is_open=False, accepted=0, told=None),
            CallCost(1, is_open=True, accepted=0, told=None, doubtful=1),
        ]
        assert journal.reader.call_costs() == expected
    with closing(store.open_copy(MESSAGE, resend_unknown=True)) as copy:
        claimed(copy, 10)  # of the unknown ones the first calls count all the same
        costs = copy.reader.call_costs()
        assert [cost.counted for cost in costs] == [2, 2, 0, 1, 6]
        assert [cost.counted for cost in costs[:4]] == [cost.counted for cost in expected]
