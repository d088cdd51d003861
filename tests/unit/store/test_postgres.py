"""The store in PostgreSQL: its tables, its addresses, its leases, and a database that is away."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from functools import partial

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsclient import DeliveryStatus
from mmsclient._store.heard import Reported
from mmsclient._store.models import Claim, ListEntry, Message, Owner, PersonalMessage, RecipientResult, RecipientState
from mmsclient._store.postgres import database as databases
from mmsclient._store.postgres import evidence, migrations
from mmsclient._store.postgres import lease as leases
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.journal import PostgresJournal
from mmsclient._store.postgres.opening import PostgresStore
from mmsclient._store.stores import outbox_at, store_at
from mmsclient.bulk import JournalBusyError, JournalError, JournalMismatchError, JournalUnavailableError, Row
from mmsclient.bulk.recipients import check_all
from mmsclient.errors import ConfigurationError, InvalidRequestError
from tests.support.cutting import Cutter
from tests.support.postgres_server import PASSWORD, Server, waits_for_a_lock
from tests.support.waiting import until

MESSAGE = Message("Hi", "Sale", b"GIF89a")
ACCEPTED, FAILED, UNKNOWN, PENDING, SENDING = (
    RecipientState.ACCEPTED,
    RecipientState.FAILED,
    RecipientState.UNKNOWN,
    RecipientState.PENDING,
    RecipientState.SENDING,
)


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database(has_tables=False)


@pytest.fixture
def spring(url: str) -> PostgresStore:
    store = store_at(url, "spring")
    assert isinstance(store, PostgresStore)
    return store


@pytest.mark.parametrize("of", ["standing", "summary", "message", "parts", "begun_by"])
def test_what_is_read_of_a_campaign_that_was_just_purged_says_so(
    url: str, spring: PostgresStore, postgres: Server, of: str
) -> None:
    spring.open(MESSAGE).close()
    with closing(spring.open_reader()) as reader:
        getattr(reader, of)()
        postgres.ask("DELETE FROM mmsclient.campaign", url)
        with pytest.raises(JournalError, match=r"\(spring\): it is gone: somebody has purged it"):
            getattr(reader, of)()


def test_a_campaign_that_is_purged_while_it_is_opened_says_so(
    url: str, spring: PostgresStore, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def purged(*_: object) -> None:
        postgres.ask("DELETE FROM mmsclient.campaign", url)

    for do in (spring.open, partial(spring.open_copy, resend_unknown=False)):
        spring.open(MESSAGE).close()
        with monkeypatch.context() as patch:
            patch.setattr(PostgresStore, "_check_same", purged)
            with pytest.raises(JournalError, match=r"\(spring\): it is gone: somebody has purged it"):
                do(MESSAGE)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of half a second."""
    monkeypatch.setattr(leases, "LEASE", 0.5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away is looked for more often, and waited for 5 seconds."""
    monkeypatch.setattr(databases, "TRY_AGAIN", 0.02)
    monkeypatch.setattr("mmsclient._store.postgres.opening.AWAY", 5.0)


def rows(count: int) -> list[Row]:
    return [Row(f"+614{n:08}", n) for n in range(1, count + 1)]


def claimed(journal: PostgresJournal, limit: int = 10) -> Claim:
    claim = journal.claim(limit)
    assert claim is not None
    return claim


def finish(journal: PostgresJournal, claim: Claim, state: RecipientState = ACCEPTED) -> None:
    results = [RecipientResult(state, f"id-{phone}") for phone in claim.phones]
    journal.finish(claim, results, accepted=len(results), credits_used=Decimal(1), error=None)


def counts(journal: PostgresJournal) -> dict[str, int]:
    """As they are recorded, which is as the journal has them."""
    found = journal.reader.summary().counts
    assert journal.counts == found
    return {str(state): count for state, count in found.items() if count}


class Paused:
    """A sender whose heartbeats have stopped, as those of a frozen process."""

    def __init__(self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("mmsclient._store.postgres.lease.HEARTBEATS", 0.001)
            self.journal = store.open(MESSAGE)


def test_a_journal_is_looked_at_again_once_its_last_sender_has_ended(
    spring: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = (Owner("https://api.example", lambda salt, key=key: f"{salt.hex()}-{key}") for key in "ab")  # type: ignore[misc]
    acquire = leases.acquire

    def once_it_has_sent(transaction: Transaction, campaign: int, seconds: float) -> object:
        monkeypatch.setattr("mmsclient._store.postgres.opening.acquire", acquire)
        with closing(spring.open(MESSAGE, mine)) as journal:
            journal.add(check_all(rows(1)))
            finish(journal, claimed(journal))
        return acquire(transaction, campaign, seconds)

    spring.open(MESSAGE, mine).close()
    monkeypatch.setattr("mmsclient._store.postgres.opening.acquire", once_it_has_sent)
    with pytest.raises(JournalMismatchError, match="another APPKEY"):
        spring.open(MESSAGE, other)
    spring.open(MESSAGE, mine).close()


# Tables ---------------------------------------------------------------------------------------------------------------


def test_starters_at_the_same_moment_make_the_tables_once(url: str) -> None:
    address = Address.of(url)
    barrier = threading.Barrier(8)

    def start(_: int) -> list[str]:
        with closing(Database(address)) as database:
            barrier.wait()
            return migrations.migrate(database)

    with ThreadPoolExecutor(8) as pool:
        applied = [names for names in pool.map(start, range(8)) if names]
    assert [names[0] for names in applied] == ["001_campaigns.sql"]


def test_campaigns_and_schemas_share_a_database(url: str, postgres: Server) -> None:
    stores = [store_at(url, "spring"), store_at(url, "autumn"), store_at(f"{url}&schema=other_Shop", "spring")]
    for number, store in enumerate(stores, 1):
        with closing(store.open(MESSAGE)) as journal:
            journal.add(check_all(rows(number)))
    for number, store in enumerate(stores, 1):
        with closing(store.open_reader()) as reader:
            assert reader.summary().counts[PENDING] == number
    found = postgres.ask("SELECT nspname FROM pg_namespace WHERE nspname ~ 'mmsclient|other' ORDER BY 1", url)
    assert found == [("mmsclient",), ("other_Shop",)]


def test_tables_of_a_newer_version_are_left_alone(spring: PostgresStore, url: str, postgres: Server) -> None:
    spring.open(MESSAGE).close()
    postgres.ask("INSERT INTO mmsclient.migration VALUES (99, 'of the future') RETURNING 1", url)
    for way in (
        lambda: spring.open(MESSAGE),
        lambda: spring.open_copy(MESSAGE, resend_unknown=False),
        spring.open_reader,
        spring.open_recorder,
    ):
        with pytest.raises(JournalError, match=r"of version 99, and this package reads \d+; use a newer mmsclient"):
            way()


def test_tables_of_an_older_version_are_brought_up_to_date_by_a_sender(
    spring: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    spring.open(MESSAGE).close()
    files = [*migrations._files(), ("900_more.sql", "CREATE TABLE more (x integer); CREATE INDEX ON more (x);")]
    monkeypatch.setattr(migrations, "_files", lambda: files)
    with pytest.raises(
        JournalError, match=r"of version \d+, and this package needs \d+; run `mmsclient store migrate`"
    ):
        spring.open_reader()
    spring.open(MESSAGE).close()
    spring.open_reader().close()


def test_who_reads_while_the_tables_are_brought_up_to_date_never_waits_for_who_waits_for_it(
    url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, files = Address.of(url), migrations._files()
    with closing(Database(address)) as database:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "_files", lambda: files[:10])
            migrations.migrate(database)
        with psycopg.connect(url) as reader, ThreadPoolExecutor(1) as pool:
            reader.execute("SET search_path = mmsclient; SET deadlock_timeout = '1 h'; SELECT 1 FROM evidence")
            migrating = pool.submit(migrations.migrate, database)
            until(lambda: waits_for_a_lock(url, "%TABLE%"))
            reader.execute("SELECT 1 FROM campaign")
            reader.commit()
            assert migrating.result() == [name for name, _ in files[10:]]
    assert "deadlock detected" not in (postgres.directory / "log").read_text(encoding="utf-8")


@pytest.mark.parametrize("of_their_own", [False, True])
def test_the_recipients_of_a_campaign_go_with_it(url: str, postgres: Server, of_their_own: bool) -> None:
    message = Message("", "", b"GIF89a", "Hi {name}" if of_their_own else "")
    own = PersonalMessage("Hi Ann", "") if of_their_own else None
    for name in ("spring", "autumn"):
        with closing(store_at(url, name).open(message)) as journal:
            journal.add([ListEntry(1, "", 61400000000, message=own)])
    postgres.ask("DELETE FROM mmsclient.campaign WHERE name = 'spring'", url)
    for table, left in (("recipient", 1), ("message", int(of_their_own)), ("lease", 1)):
        assert postgres.ask(f"SELECT count(*) FROM mmsclient.{table}", url) == [(left,)], table  # noqa: S608


def test_who_may_delete_a_campaign_does_nothing_else_with_the_rights_of_its_owner(url: str, postgres: Server) -> None:
    """Temporary tables of the same names, and their triggers, are not taken for the campaign's."""
    store_at(url, "spring").open(MESSAGE).close()
    guest = url.replace("mms:", "deleting:")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS deleting")
        connection.execute("CREATE ROLE deleting LOGIN")
        connection.execute("GRANT USAGE ON SCHEMA mmsclient TO deleting")
        connection.execute("GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA mmsclient TO deleting")
    try:
        with psycopg.connect(guest, autocommit=True) as connection:
            connection.execute("CREATE TEMP TABLE recipient AS SELECT id AS campaign FROM mmsclient.campaign")
            connection.execute("GRANT ALL ON recipient TO public")
            connection.execute("DELETE FROM mmsclient.campaign")
            assert connection.execute("SELECT count(*) FROM recipient").fetchone() == (1,)
        functions = "SELECT proconfig FROM pg_proc WHERE proname IN ('recipients_go', 'outbox_put')"
        assert postgres.ask(functions, url) == [(["search_path=mmsclient, pg_temp"],)] * 2
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP OWNED BY deleting")
            connection.execute("DROP ROLE deleting")


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252"])
def test_a_database_that_does_not_hold_every_text_is_refused(postgres: Server, encoding: str) -> None:
    """Else the end of a call could not be recorded for a character in the API's words."""
    name = f"encoded_{encoding.lower()}"
    options = "TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    postgres.ask(f"CREATE DATABASE {name} ENCODING '{encoding}' {options}")
    url = postgres.url.replace("/postgres?", f"/{name}?")
    try:
        with closing(outbox_at(url)) as outbox:
            for use in (lambda: store_at(url, "spring").open(MESSAGE), outbox.last_number, outbox.open_recorder):
                with pytest.raises(JournalError, match=f"its encoding is {encoding}.*; make one with ENCODING 'UTF8'"):
                    use()
        assert postgres.ask("SELECT to_regnamespace('mmsclient')::text", url) == [(None,)]
    finally:
        postgres.ask(f"DROP DATABASE {name}")


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.just("NULL")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | TEXTS), st.lists(TEXTS), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_lists_come_back_as_they_were(
    postgres: Server, mixed: list[str | None], texts: list[str], numbers: list[int]
) -> None:
    values = (mixed, texts, numbers)
    with closing(Database(Address.of(postgres.url), "")) as database:
        sql = "SELECT %s::text[], %s::text[], %s::bigint[]"
        assert database.run(lambda transaction: transaction.row(sql, values)) == values


