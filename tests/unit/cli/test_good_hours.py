"""`mmsclient bulk` with hours: what it takes, what it says while it waits, and that it can be stopped."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from mmsclient.sandbox import Sandbox
from tests.support.command import Cli, started

SEND = ("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", "--journal", "spring.db")
LATER = ("--start-at", "2099-01-03T21:00", "--window", "09:00-20:00", "--days", "mon-sat", "--zone", "Australia/Sydney")
OPENS_AT = "2099-01-05T09:00:00+11:00"  # the Monday after


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """With a list of 20 numbers."""
    (folder / "list.csv").write_text("\n".join(f"04{n:08}" for n in range(20)))
    return folder


def test_a_command_that_waits_says_until_when_and_is_stopped_by_a_signal(api: Sandbox) -> None:
    with started(*SEND, *LATER, "--per-minute", "600") as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert said == "mmsclient: waiting for its hours: it goes on at Mon 2099-01-05 09:00:00 +1100\n"
    assert process.returncode == 143
    assert "Pending: 20" in out
    go_on = "--window 09:00-20:00 --days mon-sat --zone Australia/Sydney --start-at 2099-01-03T21:00 --per-minute 600"
    assert err.splitlines()[-1] == f"mmsclient: to go on: mmsclient bulk resume spring.db {go_on}"
    assert not api.sends


def test_a_script_is_told_and_a_resumed_campaign_waits_alike(api: Sandbox, cli: Cli) -> None:
    assert cli(*SEND, *LATER, "--dry-run").status == 0  # it does not wait
    for command in (SEND, ("bulk", "resume", "spring.db")):
        with started(*command, *LATER, "--json") as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == {"event": "waiting", "until": OPENS_AT}
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert not api.sends


def test_within_its_hours_a_campaign_is_sent_at_its_pace(api: Sandbox, cli: Cli) -> None:
    hours = ("--window", "00:00-24:00", "--zone", "Australia/Sydney", "--start-at", "2026-01-01T09:00+11:00")
    sent = cli(*SEND, *hours, "--per-minute", "1200", "--json")
    assert (sent.status, sent.err) == (0, "")
    assert [len(send.recipients) for send in api.sends] == [20]
    assert [document["event"] for document in sent.documents] == ["batch", "report"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--window", "09:00-20:00"), "--window: needs --zone"),
        (("--window", "09:00", "--zone", "UTC"), "--window: expected hours such as 09:00-20:00, got '09:00'"),
        (("--window", "9-17", "--zone", "UTC"), "opens: expected a time such as"),
        (("--window", "09:00-20:00", "--zone", "Sydney"), "--zone: expected the IANA name of a time zone"),
        (("--window", "09:00-20:00", "--zone", "UTC", "--days", "weekdays"), "--days: expected days such as"),
        (("--days", "mon"), "--days: needs --window"),
        (("--start-at", "tomorrow"), "--start-at: expected such as"),
        (("--start-at", "2026-12-01T09:00"), "--start-at: needs --zone, or an offset"),
        (("--start-at", "2026-12-01"), "needs --zone, or an offset, such as 2026-12-01T00:00:00+11:00"),
        (("--start-at", "2026-12-01+11:00"), "--start-at: expected such as"),
        (("--start-at", "2026-12-01+11:00", "--zone", "UTC"), "--start-at: expected such as"),  # no 11 o'clock
        (("--start-at", "2026-12-01T09:00", "--zone", "nowhere"), "zone: expected the IANA name of a time zone"),
        (("--per-minute", "0"), "--per-minute: expected a whole number, 1 or more"),
    ],
)
def test_wrong_hours(cli: Cli, api: Sandbox, options: tuple[str, ...], problem: str) -> None:
    wrong = cli(*SEND, *options)
    assert wrong.status == 2
    assert problem in wrong.error
    assert not api.sends
    assert not Path("spring.db").exists()
