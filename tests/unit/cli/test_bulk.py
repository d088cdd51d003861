"""`mmsclient bulk` as a script and a person run it."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

from mmsclient import DeliveryStatus
from mmsclient._store.heard import Reported
from mmsclient._store.sqlite_recorder import SQLiteRecorder
from mmsclient._words import counted
from mmsclient.cli.output import Form
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, Reject, Reset
from tests.conftest import PNG
from tests.support.campaigns import report_failed, success
from tests.support.command import Cli, started
from tests.support.pages import PageReader
from tests.support.terminal import on_a_terminal
from tests.support.waiting import until

SEND = ("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", "--journal", "spring.db")


@pytest.fixture
def folder(folder: Path) -> Path:
    """With a list of 250 numbers."""
    write_list(folder, 250)
    return folder


def write_list(folder: Path, count: int) -> None:
    lines = ["name,mobile", *(f"Zoë,04{n:08}" for n in range(count)), "x,nonsense", "x,+61400000000"]
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8")


def test_a_campaign_of_sms(cli: Cli, api: Sandbox, folder: Path) -> None:
    write_list(folder, 60)
    sms = ("bulk", "send", "list.csv", "--kind", "sms", "--text", "x" * 161, "--journal", "spring.db")
    options = ("--sender", "SHOP", "--source", "shop", "--custom-string", "a-1", "--batch-size", "30")
    planned = cli(*sms, *options, "--dry-run", "--json").documents[0]
    assert (planned["kind"], planned["credits_needed"], planned["sms_balance"]) == ("sms", "160.20", "1000000.00")
    assert "SMS balance: 1000000.00 credits" in cli(*sms, *options, "--dry-run").out.splitlines()
    assert cli(*sms, *options, "--max-credits", "81").status == 5
    assert {(send.sender, send.source, send.custom_string) for send in api.sms.sends} == {("SHOP", "shop", "a-1")}
    assert cli("bulk", "resume", "spring.db").status == 0
    assert (len(api.sms.messages), len(api.mms.messages)) == (60, 0)
    report = cli("bulk", "report", "spring.db")
    assert {"Kind: SMS", "Accepted: 60", "Credits used: 160.2"} <= set(report.out.splitlines())
    assert cli("bulk", "report", "spring.db", "--json").documents[0]["kind"] == "sms"


def test_an_sms_to_those_whose_mms_failed(cli: Cli, api: Sandbox, folder: Path) -> None:
    write_list(folder, 3)
    assert cli(*SEND).status == 0
    recorder = SQLiteRecorder.open("spring.db")
    with closing(recorder):
        for message, status in zip(api.mms.messages, ("Failed", "Delivered", "Expired"), strict=True):
            recorder.record([Reported(message.id, int(message.to[1:]), DeliveryStatus(status))])
    sent = cli("bulk", "fallback", "spring.db", "--fallback-text", "See example.com", "--fallback-sender", "SHOP")
    assert sent.status == 0
    assert "By SMS: 2 recipients: 2 accepted; 1 call, 2.66 credits" in sent.out.splitlines()
    assert {(send.text, send.sender) for send in api.sms.sends} == {("See example.com", "SHOP")}
    again = cli("bulk", "resume", "spring.db", "--fallback", "sms", "--fallback-wait", "0", "--json")
    assert (again.status, len(api.sms.messages)) == (0, 2)
    (report,) = cli("bulk", "report", "spring.db", "--json").documents
    assert (report["kind"], report["fallback"]["kind"], report["fallback"]["counts"]["accepted"]) == ("mms", "sms", 2)
    (status,) = cli("bulk", "status", "spring.db", "--json").documents
    assert (status["fallback"]["activity"], status["fallback"]["counts"]["accepted"]) == ("idle", 2)
    assert "By SMS: idle: 2 accepted" in cli("bulk", "status", "spring.db").out.splitlines()
    told = cli("bulk", "resume", "spring.db", "--fallback-wait", "0")
    assert (told.status, told.error) == (2, "--fallback-...: say --fallback sms, too")


@pytest.mark.skipif(os.name == "nt", reason="no such signal there")
def test_the_status_shows_a_run_that_waits_for_delivery_reports(cli: Cli, folder: Path) -> None:
    write_list(folder, 3)

    def is_waiting() -> bool:
        found = cli("bulk", "status", "spring.db", "--json")
        if found.status or found.documents[0]["reports_awaited"] is None:
            return False
        return str(found.documents[0]["sender"]).endswith(f", process {process.pid}")

    with started(*SEND, "--fallback", "sms", "--json") as process:
        until(is_waiting)
        shown = cli("bulk", "status", "spring.db")
        (document,) = cli("bulk", "status", "spring.db", "--json").documents
        assert {(name, document[name]) for name in ("activity", "is_over", "reports_awaited")} == {
            ("activity", "waiting"),
            ("is_over", False),
            ("reports_awaited", 3),
        }
        now, sender = shown.out.splitlines()[:2]
        why = "for the delivery reports of 3 recipients; who does not get the MMS gets an SMS"
        assert now == f"Now: waiting: {why}"
        assert re.fullmatch(rf"Sender: .+, process {process.pid}, since \d{{4}}-.+", sender)
        process.kill()
        process.wait(timeout=60)
        assert cli("bulk", "status", "spring.db").out.splitlines()[0] == "Now: idle"
    with started("bulk", "resume", "spring.db", "--fallback", "sms", "--json") as process:
        until(is_waiting)
        assert re.fullmatch(rf"paused; sender: .+, process {process.pid}\n", cli("bulk", "pause", "spring.db").out)
        assert cli("bulk", "stop", "spring.db").out == "stopped; nobody is sending: the next one sends\n"
        assert process.wait(timeout=60) == 5


def test_an_sms_that_could_not_be_sent_is_not_passed_over(cli: Cli, api: Sandbox, folder: Path) -> None:
    write_list(folder, 3)
    assert cli(*SEND).status == 0
    report_failed(api)
    fallback = ("bulk", "fallback", "spring.db", "--fallback-text", "Hi you")
    stopped = cli(*fallback, "--fallback-max-credits", "1", "--max-credits", "9")
    assert (stopped.status, len(api.sms.messages)) == (5, 1)
    assert stopped.err.splitlines()[-1] == (
        "mmsclient: to go on, with a higher limit: mmsclient bulk fallback spring.db --fallback-text 'Hi you'"
        " --fallback-max-credits CREDITS --max-credits 9"
    )
    write_list(folder, 4)
    assert cli(*SEND, "--max-credits", "3").status == 5
    assert cli(*fallback, "--fallback-max-credits", "1").status == 5
    assert "resume" not in cli(*fallback, "--fallback-max-credits", "1").err  # whatever is left of the MMS
    assert cli(*SEND).status == 0
    options = ("--fallback", "sms", "--fallback-text", "Hi you", "--fallback-wait", "0")
    stopped = cli("bulk", "resume", "spring.db", *options, "--max-credits", "6")
    assert (stopped.status, len(api.sms.messages)) == (5, 2)
    assert stopped.err.splitlines()[-1] == (
        "mmsclient: to go on, with a higher limit: mmsclient bulk resume spring.db --fallback sms --fallback-text"
        " 'Hi you' --fallback-wait 0 --max-credits CREDITS"
    )
    api.faults.add(Reset(carried_out=False), call="send-sms", times=1)
    assert cli(*fallback).status == 4
    assert cli("bulk", "resume", "spring.db").status == 0  # of the MMS alone


def test_the_fallback_lists_no_option_that_it_does_not_take(cli: Cli) -> None:
    listed = cli("bulk", "fallback", "--help").out
    for option in ("--dry-run", "--test", "--test-timeout", "--yes", "--fallback ", "--fallback-wait", "--image"):
        assert option not in listed
    for option in ("--fallback-text", "--fallback-max-credits", "--max-credits", "--batch-size", "--window", "--rate"):
        assert option in listed
    assert cli("bulk", "fallback", "spring.db", "--dry-run").status == 2
    assert "no such file" in cli("bulk", "fallback", "spring.db", "--yes").error  # a script may say it


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--kind", "sms", "--image", "sale.png"), "image: expected nothing: a campaign of kind='sms'"),
        (("--kind", "sms", "--subject", "Sale"), "subject: expected nothing: a campaign of kind='sms'"),
        (("--image", "sale.png", "--sender", "SHOP"), "sender: expected nothing beside kind='mms'"),
        ((), "--image and --image-column: give one"),
        (("--kind", "sms", "--image-column", "picture"), "--image-column: nothing that --kind sms has"),
    ],
)
def test_an_option_of_the_other_kind_is_told(cli: Cli, api: Sandbox, options: tuple[str, ...], problem: str) -> None:
    told = cli("bulk", "send", "list.csv", "--text", "Hi", "--journal", "spring.db", "--yes", *options)
    assert told.status == 2
    assert problem in told.error
    assert api.arrivals == []


def test_a_message_for_each(cli: Cli, api: Sandbox, folder: Path) -> None:
    rows = ["Mobile,First Name,code", "0400000000,Ann,1", "0400000001,,2", "0400000002,Bob,", "nonsense,Cy,3"]
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    options = ("--template", "--subject", "For {first name}", "--default", "first name=you", "--default", "code=none")
    text = "Hi {first name}: {{{CODE}}}"
    send = ("bulk", "send", "list.csv", "--text", text, "--image", "sale.png", "--journal", "spring.db")
    told = cli(*send, *options, "--dry-run").out.splitlines()
    assert told[0] == "To be sent: 3 recipients in 3 calls"
    assert "Different messages: 3" in told
    assert "Text to +61400000001: Hi you: {2}" in told
    assert "Subject to +61400000001: For you" in told
    (document,) = cli(*send, *options[:-2], "--dry-run", "--json").documents
    assert (document["calls"], document["messages"], document["seconds"]) == (2, 2, 0.1)
    assert document["samples"][1] == {"number": "+61400000001", "text": "Hi you: {2}", "subject": "For you"}
    assert [(row["line"], row["reason"].partition(":")[0]) for row in document["invalid"]] == [
        (4, "code"),
        (5, "expected a number in E.164 (+61400000000) or an Australian mobile (0400000000, 61400000000)"),
    ]
    assert not api.sends
    assert not (folder / "spring.db").exists()
    assert cli(*send, *options).status == 0
    assert cli("bulk", "resume", "spring.db").status == 0
    assert [(send.recipients, send.text, send.subject) for send in api.sends] == [
        (("+61400000000",), "Hi Ann: {1}", "For Ann"),
        (("+61400000001",), "Hi you: {2}", "For you"),
        (("+61400000002",), "Hi Bob: {none}", "For Bob"),
    ]


def test_a_picture_for_each(cli: Cli, api: Sandbox, folder: Path) -> None:
    rows = ["Mobile,QR", "0400000000,a.png", "0400000001,b.png", "0400000002,a.png", "0400000003,none.png"]
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "a.png").write_bytes(PNG)
    (folder / "b.png").write_bytes(PNG + b"b")
    send = ("bulk", "send", "list.csv", "--text", "Hi", "--image-column", "qr", "--journal", "spring.db")
    (document,) = cli(*send, "--dry-run", "--json").documents
    assert (document["to_send"], document["calls"], document["messages"]) == (3, 2, 2)
    assert document["exclusions"]["no message"] == 1
    api.faults.add(Reset(carried_out=False), call="send-mms", times=1)
    assert cli(*send, "--yes").status == 4
    sent = {number for each in api.sends for number in each.recipients}
    (folder / "list.csv").unlink()
    again = cli("bulk", "resume", "spring.db", "--resend-unknown", "--yes")
    assert again.status == 0, again
    got = {number: each.image_sha256 for each in api.sends for number in each.recipients}
    assert sent < got.keys() == {"+61400000000", "+61400000001", "+61400000002"}
    assert got["+61400000000"] == got["+61400000002"] != got["+61400000001"]


def test_a_picture_of_somebody_that_is_gone_by_now_is_told_and_tried_again(
    cli: Cli, api: Sandbox, folder: Path
) -> None:
    rows = ["Mobile,QR", "0400000000,a.png", "0400000001,b.png", "0400000002,none.png"]
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "a.png").write_bytes(PNG)
    (folder / "b.png").write_bytes(PNG + b"b")
    send = ("bulk", "send", "list.csv", "--text", "Hi", "--image-column", "qr", "--journal", "spring.db")
    assert cli(*send, "--yes", "--max-credits", "1").status == 5
    (folder / "b.png").unlink()
    stopped = cli("bulk", "resume", "spring.db")
    assert stopped.status == 5
    gone, go_on = stopped.err.splitlines()
    assert "there is no picture any more for 1 recipient, who got nothing; line 3: " in gone
    assert str(folder / "b.png") in gone
    assert go_on == "mmsclient: to go on: mmsclient bulk resume spring.db"
    for told in (stopped, cli("bulk", "report", "spring.db"), cli("bulk", "status", "spring.db")):
        assert "Picture gone: 1; the next run tries again" in told.out.splitlines()
    (status,) = cli("bulk", "status", "spring.db", "--json").documents
    assert (status["without_picture"], status["is_over"]) == (1, False)
    again = cli("bulk", "resume", "spring.db", "--json")
    assert (again.status, again.documents[-1]["without_picture"]) == (5, 1)
    (folder / "b.png").write_bytes(PNG + b"b")
    assert cli("bulk", "resume", "spring.db").status == 0
    assert sorted(message.to for message in api.mms.messages) == ["+61400000000", "+61400000001"]


def test_the_journal_holds_a_common_picture_that_is_gone(cli: Cli, folder: Path) -> None:
    write_list(folder, 3)
    assert cli(*SEND, "--max-credits", "1").status == 5
    (folder / "sale.png").unlink()
    told = cli(*SEND)
    assert told.status == 2
    assert told.error == (
        "--image: there is no such file: sale.png; but the journal holds the picture; to go on:"
        " mmsclient bulk resume spring.db list.csv"  # which may be another one
    )
    told = cli(*SEND, "--exclude", "list.csv")
    assert told.error.endswith("no such file: sale.png; the journal holds the picture, but not whom --exclude names")
    assert cli("bulk", "resume", "spring.db").status == 0
    told = cli(*SEND[:-1], "other.db")
    assert (told.status, told.error) == (2, "--image: there is no such file: sale.png")


@pytest.mark.parametrize("options", [(), ("--image", "sale.png", "--image-column", "qr")])
def test_one_picture_or_a_column(cli: Cli, api: Sandbox, options: tuple[str, ...]) -> None:
    told = cli("bulk", "send", "list.csv", "--text", "Hi", "--journal", "spring.db", *options)
    assert told.status == 2
    assert told.error == "--image and --image-column: give one, the picture of all or the column with each one's file"
    assert not api.arrivals


def test_a_column_that_the_list_does_not_have(cli: Cli) -> None:
    told = cli("bulk", "send", "list.csv", "--text", "Hi", "--journal", "spring.db", "--image-column", "qr", "--yes")
    assert told.status == 2
    assert told.error == "image: expected a column that the list has: name, mobile, got 'qr'"


def test_a_campaign_with_a_function_needs_it_again(cli: Cli, api: Sandbox) -> None:
    async def send() -> None:
        async with api.client(rate=None) as mms:
            await mms.campaign(text="Hi", image=lambda _: PNG, journal="spring.db").send_all(["0400000000"])

    asyncio.run(send())
    told = cli("bulk", "resume", "spring.db")
    assert told.status == 2
    assert "image: expected the campaign's function again (image=)" in told.error


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--default", "a=b"), "--default fills in a template: give --template too"),
        (("--template", "--default", "a=b"), "--default a=…: text and subject have no field {a}"),
        (("--template", "--default", "a"), "--default a: expected NAME=VALUE, such as first_name=there"),
        (("--template", "--default", "=a"), "--default =a: expected NAME=VALUE, such as first_name=there"),
        (("--template", "--default", "name=a", "--default", "NAME=b"), "--default: 2 values for 1 field"),
        (("--template", "--subject", "{name!r}"), "template: expected fields as {first_name}: a name alone"),
        (("--template", "--subject", "{firstname}"), "subject: expected fields that the list has: name, mobile, got"),
    ],
)
def test_a_template_that_is_wrong(cli: Cli, api: Sandbox, options: tuple[str, ...], problem: str) -> None:
    send = ("bulk", "send", "list.csv", "--text", "Hi {name}", "--image", "sale.png", "--journal", "spring.db", "--yes")
    refused = cli(*send, *options)
    assert refused.status == 2
    assert refused.error.startswith(problem)
    assert not api.arrivals


def test_send_in_a_pipe(cli: Cli, api: Sandbox) -> None:
    sent = cli(*SEND, "--batch-size", "100", "--yes", "--subject", "Sale")
    assert (sent.status, sent.err) == (0, "")
    lines = sent.out.splitlines()
    assert sorted(line.split(" accepted")[0] for line in lines[:3]) == [
        "call 1: 100 of 100",
        "call 2: 100 of 100",
        "call 3: 50 of 50",
    ]
    assert lines[3:9] == [
        "Recipients: 252",
        "Accepted: 250",
        "Excluded: 2",
        "Excluded, invalid: 1",
        "Excluded, duplicate: 1",
        "Calls: 3",
    ]
    assert len(api.messages) == 250
    assert api.sends[0].subject == "Sale"
    again = cli(*SEND, "--yes", "--subject", "Sale")
    assert again.status == 0
    assert len(api.messages) == 250


def test_send_for_a_script(cli: Cli) -> None:
    sent = cli(*SEND, "--yes", "--json")
    batch, report = sent.documents
    assert batch == {
        "event": "batch",
        "number": 1,
        "recipients": 250,
        "accepted": 250,
        "refused": [],
        "error": None,
        "counts": {**dict.fromkeys(report["counts"], 0), "accepted": 250, "excluded": 2},
        "calls_per_second": 0.0,
        "rate": 15.0,
        "throttled": 0,
        "credits_used": "250",
        "credits_left": None,
        "concurrency": 3,
        "seconds_left": None,
    }
    assert (report["event"], report["total"], report["list_read"]) == ("report", 252, True)
    assert report["counts"] == batch["counts"]


def test_a_small_campaign_is_not_asked_about(cli: Cli, folder: Path) -> None:
    write_list(folder, 100)
    assert cli(*SEND).status == 0


def test_a_large_one_in_a_pipe_needs_a_yes(cli: Cli, api: Sandbox, folder: Path) -> None:
    sent = cli(*SEND)
    assert (sent.status, sent.out) == (2, "")
    assert "Send to 250 recipients in 1 call? There is no terminal to ask on: give --yes" in sent.err
    assert not (folder / "spring.db").exists()
    assert not api.messages


@pytest.mark.skipif(os.name == "nt", reason="no such terminals there")
@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ("y\n", 0, "Accepted"),
        ("n\n", 1, "nothing was sent"),
        ("\n", 1, "nothing was sent"),
        ("\x04", 1, "nothing was sent"),  # Ctrl-D
        ("\x03", 130, ""),  # Ctrl-C
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_large_one_on_a_terminal_asks(api: Sandbox, answer: str, status: int, said: str) -> None:
    with on_a_terminal(*SEND) as (process, wait_for, terminal):
        shown = wait_for("[y/N] ")
        os.write(terminal, answer.encode())
        after = wait_for(said)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        if process.poll() is None:  # Ctrl-C fell between the question and the read, where a person's does not
            os.write(terminal, answer.encode())
        assert process.wait(timeout=30) == status
    host = urlsplit(api.url).netloc
    question = f"Send to 250 recipients in 1 call at {host}, with a balance of 1000000.00 credits? [y/N]"
    assert question in shown
    assert re.search(r"Line 252 +'nonsense': expected", shown)
    assert "Traceback" not in after
    assert len(api.messages) == (0 if status else 250)


def test_a_mistyped_key_does_not_keep_the_right_one_from_the_journal(
    cli: Cli, api: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSCLIENT_APP_KEY", "mistyped")
    assert cli(*SEND, "--yes").status == 1
    assert cli("bulk", "resume", "spring.db", "--yes", "--no-account-check").status == 1
    monkeypatch.setenv("MMSCLIENT_APP_KEY", api.app_key)
    sent = cli(*SEND, "--yes")
    assert (sent.status, len(api.mms.messages)) == (0, 250)
    assert sent.error.startswith("warning: journal ")
    assert sent.error.endswith("nothing was sent with the APPKEY that it was begun with; it takes this one")
    monkeypatch.setenv("MMSCLIENT_APP_KEY", "mistyped")
    assert "it belongs to a campaign with another APPKEY" in cli("bulk", "resume", "spring.db", "--yes").error
    assert cli("bulk", "resume", "spring.db", "--yes", "--new-key").status == 0


def test_what_the_credits_do_not_suffice_for_is_said(cli: Cli, api: Sandbox) -> None:
    warning = "100.00 credits for 250 recipients: at 1 credit each it stops before the end"
    api.faults.add(success({"mms_balance": "100.00"}), call="account")
    assert f"Warning: {warning}\n" in cli(*SEND, "--dry-run").out
    (plan,) = cli(*SEND, "--dry-run", "--json").documents
    assert plan["warning"] == warning
    api.faults.clear()
    assert "Warning" not in cli(*SEND, "--dry-run").out


@pytest.mark.parametrize("text", ["", "name,mobile\n"])
@pytest.mark.parametrize("options", [("--yes",), ("--dry-run",)])
def test_an_empty_list_is_an_error_that_names_the_file(
    cli: Cli, folder: Path, api: Sandbox, text: str, options: tuple[str, ...]
) -> None:
    (folder / "list.csv").write_text(text)
    ended = cli(*SEND, *options)
    assert (ended.status, len(api.messages)) == (2, 0)
    assert ended.err.startswith("mmsclient: source: expected a CSV file with a recipient a line; this ")
    assert "got 'list.csv'" in ended.err


def test_invalid_lines_are_shown_and_how_to_get_all(cli: Cli, folder: Path) -> None:
    with (folder / "list.csv").open("a") as file:
        file.writelines(f"\nx,nonsense{n}" for n in range(20))
    dry = cli(*SEND, "--dry-run").out.splitlines()
    lines = [line for line in dry if line.startswith("Line ")]
    assert len(lines) == 5
    assert lines[0].startswith("Line 252: 'nonsense': expected ")
    assert dry[-1] == "All invalid lines: mmsclient bulk send ... --dry-run --json"
    (plan,) = cli(*SEND, "--dry-run", "--json").documents
    assert [each["number"] for each in plan["invalid"]] == ["nonsense", *(f"nonsense{n}" for n in range(20))]
    assert all(each["reason"] for each in plan["invalid"])
    for arguments in ((*SEND, "--yes"), ("bulk", "report", "spring.db")):
        shown = cli(*arguments).out.splitlines()
        assert [line for line in shown if line.startswith("Line ")] == lines
        assert shown[-1] == "All invalid lines: mmsclient bulk report spring.db --csv --state excluded"


def test_a_complete_campaign_says_so(cli: Cli, api: Sandbox) -> None:
    assert not cli(*SEND, "--yes").out.startswith("Nothing")
    for arguments in ((*SEND, "--yes"), SEND, ("bulk", "resume", "spring.db")):
        again = cli(*arguments)
        assert (again.status, again.err) == (0, "")
        assert again.out.startswith("Nothing is left to send.\n")
    (report,) = cli("bulk", "resume", "spring.db", "--json").documents
    assert report["calls_of_this_run"] == 0
    assert "To be sent: nothing: nobody is left to send to" in cli("bulk", "resume", "spring.db", "--dry-run").out
    assert len(api.messages) == 250


def all_accepted(cli: Cli, api: Sandbox) -> None:
    assert cli(*SEND).status == 0


def some_refused(cli: Cli, api: Sandbox) -> None:
    api.faults.add(Reject("RECIPIENTS_ERROR", "No valid recipients"), call="send-mms", times=1)
    assert cli(*SEND, "--batch-size", "1").status == 3


def some_unknown(cli: Cli, api: Sandbox) -> None:
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    assert cli(*SEND, "--batch-size", "1").status == 4


def some_pending(cli: Cli, api: Sandbox) -> None:
    assert cli(*SEND, "--max-credits", "1").status == 5


def all_pending(cli: Cli, api: Sandbox) -> None:
    assert cli(*SEND, "--max-credits", "0.5").status == 1


@pytest.mark.parametrize(
    ("begin", "status"), [(all_accepted, 0), (all_pending, 1), (some_refused, 3), (some_unknown, 4), (some_pending, 5)]
)
def test_a_resume_that_ends_before_its_first_call_ends_as_the_campaign_stands(
    cli: Cli, api: Sandbox, folder: Path, begin: Callable[[Cli, Sandbox], None], status: int
) -> None:
    write_list(folder, 2)
    begin(cli, api)
    calls = api.calls["send-mms"]
    for options in ((), ("--yes",)):
        ended = cli("bulk", "resume", "spring.db", "--suppress", "stop.db", *options)
        assert (ended.status, api.calls["send-mms"]) == (status, calls)
        lines = ended.err.splitlines()
        assert "there is no suppression list" in lines[0]
        assert lines[1:] == ["mmsclient: to go on: mmsclient bulk resume spring.db --suppress stop.db"] * (status == 5)
        assert ended.out.startswith("Nothing is left to send.\n") == (status in (0, 3, 4))
        assert ("Accepted: " in ended.out) == (status != 1)


@pytest.mark.skipif(os.name == "nt", reason="no such terminals there")
def test_a_resume_that_nobody_wants_ends_as_the_campaign_stands(cli: Cli, api: Sandbox) -> None:
    assert cli(*SEND, "--yes", "--max-credits", "100").status == 5
    with on_a_terminal("bulk", "resume", "spring.db") as (process, wait_for, terminal):
        wait_for("[y/N] ")
        os.write(terminal, b"n\n")
        wait_for("nothing more was sent")
        assert process.wait(timeout=30) == 5
    assert len(api.messages) == 100


def test_a_list_that_was_not_read_to_its_end_is_asked_for(cli: Cli, api: Sandbox, folder: Path) -> None:
    (folder / "list.csv").unlink()
    os.mkfifo(folder / "list.csv")

    def write() -> None:
        with (folder / "list.csv").open("wb", buffering=0) as fifo:
            fifo.write(b"name,mobile\n" + b"".join(b"%100d,04%08d\n" % (n, n) for n in range(2000)))
            until(lambda: api.sends)
            fifo.write(b"\xff,0400000001\n")

    writer = Thread(target=write)
    writer.start()
    sent = cli(*SEND, "--yes", "--column", "mobile", "--batch-size", "100")
    writer.join()
    assert sent.status == 5
    assert "the list was not read to its end" in sent.out
    go_on = "mmsclient bulk resume spring.db list.csv --column mobile --batch-size 100"
    assert sent.err.splitlines()[-1] == f"mmsclient: to go on: {go_on}"
    dry = cli("bulk", "resume", "spring.db", "--dry-run")
    assert (dry.status, dry.out) == (1, "")
    assert "spring.db: its list was not read to its end" in dry.error
    for arguments in ([], ["--yes"]):
        resumed = cli("bulk", "resume", "spring.db", *arguments)
        assert resumed.status == 5
        assert "the list was not read to its end" in resumed.out
        told, go_on = resumed.err.splitlines()
        assert "spring.db: its list was not read to its end" in told
        assert go_on == "mmsclient: to go on: mmsclient bulk resume spring.db LIST"


@pytest.fixture
def in_perth(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's zone."""
    monkeypatch.setenv("TZ", "Australia/Perth")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_times_are_those_of_the_machine(in_perth: None, cli: Cli) -> None:
    assert cli(*SEND, "--yes").status == 0
    report = cli("bulk", "report", "spring.db")
    (sent,) = [line for line in report.out.splitlines() if line.startswith("Sent: ")]
    for text in sent.removeprefix("Sent: ").split(" to "):
        assert text.endswith("+08:00")
        assert abs((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()) < 60
    assert cli("bulk", "report", "spring.db", "--json").documents[0]["started_at"].endswith("+08:00")


def test_a_paused_campaign_shows_times_of_one_zone(in_perth: None, cli: Cli, api: Sandbox) -> None:
    api.faults.add(Reject("LEDGER_ERROR", "No credit"), call="send-mms", skip=1)
    assert cli(*SEND, "--yes", "--batch-size", "100").status == 5
    assert cli("bulk", "pause", "spring.db").status == 0
    with started("bulk", "resume", "spring.db", "--yes") as process:
        until(lambda: cli("bulk", "status", "spring.db", "--json").documents[0]["activity"] == "paused")
        shown = cli("bulk", "status", "spring.db").out
        (document,) = cli("bulk", "status", "spring.db", "--json").documents
        process.terminate()
        process.wait(timeout=60)
    times = re.findall(r"\d\d:\d\d:\d\d(\S*)", shown)
    assert len(times) > 2
    assert {*times, *re.findall(r"\d\d:\d\d:\d\d([^ \"]*)", str(document["why"]))} == {"+08:00"}
    assert "UTC" not in shown


def test_one_of_a_thing_is_singular(cli: Cli, folder: Path) -> None:
    (folder / "list.csv").write_text("mobile\n0400000000\n")
    shown = cli(*SEND, "--dry-run").out + cli(*SEND).out
    assert "To be sent: 1 recipient in 1 call\n" in shown
    assert "call 1: 1 of 1 accepted; 1 credit\n" in shown


def test_counted() -> None:
    assert [counted(number, "call") for number in (0, 1, 2)] == ["0 calls", "1 call", "2 calls"]
    assert [counted(Decimal(number), "credit") for number in ("1.00", "0.5")] == ["1.00 credit", "0.5 credits"]
    assert counted(2, "unread reply") == "2 unread replies"


def test_a_bar_on_a_terminal(cli: Cli, api: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Form, "chosen", lambda as_json: Form.TABLE)
    monkeypatch.setenv("COLUMNS", "120")
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    sent = cli(*SEND, "--yes", "--batch-size", "100")
    assert sent.status == 4
    assert "call 1: 0 of 100 accepted: send-mms at 127" in sent.out
    assert "252" in sent.out
    assert "Unknown" in sent.out


def test_a_dry_run(cli: Cli, api: Sandbox, folder: Path) -> None:
    ran = cli(*SEND, "--dry-run", "--batch-size", "100")
    assert ran.status == 0
    assert ran.out.splitlines()[:6] == [
        "To be sent: 250 recipients in 3 calls",
        "Takes: 0.2 s at the least",
        "Excluded, invalid: 1",
        "Excluded, duplicate: 1",
        "Credits needed: 250, at 1 a message",
        "MMS balance: 1000000.00 credits",
    ]
    safeguards = ("--test", "0400009999", "--test", "0400000001", "--max-credits", "99.5", "--credits-per-message", "2")
    (plan,) = cli(*SEND, "--dry-run", "--json", *safeguards).documents
    assert (plan["to_send"], plan["tests"], plan["calls"], plan["mms_balance"]) == (251, 2, 2, "1000000.00")
    assert (plan["credits_needed"], plan["credits_per_message"], plan["credits_left"]) == ("502", "2", "99.5")
    assert plan["notes"][0] == "max_credits leaves 99.5 credits: it stops after about 49 recipients"
    assert not (folder / "spring.db").exists()
    assert not api.calls["send-mms"]


def test_exclusions(cli: Cli, api: Sandbox, folder: Path) -> None:
    (folder / "not.csv").write_text("mobile\n0400000001\n")
    api.add_opt_out("+61400000002")
    sent = cli(*SEND, "--yes", "--column", "mobile", "--exclude", "not.csv", "--exclude-opt-outs")
    assert "Excluded, opted out: 1\nExcluded, listed: 1" in sent.out
    assert len(api.messages) == 248
    (folder / "not.csv").write_text("mobile\noh no\n")
    refused = cli(*SEND, "--yes", "--column", "mobile", "--exclude", "not.csv", "--journal", "other.db")
    assert refused.status == 2


def test_resume_and_report(cli: Cli, api: Sandbox, folder: Path) -> None:
    api.faults.add(Reject("LEDGER_ERROR", "No credit"), call="send-mms", times=1)
    stopped = cli(*SEND, "--yes", "--batch-size", "100")
    assert stopped.status in (1, 5)
    assert "the campaign stopped because every other call would fail alike" in stopped.err
    resumed = cli("bulk", "resume", "spring.db", "list.csv", "--yes")
    assert resumed.status == 0
    assert len(api.messages) == 250
    assert cli("bulk", "resume", "spring.db").status == 0
    shown = cli("bulk", "report", "spring.db")
    assert shown.out.startswith("Recipients: 252\nAccepted: 250\n")
    (document,) = cli("bulk", "report", "spring.db", "--json").documents
    assert document["counts"]["accepted"] == 250
    table = list(csv.DictReader(io.StringIO(cli("bulk", "report", "spring.db", "--csv").out)))
    ids = {message.to: message.id for message in api.messages}
    assert {row["number"]: row["message_id"] for row in table if row["state"] == "accepted"} == ids
    aside = list(csv.DictReader(io.StringIO(cli("bulk", "report", "spring.db", "--csv", "--state", "excluded").out)))
    assert [(row["number"], row["line"], row["exclusion"]) for row in aside] == [
        ("nonsense", "252", "invalid"),
        ("+61400000000", "253", "duplicate"),
    ]


def test_the_report_as_a_page(cli: Cli, folder: Path) -> None:
    assert cli(*SEND, "--yes").status == 0
    written = cli("bulk", "report", "spring.db", "--html", "spring.html")
    assert (written.status, written.out, written.err) == (0, "", "")
    page = PageReader((folder / "spring.html").read_text(encoding="utf-8"))
    assert "Campaign spring.db" in page.texts
    assert page.row("Accepted")[0] == "250"
    refused = cli("bulk", "report", "spring.db", "--html", "nowhere/spring.html")
    assert (refused.status, refused.error) == (2, "--html: No such file or directory: nowhere/spring.html")
    assert cli("bulk", "report", "spring.db", "--html", "spring.html").status == 0


@pytest.mark.skipif(os.name == "nt", reason="no such modes there")
def test_a_page_is_for_its_owner_alone(cli: Cli, folder: Path) -> None:
    assert cli(*SEND, "--yes").status == 0
    page = folder / "spring.html"
    page.write_text("<!DOCTYPE html>old")
    page.chmod(0o666)
    with page.open() as theirs:  # whoever has it open, or owns it, sees nothing of the new one
        assert cli("bulk", "report", "spring.db", "--html", "spring.html").status == 0
        assert theirs.read() == "<!DOCTYPE html>old"
    assert page.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in folder.iterdir() if "spring.html" in each.name] == ["spring.html"]
    with started("bulk", "report", "spring.db", "--html", "/dev/stdout") as process:
        assert process.communicate(timeout=60)[0].startswith("<!DOCTYPE html>")
    assert process.returncode == 0


