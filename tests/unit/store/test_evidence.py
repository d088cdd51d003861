"""What is heard of unknown recipients: what it proves, what it does not, and what silence is worth. On both engines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from decimal import Decimal

import pytest
from attrs import define, evolve, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsclient import DeliveryStatus
from mmsclient._api.types import Kind
from mmsclient._store.evidence import NAMED, PROOF_WINDOW, PROVEN, RESENT, Silent
from mmsclient._store.heard import Heard, Replied, Reported
from mmsclient._store.models import Claim, Exclusion, RecipientResult
from mmsclient._store.models import RecipientState as State
from mmsclient._store.postgres.database import Database
from mmsclient._store.protocol import SenderJournal
from mmsclient._store.stores import JournalStore
from mmsclient.bulk import Row
from mmsclient.bulk.recipients import check_all
from tests.support.evidence import MESSAGE, Clock, end, in_postgres, lose, row, sqlite_in_memory
from tests.support.postgres_server import Server

ONE, TWO, THREE = PHONES = (61400000000, 61400000001, 61400000002)
DELIVERED = DeliveryStatus.DELIVERED
DAY = 86400.0
LIST = [Row(f"+{phone}", line) for line, phone in enumerate(PHONES, 1)]


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[JournalStore, Clock]]:
    if request.param == "postgres":
        server: Server = request.getfixturevalue("postgres")
        yield in_postgres(server.new_database())
    else:
        with sqlite_in_memory() as found:
            yield found


@pytest.fixture
def clock(engine: tuple[JournalStore, Clock]) -> Clock:
    return engine[1]


@pytest.fixture
def empty(engine: tuple[JournalStore, Clock]) -> Iterator[SenderJournal]:
    with closing(engine[0].open(MESSAGE)) as journal:
        yield journal


@pytest.fixture
def journal(empty: SenderJournal) -> SenderJournal:
    empty.add(check_all(LIST))
    return empty


def resume(journal: SenderJournal) -> None:
    journal.begin_run(resend_unknown=False)


# What it is of -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", ["mms", "sms"])
def test_what_tells_that_it_is_of_the_other_kind_proves_nothing(
    engine: tuple[JournalStore, Clock], own: Kind, clock: Clock
) -> None:
    other = "sms" if own == "mms" else "mms"
    message = evolve(MESSAGE, kind=own, sms="" if own == "mms" else "{}")
    with closing(engine[0].open(message)) as journal:
        journal.add(check_all(LIST))
        lose(journal, 3)
        reply = Replied("B", TWO, clock.of_store(clock.now + 1), other)
        journal.recorder.record([Reported("A", ONE, DELIVERED, other), reply, Reported("C", THREE, DELIVERED, own)])
        journal.recorder.record([Reported("A", ONE, DELIVERED), Reported("B", TWO, DELIVERED)])
        states = [row(journal, phone).state for phone in PHONES]
        assert states == [State.UNKNOWN, State.UNKNOWN, State.ACCEPTED]
        resume(journal)
        assert [row(journal, phone).state for phone in PHONES] == states
        journal.begin_run(resend_unknown=Silent(0))  # something was heard of them all the same
        assert journal.counts[State.PENDING] == 0
        journal.recorder.record([Reported("D", ONE, DELIVERED)])
        assert row(journal, ONE).state is State.ACCEPTED


# What proves ----------------------------------------------------------------------------------------------------------


def test_a_report_proves_that_an_unknown_message_went_out(journal: SenderJournal) -> None:
    lose(journal, 2)
    journal.recorder.record([Reported("A", ONE, DELIVERED)])
    found = row(journal, ONE)
    assert (found.state, found.message_id, found.reason, found.delivery) == ("accepted", "A", PROVEN, "Delivered")
    assert row(journal, TWO).state == "unknown"
    summary = journal.reader.summary()
    assert (summary.unknown.proven, summary.unknown.count, summary.deliveries) == (1, 1, {DELIVERED: 1})


def test_a_report_that_came_before_the_death_was_noticed_counts(journal: SenderJournal) -> None:
    journal.claim(1)
    journal.recorder.record([Reported("A", ONE, DELIVERED)])
    assert row(journal, ONE).state == "sending"  # its answer may still come
    resume(journal)
    assert (row(journal, ONE).state, row(journal, ONE).message_id) == ("accepted", "A")
    assert journal.counts == journal.reader.summary().counts


def test_a_report_that_came_before_a_call_timed_out_counts(journal: SenderJournal) -> None:
    claim = journal.claim(2)
    assert claim is not None
    journal.recorder.record([Reported("A", ONE, DELIVERED)])
    end(journal, claim, State.UNKNOWN)
    assert (row(journal, ONE).state, row(journal, TWO).state) == ("accepted", "unknown")
    assert all(journal.counts[state] == count for state, count in journal.reader.summary().counts.items())


def test_a_reply_proves_it_too(journal: SenderJournal, clock: Clock) -> None:
    resume(journal)
    lose(journal, 2)
    journal.recorder.record([Replied("A", ONE, clock.of_store(clock.now + 60))])  # a clock that is ahead
    journal.recorder.record([Replied("B", TWO, None)])
    assert [row(journal, phone).state for phone in (ONE, TWO)] == ["accepted", "accepted"]
    assert journal.reader.summary().deliveries == {}


@pytest.mark.parametrize("at_once", [False, True])
def test_an_id_that_a_whole_call_shares_proves_each_of_its_messages(journal: SenderJournal, at_once: bool) -> None:
    claim = journal.claim(2)
    assert claim is not None
    if at_once:
        end(journal, claim, State.UNKNOWN)
    for phone in (ONE, TWO):
        journal.recorder.record([Reported("A", phone, DELIVERED)])
    resume(journal)
    assert [row(journal, phone).state for phone in (ONE, TWO)] == ["accepted", "accepted"]


def test_a_report_that_comes_before_the_second_call_prevents_it(journal: SenderJournal) -> None:
    lose(journal)
    journal.begin_run(resend_unknown=True)
    assert row(journal, ONE).state == "pending"
    journal.recorder.record([Reported("A", ONE, DELIVERED)])
    claim = journal.claim(10)
    assert claim is not None
    assert claim.phones == (TWO, THREE)
    assert row(journal, ONE).state == "accepted"
    assert journal.claim(10) is None
    assert journal.ready == 0


# Sent to again --------------------------------------------------------------------------------------------------------


def send_again(journal: SenderJournal) -> Claim:
    """One is unknown, is to be sent to again, and its call is about to leave."""
    lose(journal)
    journal.begin_run(resend_unknown=True)
    claim = journal.claim(1)
    assert claim is not None
    assert claim.phones == (ONE,)
    return claim


def taken_back(journal: SenderJournal, claim: Claim) -> None:
    journal.release(claim)


def not_carried_out(journal: SenderJournal, claim: Claim) -> None:
    end(journal, claim, State.PENDING)


def throttled(journal: SenderJournal, claim: Claim) -> None:
    end(journal, claim, State.FAILED)


def unknown_again(journal: SenderJournal, claim: Claim) -> None:
    end(journal, claim, State.UNKNOWN)
    journal.begin_run(resend_unknown=True)


def taken_back_after_it_was_unknown_again(journal: SenderJournal, claim: Claim) -> None:
    unknown_again(journal, claim)
    again = journal.claim(1)
    assert again is not None
    journal.release(again)


def suppressed(journal: SenderJournal, claim: Claim) -> None:
    journal.suppress(claim, dict.fromkeys(claim.phones, "replied STOP"))


def without_picture(journal: SenderJournal, claim: Claim) -> None:
    journal.suppress(claim, dict.fromkeys(claim.phones, "its picture has gone"), Exclusion.NO_MESSAGE)


ENDS = pytest.mark.parametrize(
    "ended",
    [
        taken_back,
        not_carried_out,
        throttled,
        suppressed,
        without_picture,
        unknown_again,
        taken_back_after_it_was_unknown_again,
    ],
)
Ended = Callable[[SenderJournal, Claim], None]


@ENDS
@pytest.mark.parametrize("resend", [False, True])
def test_a_report_of_a_former_call_prevents_another_one(journal: SenderJournal, ended: Ended, resend: bool) -> None:
    ended(journal, send_again(journal))
    assert row(journal, ONE).state in ("pending", "failed", "excluded")
    journal.recorder.record([Reported("A", ONE, DELIVERED)])
    found = row(journal, ONE)
    assert (found.state, found.message_id, found.reason) == ("accepted", "A", PROVEN)
    assert not any(journal.reader.summary().exclusions.values())
    assert journal.reader.excluded_among(PHONES).keys() == ({ONE} if ended is suppressed else set())
    journal.begin_run(resend_unknown=resend)
    claim = journal.claim(10)
    assert claim is not None
    assert claim.phones == (TWO, THREE)


@ENDS
def test_a_report_of_a_former_call_that_comes_during_another_one_prevents_a_third(
    journal: SenderJournal, ended: Ended
) -> None:
    claim = send_again(journal)
    journal.recorder.record([Reported("A", ONE, DELIVERED)])
    assert row(journal, ONE).state == "sending"  # its answer may still come
    if ended is taken_back_after_it_was_unknown_again:
        ended = unknown_again
    ended(journal, claim)
    assert row(journal, ONE).state == "accepted"
    assert journal.counts == journal.reader.summary().counts
    assert journal.claim_again(claim.ids) is None
    assert journal.counts == journal.reader.summary().counts


def test_only_those_are_called_again_whose_former_call_is_not_proven(journal: SenderJournal) -> None:
    lose(journal, 3)
    journal.begin_run(resend_unknown=True)
    claim = journal.claim(3)
    assert claim is not None
    end(journal, claim, State.FAILED)
    journal.recorder.record([Reported("A", TWO, DELIVERED)])
    again = journal.claim_again(claim.ids)
    assert again is not None
    assert again.phones == (ONE, THREE)
    assert journal.counts == journal.reader.summary().counts


def test_who_was_to_be_sent_to_again_is_shown_so_after_a_call_was_taken_back(journal: SenderJournal) -> None:
    lose(journal)
    journal.begin_run(resend_unknown=True)
    before = row(journal, ONE)
    assert (before.state, before.reason, before.batch) == ("pending", RESENT, 1)
    claim = journal.claim(1)
    assert claim is not None
    journal.release(claim)
    assert row(journal, ONE) == before


def test_a_report_long_after_the_former_call_proves_nothing(journal: SenderJournal, clock: Clock) -> None:
    lose(journal)
    clock.now += PROOF_WINDOW + DAY
    journal.begin_run(resend_unknown=True)
    for ended in (throttled, not_carried_out, taken_back):
        claim = journal.claim(1)
        assert claim is not None
        ended(journal, claim)
        journal.recorder.record([Reported("A", ONE, DELIVERED)])
        assert row(journal, ONE).state in ("pending", "failed")
        journal.begin_run(resend_unknown=True)


def test_what_was_heard_since_the_first_call_breaks_the_silence(journal: SenderJournal, clock: Clock) -> None:
    claim = journal.claim(1)
    assert claim is not None
    end(journal, claim, State.UNKNOWN)
    clock.now += PROOF_WINDOW + DAY
    journal.recorder.record([Reported("A", ONE, DELIVERED)])
    clock.now += 2 * DAY
    journal.begin_run(resend_unknown=True)
    lose(journal)
    assert journal.reader.summary().unknown.heard_of == 1


def test_who_may_have_got_an_earlier_message_than_that_which_was_accepted(journal: SenderJournal, clock: Clock) -> None:
    lose(journal, 2)
    journal.begin_run(resend_unknown=True)
    claim = journal.claim(3)
    assert claim is not None
    end(journal, claim, State.ACCEPTED, "B")
    reader, record = journal.reader, journal.recorder.record
    assert [recipient.number for _, recipient in reader.sent_again(0)] == [f"+{ONE}", f"+{TWO}"]
    assert [recipient.number for _, recipient in reader.sent_again(reader.sent_again(0)[0][0])] == [f"+{TWO}"]
    record([Reported(f"B-{phone}", phone, DELIVERED) for phone in PHONES])
    record([Reported("C", THREE, DELIVERED), Reported(f"B-{THREE}", ONE, DELIVERED)])  # of no call, and named
    record([Replied("D", ONE, clock.of_store(clock.now), "sms")])
    assert reader.reached_before(PHONES) == {}
    record([Reported("A", TWO, DeliveryStatus.QUEUED)])
    assert reader.reached_before(PHONES) == {TWO: ""}  # it may still come
    record([Reported("A", TWO, DeliveryStatus.FAILED), Replied("E", ONE, clock.of_store(clock.now))])
    assert reader.reached_before(PHONES) == {ONE: ""}
    clock.now += PROOF_WINDOW + DAY
    record([Reported("F", TWO, DELIVERED)])
    assert reader.reached_before(PHONES) == {ONE: ""}
    clock.now -= PROOF_WINDOW + DAY
    record([Reported("E", ONE, DeliveryStatus.UNKNOWN)])  # nobody says that it did not arrive
    assert reader.reached_before(PHONES) == {ONE: "Unknown"}


# What does not --------------------------------------------------------------------------------------------------------


def no_number(journal: SenderJournal, clock: Clock) -> None:
    lose(journal)
    journal.recorder.record([Reported("A", 0, DELIVERED)])


def another_phone(journal: SenderJournal, clock: Clock) -> None:
    lose(journal)
    journal.recorder.record([Reported("A", TWO, DELIVERED)])


def named_for_another(journal: SenderJournal, clock: Clock) -> None:
    lose(journal)
    claim = journal.claim(1)
    assert claim is not None
    end(journal, claim, State.ACCEPTED, "A")
    journal.recorder.record([Reported(f"A-{TWO}", ONE, DELIVERED)])


def too_late(journal: SenderJournal, clock: Clock) -> None:
    lose(journal)
    clock.now += PROOF_WINDOW + 1
    journal.recorder.record([Reported("A", ONE, DELIVERED)])


def before_the_call(journal: SenderJournal, clock: Clock) -> None:
    journal.recorder.record([Reported("A", ONE, DELIVERED)])
    clock.now += 1
    lose(journal)


def on_its_way_before_the_call(journal: SenderJournal, clock: Clock) -> None:
    journal.recorder.record([Reported("A", ONE, DeliveryStatus.DISPATCHED)])
    clock.now += 1
    lose(journal)
    clock.now += 1
    journal.recorder.record([Reported("A", ONE, DELIVERED)])


def heard_of_without_a_number_before_the_call(journal: SenderJournal, clock: Clock) -> None:
    journal.recorder.record([Reported("A", 0, DeliveryStatus.DISPATCHED)])
    clock.now += 1
    lose(journal)
    clock.now += 1
    journal.recorder.record([Reported("A", ONE, DELIVERED)])


def an_old_reply(journal: SenderJournal, clock: Clock) -> None:
    lose(journal)
    journal.recorder.record([Replied("A", ONE, clock.of_store(clock.now - 1))])


def a_reply_to_what_was_replied_to_before(journal: SenderJournal, clock: Clock) -> None:
    journal.recorder.record([Replied("A", ONE, None)])
    clock.now += 1
    lose(journal)
    clock.now += 1
    journal.recorder.record([Replied("A", ONE, None)])


def a_call_that_was_refused(journal: SenderJournal, clock: Clock) -> None:
    claim = journal.claim(1)
    assert claim is not None
    end(journal, claim, State.REFUSED)
    journal.recorder.record([Reported("A", ONE, DELIVERED)])


def a_call_that_was_surely_not_carried_out(journal: SenderJournal, clock: Clock) -> None:
    claim = journal.claim(1)
    assert claim is not None
    end(journal, claim, State.PENDING)
    journal.recorder.record([Reported("A", ONE, DELIVERED)])


@pytest.mark.parametrize(
    "story",
    [
        no_number,
        another_phone,
        named_for_another,
        too_late,
        before_the_call,
        on_its_way_before_the_call,
        heard_of_without_a_number_before_the_call,
        an_old_reply,
        a_reply_to_what_was_replied_to_before,
        a_call_that_was_refused,
        a_call_that_was_surely_not_carried_out,
    ],
)
def test_what_proves_nothing(
    story: Callable[[SenderJournal, Clock], None], journal: SenderJournal, clock: Clock
) -> None:
    resume(journal)
    story(journal, clock)
    assert row(journal, ONE).state in ("unknown", "refused", "pending")
    resume(journal)
    assert row(journal, ONE).state in ("unknown", "refused", "pending")
    assert journal.reader.summary().unknown.proven == 0


# Without an id --------------------------------------------------------------------------------------------------------


def accepted_without_id(journal: SenderJournal, claim: Claim | None) -> None:
    assert claim is not None
    end(journal, claim, State.ACCEPTED, None)


@pytest.mark.parametrize("is_before", [False, True])
def test_what_is_heard_names_a_message_that_no_answer_named(
    journal: SenderJournal, is_before: bool, clock: Clock
) -> None:
    claim = journal.claim(2)
    heard: list[Heard] = [Reported("A", ONE, DeliveryStatus.FAILED), Replied("B", TWO, clock.of_store(clock.now + 1))]
    if is_before:
        journal.recorder.record(heard)
    accepted_without_id(journal, claim)
    if not is_before:
        journal.recorder.record(heard)
    first, second = row(journal, ONE), row(journal, TWO)
    assert (first.state, first.message_id, first.reason, first.delivery) == ("accepted", "A", NAMED, "Failed")
    assert (second.state, second.message_id, second.reason, second.delivery) == ("accepted", "B", NAMED, None)
    summary = journal.reader.summary()
    assert (summary.deliveries, summary.unknown.proven) == ({DeliveryStatus.FAILED: 1}, 0)
    assert all(journal.counts[state] == count for state, count in summary.counts.items())
    journal.recorder.record([Reported("C", ONE, DELIVERED), Reported("A", ONE, DELIVERED)])
    assert (row(journal, ONE).message_id, row(journal, ONE).delivery) == ("A", DELIVERED)


def test_an_id_that_a_whole_call_shares_names_each_of_its_messages(journal: SenderJournal) -> None:
    accepted_without_id(journal, journal.claim(2))
    for phone in (ONE, TWO):
        journal.recorder.record([Reported("A", phone, DELIVERED)])
    assert [row(journal, phone).delivery for phone in (ONE, TWO)] == [DELIVERED, DELIVERED]


def heard_before_the_call(journal: SenderJournal, clock: Clock) -> None:
    journal.recorder.record([Reported("A", ONE, DELIVERED)])
    clock.now += 1
    accepted_without_id(journal, journal.claim(1))


def heard_too_late(journal: SenderJournal, clock: Clock) -> None:
    accepted_without_id(journal, journal.claim(1))
    clock.now += PROOF_WINDOW + 1
    journal.recorder.record([Reported("A", ONE, DELIVERED)])


def heard_of_the_other_kind(journal: SenderJournal, clock: Clock) -> None:
    accepted_without_id(journal, journal.claim(1))
    journal.recorder.record([Reported("A", ONE, DELIVERED, "sms")])


def heard_of_a_message_of_another(journal: SenderJournal, clock: Clock) -> None:
    accepted_without_id(journal, journal.claim(1))
    claim = journal.claim(1)
    assert claim is not None
    end(journal, claim, State.ACCEPTED, "A")
    journal.recorder.record([Reported(f"A-{TWO}", ONE, DELIVERED)])


def heard_of_two_messages(journal: SenderJournal, clock: Clock) -> None:
    claim = journal.claim(1)
    journal.recorder.record([Reported("A", ONE, DeliveryStatus.FAILED), Reported("B", ONE, DELIVERED)])
    accepted_without_id(journal, claim)


def heard_after_two_calls(journal: SenderJournal, clock: Clock) -> None:
    """The first may be the one that did not arrive, and the second may still arrive."""
    lose(journal)
    journal.begin_run(resend_unknown=True)
    accepted_without_id(journal, journal.claim(1))
    journal.recorder.record([Reported("A", ONE, DeliveryStatus.FAILED)])


@pytest.mark.parametrize(
    "story",
    [
        heard_before_the_call,
        heard_too_late,
        heard_of_the_other_kind,
        heard_of_a_message_of_another,
        heard_of_two_messages,
        heard_after_two_calls,
    ],
)
def test_what_names_no_message(
    story: Callable[[SenderJournal, Clock], None], journal: SenderJournal, clock: Clock
) -> None:
    resume(journal)
    story(journal, clock)
    for _ in range(2):
        found = row(journal, ONE)
        assert (found.state, found.message_id, found.delivery) == ("accepted", None, None)
        resume(journal)


# Any order ------------------------------------------------------------------------------------------------------------


@define
class World:
    """A journal, and a provider that knows whom it sent what."""

    journal: SenderJournal
    clock: Clock
    under_way: Claim | None = None
    ids: dict[int, str] = field(factory=dict)
    """Of the call under way, where it was carried out."""
    sent: dict[int, list[str]] = field(factory=lambda: {phone: [] for phone in PHONES})
    """Ids of the messages that went out for this journal."""
    reported: dict[str, float] = field(factory=dict)
    """When one of these was reported without a number, for the first time."""
    heard: dict[int, dict[str, float]] = field(factory=lambda: {phone: {} for phone in PHONES})
    """When something of these was heard from or of a number, for the first time."""
    began: dict[int, float] = field(factory=dict)
    """The last call to a phone, where it is under way or its outcome unknown."""
    former: dict[int, list[float]] = field(factory=lambda: {phone: [] for phone in PHONES})
    """Calls to it that may have been carried out, before it was to be sent to again."""
    unnamed: dict[int, float] = field(factory=dict)
    """The call to it whose answer accepted it, and named no message."""
    counts_may_be_old: bool = False

    def claim(self) -> None:
        if self.under_way is None:
            self.begin(self.journal.claim(2))

    def begin(self, claim: Claim | None) -> None:
        self.under_way, self.ids = claim, {}
        for phone in () if claim is None else claim.phones:
            assert not self.proven(phone, self.former[phone]), "it is known that it went out, and it is called again"
            self.began[phone] = self.clock.now

    def proven(self, phone: int, calls: Iterable[float]) -> bool:
        return any(began <= at <= began + PROOF_WINDOW for began in calls for at in self.heard[phone].values())

    def carry_out(self) -> None:
        if self.under_way is not None and not self.ids:
            batch = self.under_way.batch
            self.ids = {phone: f"{batch}-{phone}" for phone in self.under_way.phones}
            for phone, message_id in self.ids.items():
                self.sent[phone].append(message_id)

    def answer(self, *, names: bool) -> None:
        if self.under_way is not None:
            claim, ids = self.under_way, self.ids
            state = State.ACCEPTED if ids else State.PENDING
            results = [RecipientResult(state, ids.get(phone) if names else None) for phone in claim.phones]
            self.journal.finish(claim, results, accepted=len(ids), credits_used=None, error=None)
            self.unnamed |= {phone: self.began[phone] for phone in claim.phones if not names}
            self.end()

    def fail(self, *, again: bool) -> None:
        if self.under_way is not None and not self.ids:
            claim = self.under_way
            end(self.journal, claim, State.FAILED)
            self.end()
            if again:
                self.begin(self.journal.claim_again(claim.ids))

    def release(self) -> None:
        if self.under_way is not None and not self.ids:
            self.journal.release(self.under_way)
            self.end()

    def suppress(self) -> None:
        if self.under_way is not None and not self.ids:
            suppressed(self.journal, self.under_way)
            self.end()

    def end(self) -> None:
        """The outcome of the call is known."""
        for phone in () if self.under_way is None else self.under_way.phones:
            del self.began[phone]
        self.under_way = None

    def time_out(self) -> None:
        if self.under_way is not None:
            end(self.journal, self.under_way, State.UNKNOWN)
            self.under_way = None

    def die(self, resend: bool | Silent) -> None:
        self.journal.begin_run(resend_unknown=resend)
        self.under_way = None
        self.counts_may_be_old = False
        for phone in [phone for phone in self.began if row(self.journal, phone).state is State.PENDING]:
            self.former[phone].append(self.began.pop(phone))

    def report(self, phone: int, *, by_number: bool, reply: bool) -> None:
        for message_id in self.sent[phone]:
            if reply:
                self.journal.recorder.record([Replied(message_id, phone, self.clock.of_store(self.clock.now))])
            else:
                self.journal.recorder.record([Reported(message_id, phone if by_number else 0, DELIVERED)])
            self.counts_may_be_old = True
            if by_number or reply:
                at = min(self.clock.now, self.reported.get(message_id, self.clock.now))
                self.heard[phone].setdefault(message_id, at)
            if not reply:
                self.reported.setdefault(message_id, self.clock.now)

    def report_another(self, phone: int) -> None:
        """Of a message that somebody sent before this campaign, and that was heard of by then."""
        self.journal.recorder.record([Reported(f"other-{phone}", phone, DELIVERED)])

    def check(self) -> None:
        for phone in PHONES:
            found = row(self.journal, phone)
            if found.reason == PROVEN:
                assert found.state is State.ACCEPTED
                assert found.message_id in self.sent[phone]
            if found.state is State.ACCEPTED and found.message_id is None and not self.former[phone]:
                assert not self.proven(phone, [self.unnamed[phone]]), found
            if found.reason == NAMED:
                assert found.message_id == self.sent[phone][-1]
            if found.state in (State.PENDING, State.FAILED, State.EXCLUDED):
                assert not self.proven(phone, self.former[phone]), found
            if found.state is State.UNKNOWN:
                assert not self.proven(phone, [*self.former[phone], self.began[phone]]), found
        counts = self.journal.reader.summary().counts
        assert sum(counts.values()) == sum(self.journal.counts.values()) == len(PHONES)
        assert self.counts_may_be_old or all(self.journal.counts[state] == count for state, count in counts.items())


STEPS = st.one_of(
    st.just(World.claim),
    st.just(World.carry_out),
    st.booleans().map(lambda names: lambda world: world.answer(names=names)),
    st.just(World.time_out),
    st.just(World.release),
    st.just(World.suppress),
    st.booleans().map(lambda again: lambda world: world.fail(again=again)),
    st.sampled_from([False, True, True, Silent(DAY)]).map(lambda resend: lambda world: world.die(resend)),
    st.tuples(st.sampled_from(PHONES), st.booleans(), st.booleans()).map(
        lambda drawn: lambda world: world.report(drawn[0], by_number=drawn[1], reply=drawn[2])
    ),
    st.sampled_from(PHONES).map(lambda phone: lambda world: world.report_another(phone)),
    st.sampled_from([0.001, DAY, 2.5 * DAY]).map(
        lambda seconds: lambda world: setattr(world.clock, "now", world.clock.now + seconds)
    ),
)


def in_any_order(
    journal: SenderJournal, clock: Clock, steps: list[Callable[[World], None]], may_send_again: bool
) -> None:
    journal.add(check_all(LIST))
    world = World(journal, clock)
    for phone in PHONES:
        world.report_another(phone)
    clock.now += 1
    for step in steps:
        step(world)
        world.check()
    if may_send_again:
        world.die(True)
        world.check()


@given(st.lists(STEPS, max_size=30), st.booleans())
def test_in_any_order_only_what_was_carried_out_is_accepted_by_evidence(
    steps: list[Callable[[World], None]], may_send_again: bool
) -> None:
    with sqlite_in_memory() as (store, clock), closing(store.open(MESSAGE)) as journal:
        in_any_order(journal, clock, steps, may_send_again)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=30), st.booleans())
def test_in_any_order_in_postgres(
    databases: Iterator[str], steps: list[Callable[[World], None]], may_send_again: bool
) -> None:
    store, clock = in_postgres(next(databases))
    with closing(store.open(MESSAGE)) as journal:
        in_any_order(journal, clock, steps, may_send_again)


@pytest.fixture
def databases(postgres: Server) -> Iterator[str]:
    def one_after_the_other() -> Iterator[str]:
        while True:
            postgres.take_back()
            yield postgres.new_database()

    return one_after_the_other()


# Silence --------------------------------------------------------------------------------------------------------------


def campaign(journal: SenderJournal, *, accepted: int, reported: int, lost: int, by_number: bool = True) -> None:
    """A run in which so many were accepted, so many of these reported on, and so many lost."""
    start = sum(journal.counts.values())
    count = accepted + lost
    journal.add(check_all([Row(f"+6141{n:07}", n) for n in range(start, start + count)]))
    if accepted and (claim := journal.claim(accepted)) is not None:
        end(journal, claim, State.ACCEPTED, "A")
        for phone in claim.phones[:reported]:
            journal.recorder.record([Reported(f"A-{phone}", phone if by_number else 0, DELIVERED)])
    if lost:
        lose(journal, lost)


def test_the_silent_are_sent_to_again_where_reports_come(empty: SenderJournal, clock: Clock) -> None:
    campaign(empty, accepted=10, reported=9, lost=3)
    clock.now += DAY
    empty.begin_run(resend_unknown=Silent(DAY))
    assert (empty.ready, empty.counts[State.UNKNOWN]) == (3, 0)


def test_the_silent_are_not_sent_to_before_their_time(empty: SenderJournal, clock: Clock) -> None:
    campaign(empty, accepted=10, reported=9, lost=3)
    clock.now += DAY - 1
    empty.begin_run(resend_unknown=Silent(DAY))
    assert (empty.ready, empty.counts[State.UNKNOWN]) == (0, 3)


def test_of_whom_anything_was_heard_nothing_is_sent_again(empty: SenderJournal, clock: Clock) -> None:
    campaign(empty, accepted=10, reported=9, lost=3)
    clock.now += PROOF_WINDOW + 1
    empty.recorder.record([Reported("late", 61410000012, DELIVERED)])
    empty.recorder.record([Replied("wrong zone", 61410000011, clock.of_store(clock.now - PROOF_WINDOW - 14 * 3600))])
    assert empty.reader.summary().unknown.heard_of == 2
    empty.begin_run(resend_unknown=Silent(DAY))
    assert (empty.ready, empty.counts[State.UNKNOWN]) == (1, 2)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ((10, 8, True), "8 of 10 accepted recipients were reported on by number; silence means nothing below 90%"),
        ((10, 10, False), "0 of 10 accepted recipients"),
        ((0, 0, True), "nobody was accepted by an answer"),
    ],
)
def test_where_reports_are_missing_silence_means_nothing(
    empty: SenderJournal,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    run: tuple[int, int, bool],
    words: str,
) -> None:
    accepted, reported, by_number = run
    campaign(empty, accepted=accepted, reported=reported, lost=3, by_number=by_number)
    clock.now += DAY
    with caplog.at_level(logging.WARNING):
        empty.begin_run(resend_unknown=Silent(DAY))
    assert (empty.ready, empty.counts[State.UNKNOWN]) == (0, 3)
    assert words in caplog.text
    assert words in empty.reader.summary().unknown.objection


def test_what_evidence_accepted_does_not_show_that_reports_come(empty: SenderJournal, clock: Clock) -> None:
    campaign(empty, accepted=10, reported=8, lost=13)
    for n in range(10, 20):
        empty.recorder.record([Reported(f"A-{n}", 61410000000 + n, DELIVERED)])
    clock.now += DAY
    empty.begin_run(resend_unknown=Silent(DAY))
    assert (empty.counts[State.ACCEPTED], empty.counts[State.UNKNOWN]) == (20, 3)


def test_each_run_needs_reports_of_its_own(
    empty: SenderJournal, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The receiver was down in the second run: its silence means nothing."""
    campaign(empty, accepted=100, reported=100, lost=2)
    resume(empty)
    campaign(empty, accepted=5, reported=0, lost=3)
    resume(empty)
    campaign(empty, accepted=0, reported=0, lost=4)
    clock.now += DAY
    empty.begin_run(resend_unknown=Silent(DAY))
    assert (empty.ready, empty.counts[State.UNKNOWN]) == (6, 3)
    with_reports, without, few = empty.reader.summary().unknown.runs[:3]
    assert [run.unknown for run in (with_reports, without, few)] == [0, 3, 0]
    assert "not done for 3 of them: too few of the accepted recipients of their runs" in caplog.text


