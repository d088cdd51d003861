"""Evidence where a database holds several campaigns, and several programs write it at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from mmsclient import DeliveryStatus
from mmsclient._store.evidence import PROOF_WINDOW, PROVEN, Silent
from mmsclient._store.heard import Replied, Reported
from mmsclient._store.models import RecipientState as State
from mmsclient._store.postgres import migrations
from mmsclient._store.protocol import SenderJournal
from mmsclient._store.stores import store_at
from mmsclient.bulk import Row
from mmsclient.bulk.recipients import check_all
from tests.support.evidence import MESSAGE, ServerClock, end, lose, row
from tests.support.postgres_server import Server, waits_for_a_lock
from tests.support.waiting import until

ONE, TWO = 61400000000, 61400000001
LIST = [Row(f"+{ONE}", 1), Row(f"+{TWO}", 2)]
DELIVERED = DeliveryStatus.DELIVERED
DAY = 86400.0


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


@pytest.fixture
def spring(url: str) -> Iterator[SenderJournal]:
    with closing(store_at(url, "spring").open(MESSAGE)) as journal:
        journal.add(check_all(LIST))
        yield journal


@pytest.fixture
def summer(url: str) -> Iterator[SenderJournal]:
    """Another campaign, to the same phones."""
    with closing(store_at(url, "summer").open(MESSAGE)) as journal:
        journal.add(check_all(LIST))
        yield journal


@pytest.fixture
def clock(url: str) -> ServerClock:
    return ServerClock(url, "mmsclient")


def test_a_report_proves_for_all_campaigns_of_the_database(spring: SenderJournal, summer: SenderJournal) -> None:
    lose(spring, 2)
    summer.recorder.record([Reported("A", ONE, DELIVERED)])
    assert (row(spring, ONE).state, row(spring, ONE).reason) == ("accepted", PROVEN)
    assert (row(spring, TWO).state, row(summer, ONE).state) == ("unknown", "pending")


def test_what_an_answer_named_in_another_campaign_is_not_heard_of_this_one(
    spring: SenderJournal, summer: SenderJournal, clock: ServerClock
) -> None:
    lose(spring, 2)
    claim = summer.claim(2)
    assert claim is not None
    summer.recorder.record([Reported(f"A-{ONE}", ONE, DELIVERED)])  # before the answer that names it
    assert row(spring, ONE).state == "unknown"
    end(summer, claim, State.ACCEPTED, "A")
    summer.recorder.record([Reported(f"A-{TWO}", TWO, DELIVERED)])  # after it
    spring.begin_run(resend_unknown=False)
    assert [row(spring, phone).state for phone in (ONE, TWO)] == ["unknown", "unknown"]
    assert spring.reader.summary().unknown.heard_of == 0


@pytest.mark.parametrize("ended", [State.UNKNOWN, State.ACCEPTED, None])
def test_what_a_call_of_another_campaign_may_have_caused_proves_nothing(
    spring: SenderJournal, summer: SenderJournal, ended: State | None, url: str
) -> None:
    """It is unknown itself, its answer named no id, or it has none yet. And nobody is silent of whom that was heard."""
    claim = summer.claim(1)
    assert claim is not None
    lose(spring)
    if ended is not None:
        end(summer, claim, ended)
    spring.recorder.record([Reported("A", ONE, DELIVERED)])
    spring.begin_run(resend_unknown=Silent(0))
    assert row(spring, ONE).state == "unknown"
    assert spring.reader.summary().unknown.heard_of == 1
    with closing(store_at(url, "spring").open_copy(MESSAGE, resend_unknown=False)) as copy:
        assert row(copy, ONE).state == "unknown"
        assert copy.reader.summary().unknown.heard_of == 1


def test_a_call_of_another_campaign_that_did_not_go_out_stands_in_no_way(
    spring: SenderJournal, summer: SenderJournal
) -> None:
    claim = summer.claim(2)
    assert claim is not None
    end(summer, claim, State.FAILED)
    lose(spring, 2)
    spring.recorder.record([Reported("A", ONE, DELIVERED)])
    assert row(spring, ONE).state == "accepted"


def test_what_was_sent_twice_in_another_campaign_may_have_caused_it(
    spring: SenderJournal, summer: SenderJournal
) -> None:
    """The first of its two calls, of which nobody knows, though the second one has an answer."""
    lose(summer, 2)
    summer.begin_run(resend_unknown=True)
    lose(spring, 2)
    claim = summer.claim(2)
    assert claim is not None
    end(summer, claim, State.ACCEPTED, "A")
    spring.recorder.record([Reported("B", ONE, DELIVERED)])
    assert row(spring, ONE).state == "unknown"


@pytest.mark.parametrize("is_suppressed", [False, True])
def test_so_may_a_call_of_another_campaign_that_was_to_be_repeated_and_was_not(
    spring: SenderJournal, summer: SenderJournal, is_suppressed: bool
) -> None:
    lose(summer, 2)
    summer.begin_run(resend_unknown=True)
    lose(spring, 2)
    claim = summer.claim(2)
    assert claim is not None
    if is_suppressed:
        summer.suppress(claim, dict.fromkeys(claim.phones, "replied STOP"))
    else:
        summer.release(claim)
    spring.recorder.record([Reported("B", ONE, DELIVERED)])
    assert row(spring, ONE).state == "unknown"


def test_a_copy_knows_of_former_calls(spring: SenderJournal, url: str) -> None:
    lose(spring, 2)
    spring.begin_run(resend_unknown=True)
    claim = spring.claim(1)
    assert claim is not None
    spring.recorder.record([Reported("A", ONE, DELIVERED)])
    with closing(store_at(url, "spring").open_copy(MESSAGE, resend_unknown=True)) as copy:
        assert (row(copy, ONE).state, row(copy, ONE).message_id) == ("accepted", "A")
        assert copy.ready == 1


def test_those_who_were_to_be_sent_to_again_keep_their_call_when_the_tables_are_brought_up_to_date(
    spring: SenderJournal, url: str, postgres: Server
) -> None:
    lose(spring, 2)
    spring.begin_run(resend_unknown=True)
    spring.close()
    migration = dict(migrations._files())["009_former_calls.sql"]
    postgres.ask(f"SET search_path = mmsclient; DROP TABLE former_call; {migration}", url)
    with closing(store_at(url, "spring").open(MESSAGE)) as journal:
        for phone in (ONE, TWO):
            claim = journal.claim(1)
            assert claim is not None
            assert claim.phones == (phone,)
            journal.release(claim)
        journal.recorder.record([Reported("A", ONE, DELIVERED)])
        assert [row(journal, phone).state for phone in (ONE, TWO)] == ["accepted", "pending"]


def test_a_call_of_another_campaign_long_ago_stands_in_no_way(
    spring: SenderJournal, summer: SenderJournal, clock: ServerClock
) -> None:
    lose(summer, 2)
    clock.now += PROOF_WINDOW + DAY
    lose(spring, 2)
    spring.recorder.record([Reported("A", ONE, DELIVERED)])
    assert (row(spring, ONE).state, row(summer, ONE).state) == ("accepted", "unknown")


def test_a_report_that_comes_while_its_call_is_given_up_counts(spring: SenderJournal, url: str) -> None:
    """Neither of the two transactions sees what the other writes; the later one waits, and looks again."""
    claim = spring.claim(1)
    assert claim is not None
    with psycopg.connect(url) as sender, closing(store_at(url, "spring").open_recorder()) as recorder:
        sender.execute("SET search_path = mmsclient")
        sender.execute("SELECT 1 FROM lease FOR UPDATE")
        sender.execute("UPDATE recipient SET state = 'unknown' WHERE state = 'sending'")
        thread = threading.Thread(target=recorder.record, args=([Reported("A", ONE, DELIVERED)],))
        thread.start()
        try:
            until(lambda: waits_for_a_lock(url, "SELECT 1 FROM lease%"))
        finally:
            sender.commit()
            thread.join()
    assert (row(spring, ONE).state, row(spring, ONE).message_id) == ("accepted", "A")


def test_a_call_is_given_up_while_its_report_is_recorded(spring: SenderJournal, url: str) -> None:
    claim = spring.claim(1)
    assert claim is not None
    with psycopg.connect(url) as recorder:
        recorder.execute("SET search_path = mmsclient")
        recorder.execute("INSERT INTO evidence VALUES (%s, 'A', clock_timestamp())", (ONE,))
        recorder.execute("SELECT 1 FROM lease FOR UPDATE")
        thread = threading.Thread(target=end, args=(spring, claim, State.UNKNOWN))
        thread.start()
        try:
            until(lambda: waits_for_a_lock(url, "UPDATE lease SET until%"))
        finally:
            recorder.commit()
            thread.join()
    assert row(spring, ONE).state == "accepted"
    assert all(spring.counts[state] == count for state, count in spring.reader.summary().counts.items())


def test_so_may_the_later_of_its_calls_where_the_earlier_one_is_proven(
    spring: SenderJournal, summer: SenderJournal, clock: ServerClock
) -> None:
    """Both are of a recipient that was sent to again; what is heard next may come of the one that nothing proves."""
    lose(summer, 2)
    sent = clock.now
    clock.now += PROOF_WINDOW + DAY
    summer.begin_run(resend_unknown=True)
    lose(summer, 2)
    lose(spring, 2)
    summer.recorder.record([Replied("A", ONE, clock.of_store(sent + 1))])
    assert (row(summer, ONE).state, row(spring, ONE).state) == ("accepted", "unknown")
    spring.recorder.record([Reported("B", ONE, DELIVERED)])
    assert row(spring, ONE).state == "unknown"