@pytest.mark.parametrize("name", ["spring.db", "list.csv"])
def test_a_page_takes_the_place_of_no_other_file(cli: Cli, folder: Path, name: str) -> None:
    assert cli(*SEND, "--yes").status == 0
    before = (folder / name).read_bytes()
    refused = cli("bulk", "report", "spring.db", "--html", name)
    assert (refused.status, refused.error) == (
        2,
        f"--html: {name} holds something else than a page; it was left as it is",
    )
    assert (folder / name).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("bulk", "report", "nowhere.db"), 1, "journal nowhere.db: there is no such file"),
        (("bulk", "report", "list.csv"), 1, "this is no journal of a campaign"),
        (("bulk", "report", "spring.db", "--json", "--csv"), 2, "choose one"),
        (("bulk", "report", "spring.db", "--json", "--html", "a.html"), 2, "choose one"),
        (("bulk", "report", "nowhere.db", "--html", "a.html"), 1, "journal nowhere.db: there is no such file"),
        (("bulk", "report", "spring.db", "--state", "unknown"), 2, "--state chooses among the lines of --csv"),
        (("bulk", "resume", "nowhere.db"), 1, "there is no such file"),
        ((*SEND, "--yes", "--column", "x"), 2, "--column: expected one of the columns 'name', 'mobile'"),
        ((*SEND, "--yes", "--batch-size", "0"), 2, "--batch-size: expected a whole number from 1 to 1000"),
        ((*SEND, "--yes", "--opt-out-line", " "), 2, "--opt-out-line: expected one line of text"),
        ((*SEND, "--yes", "--test", "nobody"), 2, "--test: expected"),
        ((*SEND, "--yes", "--test-timeout", "-1"), 2, "--test-timeout: expected"),
        ((*SEND, "--yes", "--silent-after", "-1"), 2, "--silent-after: expected"),
        ((*SEND, "--yes", "--region", "Mars"), 2, "--region: expected the two letters"),
        ((*SEND[:-1], "list.csv", "--yes"), 1, "this is no journal of a campaign"),
        (("bulk", "send", "none.csv", *SEND[3:], "--yes"), 2, "No such file"),
        (("bulk", "send", "list.csv"), 2, "--"),
    ],
)
def test_errors(cli: Cli, api: Sandbox, arguments: tuple[str, ...], status: int, said: str) -> None:
    outcome = cli(*arguments)
    assert (outcome.status, outcome.out) == (status, "")
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not api.calls["send-mms"]


