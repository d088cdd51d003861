"""What the store of the outbox promises, whichever engine keeps it: each test runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count, repeat

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mmsclient import KeyReusedError
from mmsclient._store.errors import JournalError, JournalMismatchError
from mmsclient._store.models import Message, Owner, RecipientState
from mmsclient._store.outbox import (
    Candidate,
    OrderEnd,
    OutboxClaim,
    OutboxDue,
    OutboxState,
    OutboxStore,
    OutboxWorkerStore,
    chosen,
)
from mmsclient._store.stores import is_url, ledger_at, outbox_at, store_at
from tests.support import keyed
from tests.support.outbox import GIF, ONE, OWNER, THREE, TWO, claimed, end, keys, opened, order, state_of, working
from tests.support.postgres_server import Server

WAITING, SENDING, ACCEPTED, REFUSED, UNKNOWN, CANCELLED = OutboxState


@pytest.fixture
def store(place: tuple[str, str]) -> Iterator[OutboxStore]:
    with opened(place[0]) as store:
        yield store


# What is put ----------------------------------------------------------------------------------------------------------


def test_the_same_order_again_changes_nothing(store: OutboxStore) -> None:
    put = store.put(order("a", ONE, TWO, not_before=2e9))
    assert (put.key, put.text, put.subject, put.state, put.attempts) == ("a", "Hi", "Sale", WAITING, 0)
    assert [each.phone for each in put.recipients] == [ONE, TWO]
    assert (put.not_before, put.claimed_at, put.ended_at, put.number, put.result) == (2e9, None, None, None, {})
    assert abs(put.put_at - time.time()) < 60
    assert store.put(order("a", TWO, ONE)) == put == store.find("a")
    assert store.figures().counts == {**dict.fromkeys(OutboxState, 0), WAITING: 1}
    assert store.find("b") is None


@pytest.mark.parametrize(
    ("other", "parts"),
    [
        (order("a", text="Another"), ("text",)),
        (evolve(order("a"), subject=""), ("subject",)),
        (order("a", picture=b"GIF89a, another"), ("image",)),
        (order("a", TWO), ("recipients",)),
        (order("a", ONE, TWO, text="Another"), ("text", "recipients")),
    ],
)
def test_another_order_with_the_key_is_refused(store: OutboxStore, other: object, parts: tuple[str, ...]) -> None:
    put = store.put(order("a"))
    with pytest.raises(KeyReusedError) as caught:
        store.put(other)  # type: ignore[arg-type]
    assert caught.value.differences == parts
    assert store.find("a") == put


def test_what_is_due_is_counted(store: OutboxStore) -> None:
    with working(store) as worker:
        assert worker.due() == OutboxDue(0, 0.0, 0)
        store.put(order("later", not_before=2e9))
        assert worker.due() == OutboxDue(0, 0.0, 0)
        store.put(order("a", not_before=time.time() - 100))
        store.put(order("b"))
        due = worker.due()
        assert due.orders == 2
        assert 0 <= due.oldest < 60  # since it was put, and not since it might have been sent before
        store.cancel("a")
        claim = claimed(worker)
        assert worker.due() == OutboxDue(0, 0.0, 0)
        worker.finish(claim, end(claim, WAITING, delay=3600))  # it was not sent, and waits for another try
        assert (worker.due().orders, worker.due().oldest > 0) == (1, True)


def test_what_is_unknown_is_counted_beside_it(store: OutboxStore) -> None:
    with working(store) as worker:
        store.put(order("a"))
        claim = claimed(worker)
        worker.finish(claim, end(claim, UNKNOWN))
        assert worker.due().unknown == 1


def test_what_is_put_survives_and_is_listed(place: tuple[str, str]) -> None:
    with opened(place[0]) as store:
        for key in "cab":
            store.put(order(key))
        store.cancel("a")
    with opened(place[0]) as store:
        found = store.listed(None, 0, 2)
        assert [held.key for held in found] == ["c", "a"]
        assert [held.key for held in store.listed(None, found[-1].id, 2)] == ["b"]
        assert [held.key for held in store.listed(WAITING, 0, 9)] == ["c", "b"]


def test_a_store_that_is_not_there_is_not_made_by_who_only_reads(place: tuple[str, str]) -> None:
    where, name = place
    store = outbox_at(f"{where}&schema=elsewhere" if name else where, make=False)
    with pytest.raises(JournalError):
        store.find("a")
    store.close()


# Who goes together ----------------------------------------------------------------------------------------------------


def test_equal_messages_go_out_together_and_a_phone_in_two_of_them_in_two_calls(store: OutboxStore) -> None:
    store.put(order("a", ONE))
    store.put(order("b", TWO, text="Another"))
    store.put(order("c", TWO, THREE))
    store.put(order("d", ONE, THREE))
    store.put(order("e", TWO, text="Another", picture=b"GIF87a"))
    with working(store) as worker:
        claim = claimed(worker)
        assert (claim.text, claim.subject, claim.picture) == ("Hi", "Sale", b"GIF89a")
        assert keys(claim) == ["a", "c"]
        assert claim.numbers == ("+61400000000", "+61400000001", "+61400000002")
        assert [keys(worker.claim()) for _ in range(4)] == [["b"], ["d"], ["e"], []]


CANDIDATES = st.lists(
    st.tuples(st.sets(st.integers(1, 30), min_size=1, max_size=4), st.none() | st.integers(1, 4)),
    min_size=1,
    max_size=12,
)


@given(CANDIDATES, st.integers(4, 20))
def test_who_is_chosen(drawn: Sequence[tuple[set[int], int | None]], most: int) -> None:
    candidates = [Candidate(id_, str(id_), tuple(phones), 0, limit) for id_, (phones, limit) in enumerate(drawn)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmsclient._store.outbox.MOST_TOGETHER", most)
        taken = chosen(candidates)
    assert taken[0] is candidates[0]
    assert taken == [each for each in candidates if each in taken]
    phones = [phone for each in taken for phone in each.phones]
    assert len(phones) == len(set(phones)) <= most
    assert all(each.together is None or len(taken) <= each.together for each in taken)


def test_a_call_has_a_thousand_recipients_at_most(store: OutboxStore) -> None:
    for number in range(3):
        store.put(order(str(number), *range(ONE + number * 400, ONE + number * 400 + 400)))
    with working(store) as worker:
        assert keys(worker.claim()) == ["0", "1"]
        assert keys(worker.claim()) == ["2"]


# How it ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [ACCEPTED, REFUSED, UNKNOWN])
def test_an_end_is_recorded_with_what_became_of_each_recipient(store: OutboxStore, state: OutboxState) -> None:
    store.put(order("a", ONE, TWO))
    with working(store) as worker:
        claim = claimed(worker)
        assert state_of(store, "a") is SENDING
        assert worker.finish(claim, end(claim, state)) == 1
        held = store.find("a")
        assert held is not None
        assert (held.state, held.attempts, held.number, held.result) == (state, 1, 1, {"sent": state})
        assert [each.message_id for each in held.recipients] == [f"id-{ONE}", f"id-{TWO}"]
        of_each = None if state is UNKNOWN else RecipientState(state)
        assert [each.state for each in held.recipients] == [of_each] * 2
        assert worker.claim() is None
        assert worker.finish(claim, end(claim, state)) == 1  # it may not be known whether it was recorded
        assert state_of(store, "a") is state
    with working(store) as worker:
        assert (worker.lose_dead(), worker.claim()) == (0, None)


def test_ends_come_in_the_order_of_their_numbers(store: OutboxStore) -> None:
    for key in "abcd":
        store.put(order(key, text=key))
    assert (store.last_number(), store.ended(0, 9)) == (0, [])
    with working(store) as worker:
        claims = {claim.orders[0].key: claim for claim in (claimed(worker) for _ in range(3))}
        for key in "cba":
            worker.finish(claims[key], end(claims[key], ACCEPTED))
        store.cancel("d")
    assert [(held.key, held.number) for held in store.ended(0, 3)] == [("c", 1), ("b", 2), ("a", 3)]
    assert [(held.key, held.number) for held in store.ended(3, 3)] == [("d", 4)]
    assert store.last_number() == 4


def test_what_was_surely_not_sent_waits_for_its_delay_in_smaller_calls(store: OutboxStore) -> None:
    for number in range(4):
        store.put(order(str(number), ONE + number))
    with working(store) as worker:
        claim = claimed(worker)
        worker.finish(claim, end(claim, WAITING, together=2))
        assert store.last_number() == 0
        again = claimed(worker)
        assert keys(again) == ["0", "1"]
        assert [order.attempts for order in again.orders] == [1, 1]
        worker.finish(again, end(again, WAITING, delay=1000.0))
        assert keys(worker.claim()) == ["2", "3"]
        assert worker.claim() is None


def test_nothing_is_sent_before_its_time(store: OutboxStore) -> None:
    store.put(order("later", not_before=time.time() + 1000))
    store.put(order("now", not_before=time.time() - 1000))
    with working(store) as worker:
        assert keys(worker.claim()) == ["now"]
        assert worker.claim() is None
    assert store.figures().oldest_due is None
    store.put(order("due"))
    assert abs((store.figures().oldest_due or 0) - time.time()) < 60


# The dead -------------------------------------------------------------------------------------------------------------


def test_what_a_dead_worker_was_sending_is_unknown_and_nothing_else(store: OutboxStore) -> None:
    store.put(order("sent"))
    store.put(order("left", text="Another"))
    with working(store) as worker:
        sent = claimed(worker)
        worker.finish(sent, end(sent, ACCEPTED))
        claimed(worker)
        store.put(order("waits"))
    with working(store) as worker:
        assert worker.lose_dead() == 1
        assert [state_of(store, key) for key in ("sent", "left", "waits")] == [ACCEPTED, UNKNOWN, WAITING]
        assert keys(worker.claim()) == ["waits"]
        assert [held.key for held in store.ended(1, 9)] == ["left"]
        assert worker.lose_dead() == 0


def test_an_unknown_order_is_sent_again_only_when_told(store: OutboxStore) -> None:
    store.put(order("a"))
    with working(store) as worker:
        claim = claimed(worker)
        assert not store.resend("a")  # it is on its way
        worker.finish(claim, end(claim, UNKNOWN))
        assert store.resend("a")
        assert not store.resend("a")
        assert worker.finish(claim, end(claim, UNKNOWN)) == 0
        assert keys(worker.claim()) == ["a"]
        assert worker.finish(claim, end(claim, ACCEPTED)) == 0
    assert not store.resend("b")


@pytest.mark.parametrize("state", [ACCEPTED, REFUSED, WAITING])
def test_a_late_end_settles_an_unknown_order(store: OutboxStore, state: OutboxState) -> None:
    store.put(order("a"))
    with working(store) as worker:
        claim = claimed(worker)
        worker.finish(claim, end(claim, UNKNOWN))
        assert worker.finish(claim, end(claim, state)) == 1
        assert state_of(store, "a") is state
        assert [held.number for held in store.ended(1, 9)] == ([] if state is WAITING else [2])


def test_only_what_is_waiting_can_be_taken_back(store: OutboxStore) -> None:
    store.put(order("a"))
    store.put(order("b", text="Another"))
    with working(store) as worker:
        claim = claimed(worker)
        assert [store.cancel(key) for key in "abc"] == [False, True, False]
        assert worker.claim() is None
        worker.finish(claim, end(claim, ACCEPTED))
        assert [store.cancel(key) for key in "ab"] == [False, False]
    assert store.put(order("b", text="Another")).state is CANCELLED


# What is kept ---------------------------------------------------------------------------------------------------------


def test_old_orders_are_forgotten_and_pictures_that_nobody_needs(store: OutboxStore) -> None:
    for key in ("accepted", "waiting", "unknown"):
        store.put(order(key, text=key, picture=b"GIF89a of " + key.encode()))
    with working(store) as worker:
        for state in (ACCEPTED, None, UNKNOWN):
            claim = claimed(worker)
            worker.finish(claim, end(claim, state or WAITING))
        worker.purge(1000)
        assert store.figures().counts[ACCEPTED] == 1
        assert store.put(order("accepted", text="accepted", picture=b"GIF89a of accepted")).state is ACCEPTED
        store.resend("unknown")
        assert sorted(claimed(worker).picture for _ in range(2)) == [b"GIF89a of unknown", b"GIF89a of waiting"]
        worker.purge(0)
        assert {state: count for state, count in store.figures().counts.items() if count} == {SENDING: 2}


def test_the_longest_that_anybody_asks_for_is_how_long_orders_are_kept(place: tuple[str, str]) -> None:
    with opened(place[0]) as silent, working(silent) as worker:
        silent.put(order("a"))
        claim = claimed(worker)
        worker.finish(claim, end(claim, ACCEPTED))
        worker.purge()
        assert state_of(silent, "a") is ACCEPTED
    with opened(place[0], keep=1000) as putting:
        putting.put(order("b"))
    with opened(place[0], keep=1e-6) as short, working(short) as worker:
        worker.purge()
        assert state_of(short, "a") is ACCEPTED


def test_orders_are_forgotten_after_the_time_that_was_asked_for(place: tuple[str, str]) -> None:
    with opened(place[0], keep=1e-6) as store, working(store) as worker:
        store.put(order("a"))
        claim = claimed(worker)
        worker.finish(claim, end(claim, ACCEPTED))
        worker.purge()
        assert state_of(store, "a") is None


ANOTHER_KEY = Owner(OWNER.base_url, lambda salt: "another")
ANOTHER_HOST = Owner("https://another.example", OWNER.fingerprint)


def test_an_outbox_with_which_nothing_was_sent_takes_another_key(
    store: OutboxStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The first may have been mistyped: the API refuses it, and the orders wait."""
    store.put(order("a"))
    store.put(order("b", not_before=time.time() + 1e6))
    with working(store, ANOTHER_KEY) as worker:
        worker.finish(claimed(worker), [OrderEnd(WAITING, {}, ((None, None),))])
        assert [store.cancel(key) for key in "bbc"] == [True, False, False]  # one alone of which something is ended
        assert store.last_number() == 1
    with pytest.raises(JournalMismatchError, match="it belongs to orders at"), working(store, ANOTHER_HOST):
        pass
    assert "nothing was sent" not in caplog.text
    with working(store) as worker:
        assert "nothing was sent with the APPKEY that it was begun with; it takes this one" in caplog.text
        claim = claimed(worker)
        worker.finish(claim, end(claim, ACCEPTED))
        worker.purge(0)
    with pytest.raises(JournalMismatchError, match="another APPKEY"), working(store, ANOTHER_KEY):
        pass


