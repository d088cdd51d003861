"""What the statements of a campaign in PostgreSQL read where the tables' statistics know nothing of it.

They are taken when the tables were analysed last, which a campaign that has just begun does not wait for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from mmsclient import DeliveryStatus
from mmsclient._store.evidence import Silent
from mmsclient._store.heard import Reported
from mmsclient._store.models import Claim, Exclusion, ListEntry, Message, PersonalMessage, RecipientResult
from mmsclient._store.models import RecipientState as State
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.migrations import migrate
from mmsclient._store.protocol import SenderJournal
from mmsclient._store.stores import store_at
from tests.support.postgres_server import Server

FIRST = 61400000000
CHUNK = 250
"""Recipients of a call and rows of the list at a time."""
COUNT = 4 * CHUNK
MOST_ROWS = 150 * COUNT
"""Rows that one statement may look at: for each recipient some, and all of a table of one page. Each for each are more.
"""

OTHERS = 50_000
"""Recipients of another campaign."""
MOST_OF_FEW = 10 * CHUNK
"""Recipients that a statement for a chunk of them may look at."""

TABLES = (
    "recipient",
    "batch",
    "campaign",
    "lease",
    "run",
    "aside",
    "excluded",
    "message",
    "delivery",
    "evidence",
    "former_call",
)
ANALYSE = ";".join(f"ANALYZE mmsclient.{table}" for table in TABLES)


def new_database(postgres: Server) -> str:
    """One whose statistics nobody renews."""
    url = postgres.new_database(has_tables=False)
    with closing(Database(Address.of(url))) as database:
        migrate(database)
    postgres.ask(";".join(f"ALTER TABLE mmsclient.{table} SET (autovacuum_enabled = off)" for table in TABLES), url)
    return url


@pytest.fixture(params=["never analysed", "analysed when empty", "analysed before"])
def url(request: pytest.FixtureRequest, postgres: Server) -> str:
    """A database with a campaign that was sent, and statistics or none."""
    url = new_database(postgres)
    if request.param == "analysed when empty":
        postgres.ask(ANALYSE, url)
    with closing(store_at(url, "before").open(Message("Before", "", b"GIF89a"))) as journal:
        take_in(journal, 1_000_000)
        send(journal)
    if request.param == "analysed before":
        postgres.ask(ANALYSE, url)
    return url


@pytest.fixture
def looked_at(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Statements, and the most rows that one execution of each has looked at."""
    del url  # what fills the tables is not counted
    found: dict[str, int] = {}
    with monkeypatch.context() as patch:
        count_into(found, patch)
        yield found


def count_into(found: dict[str, int], patch: pytest.MonkeyPatch, table: str | None = None) -> None:
    """Note each statement from now on, with the most rows that it looks at; those of one `table` alone."""
    for name in ("rows", "row", "execute", "execute_all"):
        patch.setattr(Transaction, name, counting(getattr(Transaction, name), found, table))


def counting(method: Any, found: dict[str, int], table: str | None) -> Any:
    def run(transaction: Transaction, sql: str, values: Sequence[Any] = ()) -> Any:
        if sql.split(maxsplit=1)[0] in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
            each = values if method is EXECUTE_ALL else [values]
            found[sql] = max(found.get(sql, 0), sum(rows_looked_at(transaction, sql, given, table) for given in each))
        return method(transaction, sql, values)

    return run


EXECUTE_ALL = Transaction.execute_all


def rows_looked_at(transaction: Transaction, sql: str, values: Sequence[Any], table: str | None) -> int:
    cursor = transaction._cursor
    cursor.execute("SAVEPOINT counted")
    ((plans,),) = cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}".encode(), values).fetchall()
    cursor.execute("ROLLBACK TO SAVEPOINT counted")
    return rows_of(plans[0]["Plan"], table)


def rows_of(plan: dict[str, Any], table: str | None) -> int:
    """Rows that a node of a plan and those below it have looked at."""
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")
    own = sum(plan.get(name, 0) for name in names) * plan["Actual Loops"]
    counts = table in (None, plan.get("Relation Name"))
    return counts * int(own) + sum(rows_of(each, table) for each in plan.get("Plans", ()))


def take_in(journal: SenderJournal, first: int, *, personal: bool = False) -> None:
    """A list with recipients that are excluded, rows that come twice and rows that are no number."""
    journal.exclude(range(FIRST + first, FIRST + first + COUNT, 50), Exclusion.OPTED_OUT)
    journal.begin_list()
    for start in range(0, COUNT, CHUNK):
        lines = range(start, start + CHUNK)
        entries = [ListEntry(line, str(line), FIRST + first + line, message=text(line, personal)) for line in lines]
        twice = [ListEntry(COUNT + line, str(line), FIRST + first + line) for line in lines[::10]]
        journal.add([*entries, *twice, ListEntry(start, "no number", None, "expected a number")])
    journal.end_list()


def text(line: int, personal: bool) -> PersonalMessage | None:
    return PersonalMessage(f"For {line % (COUNT // 10)}", "") if personal else None