@pytest.mark.parametrize("command", ["send", "resume", "report"])
def test_help(cli: Cli, command: str) -> None:
    assert re.search(r" bulk +Campaigns: one message", cli("--help").out)
    assert f"Usage: mmsclient bulk {command}" in cli("bulk", command, "--help").out


# Unknown recipients -------------------------------------------------------------------------------------------------


def report_on(api: Sandbox, folder: Path, numbers: list[str]) -> None:
    """Record what the provider reports of `numbers`, as a receiver does."""
    ids = {message.to: message.id for message in api.messages}
    with closing(SQLiteRecorder.open(folder / "spring.db")) as recorder:
        for number in numbers:
            recorder.record([Reported(ids[number], int(number[1:]), DeliveryStatus.DELIVERED)])


def test_reconcile_says_what_is_settled_and_what_remains(api: Sandbox, folder: Path, cli: Cli) -> None:
    api.faults.add(Reset(carried_out=True), call="send-mms", skip=1, times=1)
    assert cli(*SEND, "--yes", "--batch-size", "100", "--json").status == 4
    lines = cli("bulk", "report", "spring.db", "--csv", "--state", "unknown").out.splitlines()[1:]
    unknown = [line.split(",")[0] for line in lines]
    accepted = [message.to for message in api.messages if message.to not in unknown]
    assert (len(unknown), len(accepted)) == (100, 150)

    (nothing,) = cli("bulk", "reconcile", "spring.db", "--json").documents
    assert (nothing["event"], nothing["settled"], nothing["unknown"]["count"]) == ("reconciliation", 0, 100)
    assert "0 of 150 accepted recipients" in nothing["unknown"]["objection"]
    report_on(api, folder, unknown[:60])
    shown = cli("bulk", "reconcile", "spring.db")
    assert shown.status == 4
    assert "Still unknown: 40" in shown.out
    assert "Accepted by evidence: 60" in shown.out
    assert "Sending to the silent: not done: 0 of 150" in shown.out
    report_on(api, folder, accepted)
    shown = cli("bulk", "report", "spring.db")
    assert "Reports of their runs: 100.0% of 150 recipients accepted by an answer" in shown.out
    assert "Sending to the silent: mmsclient bulk resume --resend-unknown silent" in shown.out
    report_on(api, folder, unknown)
    (done,) = cli("bulk", "reconcile", "spring.db", "--json").documents
    assert done["unknown"]["count"] == 0
    assert cli("bulk", "reconcile", "spring.db").status == 0