async def test_who_lives_beside_an_outbox_and_is_no_worker_of_it_keeps_no_key(
    store: OutboxStore, place: tuple[str, str]
) -> None:
    """A client with a ledger, and a campaign that waits for delivery reports."""
    store.put(order("a"))
    with working(store, ANOTHER_KEY):
        pass
    if not is_url(place[0]):
        return
    journal = store_at(*place)
    journal.open(Message("Sale", "", GIF)).close()
    notice, ledger = journal.wait_notice(), ledger_at(place[0], OWNER, keep=1e6)
    notice.renew()
    await keyed.claimed(ledger)
    try:
        with working(store):
            assert store.put(order("a")).state is WAITING
            with pytest.raises(JournalMismatchError, match="another APPKEY"), working(store, ANOTHER_KEY):
                pytest.fail("a worker lives")
    finally:
        notice.end()
        await ledger.aclose()


def test_what_a_worker_that_died_was_sending_may_have_been_sent_with_its_key(store: OutboxStore) -> None:
    store.put(order("a"))
    with working(store, ANOTHER_KEY) as worker:
        claimed(worker)
    with pytest.raises(JournalMismatchError, match="another APPKEY"), working(store):
        pass


def test_an_outbox_is_for_one_account(store: OutboxStore) -> None:
    store.put(order("a"))
    with working(store) as worker:
        claim = claimed(worker)
        worker.finish(claim, end(claim, ACCEPTED))
    for other in (ANOTHER_HOST, ANOTHER_KEY):
        with (
            pytest.raises(JournalMismatchError, match=r"it belongs to orders (at https://api|with another APPKEY)"),
            working(store, other),
        ):
            pass
    with working(store, Owner(OWNER.base_url, lambda salt: "another", is_new_key=True)):
        pass
    with pytest.raises(JournalMismatchError, match="another APPKEY"), working(store):
        pass


