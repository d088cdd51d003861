"""`mmsclient sms`: what it sends, prints and answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mmsclient.sandbox import Sandbox, faults
from tests.support.command import Cli

NUMBER, REFUSED = "+61400000000", "+61400009901"


@pytest.fixture
def service(mms_sandbox: Sandbox) -> Sandbox:
    return mms_sandbox


def test_a_text_is_sent_and_each_number_told(cli: Cli, mms_sandbox: Sandbox) -> None:
    options = ("--sender", "SHOP", "--custom-string", "order-17", "--source", "shop")
    sent = cli("sms", "send", "--to", NUMBER, REFUSED, "--text", "Hi", *options)
    (message,) = mms_sandbox.sms.messages
    assert sent.status == 3
    assert sent.out.splitlines() == [
        "1 of 2 recipients accepted, 1.33 credits used",
        f"accepted\t{NUMBER}\t{message.id}",
        f"refused\t{REFUSED}",
    ]
    assert (message.send.sender, message.send.custom_string, message.send.source) == ("SHOP", "order-17", "shop")
    (document,) = cli("sms", "send", "--to", NUMBER, "--text", "Hi", "--delay", "5", "--json").documents
    assert (document["accepted"], document["messages"][0]["sender"]) == (1, "61480000000")
    at = (datetime.now(UTC) + timedelta(hours=2)).isoformat(timespec="seconds")
    assert cli("sms", "send", "--to", NUMBER, "--text", "Hi", "--schedule-at", at).status == 0
    assert len(mms_sandbox.sms.scheduled) == 2
    assert cli("status", message.id).status == 0


def test_the_same_key_is_sent_once_and_printed_twice(cli: Cli, mms_sandbox: Sandbox, tmp_path: Path) -> None:
    keyed = ("sms", "send", "--to", NUMBER, "--text", "Hi", "--key", "order-17", "--ledger", str(tmp_path / "sends.db"))
    first, again = cli(*keyed), cli(*keyed)
    assert (first.status, again.status) == (0, 0)
    assert "sent before, and not again" in again.out
    assert cli(*keyed, "--sender", "SHOP").status == 2
    assert cli("sms", "send", "--to", NUMBER, "--text", "Hi", "--key", "order-17").status == 2
    assert mms_sandbox.carried_out(NUMBER) == 1


def test_what_goes_wrong_has_its_exit_status(cli: Cli, mms_sandbox: Sandbox) -> None:
    sms = ("sms", "send", "--to", NUMBER, "--text")
    assert cli(*sms, "x" * 919).status == 2
    assert "needs an offset" in cli(*sms, "Hi", "--schedule-at", "2099-01-01T09:00").err
    assert cli(*sms, "Hi", "--delay", "0").status == 2
    assert mms_sandbox.arrivals == []
    assert cli("sms", "send", "--to", REFUSED, "--text", "Hi").status == 1
    mms_sandbox.faults.add(faults.server_error(), call="send-sms")
    unsure = cli(*sms, "Hi")
    assert (unsure.status, "may have been carried out" in unsure.err) == (4, True)


def test_a_text_is_counted(cli: Cli, mms_sandbox: Sandbox) -> None:
    assert cli("sms", "parts", "x" * 161, "--sender", "SHOP").out.splitlines() == [
        "Alphabet: GSM",
        "Length: 161",
        "Parts: 2, room for 145 more",
        "Credits: 2.67 for each recipient",
    ]
    assert "Unicode, because of 'ж' '…'" in cli("sms", "parts", "ж…ж").out
    (document,) = cli("sms", "parts", "Hi", "--json").documents
    assert document == {
        "alphabet": "GSM",
        "length": 2,
        "count": 1,
        "left": 158,
        "credits": "1",
        "unicode_because": [],
    }
    too_long = cli("sms", "parts", "x" * 919)
    assert (too_long.status, "7: too many" in too_long.out) == (1, True)
    wrong = cli("sms", "parts", "Hi", "--sender", "")
    assert (wrong.status, "sender: expected a number" in wrong.err) == (2, True)
    assert mms_sandbox.arrivals == []
