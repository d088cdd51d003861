"""`mmsclient bulk` as a script and a person run it."""

from __future__ import annotations

import csv
import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmsclient.cli.output import Form
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Latency, Reject, Reset
from tests.command import Cli, in_this_process, started
from tests.conftest import PNG

SEND = ("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", "--journal", "spring.db")


@pytest.fixture
def api() -> Iterator[Sandbox]:
    with Sandbox(rate=None, magic=False) as api:
        yield api


@pytest.fixture
def folder(api: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs: it finds a list of 250 numbers, a picture and the sandbox."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMSCLIENT_APP_KEY", api.app_key)
    monkeypatch.setenv("MMSCLIENT_BASE_URL", api.url)
    (tmp_path / "sale.png").write_bytes(PNG)
    write_list(tmp_path, 250)
    return tmp_path


def write_list(folder: Path, count: int) -> None:
    lines = ["name,mobile", *(f"Zoë,04{n:08}" for n in range(count)), "x,nonsense", "x,+61400000000"]
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def cli(api: Sandbox, folder: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return in_this_process(api.app_key, capsys)


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
        "credits_used": "250",
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
    assert "Send to 250 recipients in 1 calls? There is no terminal to ask on: give --yes" in sent.err
    assert not (folder / "spring.db").exists()
    assert not api.messages


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_a_large_one_on_a_terminal_asks(
    cli: Cli, api: Sandbox, monkeypatch: pytest.MonkeyPatch, answer: str, status: int
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("mmsclient.cli.bulk.Console.input", lambda self, prompt: answer)
    assert cli(*SEND).status == status
    assert len(api.messages) == (0 if status else 250)


def test_a_bar_on_a_terminal(cli: Cli, api: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Form, "chosen", lambda as_json: Form.TABLE)
    monkeypatch.setenv("COLUMNS", "120")
    api.faults.add(Reset(carried_out=True), times=1)
    sent = cli(*SEND, "--yes", "--batch-size", "100")
    assert sent.status == 4
    assert "call 1: 0 of 100 accepted: send-mms:" in sent.out
    assert "252" in sent.out
    assert "Unknown" in sent.out


def test_a_dry_run(cli: Cli, api: Sandbox, folder: Path) -> None:
    ran = cli(*SEND, "--dry-run", "--batch-size", "100")
    assert ran.status == 0
    assert ran.out.splitlines()[:4] == [
        "To be sent: 250 recipients in 3 calls",
        "Excluded, invalid: 1",
        "Excluded, duplicate: 1",
        "MMS balance: 1000000.00 credits",
    ]
    (plan,) = cli(*SEND, "--dry-run", "--json").documents
    assert (plan["to_send"], plan["calls"], plan["mms_balance"]) == (250, 1, "1000000.00")
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
    assert stopped.status in (1, 3)
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


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("bulk", "report", "nowhere.db"), 1, "journal nowhere.db: there is no such file"),
        (("bulk", "report", "list.csv"), 1, "this is no journal of a campaign"),
        (("bulk", "report", "spring.db", "--json", "--csv"), 2, "choose one"),
        (("bulk", "resume", "nowhere.db"), 1, "there is no such file"),
        ((*SEND, "--yes", "--column", "x"), 2, "column: expected one of the columns 'name', 'mobile'"),
        ((*SEND, "--yes", "--batch-size", "0"), 2, "batch_size: expected a whole number from 1 to 1000"),
        ((*SEND, "--yes", "--region", "Mars"), 2, "region: expected the two letters"),
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
    assert " bulk " in cli("--help").out
    assert f"Usage: mmsclient bulk {command}" in cli("bulk", command, "--help").out


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains(cli: Cli, api: Sandbox, folder: Path, number: int) -> None:
    write_list(folder, 3000)
    api.faults.add(Latency(0.3, carried_out=True), call="send-mms")
    with started(*SEND, "--yes", "--batch-size", "10") as process:
        for _ in range(600):  # a minute at most
            if len(api.sends) > 3:
                break
            time.sleep(0.1)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err == "mmsclient: stopping: waiting for the calls under way; once more ends it at once\n"
    assert 30 < len(api.messages) < 3000
    (report,) = cli("bulk", "report", "spring.db", "--json").documents
    assert report["counts"]["accepted"] == len(api.messages)
    assert report["counts"]["sending"] == report["counts"]["unknown"] == 0
    assert f"Accepted: {len(api.messages)}" in out