# Random histories -----------------------------------------------------------------------------------------------------


class Histories(RuleBasedStateMachine):
    """Two workers that come and die, against a model of what each key may be.

    A call that a worker holds is carried out at most once: it is never claimed again before it is known not to have
    left, unless somebody says so.
    """

    place: str
    engine: str

    def __init__(self) -> None:
        super().__init__()
        self.store = outbox_at(self.place)
        self.model: dict[str, OutboxState] = {}
        self.workers: list[OutboxWorkerStore] = []
        self.claims: list[tuple[OutboxClaim, OutboxWorkerStore]] = []
        self.numbers = 0
        self._begin()

    def _begin(self) -> None:
        self.workers.append(self.store.open_worker(OWNER))

    @rule(key=st.sampled_from("abcdef"), text=st.sampled_from(("x", "y")))
    def put(self, key: str, text: str) -> None:
        try:
            held = self.store.put(order(f"{id(self)} {key}", ONE + ord(key), text=text))
        except KeyReusedError:
            assert key in self.model
        else:
            assert held.state is self.model.setdefault(key, WAITING)

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        claim = worker.claim()
        found = [each.key.split()[1] for each in claim.orders] if claim is not None else []
        assert all(self.model[key] is WAITING for key in found)
        assert found or WAITING not in self.model.values()
        self.model |= dict.fromkeys(found, SENDING)
        if claim is not None:
            self.claims.append((claim, worker))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), state=st.sampled_from((WAITING, ACCEPTED, REFUSED, UNKNOWN)), again=st.booleans())
    def finish(self, data: st.DataObject, state: OutboxState, again: bool) -> None:
        """Also after the worker was found dead, by another one that lives."""
        at = data.draw(st.integers(0, len(self.claims) - 1))
        claim, worker = self.claims.pop(at)
        finisher = worker if worker in self.workers else self.workers[0]
        held = {each.key: self.store.find(each.key) for each in claim.orders}
        assert finisher.finish(claim, end(claim, state)) == len(claim.orders), held
        if again:
            finisher.finish(claim, end(claim, state))
        for each in claim.orders:
            self.model[each.key.split()[1]] = state

    @rule(key=st.sampled_from("abcdef"))
    def cancel(self, key: str) -> None:
        assert self.store.cancel(f"{id(self)} {key}") == (self.model.get(key) is WAITING)
        if self.model.get(key) is WAITING:
            self.model[key] = CANCELLED

    @rule(key=st.sampled_from("abcdef"))
    def resend(self, key: str) -> None:
        assert self.store.resend(f"{id(self)} {key}") == (self.model.get(key) is UNKNOWN)
        if self.model.get(key) is UNKNOWN:
            self.model[key] = WAITING
            for at, (claim, _) in reversed(list(enumerate(self.claims))):
                if key in {each.key.split()[1] for each in claim.orders}:  # its end counts no more
                    del self.claims[at]

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.workers) - 1))
        dead = self.workers.pop(at)
        dead.close()
        self._begin()
        self.workers[-1].lose_dead()
        for claim, worker in self.claims:
            if worker is dead:
                self.model |= {
                    key: UNKNOWN for key in (each.key.split()[1] for each in claim.orders) if self.model[key] is SENDING
                }

    @precondition(lambda self: self.engine == "postgres" and len(self.workers) < 2)
    @rule()
    def another(self) -> None:
        self._begin()

    @invariant()
    def agrees(self) -> None:
        counts = Counter(self.model.values())
        assert {state: count for state, count in self.store.figures().counts.items() if count} == counts
        ends = self.store.ended(self.numbers, 100)
        numbers = [held.number or 0 for held in ends]
        assert numbers == sorted(set(numbers))
        assert all(held.state.is_over for held in ends)
        self.numbers = max(self.numbers, *numbers, 0)

    def teardown(self) -> None:
        for worker in self.workers:
            worker.close()
        self.store.close()


def test_histories_are_what_the_model_says(request: pytest.FixtureRequest, place: tuple[str, str]) -> None:
    places = (f"{place[0]}-{number}" for number in count()) if "://" not in place[0] else repeat(place[0])

    class Lived(Histories):
        engine = "postgres" if "://" in place[0] else "sqlite"

        def __init__(self) -> None:
            type(self).place = next(places)
            if self.engine == "postgres":
                server: Server = request.getfixturevalue("postgres")
                with closing(outbox_at(place[0])) as store:
                    store.last_number()
                server.ask(
                    "WITH x AS (DELETE FROM mmsclient.outbox) DELETE FROM mmsclient.sender RETURNING 1", place[0]
                )
            super().__init__()

    run_state_machine_as_test(
        Lived,
        settings=settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
