"""Orders that are sent again: to those of their recipients alone of whom nothing is known. On both engines."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import DeliveryStatus
from mmsclient._store.heard import Reported
from mmsclient._store.models import RecipientState
from mmsclient._store.outbox import HeldOrder, OrderEnd, OutboxClaim, OutboxState, OutboxStore
from mmsclient._store.outbox import OutboxWorkerStore as Worker
from mmsclient._store.outbox_resends import BEFORE, end_again, set_aside
from mmsclient._store.protocol import ReportRecorder
from tests.support.outbox import ONE, OWNER, THREE, TWO, claimed, order, working

WAITING, SENDING, ACCEPTED, REFUSED, UNKNOWN, CANCELLED = OutboxState
TAKEN, LEFT = RecipientState.ACCEPTED, RecipientState.UNKNOWN

Told = tuple[RecipientState | None, str | None]
NAMED: Told = (TAKEN, "A")
OPEN: Told = (LEFT, None)
REJECTED: Told = (RecipientState.REFUSED, None)
NOTHING: Told = (None, None)


@pytest.fixture
def recorder(outbox: OutboxStore) -> Iterator[ReportRecorder]:
    with closing(outbox.open_recorder()) as recorder:
        yield recorder


def report(message_id: str, phone: int) -> Reported:
    return Reported(message_id, phone, DeliveryStatus.DELIVERED)


def answer(state: OutboxState, *told: Told, name: str = "first") -> list[OrderEnd]:
    """The answer to a call of one order."""
    result: dict[str, Any] = {"sent": name}
    return [OrderEnd(state, result if state is ACCEPTED else {**result, "error": {}}, told)]


def no_answer(claim: OutboxClaim, state: OutboxState) -> list[OrderEnd]:
    of_each = (RecipientState.REFUSED if state is REFUSED else None, None)
    return [OrderEnd(state, {"error": {"whole": state}}, (of_each,) * len(each.phones)) for each in claim.orders]


def found(outbox: OutboxStore) -> HeldOrder:
    held = outbox.find("a")
    assert held is not None
    return held


def told(outbox: OutboxStore) -> list[Told]:
    return [(each.state, each.message_id) for each in found(outbox).recipients]


def partly_answered(outbox: OutboxStore, worker: Worker) -> OutboxClaim:
    """An order to three, of whom the answer names the first, and leaves the others unknown."""
    outbox.put(order("a", ONE, TWO, THREE))
    claim = claimed(worker)
    worker.finish(claim, answer(UNKNOWN, NAMED, OPEN, OPEN))
    return claim


def unknown_again(outbox: OutboxStore, worker: Worker) -> OutboxClaim:
    """The second call of an order that a first one had partly answered; it brought no answer."""
    partly_answered(outbox, worker)
    assert outbox.resend("a")
    again = claimed(worker)
    worker.finish(again, no_answer(again, UNKNOWN))
    return again


def test_whom_the_answer_named_is_not_sent_to_again(outbox: OutboxStore, worker: Worker) -> None:
    partly_answered(outbox, worker)
    assert outbox.resend("a")
    assert told(outbox) == [NAMED, OPEN, OPEN]
    again = claimed(worker)
    assert again.phones == (TWO, THREE)
    assert told(outbox)[0] == NAMED
    worker.finish(again, answer(ACCEPTED, (TAKEN, "B"), (TAKEN, "C"), name="second"))
    assert told(outbox) == [NAMED, (TAKEN, "B"), (TAKEN, "C")]
    assert (found(outbox).state, found(outbox).result) == (ACCEPTED, {BEFORE: ["first"], "sent": "second"})
    assert (worker.claim(), outbox.resend("a")) == (None, False)


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_who_is_proven_before_it_leaves_again_is_not_sent_to_again(
    outbox: OutboxStore, worker: Worker, recorder: ReportRecorder, is_before: bool
) -> None:
    """Whether the report comes before it is to be sent again, or after that."""
    partly_answered(outbox, worker)
    if is_before:
        recorder.record([report("B", TWO)])
    assert outbox.resend("a")
    if not is_before:
        recorder.record([report("B", TWO)])
    assert told(outbox) == [NAMED, (TAKEN, "B"), OPEN]
    again = claimed(worker)
    assert again.phones == (THREE,)
    worker.finish(again, answer(ACCEPTED, (TAKEN, "C")))
    assert told(outbox) == [NAMED, (TAKEN, "B"), (TAKEN, "C")]


def test_it_is_not_sent_again_once_all_are_proven(
    outbox: OutboxStore, worker: Worker, recorder: ReportRecorder
) -> None:
    partly_answered(outbox, worker)
    assert outbox.resend("a")
    recorder.record([report("B", TWO), report("C", THREE)])
    assert (found(outbox).state, found(outbox).result) == (ACCEPTED, {BEFORE: ["first"]})
    assert worker.claim() is None


@pytest.mark.parametrize("state", [UNKNOWN, WAITING])
def test_a_report_during_the_second_call_counts_when_that_ends(
    outbox: OutboxStore, worker: Worker, recorder: ReportRecorder, state: OutboxState
) -> None:
    partly_answered(outbox, worker)
    assert outbox.resend("a")
    again = claimed(worker)
    recorder.record([report("B", TWO)])
    assert found(outbox).state is SENDING
    worker.finish(again, no_answer(again, state))
    assert found(outbox).state is state
    assert told(outbox) == [NAMED, (TAKEN, "B"), OPEN]
    assert found(outbox).result == {BEFORE: ["first"], "error": {"whole": state}}
    if state is UNKNOWN:
        assert outbox.resend("a")
    assert claimed(worker).phones == (THREE,)


def test_a_report_after_the_second_call_settles_it(
    outbox: OutboxStore, worker: Worker, recorder: ReportRecorder
) -> None:
    unknown_again(outbox, worker)
    recorder.record([report("C", THREE)])
    assert (found(outbox).state, told(outbox)) == (UNKNOWN, [NAMED, OPEN, (TAKEN, "C")])
    recorder.record([report("B", TWO)])
    assert (found(outbox).state, told(outbox)) == (ACCEPTED, [NAMED, (TAKEN, "B"), (TAKEN, "C")])
    assert not outbox.resend("a")


@pytest.mark.parametrize("is_answered", [True, False], ids=["by its answer", "whole"])
def test_the_order_stays_accepted_where_the_rest_is_refused(
    outbox: OutboxStore, worker: Worker, is_answered: bool
) -> None:
    partly_answered(outbox, worker)
    assert outbox.resend("a")
    again = claimed(worker)
    for _ in range(2):  # it may not be known whether it was recorded
        ends = answer(REFUSED, REJECTED, REJECTED) if is_answered else no_answer(again, REFUSED)
        assert worker.finish(again, ends) == 1
        assert told(outbox) == [NAMED, REJECTED, REJECTED]
        assert found(outbox).state is ACCEPTED
        assert "error" not in found(outbox).result
    assert worker.claim() is None


def test_what_answers_have_told_outlives_a_third_call(outbox: OutboxStore, worker: Worker) -> None:
    partly_answered(outbox, worker)
    assert outbox.resend("a")
    worker.finish(claimed(worker), answer(UNKNOWN, (TAKEN, "B"), OPEN, name="second"))
    assert outbox.resend("a")
    third = claimed(worker)
    assert third.phones == (THREE,)
    for _ in range(2):
        assert worker.finish(third, answer(ACCEPTED, (TAKEN, "C"), name="third")) == 1
        assert told(outbox) == [NAMED, (TAKEN, "B"), (TAKEN, "C")]
        assert found(outbox).result == {BEFORE: ["first", "second"], "sent": "third"}


def test_an_order_without_an_answer_goes_to_all_again(outbox: OutboxStore, worker: Worker) -> None:
    outbox.put(order("a", ONE, TWO, THREE))
    claim = claimed(worker)
    worker.finish(claim, no_answer(claim, UNKNOWN))
    assert outbox.resend("a")
    again = claimed(worker)
    assert again.phones == (ONE, TWO, THREE)
    worker.finish(again, answer(UNKNOWN, NAMED, OPEN, OPEN))
    assert outbox.resend("a")
    assert claimed(worker).phones == (TWO, THREE)


def test_equal_messages_go_out_with_the_rest_of_it(outbox: OutboxStore, worker: Worker) -> None:
    """Also to whom it is not sent again."""
    partly_answered(outbox, worker)
    outbox.put(order("b", ONE))
    assert outbox.resend("a")
    claim = claimed(worker)
    assert {each.key: each.phones for each in claim.orders} == {"a": (TWO, THREE), "b": (ONE,)}


# Who dies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", ["during", "after"])
@pytest.mark.parametrize("by_hand", [True, False], ids=["reconcile", "another worker"])
def test_a_worker_dies_during_the_second_call(outbox: OutboxStore, heard: str, by_hand: bool) -> None:
    with closing(outbox.open_recorder()) as recorder:
        with working(outbox) as dead:
            partly_answered(outbox, dead)
            assert outbox.resend("a")
            assert claimed(dead).phones == (TWO, THREE)
            if heard == "during":
                recorder.record([report("B", TWO)])
        if by_hand:
            assert outbox.settle() == 0
        with working(outbox) as worker:
            assert worker.lose_dead() == (0 if by_hand else 1)
            if heard == "after":
                recorder.record([report("B", TWO)])
            assert (found(outbox).state, told(outbox)) == (UNKNOWN, [NAMED, (TAKEN, "B"), OPEN])
            assert found(outbox).result.keys() == {BEFORE, "error"}
            assert worker.claim() is None
            assert outbox.resend("a")
            assert claimed(worker).phones == (THREE,)


def test_a_worker_dies_before_it_leaves_again(outbox: OutboxStore) -> None:
    with working(outbox) as dead:
        partly_answered(outbox, dead)
        assert outbox.resend("a")
    assert outbox.settle() == 0
    with working(outbox) as worker:
        assert worker.lose_dead() == 0
        assert claimed(worker).phones == (TWO, THREE)


# Cancelled instead ----------------------------------------------------------------------------------------------------


def test_cancelled_instead_it_is_unknown_again_as_it_was_before(
    outbox: OutboxStore, worker: Worker, recorder: ReportRecorder
) -> None:
    """Nothing that went out to some is told to be cancelled."""
    partly_answered(outbox, worker)
    assert outbox.resend("a")
    assert outbox.cancel("a")
    assert (found(outbox).state, told(outbox), found(outbox).number) == (UNKNOWN, [NAMED, OPEN, OPEN], 2)
    assert found(outbox).result[BEFORE] == ["first"]
    assert (worker.claim(), outbox.cancel("a")) == (None, False)
    recorder.record([report("B", TWO)])
    assert outbox.resend("a")
    again = claimed(worker)
    assert again.phones == (THREE,)
    worker.finish(again, no_answer(again, WAITING))
    assert outbox.cancel("a")
    assert worker.finish(again, no_answer(again, WAITING)) == 0  # no late word lets it go out all the same
    assert (found(outbox).state, worker.claim()) == (UNKNOWN, None)
    recorder.record([report("C", THREE)])
    assert found(outbox).state is ACCEPTED


# Late words -----------------------------------------------------------------------------------------------------------


def test_a_late_refusal_of_the_second_call_is_no_word_about_whom_a_report_proves(
    outbox: OutboxStore, worker: Worker, recorder: ReportRecorder
) -> None:
    again = unknown_again(outbox, worker)
    recorder.record([report("B", TWO)])
    assert worker.finish(again, no_answer(again, REFUSED)) == 1
    assert (found(outbox).state, told(outbox)) == (ACCEPTED, [NAMED, (TAKEN, "B"), REJECTED])


# Random histories -----------------------------------------------------------------------------------------------------


@given(st.sampled_from([WAITING, ACCEPTED, REFUSED, UNKNOWN]), st.booleans(), st.booleans())
def test_an_end_that_is_recorded_twice_tells_the_same(state: OutboxState, is_accepted: bool, is_answered: bool) -> None:
    former = set_aside('{"sent": 1, "error": 2}')
    end_of_it = OrderEnd(state, {"sent": 3} if is_answered else {"error": 4}, ())
    once = end_again(former, end_of_it, is_accepted=is_accepted)
    assert once.result[BEFORE] == [1]
    assert once.state is (ACCEPTED if state is REFUSED and is_accepted else state)
    assert end_again(former, OrderEnd(state, {"sent": 1}, ()), is_accepted=False).result.keys() <= {BEFORE, "sent"}


def left(held: HeldOrder) -> tuple[int, ...]:
    """The phones of whom nothing is known."""
    return tuple(each.phone for each in held.recipients if each.state in (None, LEFT))


class History:
    """A random one of orders that have phones of their own: what is heard of a phone speaks for its order alone.

    What the API carries out is drawn, and the store hears of it by answers, by reports, or not at all. Nobody goes into
    a call of whom the store knew that a former one had reached him.
    """

    def __init__(self, store: OutboxStore, seed: int) -> None:
        self.rng = random.Random(seed)
        self.store = store
        self.worker = store.open_worker(OWNER)
        self.recorder = store.open_recorder()
        self.numbers = count(1)
        self.claims: list[tuple[OutboxClaim, Mapping[int, str]]] = []
        """Calls under way, and the messages that each has brought to whom."""
        self.messages: dict[int, list[str]] = {}
        """Of each phone, of all calls."""
        self.chances: Counter[int] = Counter()
        """Messages that each phone may get: one, and another one whenever that was decided while it was unknown."""
        self.reached: set[int] = set()
        """Whom the store has told to be accepted."""
        self.smaller = 0
        """Calls to a part of an order."""

    def live(self, steps: int) -> None:
        weights: dict[Callable[[], object], int] = {
            self.put: 2,
            self.claim: 5,
            self.finish: 6,
            self.report: 2,
            self.resend: 6,
            self.cancel: 1,
            self.die: 1,
        }
        for step in self.rng.choices(list(weights), list(weights.values()), k=steps):
            step()
            for held in self.store.listed(None, 0, 1000):
                self.check(held)

    def check(self, held: HeldOrder) -> None:
        phones = {each.phone for each in held.recipients}
        taken = {each.phone for each in held.recipients if each.state is TAKEN}
        assert all(self.messages[phone] for phone in taken), held
        assert self.reached & phones <= taken, held
        self.reached |= taken
        if held.state is ACCEPTED:
            assert taken, held
        elif held.state in (REFUSED, CANCELLED):
            assert not taken, held
        else:
            assert left(held), held
        assert all(len(self.messages[phone]) <= self.chances[phone] for phone in phones), held

    def put(self) -> None:
        phones = [ONE + next(self.numbers) for _ in range(self.rng.randint(1, 4))]
        self.store.put(order(f"order {next(self.numbers)}", *phones))
        self.messages |= {phone: [] for phone in phones}
        self.chances.update(phones)

    def claim(self) -> None:
        before = {held.key: held for held in self.store.listed(WAITING, 0, 1000)}
        claim = self.worker.claim()
        assert (claim is None) == (not before)
        if claim is None:
            return
        assert self.reached.isdisjoint(claim.phones)
        for each in claim.orders:
            assert each.phones == left(before[each.key])
            self.smaller += len(each.phones) < len(before[each.key].recipients)
        brought = {phone: f"message {next(self.numbers)}" for phone in claim.phones if self.rng.random() < 0.6}
        for phone, message_id in brought.items():
            self.messages[phone].append(message_id)
        self.claims.append((claim, brought))

    def finish(self) -> None:
        if self.claims:
            claim, brought = self.claims.pop(self.rng.randrange(len(self.claims)))
            ends = self.ends_of(claim, brought)
            for _ in range(self.rng.randint(1, 2)):
                assert self.worker.finish(claim, ends) == len(claim.orders)

    def ends_of(self, claim: OutboxClaim, brought: Mapping[int, str]) -> Sequence[OrderEnd]:
        if self.rng.random() < 0.3:
            return no_answer(claim, UNKNOWN)
        if not brought and self.rng.random() < 0.5:
            return no_answer(claim, self.rng.choice((WAITING, REFUSED)))
        is_full = self.rng.random() < 0.2 or len(brought) == len(claim.phones)
        named = {phone: id_ for phone, id_ in brought.items() if is_full or self.rng.random() < 0.5}
        others = REJECTED if is_full else OPEN
        return [
            self.answer_to(tuple((TAKEN, named[each]) if each in named else others for each in of_it.phones))
            for of_it in claim.orders
        ]

    def answer_to(self, of_each: tuple[Told, ...]) -> OrderEnd:
        state = UNKNOWN if OPEN in of_each else REFUSED if set(of_each) == {REJECTED} else ACCEPTED
        (answered,) = answer(state, *of_each, name=f"answer {next(self.numbers)}")
        return answered

    def report(self) -> None:
        arrived = [(message_id, phone) for phone, ids in self.messages.items() for message_id in ids]
        if arrived:
            self.recorder.record([report(*each) for each in self.rng.choices(arrived, k=2)])
            assert self.worker.settle() == 0  # what is heard, and what ends, is settled at once

    def resend(self) -> None:
        unknown = self.store.listed(UNKNOWN, 0, 1000)
        for held in self.rng.sample(unknown, min(1, len(unknown))):
            assert self.store.resend(held.key)
            self.chances.update(left(held))

    def cancel(self) -> None:
        waiting = self.store.listed(WAITING, 0, 1000)
        for held in self.rng.sample(waiting, min(1, len(waiting))):
            assert self.store.cancel(held.key)

    def die(self) -> None:
        self.worker.close()
        self.claims.clear()
        if by_hand := self.rng.random() < 0.5:
            self.store.settle()
        self.worker = self.store.open_worker(OWNER)
        assert not (self.worker.lose_dead() and by_hand)
        assert not self.store.listed(SENDING, 0, 1000)

    def close(self) -> None:
        self.recorder.close()
        self.worker.close()


@pytest.mark.parametrize("seed", range(3))
def test_histories_of_what_is_sent_again(outbox: OutboxStore, seed: int) -> None:
    with closing(History(outbox, seed)) as history:
        history.live(steps=120)
        assert history.smaller