def test_the_silent_are_sent_to_again(api: Sandbox, folder: Path, cli: Cli) -> None:
    api.faults.add(Reset(carried_out=False), call="send-mms", skip=1, times=1)
    assert cli(*SEND, "--yes", "--batch-size", "100", "--check-balance").status == 4
    resume = ("bulk", "resume", "spring.db", "--yes", "--json", "--resend-unknown", "silent")
    report_on(api, folder, [message.to for message in api.messages])
    early = cli(*resume).documents[-1]
    assert early["counts"]["unknown"] == 100  # a day has not gone by
    assert Decimal(early["unknown"]["unaccounted_credits"]) == 0
    late = cli(*resume, "--silent-after", "0").documents[-1]
    assert (late["counts"]["accepted"], late["counts"]["unknown"]) == (250, 0)
    assert len(api.messages) == 250


def test_resending_to_all_unknown_is_still_one_word(api: Sandbox, folder: Path, cli: Cli) -> None:
    api.faults.add(Reset(carried_out=False), call="send-mms", times=1)
    assert cli(*SEND, "--yes").status == 4
    assert cli("bulk", "resume", "spring.db", "--yes", "--resend-unknown").status == 0
    assert cli("bulk", "resume", "spring.db", "--resend-unknown", "some").status == 2


