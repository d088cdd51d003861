"""`mmsclient suppress`, and campaigns of the command with a list."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject
from tests.support.command import Cli
from tests.support.postgres_server import Server

SEND = ("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", "--yes", "--journal")


@pytest.fixture
def folder(folder: Path) -> Path:
    """With a list of 20 numbers."""
    (folder / "list.csv").write_text("\n".join(["mobile", *(f"04{n:08}" for n in range(20))]), encoding="utf-8")
    return folder


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest) -> str:
    """Where the list is."""
    if request.param == "sqlite":
        return "stop.db"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database(has_tables=False)


def test_a_list_by_hand(cli: Cli, where: str) -> None:
    assert cli("suppress", "list", where).status == 1
    assert cli("suppress", "remove", where, "0400000001").status == 1
    added = cli("suppress", "add", where, "0400000001", "+61 400 000 002", "0400000001", "--reason", "complained")
    assert (added.status, added.out, added.err) == (0, "added\nadded\nknown\n", "")
    listed = cli("suppress", "list", where)
    assert listed.status == 0
    assert [line.split("\t")[::2] for line in listed.out.splitlines()] == [
        ["+61400000001", "complained"],
        ["+61400000002", "complained"],
        ["2 phones suppressed"],
    ]
    removed = cli("suppress", "remove", where, "0400000001", "0400000009")
    assert (removed.status, removed.out, removed.error) == (1, "removed\n", "it is not on the list")
    (document,) = cli("suppress", "list", where, "--json").documents
    assert (document["number"], document["reason"]) == ("+61400000002", "complained")
    wrong = cli("suppress", "add", where, "nonsense")
    assert (wrong.status, wrong.error.split(", got")[0].split(":")[0]) == (2, "number")


def test_files_of_numbers(cli: Cli, where: str) -> None:
    Path("stop.csv").write_text("name,phone\nZoë,0400000001\nx,nonsense\n", encoding="utf-8")
    imported = cli("suppress", "import", where, "stop.csv", "--reason", "by letter")
    assert (imported.status, imported.out) == (3, "1 added, 0 known, 1 cannot be read\n")
    assert "warning: suppression list" in imported.error
    (document,) = cli("suppress", "import", where, "stop.csv", "--json").documents
    assert (document["added"], document["known"], document["unreadable"]) == (0, 1, ["nonsense"])
    listed = cli("suppress", "list", where)
    assert (listed.status, listed.error) == (3, "cannot be read: 'nonsense' (by letter)")
    exported = cli("suppress", "export", where)
    assert exported.out.splitlines()[0] == "number,reason,added_at"
    assert cli("suppress", "remove", where, "nonsense").status == 0
    Path("again.csv").write_text(exported.out, encoding="utf-8")
    assert cli("suppress", "import", "copy.db", "again.csv").out == "1 added, 0 known\n"
    assert cli("suppress", "export", "copy.db").out == exported.out  # with the reason and the date
    Path("again.csv").write_text(exported.out.replace("+00:00", " o'clock"), encoding="utf-8")
    refused = cli("suppress", "import", "copy.db", "again.csv")
    assert (refused.status, "entry 2 is not as `export` printed it" in refused.error) == (2, True)
    assert cli("suppress", "import", "copy.db", "again.csv", "--reason", "by letter").out == "0 added, 1 known\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_export_with_a_byte_order_mark_keeps_its_reasons_and_dates(cli: Cli, encoding: str) -> None:
    cli("suppress", "add", "stop.db", "0400000001", "--reason", "Zoë said so, twice")
    exported = cli("suppress", "export", "stop.db").out
    Path("again.csv").write_text(exported, encoding=encoding)
    assert cli("suppress", "import", "copy.db", "again.csv", "--region", "AU").out == "1 added, 0 known\n"
    assert cli("suppress", "export", "copy.db").out == exported


def test_an_export_of_nobody(cli: Cli) -> None:
    Path("again.csv").write_text("number,reason,added_at\n", encoding="utf-8")
    assert cli("suppress", "import", "copy.db", "again.csv").out == "0 added, 0 known\n"
    Path("again.csv").write_text("number,reason\n", encoding="utf-8")
    assert "nothing below its header" in cli("suppress", "import", "copy.db", "again.csv").error


def test_an_entry_that_was_changed_is_told_and_nothing_is_added(cli: Cli) -> None:
    entry = "+61400000001,by hand,2026-03-01T00:00:00+00:00"
    for changed in (f"{entry},x", '+61400000002,"a"b,2026', "+61400000002"):
        Path("again.csv").write_text(f"number,reason,added_at\n{entry}\n{changed}\n", encoding="utf-8")
        refused = cli("suppress", "import", "copy.db", "again.csv")
        assert (refused.status, "again.csv: entry 3 is not as `export` printed it" in refused.error) == (2, True)
    assert not Path("copy.db").exists()


@pytest.mark.parametrize("is_exported", [True, False])
def test_a_list_is_imported_from_a_pipe(cli: Cli, is_exported: bool) -> None:
    cli("suppress", "add", "stop.db", "0400000001", "--reason", "complained")
    exported = cli("suppress", "export", "stop.db").out
    os.mkfifo("pipe")

    def write() -> None:
        with open("pipe", "w", encoding="utf-8") as pipe:
            pipe.write(exported if is_exported else "mobile\n0400000001\n")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    imported = cli("suppress", "import", "copy.db", "pipe")
    assert (imported.out, imported.err) == ("1 added, 0 known\n", "")
    writer.join()
    (document,) = cli("suppress", "list", "copy.db", "--json").documents
    assert document["reason"] == ("complained" if is_exported else "imported")


def test_the_opt_outs_of_the_api(cli: Cli, api: Sandbox, where: str) -> None:
    api.add_opt_out("+61400000003")
    assert cli("suppress", "sync", where).out == "1 added, 0 known\n"
    assert cli("suppress", "sync", where).out == "0 added, 1 known\n"
    api.add_opt_out("no number at all")
    assert cli("suppress", "sync", where).status == 3


def test_a_campaign_leaves_out_who_is_on_the_list(cli: Cli, api: Sandbox) -> None:
    refused = cli(*SEND, "spring.db", "--suppress", "stop.db")
    assert refused.status == 1
    assert "there is no suppression list" in refused.error
    cli("suppress", "add", "stop.db", "0400000005", "0400000006")
    planned = cli(*SEND, "spring.db", "--suppress", "stop.db", "--dry-run")
    told = planned.out.splitlines()
    assert (told[0], "Excluded, suppressed: 2" in told) == ("To be sent: 18 recipients in 1 call", True)
    api.faults.add(Reject("LEDGER_ERROR", "No credit."), call="send-mms", skip=1)
    more = ("--suppress", "stop.db", "--batch-size", "5", "--opt-out-line", "Reply STOP to opt out")
    assert cli(*SEND, "spring.db", *more).status == 1  # the journal of the first attempt has another text
    stopped = cli(*SEND, "summer.db", *more)
    assert "to go on: mmsclient bulk resume summer.db --suppress stop.db" in stopped.err
    api.faults.clear()
    api.add_opt_out("+61400000019")
    resumed = cli("bulk", "resume", "summer.db", "--suppress", "stop.db")
    assert resumed.status == 0
    assert "Accepted: 17\nExcluded: 3\nExcluded, suppressed: 3\n" in resumed.out
    assert {send.text for send in api.sends} == {"Hi\r\nReply STOP to opt out"}
    table = cli("bulk", "report", "summer.db", "--csv", "--state", "excluded").out
    assert "suppressed,by hand" in table.replace('"', "")
    assert "opted out at the API" in table


def test_the_opt_outs_need_not_be_read(cli: Cli, api: Sandbox) -> None:
    cli("suppress", "add", "stop.db", "0400000005")
    assert cli(*SEND, "spring.db", "--suppress", "stop.db", "--no-opt-outs").status == 0
    assert api.calls["get-optout"] == 0
    assert len(api.messages) == 19


def test_a_password_is_not_told(cli: Cli, api: Sandbox, postgres: Server) -> None:
    where = postgres.new_database()
    cli("suppress", "add", where, "0400000005")
    api.faults.add(Reject("LEDGER_ERROR", "No credit."), call="send-mms")
    stopped = cli(*SEND, "spring.db", "--suppress", where)
    assert "to go on: mmsclient bulk resume spring.db --suppress URL" in stopped.err


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Sydney"])
def test_times_are_local(cli: Cli, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    entries = ["+61400000001,old,1970-01-01T00:00:00+00:00", "+61400000002,new,2026-07-01T00:00:00+00:00"]
    Path("in.csv").write_text("\n".join(["number,reason,added_at", *entries]), encoding="utf-8")
    time.tzset()
    try:
        assert cli("suppress", "import", "stop.db", "in.csv").out == "2 added, 0 known\n"
        lines = cli("suppress", "list", "stop.db").out.splitlines()
        documents = cli("suppress", "list", "stop.db", "--json").documents
    finally:
        monkeypatch.undo()
        time.tzset()
    old, new = (datetime(*each, tzinfo=UTC).astimezone(ZoneInfo(zone)) for each in ((1970, 1, 1), (2026, 7, 1)))
    assert [line.split("\t")[0] for line in lines[:2]] == ["+61400000001", "+61400000002"]
    assert lines[1].split("\t")[1] == str(new)
    assert [document["added_at"] for document in documents] == [old.isoformat(), new.isoformat()]