def test_a_role_that_may_make_no_tables_is_told_who_may(url: str, postgres: Server) -> None:
    postgres.ask("SELECT 1 FROM pg_roles", url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")
    guest = store_at(url.replace("mms:", "guest:"), "spring")
    with pytest.raises(JournalError, match="permission denied for database"):
        guest.open(MESSAGE)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE guest")


def test_a_role_that_may_not_use_the_schema_is_not_told_that_it_is_empty(url: str) -> None:
    with closing(store_at(url, "spring").open(MESSAGE)), psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS stranger")
        connection.execute("CREATE ROLE stranger LOGIN")
        theirs = store_at(url.replace("mms:", "stranger:"), "spring")
        for use in (lambda: theirs.open(MESSAGE), theirs.open_reader, theirs.open_recorder, theirs.exists):
            with pytest.raises(JournalError, match="permission denied for schema mmsclient"):
                use()
        connection.execute("DROP ROLE stranger")


@pytest.mark.parametrize("setting", ["synchronous_commit = off", "default_transaction_read_only = on"])
def test_what_is_committed_is_on_the_disk_whatever_the_database_says(postgres: Server, setting: str) -> None:
    store = store_at(postgres.new_database(setting, "default_transaction_isolation = serializable"), "spring")
    assert isinstance(store, PostgresStore)
    with closing(store.open(MESSAGE)), closing(Database(store.address)) as database:
        found = database.run(lambda transaction: transaction.row("SHOW synchronous_commit"))
    assert found == ("on",)


def test_no_query_is_compiled(postgres: Server) -> None:
    """New tables have no statistics: a second was spent on a statement of a millisecond."""
    with closing(Database(Address.of(postgres.new_database("jit = on")))) as database:
        assert database.run(lambda transaction: transaction.row("SHOW jit")) == ("off",)


def test_pgbouncer_may_pool_transactions(url: str, postgres: Server) -> None:
    """Two senders, their heartbeats, a reader and a recorder share two connections, a transaction each."""
    with postgres.pooled(url) as pooled:
        stores = [store_at(pooled, name) for name in ("spring", "autumn")]
        with closing(stores[0].open(MESSAGE)) as one, closing(stores[1].open(MESSAGE)) as two:
            for _ in range(3):
                for journal in (one, two):
                    assert isinstance(journal, PostgresJournal)
                    journal.add(check_all(rows(20)))
                    while claim := journal.claim(5):
                        finish(journal, claim)
                    with closing(stores[0].open_reader()) as reader, closing(stores[1].open_recorder()) as recorder:
                        recorder.record([Reported("A", 0, DeliveryStatus.DELIVERED)])
                        assert reader.summary().counts[ACCEPTED] == 20
            with pytest.raises(JournalBusyError):
                stores[0].open(MESSAGE)
            assert one.counts[ACCEPTED] == two.counts[ACCEPTED] == 20


def test_nothing_stays_in_the_session(spring: PostgresStore, postgres: Server, url: str) -> None:
    """Where PgBouncer pools transactions, the next one may come on another connection."""
    with closing(spring.open(MESSAGE)) as journal:
        journal.add(check_all(rows(200)))
        for _ in range(12):
            finish(journal, claimed(journal, 5))
        connection = journal._database._connection
        assert connection is not None
        for query, expected in (
            ("SELECT count(*) FROM pg_prepared_statements", "0"),
            ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0"),
            ("SHOW search_path", '"$user", public'),
            ("SHOW idle_in_transaction_session_timeout", "0"),
        ):
            assert str(connection.execute(query.encode()).fetchall()[0][0]) == expected, query
        connection.execute("SELECT 1")


# Addresses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:p%40ss@db.example:5433/shop?sslmode=require", "db.example/shop"),
        ("postgres://db.example", "db.example/"),
        ("postgresql://me@one,two/shop?target_session_attrs=read-write", "one,two/shop"),
        ("postgresql:///shop", "localhost/shop"),
        ("postgresql:///shop?host=/run/pg&password=p%40ss", "/run/pg/shop"),
    ],
)
def test_an_address_shows_host_and_database(address: str, shown: str) -> None:
    found = Address.of(address)
    assert found.shown == shown
    assert "p@ss" not in repr(found)
    twin = pickle.loads(pickle.dumps(found))  # noqa: S301
    assert twin.shown == shown
    assert "password" not in twin.conninfo
    assert b"p@ss" not in pickle.dumps(found)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:se@cret@host/shop",
        "postgresql://me:se/cret@host/shop",
        "postgresql://me:se?cret@host/shop",
        "postgresql://me:se#cret@host/shop",
        "postgresql://me:se%zzcret@host/shop",
        "postgresql://me:secret@host/shop?secret",
        "postgresql://me:secret@host/shop?secret=1",
        "postgresql://me:[secret@host/shop",
        "postgresql://me:secret@host/shop?schema=a-secret",
    ],
)
def test_an_address_that_cannot_be_read_is_not_shown(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        store_at(address, "spring")
    error: BaseException | None = caught.value
    while error is not None:
        assert "cret" not in str(error).replace("percent-encoded", "")
        error = error.__context__


@pytest.mark.parametrize("name", [None, "", "x" * 201, "a\nb"])
def test_a_campaign_in_a_database_has_a_name(name: str | None) -> None:
    with pytest.raises(InvalidRequestError, match="what the campaign is called in the database"):
        store_at("postgresql://host/shop", name)
    with pytest.raises(InvalidRequestError, match="nothing beside a file"):
        store_at("spring.db", "spring")


def test_no_password_in_what_goes_wrong(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    store = store_at("postgresql://me:s3cret@127.0.0.1:1/shop", "spring")
    with pytest.raises(JournalUnavailableError, match=r"journal 127\.0\.0\.1/shop \(spring\): ") as caught:
        store.open(MESSAGE)
    assert "s3cret" not in f"{caught.value!r}{caught.value}{caplog.text}{store!r}"


# Leases ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_a_living_sender_keeps_its_lease(spring: PostgresStore) -> None:
    with closing(spring.open(MESSAGE)) as journal:
        began = leases.now()
        until(lambda: leases.now() > began + 3 * leases.LEASE)
        assert journal.may_send
        with pytest.raises(JournalBusyError, match=r"another sender has it \(.*, process \d+\)"):
            spring.open(MESSAGE)


@pytest.mark.usefixtures("short")
def test_a_run_that_takes_longer_than_a_lease_to_begin_keeps_it(
    spring: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for it meanwhile does not take over."""
    spring.open(MESSAGE).close()
    second: list[object] = []

    def slow(transaction: Transaction, *_: object) -> str:
        thread.start()
        transaction.rows("SELECT pg_sleep(%s)", (2 * leases.LEASE,))
        return ""

    def open_too() -> None:
        try:
            second.append(spring.open(MESSAGE))
        except JournalBusyError as busy:
            second.append(busy)

    thread = threading.Thread(target=open_too)
    monkeypatch.setattr(evidence, "resend", slow)
    with closing(spring.open(MESSAGE)) as journal:
        thread.join()
        assert [type(each) for each in second] == [JournalBusyError]
        until(lambda: journal.may_send)


@pytest.mark.usefixtures("short")
def test_what_a_dead_sender_was_at_is_unknown_and_its_late_answers_count(
    spring: PostgresStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frozen = Paused(spring, monkeypatch).journal
    frozen.add(check_all(rows(50)))
    first, second, third, fourth = (claimed(frozen) for _ in range(4))
    finish(frozen, first)
    until(lambda: not frozen.may_send)
    journal = opened_by_another(spring)
    assert "its sender is gone" in caplog.text
    assert "30 recipients of it left open" in caplog.text
    assert counts(journal) == {"accepted": 10, "unknown": 30, "pending": 10}
    with pytest.raises(JournalBusyError, match="another sender has taken it over"):
        frozen.claim(10)
    with pytest.raises(JournalBusyError, match="another sender has taken it over"):
        frozen.claim_again(first.ids)
    finish(frozen, second)
    finish(frozen, third, FAILED)
    frozen.suppress(fourth, {fourth.phones[0]: "replied STOP"})
    frozen.release(fourth.only(fourth.phones[1:]))
    claim = claimed(journal)  # notices that something has changed
    assert claim.ids == third.ids
    assert journal.ready == 19
    assert counts(journal) == {"accepted": 20, "sending": 10, "pending": 19, "excluded": 1}
    finish(journal, claim)
    frozen.close()
    assert journal.may_send
    assert claimed(journal, 50).ids == (*fourth.ids[1:], *range(41, 51))
    assert journal.reopened()
    journal.begin_run(resend_unknown=False)
    assert not journal.reopened()
    journal.close()


@pytest.mark.usefixtures("short")
def test_at_its_end_a_campaign_is_counted_anew_only_where_a_late_answer_has_come(
    spring: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It walks through all recipients: with a million that takes four seconds, in which nothing is sent."""
    frozen = Paused(spring, monkeypatch).journal
    frozen.add(check_all(rows(20)))
    late = claimed(frozen)
    until(lambda: not frozen.may_send)
    journal = opened_by_another(spring)
    finish(journal, claimed(journal))
    with monkeypatch.context() as uncounted:
        uncounted.setattr(PostgresJournal, "count", None)
        assert not journal.reopened()
    finish(frozen, late)
    assert journal.reopened()
    assert counts(journal) == {"accepted": 20}
    frozen.close()
    journal.close()


def opened_by_another(store: PostgresStore) -> PostgresJournal:
    found: list[PostgresJournal] = []

    def is_open() -> bool:
        try:
            found.append(store.open(MESSAGE))
        except JournalBusyError:
            return False
        return True

    until(is_open)
    return found[0]


@pytest.mark.usefixtures("short")
def test_an_end_of_an_old_epoch_is_refused_for_those_whom_the_next_sender_has_sent_to_again(
    spring: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = Paused(spring, monkeypatch).journal
    frozen.add(check_all(rows(20)))
    lost = claimed(frozen)
    until(lambda: not frozen.may_send)
    opened_by_another(spring).close()
    with closing(spring.open(MESSAGE, resend_unknown=True)) as journal:
        again = claimed(journal, 5)
        with pytest.raises(JournalBusyError, match="another sender has taken it over"):
            finish(frozen, lost, FAILED)
        with pytest.raises(JournalBusyError):
            frozen.release(lost)
        finish(journal, again)
        journal.count()
        assert counts(journal) == {"accepted": 5, "failed": 5, "pending": 10}
    frozen.close()


@pytest.mark.usefixtures("short")
def test_a_sender_whose_lease_ran_out_goes_on_where_nobody_has_taken_over(
    spring: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Paused(spring, monkeypatch).journal
    with closing(journal):
        journal.add(check_all(rows(20)))
        claim = claimed(journal)
        until(lambda: not journal.may_send)
        finish(journal, claim)
        assert not journal.may_send
        claim = claimed(journal)
        assert journal.may_send  # not only at the next heartbeat
        finish(journal, claim)
        assert counts(journal) == {"accepted": 20}


# Away -----------------------------------------------------------------------------------------------------------------


def cut(postgres: Server, journal: PostgresJournal) -> None:
    postgres.cut_connections()


def crash(postgres: Server, journal: PostgresJournal) -> None:
    postgres.stop("immediate")
    postgres.start()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("trouble", [cut, crash])
def test_a_connection_that_is_lost_between_two_calls_costs_nothing(
    spring: PostgresStore, postgres: Server, trouble: Callable[[Server, PostgresJournal], None]
) -> None:
    with closing(spring.open(MESSAGE)) as journal:
        journal.add(check_all(rows(30)))
        trouble(postgres, journal)
        claim = claimed(journal)
        trouble(postgres, journal)
        finish(journal, claim)
        trouble(postgres, journal)
        journal.add(check_all([Row("+61400001000", 31)]))
        trouble(postgres, journal)
        journal.release(claimed(journal))
        trouble(postgres, journal)
        assert counts(journal) == {"accepted": 10, "pending": 21}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_made_twice(
    spring: PostgresStore, postgres: Server, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    cutter = Cutter(monkeypatch, postgres)
    with closing(spring.open(MESSAGE)) as journal:
        cutter.arm(after=after)
        journal.begin_list()
        cutter.arm(after=after)
        journal.add(check_all([*rows(30), Row("+61400000001", 31), Row("x", 32)]))
        cutter.arm(after=after)
        journal.end_list()
        assert counts(journal) == {"pending": 30, "excluded": 2}
        cutter.arm(after=after)
        first = claimed(journal)
        assert counts(journal) == {"pending": 20, "excluded": 2, "sending": 10}
        cutter.arm(after=after)
        finish(journal, first, FAILED)
        cutter.arm(after=after)
        again = journal.claim_again(first.ids)
        assert again is not None
        cutter.arm(after=after)
        finish(journal, again)
        second = claimed(journal)
        cutter.arm(after=after)
        journal.release(second)
        cutter.arm(after=after)
        third = claimed(journal)
        assert len({*first.ids, *second.ids, *third.ids}) == 30
        assert journal.ready == 0
        finish(journal, third)
        assert counts(journal) == {"accepted": 20, "pending": 10, "excluded": 2}
        assert journal.reader.summary().calls == 3


@pytest.mark.usefixtures("quick", "short")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "end",
    [
        finish,
        PostgresJournal.release,
        lambda journal, claim: journal.suppress(claim, dict.fromkeys(claim.phones, "replied STOP")),
    ],
    ids=["finish", "release", "suppress"],
)
def test_a_late_end_whose_commit_is_in_doubt_is_refused_for_those_who_were_sent_to_again(
    spring: PostgresStore,
    postgres: Server,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
    end: Callable[[PostgresJournal, Claim], None],
) -> None:
    frozen = Paused(spring, monkeypatch).journal
    frozen.add(check_all(rows(4)))
    lost = claimed(frozen)
    until(lambda: not frozen.may_send)
    opened_by_another(spring).close()
    cutter = Cutter(monkeypatch, postgres)
    with closing(spring.open(MESSAGE, resend_unknown=True)) as journal:
        again = claimed(journal)
        assert again.ids == lost.ids
        cutter.arm(after=after)
        with pytest.raises(JournalBusyError, match="another sender has taken it over"):
            end(frozen, lost)
        finish(journal, again)
        assert journal.reader.summary().counts[ACCEPTED] == 4
    frozen.close()


@pytest.mark.usefixtures("quick")
def test_a_report_that_comes_while_nobody_knows_of_a_claim_prevents_that(
    spring: PostgresStore, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    cutter = Cutter(monkeypatch, postgres)
    with closing(spring.open(MESSAGE)) as journal, closing(spring.open_recorder()) as recorder:
        journal.add(check_all(rows(3)))
        lost = claimed(journal, 2)
        finish(journal, lost, UNKNOWN)
        journal.begin_run(resend_unknown=True)
        cut_connections = postgres.cut_connections

        def cut_and_report() -> None:
            cut_connections()
            recorder.record([Reported("A", lost.phones[0], DeliveryStatus.DELIVERED)])

        monkeypatch.setattr(postgres, "cut_connections", cut_and_report)
        cutter.arm(after=True)
        assert claimed(journal).ids == (2, 3)
        assert counts(journal) == {"accepted": 1, "sending": 2}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_who_is_suppressed_is_so_once_where_the_answer_to_a_commit_is_lost(
    spring: PostgresStore, postgres: Server, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    cutter = Cutter(monkeypatch, postgres)
    with closing(spring.open(MESSAGE)) as journal:
        journal.add(check_all(rows(20)))
        claim = claimed(journal)
        cutter.arm(after=after)
        journal.suppress(claim, dict.fromkeys(claim.phones[:4], "replied STOP"))
        finish(journal, claim.only(claim.phones[4:]))
        claim = claimed(journal)
        cutter.arm(after=after)
        journal.suppress(claim, dict.fromkeys(claim.phones, "replied STOP"))
        assert counts(journal) == {"accepted": 6, "excluded": 14}
        assert journal.reader.summary().calls == 1


@pytest.mark.usefixtures("quick")
def test_a_claim_that_nobody_heard_of_is_undone_as_soon_as_that_is_possible(
    spring: PostgresStore, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    cutter = Cutter(monkeypatch, postgres)
    with closing(spring.open(MESSAGE)) as journal:
        journal.add(check_all(rows(30)))
        journal._database.patience = 0.0
        cutter.arm(2, after=True)
        with pytest.raises(JournalUnavailableError):
            journal.claim(10)
        assert journal.reader.summary().counts[SENDING] == 10
        finish(journal, claimed(journal))
        assert counts(journal) == {"accepted": 10, "pending": 20}
        cutter.arm(2, after=True)
        with pytest.raises(JournalUnavailableError):
            journal.claim(10)
    with closing(spring.open(MESSAGE)) as journal:
        assert counts(journal) == {"accepted": 10, "pending": 20}
        assert journal.reader.summary().calls == 1


@pytest.mark.usefixtures("quick")
def test_a_deadlock_costs_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the connection is new, and nobody would wait for a database that is away."""
    monkeypatch.setattr(databases, "IDLE", 60_000)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA mmsclient; CREATE TABLE mmsclient.t AS VALUES (1, 0), (2, 0)")
    both = threading.Barrier(2, timeout=60)

    def count(*order: int) -> list[bool]:
        tries: list[bool] = []

        def work(transaction: Transaction) -> None:
            tries.append(transaction.is_repeated)
            for place, row in enumerate(order):
                if place and len(tries) == 1:
                    both.wait()
                transaction.execute("UPDATE t SET column2 = column2 + 1 WHERE column1 = %s", (row,))

        with closing(Database(Address.of(url))) as database:
            database.run(work)
        return tries

    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(count, 1, 2), pool.submit(count, 2, 1)]
        tries = [each for future in futures for each in future.result()]
    assert len(tries) >= 3  # more, where who tries again is faster than the one that waited
    assert not any(tries)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT column2 FROM mmsclient.t").fetchall() == [(2,), (2,)]


def test_a_database_that_stays_away_is_an_error_of_the_journal(
    spring: PostgresStore, postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(spring.open(MESSAGE)) as journal:
        journal.add(check_all(rows(30)))
        claim = claimed(journal)
        journal._database.patience = 0.3
        postgres.stop()
        try:
            with pytest.raises(JournalUnavailableError, match="what was recorded before stays"):
                finish(journal, claim)
            with pytest.raises(JournalUnavailableError, match="what was recorded before stays"):
                journal.claim(10)
        finally:
            postgres.start()
        assert "tried again for 0.3 s" in caplog.text
        assert PASSWORD not in caplog.text
        finish(journal, claim)
        assert counts(journal) == {"accepted": 10, "pending": 20}
