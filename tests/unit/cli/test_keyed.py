"""`mmsclient send --key`: what a script that is run again sees."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mmsclient.cli.status import Status
from mmsclient.sandbox import Sandbox, faults
from tests.support.command import Cli, Outcome, started
from tests.support.postgres_server import PASSWORD, Server
from tests.support.waiting import until

NUMBER, REFUSED = "+61400000000", "+61400009901"


@pytest.fixture
def service(mms_sandbox: Sandbox) -> Sandbox:
    return mms_sandbox


def send(cli: Cli, *options: str, to: str = NUMBER, text: str = "Hi", ledger: str = "sends.db") -> Outcome:
    place = ("--ledger", ledger) if ledger else ()
    return cli("send", "--to", to, "--text", text, "--image", "sale.png", "--key", "order-17", *place, *options)


def test_the_same_key_is_sent_once_and_printed_twice(cli: Cli, mms_sandbox: Sandbox) -> None:
    first, again = send(cli), send(cli)
    assert (first.status, again.status) == (0, 0)
    assert again.out == first.out.replace("used\n", "used; sent before, and not again\n", 1) != first.out
    documents = [send(cli, "--json").documents[0] for _ in range(2)]
    assert [each["repeated"] for each in documents] == [True, True]
    assert mms_sandbox.carried_out(NUMBER) == 1


def test_the_command_forgets_no_key_of_a_program_that_keeps_them_for_longer(cli: Cli, mms_sandbox: Sandbox) -> None:
    assert send(cli).status == 0
    with closing(sqlite3.connect("sends.db")) as ledger, ledger:
        ledger.execute("UPDATE send SET claimed = claimed - 4e6, ended = ended - 4e6")
    other = ("--text", "Hi", "--image", "sale.png", "--key", "order-18", "--ledger", "sends.db")
    assert cli("send", "--to", NUMBER, *other).status == 0
    assert "sent before, and not again" in send(cli).out
    assert mms_sandbox.carried_out(NUMBER) == 2


def test_the_ledger_may_be_a_database(cli: Cli, mms_sandbox: Sandbox, postgres: Server) -> None:
    url = postgres.new_database()
    first, again = send(cli, ledger=url), send(cli, ledger=url)
    assert (first.status, again.status) == (0, 0)
    assert "sent before, and not again" in again.out
    assert mms_sandbox.carried_out(NUMBER) == 1
    nowhere = send(cli, ledger=f"postgresql://me:{PASSWORD}@127.0.0.1:1/shop")
    assert nowhere.status == Status.FAILED
    assert "ledger 127.0.0.1/shop: " in nowhere.error
    assert nowhere.error.endswith("nothing was sent")
    assert PASSWORD not in nowhere.error
    assert mms_sandbox.carried_out(NUMBER) == 1


def test_the_ledger_may_come_from_the_environment(
    cli: Cli, mms_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MMSCLIENT_LEDGER", str(tmp_path / "other.db"))
    for _ in range(2):
        assert send(cli, ledger="").status == 0
    assert mms_sandbox.carried_out(NUMBER) == 1
    assert (tmp_path / "other.db").exists()
    assert cli("send", "--to", NUMBER, "--text", "Hi", "--image", "sale.png").status == 0  # without a key, as ever
    assert mms_sandbox.carried_out(NUMBER) == 2


def test_a_key_and_a_ledger_go_together(cli: Cli, mms_sandbox: Sandbox) -> None:
    without = send(cli, ledger="")
    assert without.status == Status.WRONG_USAGE
    assert "--ledger FILE|URL, or MMSCLIENT_LEDGER" in without.error
    alone = cli("send", "--to", NUMBER, "--text", "Hi", "--image", "sale.png", "--ledger", "sends.db")
    assert alone.status == Status.WRONG_USAGE
    assert "--key" in alone.error
    for command in (("send", "--image", "sale.png"), ("sms", "send")):
        again = cli(*command, "--to", NUMBER, "--text", "Hi", "--retry-refused")
        assert again.status == Status.WRONG_USAGE
        assert again.error == "--retry-refused: needs --key KEY, which names what was refused; nothing was sent"
    assert not mms_sandbox.calls["send-sms"]
    assert not mms_sandbox.calls["send-mms"]


def test_a_ledger_that_was_begun_with_a_mistyped_key_is_taken_over_where_that_is_asked_for(
    cli: Cli, mms_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as mistyped:
        mistyped.setenv("MMSCLIENT_APP_KEY", "mistyped")
        assert send(cli).status == Status.FAILED
    other = send(cli)
    assert other.status == Status.WRONG_USAGE
    assert "(--new-key)" in other.error
    alone = cli("send", "--to", NUMBER, "--text", "Hi", "--image", "sale.png", "--new-key")
    assert (alone.status, alone.error) == (
        Status.WRONG_USAGE,
        "--new-key: it is for sends with --key; nothing was sent",
    )
    assert not mms_sandbox.sends
    assert send(cli, "--new-key").status == 0
    assert send(cli).status == 0
    assert mms_sandbox.carried_out(NUMBER) == 1


def test_another_message_with_the_key_is_wrong_usage(cli: Cli, mms_sandbox: Sandbox) -> None:
    send(cli)
    other = send(cli, text="Another")
    assert other.status == Status.WRONG_USAGE
    assert other.error == "key 'order-17': it was used for another text; nothing was sent"
    assert mms_sandbox.calls["send-mms"] == 1


def test_what_is_unknown_is_told_again_with_the_same_status(cli: Cli, mms_sandbox: Sandbox) -> None:
    mms_sandbox.faults.add(faults.Reset(carried_out=True), call="send-mms")
    first, again = send(cli), send(cli)
    assert (first.status, again.status) == (Status.OUTCOME_UNKNOWN, Status.OUTCOME_UNKNOWN)
    assert "key 'order-17', sent at 20" in again.error
    assert mms_sandbox.carried_out(NUMBER) == 1


def test_what_was_refused_is_sent_again_where_it_is_asked_for(cli: Cli, mms_sandbox: Sandbox) -> None:
    for options, calls in (((), 1), ((), 1), (("--retry-refused",), 2)):
        assert send(cli, *options, to=REFUSED).status == Status.FAILED
        assert mms_sandbox.calls["send-mms"] == calls


def test_on_its_way_elsewhere(cli: Cli, mms_sandbox: Sandbox) -> None:
    mms_sandbox.faults.add(faults.Latency(60, carried_out=True), call="send-mms")
    arguments = ["--to", NUMBER, "--text", "Hi", "--image", "sale.png", "--key", "order-17", "--ledger", "sends.db"]
    with started("send", *arguments) as process:
        until(lambda: mms_sandbox.sends)
        waited = send(cli, "--timeout", "0.2")
        assert waited.status == Status.OUTCOME_UNKNOWN
        assert "has been under way since 20" in waited.error
        process.send_signal(signal.SIGKILL)
    assert send(cli).status == Status.OUTCOME_UNKNOWN
    assert mms_sandbox.carried_out(NUMBER) == 1
