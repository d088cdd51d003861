"""The command `mmsclient`, run as a script and a person run it, against a sandbox over TLS."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mmsclient.cli import stdio
from mmsclient.cli.connection import warnings_shown
from mmsclient.cli.demo_view import busiest_second
from mmsclient.cli.output import Form
from mmsclient.cli.sample_image import sunset
from mmsclient.sandbox import Sandbox, faults
from mmsclient.sandbox.sent import Sent
from tests.support.command import COMMAND, Cli, Outcome, started
from tests.support.waiting import until

SMS = ("sms", "send", "--to", "+61400000000", "--text", "Hi")
NUMBER, OTHER, REFUSED = "+61400000000", "+61400000001", "+61400009901"


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "sunset.png"
    path.write_bytes(sunset())
    return str(path)


@pytest.fixture
def service(mms_sandbox: Sandbox) -> Sandbox:
    return mms_sandbox


@pytest.fixture
def terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command takes stdout for a terminal of 80 columns."""
    monkeypatch.setattr(Form, "chosen", lambda as_json: Form.TABLE)
    monkeypatch.setenv("COLUMNS", "80")


def visible(text: str) -> str:
    """`text` without what steers a terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


LISTENING = "Delivery reports and messages as they come; Ctrl-C ends it.\n"


# send -------------------------------------------------------------------------------------------------------


def test_send_tells_each_number(cli: Cli, mms_sandbox: Sandbox, picture: str) -> None:
    sent = cli("send", "--to", NUMBER, "--to", "0400 000 001", "--to", "0400000000", "--text", "Hi", "--image", picture)
    first, second = mms_sandbox.messages
    assert (sent.status, sent.err) == (0, "")
    assert sent.out.splitlines() == [
        "2 of 2 recipients accepted, 2 credits used",
        f"accepted\t{NUMBER}\t{first.id}",
        f"accepted\t{OTHER}\t{second.id}",
        "duplicate\t0400000000\tnot sent twice",
    ]
    assert mms_sandbox.sends[0].image_size == len(sunset())


def test_send_json(cli: Cli, mms_sandbox: Sandbox, picture: str) -> None:
    sent = cli("send", "--to", NUMBER, "--text", "Hi", "--subject", "S", "--image", picture, "--json")
    (document,) = sent.documents
    sent_at = document["messages"][0].pop("sent_at")
    assert datetime.fromisoformat(sent_at).utcoffset() is not None
    del document["messages"][0]["sent_at_text"]
    message = {"id": mms_sandbox.messages[0].id, "to": NUMBER, "subject": "S", "text": "Hi"}
    assert document == {
        "accepted": 1,
        "total": 1,
        "messages": [{**message, "sender": None, "custom_string": None}],
        "refused": [],
        "duplicates": [],
        "credits_used": "1",
        "low_sms_alert": None,
        "flaws": [],
        "repeated": False,
        "proven": False,
    }


def test_send_partly_accepted(cli: Cli, picture: str) -> None:
    sent = cli("send", "--to", NUMBER, "--to", REFUSED, "--text", "Hi", "--image", picture)
    assert sent.status == 3
    assert sent.out.startswith("1 of 2 recipients accepted, 1 credit used\n")
    assert f"refused\t{REFUSED}\n" in sent.out
    assert sent.error.startswith("warning: send-mms: 1 of 2 recipients accepted")


def test_send_of_unknown_outcome(cli: Cli, mms_sandbox: Sandbox, picture: str) -> None:
    mms_sandbox.faults.add(faults.Reset(carried_out=True), call="send-mms")
    sent = cli("send", "--to", NUMBER, "--text", "Hi", "--image", picture)
    assert (sent.status, sent.out) == (4, "")
    assert "it may have been carried out" in sent.error
    assert mms_sandbox.carried_out(NUMBER) == 1


def test_send_refused(cli: Cli, picture: str) -> None:
    sent = cli("send", "--to", REFUSED, "--text", "Hi", "--image", picture)
    assert (sent.status, sent.out) == (1, "")
    assert "RECIPIENTS_ERROR" in sent.error


def test_send_to_several_numbers_after_one_option(cli: Cli, mms_sandbox: Sandbox, picture: str) -> None:
    sent = cli("send", "--to", NUMBER, "0400 000 001", "--text", "Hi", "--to", REFUSED, "--image", picture)
    assert sent.status == 3
    assert mms_sandbox.sends[0].recipients == (NUMBER, OTHER)
    assert mms_sandbox.sends[0].refused == (REFUSED,)


FAILED_NUMBER = "+61400009911"


def test_send_that_waits_tells_what_became_of_each(cli: Cli, picture: str) -> None:
    sent = cli("send", "--to", NUMBER, FAILED_NUMBER, "--text", "Hi", "--image", picture, "--wait")
    assert (sent.status, sent.err) == (0, "")
    assert sent.out.splitlines()[-2:] == [f"Delivered\t{NUMBER}", f"Failed\t{FAILED_NUMBER}"]


def test_send_that_waits_for_scripts_and_on_a_terminal(
    cli: Cli, mms_sandbox: Sandbox, picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mms_sandbox.settings.dispatch_after, mms_sandbox.settings.deliver_after = 0, 60
    arguments = ["send", "--to", NUMBER, "--text", "Hi", "--image", picture, "--wait", "--wait-seconds", "0.5"]
    sent, delivered = cli(*arguments, "--json").documents
    assert sent["accepted"] == 1
    assert delivered == {"statuses": {NUMBER: "Dispatched"}}
    monkeypatch.setattr(Form, "chosen", lambda as_json: Form.TABLE)
    assert re.search(r"Dispatched +\+61400000000", cli(*arguments).out)


def test_send_that_cannot_ask_was_sent_all_the_same(
    cli: Cli, impatient: None, mms_sandbox: Sandbox, picture: str
) -> None:
    mms_sandbox.faults.add(faults.Reject("NO_ACCESS", status=403), call="get-sms")
    sent = cli("send", "--to", NUMBER, "--text", "Hi", "--image", picture, "--wait")
    assert sent.status == 0
    assert f"accepted\t{NUMBER}" in sent.out
    assert sent.error.startswith("it was sent, but what became of it could not be asked: get-sms: ")
    assert mms_sandbox.carried_out(NUMBER) == 1


def test_send_that_waits_has_said_before_what_was_sent(environment: None, mms_sandbox: Sandbox, picture: str) -> None:
    mms_sandbox.settings.deliver_after = 600
    with started("send", "--to", NUMBER, "--text", "Hi", "--image", picture, "--wait") as process:
        assert process.stdout
        assert process.stdout.readline() == "1 of 1 recipient accepted, 1 credit used\n"
        process.send_signal(signal.SIGINT)
        assert ended(process).status == 0  # that of the send


def test_send_on_a_terminal(cli: Cli, terminal: None, mms_sandbox: Sandbox, picture: str) -> None:
    sent = cli("send", "--to", NUMBER, "--to", REFUSED, "--text", "Hi", "--image", picture)
    lines = [line.split() for line in sent.out.splitlines()]
    assert " ".join(lines[0]) == "1 of 2 recipients accepted, 1 credit used"
    assert ["accepted", NUMBER, mms_sandbox.messages[0].id] in lines
    assert ["refused", REFUSED] in lines


# account, replies, opt-outs ---------------------------------------------------------------------------------


def test_account(cli: Cli) -> None:
    facts = "Account: Sandbox\nEmail: sandbox@example.com\nMMS balance: 1000000.00\nSMS balance: 1000000.00\n"
    assert cli("account") == (0, facts, "")


def test_account_json(cli: Cli) -> None:
    assert cli("account", "--json").documents == [
        {
            "name": "Sandbox",
            "email": "sandbox@example.com",
            "sms_balance": "1000000.00",
            "mms_balance": "1000000.00",
            "low_sms_alert": None,
        }
    ]


def test_account_on_a_terminal(cli: Cli, terminal: None) -> None:
    assert re.search(r"MMS balance +1000000\.00", cli("account").out)


def test_the_key_from_a_file(cli: Cli, mms_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MMSCLIENT_APP_KEY")
    (tmp_path / "key").write_text(f"{mms_sandbox.app_key}\n")
    assert cli("account", "--app-key-file", str(tmp_path / "key")).status == 0


def test_replies(cli: Cli, mms_sandbox: Sandbox) -> None:
    mms_sandbox.add_replies(30)
    lines = cli("replies").out.splitlines()
    assert [line.split("\t")[1:] for line in lines] == [[NUMBER, f"Reply {number}"] for number in range(1, 31)]
    assert len(mms_sandbox.unread) == 30


def test_replies_json(cli: Cli, mms_sandbox: Sandbox) -> None:
    replies = mms_sandbox.add_replies(30)
    documents = cli("replies", "--json").documents
    assert [document["id"] for document in documents] == [reply.id for reply in replies]
    assert documents[0].keys() == {
        "id",
        "sender",
        "text",
        "received_at",
        "received_at_text",
        "original_message_id",
        "original_text",
        "subaccount_id",
        "custom_string",
        "kind",
    }
    assert datetime.fromisoformat(documents[0]["received_at"]) == replies[0].received_at
    assert cli("replies", "--kind", "sms", "--json") == (0, "", "")


def test_replies_on_a_terminal(cli: Cli, terminal: None, mms_sandbox: Sandbox) -> None:
    mms_sandbox.add_replies(30)
    lines = cli("replies").out.splitlines()
    assert lines[0].split() == ["Received", "From", "Text"]
    assert len({(line.index(NUMBER), line.index("Reply")) for line in lines[1:31]}) == 1  # the pages are aligned
    assert lines[30].rstrip().endswith("Reply 30")
    assert lines[31:] == ["30 unread replies"]


@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_reply_cannot_steer_the_terminal(
    cli: Cli, mms_sandbox: Sandbox, request: pytest.FixtureRequest, on_terminal: bool
) -> None:
    if on_terminal:
        request.getfixturevalue("terminal")
    mms_sandbox.add_reply(text="\x1b]0;owned\x07[red]a\tb\r\nc[/red]\x9b1m")
    assert " ]0;owned [red]a b  c[/red] 1m" in cli("replies").out


@pytest.mark.parametrize("on_terminal", [False, True])
def test_taking_replies_marks_them(
    cli: Cli, mms_sandbox: Sandbox, request: pytest.FixtureRequest, on_terminal: bool
) -> None:
    if on_terminal:
        request.getfixturevalue("terminal")
    mms_sandbox.add_replies(30)
    taken = cli("replies", "--take")
    assert (taken.status, taken.err) == (0, "")
    assert [line.split()[-1] for line in taken.out.splitlines()] == [str(number) for number in range(1, 31)]
    assert not mms_sandbox.unread
    assert cli("replies", "--take", "--json") == (0, "", "")


@pytest.mark.parametrize("take", [False, True])
def test_following_replies(environment: None, mms_sandbox: Sandbox, take: bool) -> None:
    mms_sandbox.add_replies(2)
    with started("replies", "--follow", "--json", "--interval", "0.1", *(["--take"] if take else [])) as process:
        assert process.stdout
        texts = [json.loads(process.stdout.readline())["text"] for _ in range(2)]
        mms_sandbox.add_reply(text="late")
        texts.append(json.loads(process.stdout.readline())["text"])
        if take:
            until(lambda: not mms_sandbox.unread)
        process.send_signal(signal.SIGINT)
        outcome = ended(process)
    assert texts == ["Reply 1", "Reply 2", "late"]
    assert (outcome.status, outcome.out, outcome.err) == (130, "", "")
    assert len(mms_sandbox.unread) == (0 if take else 3)


def test_status(cli: Cli, mms_sandbox: Sandbox) -> None:
    first, second = mms_sandbox.messages.of(mms_sandbox.send([NUMBER, FAILED_NUMBER], "Hi", "", b"GIF89a"))
    until(lambda: mms_sandbox.status(second.id) == "Failed")
    found = cli("status", first.id, second.id)
    assert (found.status, found.err) == (0, "")
    rows = [line.split("\t") for line in found.out.splitlines()]
    assert [(status, number, message) for status, number, _, message in rows] == [
        ("Delivered", NUMBER, first.id),
        ("Failed", FAILED_NUMBER, second.id),
    ]
    assert [document["status"] for document in cli("status", second.id, "--json").documents] == ["Failed"]


def test_status_of_what_the_api_does_not_know(cli: Cli, mms_sandbox: Sandbox) -> None:
    (message,) = mms_sandbox.messages.of(mms_sandbox.send([NUMBER], "Hi", "", b"GIF89a"))
    found = cli("status", "nonsense", message.id)
    assert found.status == 1
    assert found.out.endswith(f"{message.id}\n")
    assert found.error == "the API knows no message nonsense"


def test_templates(cli: Cli, mms_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        mms_sandbox.add_template(f"Sale {number}", "Sale on now", at=datetime(2026, 1, 1, tzinfo=UTC))
    lines = cli("templates").out.splitlines()
    assert [line.split("\t") for line in lines[:1]] == [["2026-01-01 11:00:00+11:00", "Sale 0", "Sale on now"]]
    assert len(lines) == 20
    assert cli("templates", "--json").documents[19]["title"] == "Sale 19"
    monkeypatch.setattr(Form, "chosen", lambda as_json: Form.TABLE)
    assert cli("templates").out.splitlines()[-1] == "20 templates"


def test_opt_outs(cli: Cli, mms_sandbox: Sandbox) -> None:
    for month in (1, 2, 3):
        mms_sandbox.add_opt_out(f"+6140000000{month}", at=datetime(2026, month, 1, tzinfo=UTC), first_name="Ann")
    assert cli("opt-outs", "--since", "2026-01-15", "--until", "2026-02-15T12:00+11:00") == (
        0,
        "2026-02-01 11:00:00+11:00\t+61400000002\tAnn\n",
        "",
    )
    assert [each["number"][-1] for each in cli("opt-outs", "--json", "--since", "2026-01-15").documents] == ["2", "3"]


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's zone."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_bounds_in_a_repeated_hour_of_the_machines_zone_ask_for_more(
    in_berlin: None, cli: Cli, mms_sandbox: Sandbox
) -> None:
    """Berlin leaves daylight saving on 25 October 2026 at 3:00, which is 1:00 UTC."""
    for minute in (15, 45, 75):
        at = datetime(2026, 10, 25, tzinfo=UTC) + timedelta(minutes=minute)
        mms_sandbox.add_opt_out(f"+614000000{minute}", at=at)
    listed = cli("opt-outs", "--json", "--until", "2026-10-25T02:30").documents
    assert [each["number"][-2:] for each in listed] == ["15", "45", "75"]
    listed = cli("opt-outs", "--json", "--since", "2026-10-25T02:30").documents
    assert [each["number"][-2:] for each in listed] == ["45", "75"]


def test_no_opt_outs_on_a_terminal(cli: Cli, terminal: None) -> None:
    assert cli("opt-outs").out == "No opt-outs\n"


# Errors -----------------------------------------------------------------------------------------------------


SEND = ["send", "--to", NUMBER, "--text", "Hi"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frob"], "frob"),
        (["account", "extra"], "extra"),
        (["account", "--app-key", "secret"], "--app-key"),
        (["account", "--app-key=secret"], "--app-key"),
        ([*SEND], "--image"),
        (["send", "--text", "Hi", "--image", "IMAGE"], "--to"),
        (["send", "--to", "12345", "--text", "Hi", "--image", "IMAGE"], "to[0]: expected a number"),
        ([*SEND, "--image", "/nonexistent"], "image: expected"),
        ([*SEND, "--image", __file__], "PNG, GIF or JPEG"),
        ([*SEND, "--image", "IMAGE", "--subject", "x" * 41], "subject"),
        (["account", "--app-key-file", "/nonexistent"], "--app-key-file: No such file"),
        (["account", "--app-key-file", "IMAGE"], "--app-key-file: not a text file"),
        (["account", "--app-key-file", os.devnull], "--app-key-file: no APPKEY"),
        (["account", "--ca-file", "/nonexistent"], "--ca-file: No such file"),
        (["account", "--ca-file", "IMAGE"], "--ca-file: no PEM certificate"),
        (["account", "--base-url", "http://example.com"], "base_url: expected https"),
        (["account", "--timeout", "0"], "timeout: expected seconds"),
        (["account", "--timeout", "soon"], "--timeout"),
        (["replies", "--kind", "fax"], "--kind"),
        (["opt-outs", "--since", "yesterday"], "--since"),
        (["opt-outs", "--since", "0001-01-01"], "since"),
        (["opt-outs", "--since", "2026-02-01", "--until", "2026-01-01"], "since: expected a time before"),
        (["replies", "--follow", "--interval", "0"], "interval: expected seconds"),
        (["listen", "--port", "65536"], "--port"),
        (["listen", "--port", "0", "--host", "nowhere.invalid"], "--port"),
        (["listen", "--port", "0", "--token-file", "/nonexistent"], "--token-file: No such file"),
        (["listen", "--port", "0", "--token-file", os.devnull], "--token-file: no token"),
        (["listen", "--port", "0", "--exec", "no-such-command -x"], "--exec: there is no command no-such-command"),
        (["listen", "--port", "0", "--exec", "'"], "--exec: No closing quotation"),
        (
            ["listen", "--port", "0", "--seen", "/nonexistent/folder/file"],
            "seen: No such file or directory: /nonexistent",
        ),
        (["sandbox", "--port", "65536"], "--port: expected 0 to 65535"),
        (["sandbox", "--rate", "0.6"], "--rate: expected a whole number, got '0.6'"),
        ([*SMS, "--delay", "1.5"], "--delay: expected a whole number, got '1.5'"),
        ([*SMS, "--processes", "2.0"], "--processes: expected a whole number, got '2.0'"),
        (["bulk", "resume", "spring.db", "--batch-size", "0.6"], "--batch-size: expected a whole number, got '0.6'"),
        (["listen", "--host", ""], "--host: expected a host's name or address, got nothing"),
        (["listen", "--metrics-port", "0", "--metrics-host", ""], "--metrics-host: expected a host's name or address"),
        (["sandbox", "--rate", "0"], "--rate: expected 1 or more"),
        (["sandbox", "--replies", "-1"], "--replies: expected 0 or more, got -1"),
        (["sandbox", "--balance", "NaN"], "--balance: expected a number of credits"),
        (["sandbox", "--callback-url", "localhost:8080"], "--callback-url: expected an http or https URL"),
    ],
)
def test_wrong_usage(cli: Cli, mms_sandbox: Sandbox, picture: str, arguments: list[str], said: str) -> None:
    outcome = cli(*(picture if argument == "IMAGE" else argument for argument in arguments))
    assert (outcome.status, outcome.out) == (2, "")
    assert said in outcome.error
    assert "secret" not in outcome.error
    assert not mms_sandbox.arrivals


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("send", "--to is missing. See `mmsclient send --help`."),
        ("send --to --text Hi", "--image is missing. See `mmsclient send --help`."),
        ("send --to 1 --text", "--text needs a value. See `mmsclient send --help`."),
        ("bulk send", "RECIPIENTS is missing. See `mmsclient bulk send --help`."),
        ("bulk send --text Hi --image x --journal y", "RECIPIENTS is missing. See `mmsclient bulk send --help`."),
        (
            "bulk send list.csv --text Hi --journal y --image",
            "--image needs a value. See `mmsclient bulk send --help`.",
        ),
        ("bulk send list.csv", "--text is missing. See `mmsclient bulk send --help`."),
        ("bulk report", "JOURNAL is missing. See `mmsclient bulk report --help`."),
        ("status", "IDS is missing. See `mmsclient status --help`."),
        ("bulk frob", "See `mmsclient bulk --help`."),
        ("frob", "See `mmsclient --help`."),
        ("replies --kind fax", "See `mmsclient replies --help`."),
        ("send --too 1", "Did you mean --to instead of --too? See `mmsclient send --help`."),
    ],
)
def test_wrong_arguments_are_named_and_whose_help_to_read(cli: Cli, arguments: str, said: str) -> None:
    outcome = cli(*arguments.split())
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.error.endswith(said)
    assert outcome.error == said or said.startswith(("See", "Did"))


@pytest.mark.parametrize("key", [None, ""])
def test_no_key(cli: Cli, monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    monkeypatch.delenv("MMSCLIENT_APP_KEY")
    if key is not None:
        monkeypatch.setenv("MMSCLIENT_APP_KEY", key)
    outcome = cli("account")
    assert outcome.status == 2
    assert outcome.error == "no APPKEY: set MMSCLIENT_APP_KEY or give --app-key-file FILE"


def test_wrong_key(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSCLIENT_APP_KEY", "another-key")
    outcome = cli("account")
    assert outcome.status == 1
    assert "AUTH_FAILED" in outcome.error
    assert "another-key" not in outcome.error


def test_unreachable(cli: Cli, impatient: None, mms_sandbox: Sandbox, picture: str) -> None:
    with mms_sandbox.refusing():
        outcome = cli(*SEND, "--image", picture)
    assert outcome.status == 1
    assert "nothing was sent" in outcome.error


def test_untrusted_certificate(cli: Cli, impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMSCLIENT_CA_FILE")
    outcome = cli("account")
    assert outcome.status == 1
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.error


def test_port_taken(cli: Cli, mms_sandbox: Sandbox) -> None:
    outcome = cli("sandbox", "--port", str(mms_sandbox.port))
    assert outcome.status == 2
    assert "--port: Address already in use" in outcome.error


# Help -------------------------------------------------------------------------------------------------------


COMMANDS = ["send", "account", "replies", "listen", "opt-outs", "sandbox", "demo", "status", "templates"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(cli: Cli, command: str) -> None:
    assert f" {command} " in cli("--help").out
    outcome = cli(command, "--help")
    assert outcome.status == 0
    assert f"Usage: mmsclient {command}" in outcome.out
    assert "--json" in outcome.out
    assert "Exit status" in outcome.out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path)}
    install = [*COMMAND, "--install-completion", "--shell", "bash"]
    assert subprocess.run(install, env=environment, stdout=subprocess.DEVNULL, timeout=60, check=False).returncode == 0  # noqa: S603
    ask = (
        "source ~/.bashrc; COMP_WORDS=(mmsclient re) COMP_CWORD=1; _mmsclient; echo ${COMPREPLY[@]};"
        "COMP_WORDS=(mmsclient send --wait-) COMP_CWORD=2; _mmsclient; echo ${COMPREPLY[@]}"
    )
    bash = subprocess.run(  # noqa: S603
        ["bash", "-c", ask],  # noqa: S607
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (bash.stdout.splitlines(), bash.stderr) == (["replies", "--wait-seconds"], "")


# The process ------------------------------------------------------------------------------------------------


def ended(process: subprocess.Popen[str]) -> Outcome:
    out, err = process.communicate(timeout=30)
    return Outcome(process.returncode, out, err)


def test_a_closed_pipe_is_quiet(environment: None, mms_sandbox: Sandbox) -> None:
    mms_sandbox.add_replies(250)
    with started("replies", "--json") as process:
        assert process.stdout
        process.stdout.close()
        process.stdout = None
        outcome = ended(process)
    assert (outcome.status, outcome.err) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_that_cannot_be_written(environment: None) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(  # noqa: S603 -- our own command
            [*COMMAND, "account"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    assert process.returncode == 141
    assert process.stderr == "mmsclient: the output could not be written: No space left on device\n"


def test_interrupted_send_says_how_it_ended(environment: None, mms_sandbox: Sandbox, picture: str) -> None:
    mms_sandbox.faults.add(faults.Latency(1.0), call="send-mms")
    with started(*SEND, "--image", picture) as process:
        until(lambda: bool(mms_sandbox.arrivals))
        process.send_signal(signal.SIGINT)
        outcome = ended(process)
    assert outcome.status == 0
    assert outcome.out.startswith("1 of 1 recipient accepted, 1 credit used\n")
    (waiting,) = outcome.err.splitlines()
    assert "waiting for the answer if it has left" in waiting
    assert mms_sandbox.carried_out(NUMBER) == 1


# sandbox ----------------------------------------------------------------------------------------------------


def test_sandbox_for_scripts(cli: Cli, monkeypatch: pytest.MonkeyPatch, picture: str) -> None:
    with started("sandbox", "--json", "--tls", "--port", "0", "--replies", "2") as process:
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        assert ready["endings"]["9911"] == "ends as Failed"
        monkeypatch.setenv("MMSCLIENT_BASE_URL", ready["url"])
        monkeypatch.setenv("MMSCLIENT_APP_KEY", ready["app_key"])
        monkeypatch.setenv("MMSCLIENT_CA_FILE", ready["ca_file"])
        assert len(cli("replies", "--json").documents) == 2
        assert cli(*SEND, "--to", REFUSED, "--image", picture).status == 3
        events = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert ended(process) == (0, "", "")
    calls = [(event["call"], event["http_status"], event["throttled"]) for event in events if event["event"] == "call"]
    assert calls == [("get-responses", 200, False), ("send-mms", 200, False)]
    (send,) = [event for event in events if event["event"] == "send"]
    assert (send["text"], send["recipients"], send["refused"]) == ("Hi", [NUMBER], [REFUSED])
    assert not Path(ready["ca_file"]).exists()


def test_sandbox_for_people(cli: Cli, monkeypatch: pytest.MonkeyPatch, picture: str) -> None:
    with started("sandbox", "--port", "0") as process:
        assert process.stdout
        introduction = list(iter(process.stdout.readline, "Calls as they come; Ctrl-C ends it.\n"))
        settings = [line.split()[1].partition("=") for line in introduction if line.startswith("  export ")]
        assert [name for name, _, _ in settings] == ["MMSCLIENT_BASE_URL", "MMSCLIENT_APP_KEY"]
        assert "  9911  ends as Failed\n" in introduction
        for name, _, value in settings:
            monkeypatch.setenv(name, value)
        assert cli(*SEND, "--image", picture).status == 0
        lines = "".join(process.stdout.readline() for _ in range(2))
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (0, "Stopped after 1 call and 1 message.\n", "")
    assert "200  send-mms" in lines
    assert "send 1: 1 accepted, 0 refused: 'Hi'" in lines


def test_a_rehearsal_of_a_real_list_with_the_credits_that_there_are(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, picture: str
) -> None:
    with started("sandbox", "--json", "--port", "0", "--no-magic", "--balance", "2.5") as process:
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        assert ready["endings"] == {}
        monkeypatch.setenv("MMSCLIENT_BASE_URL", ready["url"])
        sent = cli("send", "--to", "+61400009903", "+61400009911", "--text", "Hi", "--image", picture, "--wait")
        assert sent.status == 0
        assert sent.out.count("Delivered") == 2
        assert cli("account", "--json").documents[0]["mms_balance"] == "0.50"
        assert "credit" in cli(*SEND, "--image", picture).error
        process.send_signal(signal.SIGINT)
        assert ended(process).status == 0


def test_listen_can_be_tried_against_sandbox(cli: Cli, monkeypatch: pytest.MonkeyPatch, picture: str) -> None:
    answers = "+61400009921"
    with started("listen", "--port", "0") as listener:
        assert listener.stdout
        (url,) = [line.strip() for line in iter(listener.stdout.readline, LISTENING) if line.startswith("  http")]
        with started("sandbox", "--port", "0", "--callback-url", url) as server:
            assert server.stdout
            introduction = list(iter(server.stdout.readline, "Calls as they come; Ctrl-C ends it.\n"))
            assert f"Delivery reports and replies go to {url}\n" in introduction
            (export,) = [line for line in introduction if "MMSCLIENT_BASE_URL" in line]
            monkeypatch.setenv("MMSCLIENT_BASE_URL", export.strip().partition("=")[2])
            assert cli("send", "--to", answers, "--text", "Hi", "--image", picture).status == 0
            heard = {listener.stdout.readline().rpartition("\t")[0] for _ in range(2)}
            shown = [server.stdout.readline() for _ in range(4)]
            server.send_signal(signal.SIGINT)
            assert ended(server) == (0, "Stopped after 1 call and 1 message.\n", "")
        listener.send_signal(signal.SIGINT)
        assert ended(listener) == (0, "Stopped after 2 events.\n", "")
    assert heard == {f"report\t{answers}\tDelivered", f"message\t{answers}\tYes please"}
    assert sum("200  callback: 61400009921 Delivered\n" in line for line in shown) == 1
    assert sum("200  callback: 61400009921 'Yes please'\n" in line for line in shown) == 1


# listen -----------------------------------------------------------------------------------------------------


@pytest.fixture
def callbacks(mms_sandbox: Sandbox) -> Callable[[str], None]:
    """Lets the sandbox post a report and a reply to a URL."""

    def post(url: str) -> None:
        mms_sandbox.settings.callback_url = url
        mms_sandbox.settings.duplicates = 1
        send = mms_sandbox.send([NUMBER], "Hi", "", b"GIF89a")
        mms_sandbox.add_reply(NUMBER, "Stop!", to=mms_sandbox.messages.of(send)[0])

    return post


def test_listening_for_scripts(mms_sandbox: Sandbox, callbacks: Callable[[str], None], tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    note = f"{sys.executable} -c 'import sys; open(sys.argv[1], \"a\").write(sys.stdin.read())' {noted}"
    with started("listen", "--json", "--port", "0", "--exec", note, "--seen", str(tmp_path / "seen")) as process:
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        callbacks(ready["url"])
        lines = [process.stdout.readline() for _ in range(2)]
        until(lambda: not mms_sandbox.callbacks_open)
        process.send_signal(signal.SIGINT)
        assert ended(process) == (0, "", "")
    message, report = sorted(map(json.loads, lines), key=lambda each: each["event"], reverse=True)
    assert (message["event"], message["text"], message["sender"]) == ("inbound_message", "Stop!", NUMBER)
    assert (report["event"], report["status"], report["recipient"]) == ("delivery_report", "Delivered", NUMBER)
    assert sorted(noted.read_text().splitlines(keepends=True)) == sorted(lines)
    assert {callback.status for callback in mms_sandbox.callbacks} == {200}


def test_listening_for_people(
    mms_sandbox: Sandbox, callbacks: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSCLIENT_CALLBACK_TOKEN", "a-token-of-the-command")
    with started("listen", "--port", "0") as process:
        assert process.stdout
        introduction = list(iter(process.stdout.readline, LISTENING))
        (url,) = [line.strip() for line in introduction if line.startswith("  http")]
        assert url.endswith("/<token>")
        callbacks(url.replace("<token>", "a-token-of-the-command"))
        lines = {process.stdout.readline() for _ in range(2)}
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (0, "Stopped after 2 events.\n", "")
    message = mms_sandbox.messages[0].id
    assert lines == {
        f"report\t{NUMBER}\tDelivered\t{message}\n",
        f"message\t{NUMBER}\tStop!\t{message}\n",
    }


def test_the_command_for_each_event_is_given_no_secret(
    environment: None,
    mms_sandbox: Sandbox,
    callbacks: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    token = "a-token-of-the-command"  # noqa: S105
    monkeypatch.setenv("MMSCLIENT_CALLBACK_TOKEN", token)
    (tmp_path / "script.py").write_text(
        f"import json, os; json.dump(dict(os.environ), open({str(tmp_path / 'environment')!r}, 'w'))"
    )
    with started("listen", "--json", "--port", "0", "--exec", f"{sys.executable} {tmp_path}/script.py") as process:
        assert process.stdout
        callbacks(json.loads(process.stdout.readline())["url"].replace("<token>", token))
        process.stdout.readline()
        given = json.loads((tmp_path / "environment").read_text())
        process.send_signal(signal.SIGTERM)
        assert ended(process).status == 0
    assert given["MMSCLIENT_BASE_URL"] == mms_sandbox.url
    assert not {token, mms_sandbox.app_key} & set(given.values())


def test_a_command_that_fails_has_the_event_posted_again(
    mms_sandbox: Sandbox, callbacks: Callable[[str], None], tmp_path: Path
) -> None:
    fail_once = (
        f"import os, sys; os.path.exists({str(tmp_path / 'x')!r}) or (open({str(tmp_path / 'x')!r}, 'w'), sys.exit(3))"
    )
    (tmp_path / "script.py").write_text(fail_once)
    with started("listen", "--json", "--port", "0", "--exec", f"{sys.executable} {tmp_path}/script.py") as process:
        assert process.stdout
        callbacks(json.loads(process.stdout.readline())["url"])
        events = {json.loads(process.stdout.readline())["event"] for _ in range(2)}
        process.send_signal(signal.SIGTERM)
        outcome = ended(process)
    assert events == {"delivery_report", "inbound_message"}
    assert outcome.status == 0
    assert "could not be handled (--exec: the command ended with status 3)" in outcome.error


# demo -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demos() -> Iterator[tuple[Outcome, Outcome, Outcome]]:
    """The demo in a pipe, for scripts and on a terminal of 60 columns, all at once to save time."""
    ours, theirs = pty.openpty()
    with (
        open(ours, "rb", buffering=0) as screen,
        started("demo") as plain,
        started("demo", "--json") as for_scripts,
    ):
        environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "24"}
        with subprocess.Popen(  # noqa: S603 -- our own command
            [*COMMAND, "demo"], stdout=theirs, stderr=theirs, env=environment
        ) as live:
            os.close(theirs)
            shown = b"".join(iter(lambda: _read(screen), b""))
        yield ended(plain), ended(for_scripts), Outcome(live.returncode, shown.decode(), "")


def _read(screen: Any) -> bytes:
    try:
        return bytes(screen.read(65536))
    except OSError:  # how Linux tells that the other side has closed
        return b""


def test_demo_in_a_pipe(demos: tuple[Outcome, Outcome, Outcome]) -> None:
    demo = demos[0]
    assert (demo.status, demo.err) == (0, "")
    for call in ("send(to=", "account()", "message(", "take_replies()", "opt_outs()"):
        assert f"mms.{call}" in demo.out
    assert "async for event in receiver.events()" in demo.out
    assert "sent.refused: +61400059901" in demo.out
    assert "throttled on purpose, as the ending 9905 in call 17 asks: the client waits and repeats it" in demo.out
    assert "log:" not in demo.out
    assert "  Throttled       1, on purpose, and sent again\n" in demo.out
    assert "RecipientsError" in demo.out
    assert "answers 'Yes please'" in demo.out
    assert "answers 'STOP', an opt-out" in demo.out
    assert "Delivered 34, Expired 1, Failed 1; 3 answered" in demo.out
    assert "  Recipients      39: 36 accepted, 3 refused\n" in demo.out
    assert "  Delivery        Delivered 34, Expired 1, Failed 1\n" in demo.out


def test_demo_for_scripts(demos: tuple[Outcome, Outcome, Outcome]) -> None:
    (facts,) = demos[1].documents
    assert demos[1].status == 0
    assert facts["seconds"] > 0
    assert facts["calls"]["send-mms"] == 21
    assert facts["busiest_second"] <= facts["cap"] == 15
    assert facts["statuses"] == {"Delivered": 34, "Failed": 1, "Expired": 1}
    expected = {"throttled": 1, "recipients": 39, "accepted": 36, "refused": 3, "credits_used": "36"}
    assert facts.items() >= (expected | {"answered": 3, "replies": 3, "opt_outs": 3}).items()


def test_demo_on_a_terminal(demos: tuple[Outcome, Outcome, Outcome]) -> None:
    status, shown, _ = demos[2]
    assert status == 0
    seen = visible(shown)
    assert "…" not in seen
    assert re.search(r"Server +│ █+░* \d+ of 15 calls in a second", seen)
    steps, end = seen.rsplit("┌", 1)
    assert "  await mms.send(to=[...], text=..., image=..., subject=...)\r\n" in steps
    assert re.search(r"throttled on purpose, as the ending 9905 in call +\r\n {11}17 asks: the client", steps)
    for row in (
        r"Sent +│ 36 accepted, 3 refused, 36 credits",
        r"Delivered +│ 34",
        r"Failed +│ 2: Expired 1, Failed 1",
        r"Answered +│ 3",
    ):
        assert re.search(row, end)
    assert "Recipients      39: 36 accepted, 3 refused" in end
    assert "\x1b[1A" not in shown[shown.rindex("┌") :]  # the last table is not taken away


def test_the_picture_is_a_png() -> None:
    picture = sunset()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    rest, kinds, pixels = picture[8:], [], b""
    while rest:
        length = int.from_bytes(rest[:4], "big")
        kind, data, check, rest = rest[4:8], rest[8 : 8 + length], rest[8 + length : 12 + length], rest[12 + length :]
        assert zlib.crc32(kind + data) == int.from_bytes(check, "big")
        kinds.append(kind)
        pixels += zlib.decompress(data) if kind == b"IDAT" else b""
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    assert len(pixels) == 450 * (1 + 3 * 300)


def test_busiest_second() -> None:
    assert busiest_second([]) == 0
    assert busiest_second([0.0, 0.5, 1.0, 1.4, 1.49, 3.0]) == 4


@pytest.mark.parametrize(
    "said", ["2026-11-29 24:00:01 UTC", "2026-12-31 23:59:60 UTC", "2026-13-45 99:99:99 UTC", "0000-01-01 00:00:00 UTC"]
)
def test_a_warning_with_a_time_that_does_not_exist_hides_no_send(
    cli: Cli, mms_sandbox: Sandbox, picture: str, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(Sent, "low_sms_alert", property(lambda self: f"low at {said}"))
    sent = cli("send", "--to", NUMBER, "--text", "Hi", "--image", picture)
    assert (sent.status, sent.out.splitlines()[0]) == (0, "1 of 1 recipient accepted, 1 credit used")
    assert sent.error.endswith(f"the API warns: low at {said}")
    assert mms_sandbox.carried_out(NUMBER) == 1


def test_a_warning_that_cannot_be_told_in_whole_is_told_as_it_was_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("mmsclient")
    monkeypatch.setattr(log, "propagate", False)  # to the handler of pytest
    with warnings_shown():
        log.warning("%d left", "none")
    stdio.STDERR.submit(lambda: None).result()
    assert capsys.readouterr().err == "mmsclient: warning: %d left\n"