def test_the_text_of_a_fallback_goes_on_with_its_opt_out_line(cli: Cli, api: Sandbox, folder: Path) -> None:
    write_list(folder, 2)
    line, options = "Reply STOP to opt out", ("--fallback", "sms", "--fallback-text", "Sale", "--fallback-wait", "0")
    stopped = cli(*SEND, "--opt-out-line", line, *options, "--max-credits", "1")
    assert stopped.err.splitlines()[-1].endswith(" --fallback-text Sale --fallback-wait 0 --max-credits CREDITS")
    assert cli("bulk", "resume", "spring.db").status == 0
    report_failed(api)
    assert cli("bulk", "fallback", "spring.db", "--fallback-text", "Sale", "--max-credits", "3.4").status == 5
    assert cli("bulk", "resume", "spring.db", *options).status == 0
    assert {send.text for send in api.sends} == {f"Hi\r\n{line}"}
    assert {send.text for send in api.sms.sends} == {f"Sale\n{line}"}
    assert len(api.sms.messages) == 2


@contextmanager
def sending_sms(api: Sandbox, cli: Cli, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that sends the SMS to those whose MMS did not arrive, and is at the first of many."""
    write_list(folder, 30)
    assert cli(*SEND).status == 0
    report_failed(api)
    api.faults.add(Latency(0.3), call="send-sms")
    slow = ("--batch-size", "1", "--max-concurrency", "1")
    with started("bulk", "resume", "spring.db", "--fallback", "sms", "--fallback-wait", "0", *slow) as process:
        until(lambda: api.sms.sends)
        yield process


def test_a_stop_reaches_the_sms_of_the_fallback(cli: Cli, api: Sandbox, folder: Path) -> None:
    with sending_sms(api, cli, folder) as process:
        stopped = cli("bulk", "stop", "spring.db")
        assert stopped.status == 0
        assert stopped.out.startswith("stopped the SMS to those whose MMS did not arrive; nobody is sending: ")
        _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "to go on: mmsclient bulk resume spring.db --fallback sms" in err
    assert 0 < len(api.sms.messages) < 30


def test_a_pause_reaches_the_sms_of_the_fallback(cli: Cli, api: Sandbox, folder: Path) -> None:
    with sending_sms(api, cli, folder) as process:
        paused = cli("bulk", "pause", "spring.db")
        assert (paused.status, "of the SMS too; sender: " in paused.out) == (0, True)
        until(lambda: cli("bulk", "status", "spring.db", "--json").documents[0]["fallback"]["activity"] == "paused")
        held = len(api.sms.messages)
        assert 0 < held < 30
        api.faults.clear()
        assert cli("bulk", "continue", "spring.db").out.startswith("continued; ")
        process.communicate(timeout=60)
    assert (process.returncode, len(api.sms.messages)) == (0, 30)


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "stop"])
def test_a_run_that_waits_for_reports_goes_on_later(cli: Cli, api: Sandbox, folder: Path, how: str) -> None:
    write_list(folder, 3)
    with started(*SEND, "--fallback", "sms") as process:
        until(lambda: "Accepted: 3\n" in cli("bulk", "report", "spring.db").out)
        if how == "stop":
            assert cli("bulk", "stop", "spring.db").status == 0
        else:
            process.send_signal(signal.Signals[how])
        _, err = process.communicate(timeout=60)
    assert process.returncode == {"SIGINT": 130, "SIGTERM": 143, "stop": 5}[how]
    assert "mmsclient: to go on: mmsclient bulk resume spring.db --fallback sms\n" in err
    report_failed(api)
    assert cli("bulk", "resume", "spring.db", "--fallback", "sms").status == 0
    assert len(api.sms.messages) == 3


@pytest.mark.parametrize("how", ["gone", "spoiled"])
def test_a_journal_of_the_sms_that_is_lost_is_told_of_before_the_first_mms(
    cli: Cli, api: Sandbox, folder: Path, how: str
) -> None:
    write_list(folder, 3)
    assert cli(*SEND).status == 0
    report_failed(api)
    assert cli("bulk", "fallback", "spring.db").status == 0
    beside = Path("spring.db-sms")
    beside.unlink()
    if how == "spoiled":
        beside.write_bytes(b"no journal" * 1000)
    write_list(folder, 5)
    failed = cli(*SEND, "--fallback", "sms", "--fallback-wait", "0")
    assert (failed.status, "spring.db-sms" in failed.error) == (1, True)
    assert (len(api.messages), len(api.sms.messages)) == (3, 3)
