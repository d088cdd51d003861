"""`mmsclient bulk send` with test numbers and a budget, as a script and a person run it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mmsclient import DeliveryStatus
from mmsclient._store.heard import Reported
from mmsclient._store.sqlite_recorder import SQLiteRecorder
from mmsclient.sandbox import Sandbox
from tests.support.command import COMMAND, Cli, started
from tests.support.terminal import on_a_terminal
from tests.support.waiting import until

SEND = ("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", "--journal", "spring.db")
TEST = ("--test", "0400009999")


@pytest.fixture
def folder(folder: Path) -> Path:
    """With a list of 250 numbers."""
    write_list(folder, 250)
    return folder


def write_list(folder: Path, count: int) -> None:
    (folder / "list.csv").write_text("\n".join(["mobile", *(f"04{n:08}" for n in range(count))]), encoding="utf-8")


def wait_line(shown: str) -> str:
    """The command to go on, as it was shown."""
    return next(line for line in shown.splitlines() if "to go on all the same: " in line).split("the same: ")[1]


def test_a_budget_stops_it_and_is_told_of(cli: Cli, api: Sandbox) -> None:
    stopped = cli(*SEND, "--yes", "--batch-size", "100", "--max-credits", "120")
    assert (stopped.status, len(api.messages)) == (5, 120)
    assert "max_credits: 120 of 120 credits are spent, or may be" in stopped.err
    assert (
        "to go on, with a higher limit: mmsclient bulk resume spring.db --batch-size 100 --max-credits CREDITS"
        in stopped.err
    )
    again = cli("bulk", "resume", "spring.db", "--yes", "--max-credits", "120")
    assert (again.status, len(api.messages)) == (5, 120)
    assert "Accepted: 120" in again.out.splitlines()
    assert cli("bulk", "resume", "spring.db", "--yes", "--max-credits", "250").status == 0
    assert len(api.messages) == 250


def test_a_script_waits_for_the_report_of_the_test_number(api: Sandbox, folder: Path) -> None:
    with started(*SEND, "--yes", *TEST) as process:
        until(lambda: api.messages)
        recorder = SQLiteRecorder.open(folder / "spring.db")
        recorder.record([Reported(api.messages[0].id, 61400009999, DeliveryStatus.DELIVERED)])
        recorder.close()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, len(api.messages)) == (0, 251)
    assert "Accepted: 251" in out
    assert err == "mmsclient: 1 test number goes first: waiting up to 600 s for its delivery report, then the others\n"


def test_a_script_that_hears_of_none_sends_to_nobody_else(cli: Cli, api: Sandbox) -> None:
    ended = cli(*SEND, "--yes", *TEST, "--test-timeout", "0")
    assert (ended.status, len(api.messages)) == (5, 1)
    assert "stopped before anybody else: test: no report says in time" in ended.err
    assert "9999" not in ended.err


@pytest.mark.skipif(os.name == "nt", reason="no such terminals there")
def test_what_was_typed_before_a_question_is_no_answer_to_it(api: Sandbox, folder: Path) -> None:
    with on_a_terminal(*SEND, *TEST) as (process, wait_for, terminal):
        os.write(terminal, b"y\ny\n")
        wait_for("[y/N] ")
        os.write(terminal, b"n\n")
        wait_for("nothing was sent")
        assert process.wait(timeout=60) == 1
    assert not api.messages


@pytest.mark.skipif(os.name == "nt", reason="no such terminals there")
@pytest.mark.parametrize(
    ("answer", "status", "said", "messages"),
    [("y\n", 0, "Accepted", 21), ("n\n", 5, "to go on all the same: mmsclient bulk resume", 1), ("\x04", 5, "", 1)],
)
def test_a_person_is_asked_after_the_test(
    api: Sandbox, folder: Path, *, answer: str, status: int, said: str, messages: int
) -> None:
    write_list(folder, 20)
    with on_a_terminal(*SEND, *TEST) as (process, wait_for, terminal):
        shown = wait_for("Send to the other 20 recipients? [y/N] ")
        assert len(api.messages) == 1
        report = subprocess.run(  # noqa: S603 - our own command
            [*COMMAND, "bulk", "report", "spring.db"], capture_output=True, check=True
        )
        assert b"Accepted: 1\n" in report.stdout  # nothing is held meanwhile
        os.write(terminal, answer.encode())
        after = wait_for(said)
        assert process.wait(timeout=60) == status
    assert "Sent 1 test message: look at the phone." in shown
    assert "Traceback" not in after
    assert len(api.messages) == messages
    if answer == "n\n":
        words = wait_line(after).split()[1:]
        again = subprocess.run([*COMMAND, *words], capture_output=True, check=True)  # noqa: S603
        assert (b"Accepted: 21\n" in again.stdout, len(api.messages)) == (True, 21)