# What the balance says ------------------------------------------------------------------------------------------------


def test_the_balance_tells_of_credits_that_no_answer_names(empty: SenderJournal) -> None:
    assert empty.reader.summary().unknown.unaccounted_credits is None
    empty.note_balance(Decimal("100.00"), is_after=False)
    campaign(empty, accepted=4, reported=0, lost=2)  # each call says that it cost a credit
    assert empty.reader.summary().unknown.unaccounted_credits is None
    resume(empty)  # the first run died; the second one's balance at its beginning stands in for its end
    empty.note_balance(Decimal("95.50"), is_after=False)
    assert empty.reader.summary().unknown.unaccounted_credits == Decimal("2.50")
    empty.note_balance(Decimal("95.00"), is_after=True)
    assert empty.reader.summary().unknown.unaccounted_credits == Decimal("3.00")
    resume(empty)
    empty.note_balance(Decimal("10.00"), is_after=False)
    empty.note_balance(Decimal("90.00"), is_after=True)  # somebody paid
    assert empty.reader.summary().unknown.unaccounted_credits == Decimal("3.00")


# Left by senders of earlier versions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_call_that_a_sender_of_an_earlier_version_was_to_repeat_may_still_be_proven(
    journal: SenderJournal, clock: Clock, is_resumed: bool
) -> None:
    """It went on while others had migrated the store, and kept no former calls."""
    lose(journal)
    began = clock.now
    journal.begin_run(resend_unknown=True)
    forget_former_calls(journal)
    if is_resumed:
        resume(journal)
        clock.now += PROOF_WINDOW + DAY
        claim = journal.claim(1)
        assert claim is not None
        journal.release(claim)
    journal.recorder.record([Replied("A", ONE, clock.of_store(began + 1))])
    assert (row(journal, ONE).state, row(journal, ONE).reason) == ("accepted", PROVEN)
    resume(journal)
    claim = journal.claim(3)
    assert claim is not None
    assert claim.phones == (TWO, THREE)


def forget_former_calls(journal: SenderJournal) -> None:
    sql = "DELETE FROM former_call"
    database = journal._database  # type: ignore[attr-defined]
    if isinstance(database, Database):
        database.run(lambda transaction: transaction.execute(sql))
    else:
        database.execute(sql)
