"""Campaigns in PostgreSQL by the command, and `mmsclient store`."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from mmsclient import DeliveryStatus
from mmsclient._store.heard import Reported
from mmsclient._store.stores import store_at
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject, Reset
from tests.support.command import Cli
from tests.support.pages import PageReader
from tests.support.postgres_server import PASSWORD, Server


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database(has_tables=False)


@pytest.fixture
def folder(folder: Path) -> Path:
    """With a list of 250 numbers."""
    lines = ["mobile", *(f"04{n:08}" for n in range(250)), *"abcdefg"]
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def sending(url: str, *more: str) -> tuple[str, ...]:
    return ("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", "--journal", url, "--yes", *more)


def test_a_campaign_is_sent_stopped_resumed_and_reported(cli: Cli, api: Sandbox, url: str) -> None:
    name = ("--name", "spring sale")
    assert cli(*sending(url, *name, "--dry-run")).status == 0
    api.faults.add(Reject("LEDGER_ERROR", "No credit.", 400), call="send-mms", skip=2)
    stopped = cli(*sending(url, *name, "--batch-size", "50"))
    assert stopped.status == 5
    assert "to go on: mmsclient bulk resume URL --name 'spring sale'" in stopped.err
    api.faults.clear()
    resumed = cli("bulk", "resume", url, "list.csv", *name, "--yes", "--json")
    assert resumed.status == 0
    *_, report = resumed.documents
    assert report["counts"]["accepted"] == 250
    assert report["journal"].endswith(" (spring sale)")
    reported = cli("bulk", "report", url, *name)
    assert "mmsclient bulk report URL --name 'spring sale' --csv --state excluded" in reported.out
    assert len(cli("bulk", "report", url, *name, "--csv", "--state", "accepted").out.splitlines()) == 251
    assert len(api.sends) == 2 + 1


def test_the_report_of_a_campaign_in_a_database_as_a_page(cli: Cli, url: str) -> None:
    assert cli(*sending(url, "--name", "spring")).status == 0
    assert cli("bulk", "report", url, "--name", "spring", "--html", "spring.html").status == 0
    page = Path("spring.html").read_text(encoding="utf-8")
    assert PageReader(page).row("Accepted")[0] == "250"
    assert "Campaign spring" in page
    assert PASSWORD not in page


def test_unknown_recipients_are_settled_by_reports_and_the_silent_are_sent_to_again(
    cli: Cli, api: Sandbox, url: str
) -> None:
    name = ("--name", "spring")
    api.faults.add(Reset(carried_out=False), call="send-mms", skip=1, times=1)
    api.faults.add(Reset(carried_out=True), call="send-mms", skip=2, times=1)
    assert cli(*sending(url, *name, "--batch-size", "50", "--check-balance")).status == 4
    assert cli("bulk", "report", url, *name, "--json").documents[0]["unknown"]["count"] == 100
    with closing(store_at(url, "spring").open_recorder()) as recorder:
        for message in api.messages:
            recorder.record([Reported(message.id, int(message.to[1:]), DeliveryStatus.DELIVERED)])
    (done,) = cli("bulk", "reconcile", url, *name, "--json").documents
    assert (done["unknown"]["proven"], done["unknown"]["count"]) == (50, 50)
    again = cli("bulk", "resume", url, *name, "--yes", "--resend-unknown", "silent", "--silent-after", "0", "--json")
    assert again.status == 0
    assert again.documents[-1]["counts"]["accepted"] == 250
    assert Counter(message.to for message in api.messages).most_common(1)[0][1] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--journal", "URL"), "name: expected what the campaign is called in the database"),
        (("--journal", "spring.db", "--name", "spring"), "name: expected nothing beside a file"),
        (("--journal", f"postgresql://me:{PASSWORD}/@host/shop", "--name", "x"), "the URL of the store cannot be read"),
    ],
)
def test_a_journal_and_a_name_that_do_not_fit(cli: Cli, url: str, arguments: tuple[str, ...], said: str) -> None:
    words = [url if word == "URL" else word for word in arguments]
    refused = cli("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", *words, "--yes")
    assert refused.status == 2
    assert said in refused.error


def test_the_tables_are_made_once(cli: Cli, url: str) -> None:
    assert cli("store", "migrate", url).out.startswith("applied 001_campaigns.sql\n")
    assert cli("store", "migrate", url).out == "up to date\n"


SENDS = (
    ("old", "accepted", "", 40),
    ("old unknown", "unknown", "", 40),
    ("new", "accepted", "", 20),
    ("new unknown", "unknown", "", 20),
    ("lost", "sending", "dead", None),
    ("going on", "sending", "living", None),
)
"""Key, state, sender, and days since the end of a keyed send."""


def send(row: tuple[str, str, str, int | None]) -> str:
    """As the values of an insertion."""
    key, state, sender, days = row
    ended = "NULL" if days is None else f"now() - interval '{days} days'"
    digests = "'', '', '', ''"
    return f"('{key}', '{key}', {digests}, '{state}', '{sender}', now() - interval '41 days', {ended})"


def test_what_is_old_is_forgotten(cli: Cli, url: str, postgres: Server) -> None:
    for name in ("old", "begun long ago", "never sent", "being sent"):
        assert cli(*sending(url, "--name", name)).status == 0
    changes = [
        "UPDATE campaign SET created = now() - interval '40 days'",
        "UPDATE batch SET started = now() - interval '40 days', ended = NULL",
        "UPDATE batch SET ended = now() FROM campaign WHERE campaign.id = campaign AND name = 'begun long ago'",
        "DELETE FROM batch USING campaign WHERE campaign.id = campaign AND name = 'never sent'",
        "UPDATE lease SET until = now() FROM campaign WHERE campaign.id = campaign AND name = 'being sent'",
        "INSERT INTO evidence SELECT min(phone), 'A', now() - interval '40 days' FROM recipient",
        "INSERT INTO evidence VALUES (1, 'A', now() - interval '40 days'), (2, 'A', now())",
        "INSERT INTO sender VALUES ('dead', '', now() - interval '40 days'), ('living', '', now() + interval '1 day')",
        f"INSERT INTO send VALUES {', '.join(map(send, SENDS))}",  # noqa: S608
        "INSERT INTO delivery VALUES ('A', 0, 'Failed', true, now() - interval '40 days'), ('B', 0, '', true, now())",
        (
            "INSERT INTO outbox (key, text, subject, picture, message, due, state, ended) VALUES"
            " ('old', '', '', '', '', now(), 'accepted', now() - interval '40 days'),"
            " ('new', '', '', '', '', now(), 'accepted', now())"
        ),
    ]
    for change in changes:
        assert postgres.ask(f"{change} RETURNING 1", f"{url}&options=-csearch_path%3Dmmsclient")
    assert cli("store", "purge", url, "--older-than", "30").out.splitlines() == [
        "campaign never sent",
        "campaign old",
        "forgotten: 2 campaigns, 1 delivery report, 2 keyed sends, 1 order",
    ]
    kept = dict(postgres.ask("SELECT key, state FROM mmsclient.send", url))
    assert kept == {"new": "accepted", "new unknown": "unknown", "lost": "unknown", "going on": "sending"}
    assert cli("bulk", "report", url, "--name", "old").error.endswith("(old): there is no such campaign")
    assert cli("bulk", "report", url, "--name", "being sent").status == 0
    for wrong in ("3", "36501", "99999999999"):
        assert cli("store", "purge", url, "--older-than", wrong).status == 2
    assert cli("store", "purge", url, "--older-than", "36500").out.startswith("forgotten: 0 campaigns")
    heard_of = postgres.ask("SELECT phone > 2, phone FROM mmsclient.evidence ORDER BY phone", url)
    assert [row[0] or row[1] for row in heard_of] == [2, True]  # a phone of a campaign keeps what was heard of it


def test_the_reports_of_a_campaign_are_kept_with_it(cli: Cli, url: str, postgres: Server) -> None:
    """Those of its messages, and those of its phones under other ids: without them, who is done counts as open."""
    for name in ("going on", "over"):
        assert cli(*sending(url, "--name", name)).status == 0
    within = f"{url}&options=-csearch_path%3Dmmsclient"
    for change in (
        "UPDATE campaign SET created = now() - interval '40 days'",
        "UPDATE batch SET started = now() - interval '40 days', ended = NULL",
        "UPDATE batch SET ended = now() FROM campaign WHERE campaign.id = campaign AND name = 'going on'",
        "UPDATE recipient SET phone = phone + 1000 FROM campaign WHERE campaign.id = campaign AND name = 'over'",
        (
            "INSERT INTO delivery SELECT message_id, place * phone, 'Failed', true, now() - interval '40 days'"
            " FROM recipient, (VALUES (0), (1)) AS named (place) WHERE message_id IS NOT NULL"
        ),
        (
            "INSERT INTO delivery SELECT 'another', phone, 'Failed', true, now() - interval '40 days'"
            " FROM recipient WHERE line = 2"
        ),
    ):
        assert postgres.ask(f"{change} RETURNING 1", within)
    kept = "SELECT count(*) FROM delivery JOIN recipient ON recipient.message_id = delivery.message_id"
    assert postgres.ask(kept, within) == [(1000,)]
    assert cli("store", "purge", url, "--older-than", "30").out.splitlines() == [
        "campaign over",
        "forgotten: 1 campaign, 501 delivery reports, 0 keyed sends, 0 orders",
    ]
    assert postgres.ask(kept, within) == [(500,)]
    assert cli("bulk", "report", url, "--name", "going on", "--json").documents[0]["deliveries"] == {"Failed": 250}


def test_the_sms_of_a_campaign_are_kept_with_it(cli: Cli, url: str, postgres: Server) -> None:
    """Without them, those whose message did not arrive would get an SMS again."""
    names = ["going on", "going on (sms)", "over", "over (sms)", "(sms)"]
    for name in names:
        assert cli(*sending(url, "--name", name)).status == 0
    for change in (
        "UPDATE campaign SET created = now() - interval '40 days'",
        "UPDATE batch SET started = now() - interval '40 days', ended = NULL",
        "UPDATE batch SET ended = now() FROM campaign WHERE campaign.id = campaign AND name = 'going on'",
    ):
        assert postgres.ask(f"{change} RETURNING 1", f"{url}&options=-csearch_path%3Dmmsclient")
    *forgotten, _ = cli("store", "purge", url, "--older-than", "30").out.splitlines()
    assert forgotten == [f"campaign {name}" for name in ("(sms)", "over", "over (sms)")]


@pytest.mark.parametrize("arguments", [("migrate",), ("purge", "--older-than", "30")])
def test_a_database_that_cannot_be_reached(cli: Cli, arguments: tuple[str, ...]) -> None:
    command, *more = arguments
    refused = cli("store", command, f"postgresql://me:{PASSWORD}@127.0.0.1:1/shop", *more)
    assert refused.status == 1
    assert refused.error.startswith("journal 127.0.0.1/shop: ")


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql", "POSTGRESQL"])
@pytest.mark.parametrize(
    "command",
    [
        ("bulk", "resume", "URL"),
        ("bulk", "report", "URL"),
        ("bulk", "status", "URL"),
        ("bulk", "stop", "URL", "--name", "spring"),
        sending("URL", "--name", "spring"),
        sending("spring.db", "--suppress", "URL"),
        ("suppress", "add", "URL", "+61400000000"),
        ("listen", "--port", "0", "--seen", "URL"),
        ("outbox", "status", "URL"),
        ("sms", "send", "--to", "+61400000000", "--text", "Hi", "--key", "order-17", "--ledger", "URL"),
    ],
)
def test_the_url_of_another_database_is_refused_and_not_shown(cli: Cli, command: tuple[str, ...], scheme: str) -> None:
    url = f"{scheme}://app:{PASSWORD}@db/shop"
    refused = cli(*(url if word == "URL" else word for word in command))  # whose output holds no password
    assert (refused.status, refused.out) == (2, "")
    assert "expected the path of a file, or the URL of a PostgreSQL database, got " in refused.error
    assert not [path for path in Path().rglob("*") if "shop" in path.name]