def finish(journal: SenderJournal, claim: Claim, state: State) -> None:
    results = [RecipientResult(state, f"id-{phone}" if state is State.ACCEPTED else None) for phone in claim.phones]
    journal.finish(claim, results, accepted=None, credits_used=None, error=None)


def send(journal: SenderJournal) -> None:
    """To everybody, with calls that end in each way."""
    for state in (State.ACCEPTED, State.UNKNOWN, State.PENDING):
        claim = journal.claim(CHUNK)
        assert claim is not None
        journal.suppress(claim, dict.fromkeys(claim.phones[:5], "asked"))
        claim = claim.only(claim.phones[5:])
        finish(journal, claim, state)
        if state is State.PENDING:
            again = journal.claim_again(claim.ids)
            assert again is not None
            journal.release(again)
            again = journal.claim_again(claim.ids[::2])
            assert again is not None
            finish(journal, again, State.UNKNOWN)
    while (claim := journal.claim(CHUNK)) is not None:
        finish(journal, claim, State.ACCEPTED)


def look(journal: SenderJournal) -> None:
    """All that a reader can be asked for."""
    reader, phones = journal.reader, range(FIRST, FIRST + CHUNK)
    (
        reader.summary(),
        reader.figures(),
        reader.standing(),
        reader.calls_ahead(CHUNK),
        reader.first_messages(3),
        reader.call_costs(),
    )
    reader.recipients(None, 0), reader.recipients(State.ACCEPTED, CHUNK), reader.rejected_rows((0, ""))
    reader.messages_of(phones), reader.recipients_of(phones)


def test_no_statement_looks_at_each_recipient_for_each_other(url: str, looked_at: dict[str, int]) -> None:
    store = store_at(url, "spring")
    message = Message("Hi", "", b"GIF89a")
    phones = range(FIRST, FIRST + COUNT)
    with closing(store.open(message)) as journal:
        take_in(journal, 0)
        look(journal)
        send(journal)
        heard = [Reported(f"id-{phone}", phone, DeliveryStatus.DELIVERED) for phone in phones]
        for start in range(0, COUNT, CHUNK):
            journal.recorder.record(heard[start : start + CHUNK])
        look(journal)
        journal.add_unlisted([ListEntry(0, "", FIRST - 1)])
        journal.claim(CHUNK)  # and left
    with closing(store.open(message, resend_unknown=Silent(0.0))) as journal:
        take_in(journal, 0)
        journal.claim(CHUNK)
    store.open(message, resend_unknown=True).close()
    store.open_copy(message, resend_unknown=False).close()
    assert_few(looked_at)


def test_no_statement_of_messages_for_each_does(url: str, looked_at: dict[str, int]) -> None:
    store = store_at(url, "spring")
    message = Message("", "", b"GIF89a", "Hi {name}")
    with closing(store.open(message)) as journal:
        take_in(journal, 0, personal=True)
        look(journal)
        while (claim := journal.claim(CHUNK)) is not None:
            finish(journal, claim, State.ACCEPTED)
        look(journal)
    store.open_copy(message, resend_unknown=False).close()
    assert_few(looked_at)


@pytest.mark.parametrize("analysed", ["never", "when empty", "before", "now"])
def test_what_proves_something_of_a_few_looks_at_no_others(
    postgres: Server, monkeypatch: pytest.MonkeyPatch, analysed: str
) -> None:
    url = new_database(postgres)
    if analysed == "when empty":
        postgres.ask(ANALYSE, url)
    store_at(url, "before").open(Message("Before", "", b"GIF89a")).close()
    others = f"number, number, 'accepted', number, 1, 1, 'other-' || number FROM generate_series(1, {OTHERS}) AS number"
    postgres.ask(
        "INSERT INTO mmsclient.recipient (campaign, id, phone, state, line, run, batch, message_id)"  # noqa: S608
        f" SELECT (SELECT id FROM mmsclient.campaign), {others}",
        url,
    )
    if analysed == "before":
        postgres.ask(ANALYSE, url)
    with closing(store_at(url, "spring").open(Message("Hi", "", b"GIF89a"))) as journal:
        take_in(journal, 0)
        if analysed == "now":
            postgres.ask(ANALYSE, url)
        claim = journal.claim(CHUNK)
        assert claim is not None
        looked_at: dict[str, int] = {}
        count_into(looked_at, monkeypatch, "recipient")
        finish(journal, claim, State.UNKNOWN)
        journal.recorder.record([Reported(f"id-{phone}", phone, DeliveryStatus.DELIVERED) for phone in claim.phones])
        assert journal.reader.reached_before(claim.phones) == {}
        assert journal.reader.sent_again(0) == []
        assert journal.reader.excluded_among(claim.phones) == {}
        monkeypatch.undo()
        assert journal.reader.summary().unknown.proven == CHUNK
    assert_few(looked_at, MOST_OF_FEW)


def assert_few(looked_at: dict[str, int], most: int = MOST_ROWS) -> None:
    many = {" ".join(sql.split()): rows for sql, rows in looked_at.items() if rows > most}
    assert looked_at
    assert not many, "\n".join(f"{rows}: {sql}" for sql, rows in many.items())
