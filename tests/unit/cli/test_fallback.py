"""`mmsclient bulk fallback`, and `resume` with it: how they end where somebody has no SMS yet."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mmsclient import DeliveryStatus
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject, Reset
from tests.support.campaigns import report_failed
from tests.support.command import Cli, started
from tests.support.waiting import until

SEND = ("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", "--journal", "spring.db")
FALLBACK = ("bulk", "fallback", "spring.db")
RESUME = ("bulk", "resume", "spring.db", "--fallback", "sms")

needs_signals = pytest.mark.skipif(os.name == "nt", reason="no such signals there")


@pytest.fixture
def folder(folder: Path) -> Path:
    """With a list of two numbers."""
    (folder / "list.csv").write_text("mobile\n0400000000\n0400000001", encoding="utf-8")
    return folder


def activity(cli: Cli) -> str:
    return str(cli("bulk", "status", "spring.db", "--json").documents[0]["activity"])


@needs_signals
@pytest.mark.parametrize("command", [FALLBACK, RESUME], ids=["fallback", "resume"])
def test_a_signal_while_it_is_paused_tells_of_the_sms_that_are_due(
    cli: Cli, api: Sandbox, command: tuple[str, ...]
) -> None:
    assert cli(*SEND).status == 0
    report_failed(api)
    assert cli("bulk", "pause", "spring.db").status == 0
    assert activity(cli) == "idle"
    with started(*command) as process:
        assert process.stderr is not None
        assert ": paused since " in process.stderr.readline()
        until(lambda: activity(cli) == "paused")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, api.sms.sends) == (143, [])
    assert f"to go on: mmsclient {' '.join(command)}\n" in err
    assert cli("bulk", "continue", "spring.db").status == 0
    assert cli(*command).status == 0
    assert len(api.sms.messages) == 2


@needs_signals
@pytest.mark.parametrize(("reported", "status"), [("Failed", 143), ("Delivered", 0)])
def test_a_signal_after_the_last_report(cli: Cli, api: Sandbox, reported: str, status: int) -> None:
    """The run, which would have sent, has not looked since."""
    with started(*SEND, "--fallback", "sms") as process:
        until(lambda: "Accepted: 2\n" in cli("bulk", "report", "spring.db").out)
        assert cli("bulk", "pause", "spring.db").status == 0
        report_failed(api, DeliveryStatus(reported))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, api.sms.sends) == (status, [])
    assert ("to go on: " in err) == (status != 0)


@needs_signals
def test_a_reader_of_the_output_that_leaves_while_an_sms_is_due(cli: Cli, api: Sandbox) -> None:
    with started(*SEND, "--fallback", "sms", "--json") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 5
    assert len(api.messages) == 2
    report_failed(api)
    assert cli(*RESUME).status == 0


@pytest.mark.parametrize(
    ("reported", "command", "status"),
    [("Failed", RESUME, 5), ("Failed", FALLBACK, 1), ("Delivered", RESUME, 0), ("Delivered", FALLBACK, 0)],
)
def test_a_failure_before_the_first_sms_counts_where_one_is_due(
    cli: Cli, api: Sandbox, reported: str, command: tuple[str, ...], status: int
) -> None:
    """`fallback` speaks of the SMS, of which none was sent."""
    assert cli(*SEND).status == 0
    report_failed(api, DeliveryStatus(reported))
    api.faults.add(Reject("FIELD_INVALID", "no"), call="get-optout")
    hindered = cli(*command, "--exclude-opt-outs")
    assert (hindered.status, "to go on: " in hindered.err) == (status, status == 5)


def test_the_status_of_a_fallback_is_that_of_the_sms(cli: Cli, api: Sandbox) -> None:
    """Whatever is left of the MMS: one is unknown, and one pending."""
    api.faults.add(Reset(carried_out=False), call="send-mms", times=1)
    assert cli(*SEND, "--batch-size", "1", "--max-credits", "1").status == 4
    nothing = cli(*FALLBACK)
    assert (nothing.status, nothing.err) == (0, "")
    assert nothing.out.startswith("No SMS is left to send.\n")
    assert {"Unknown: 1", "Pending: 1"} <= set(nothing.out.splitlines())
    resumed = cli(*RESUME, "--fallback-wait", "0")
    assert (resumed.status, len(api.messages)) == (4, 1)
    report_failed(api)
    assert cli(*FALLBACK).status == 0
    assert len(api.sms.messages) == 1
