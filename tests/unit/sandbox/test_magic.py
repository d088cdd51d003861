"""Every set ending of a number does what its table says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mmsclient.sandbox import Ending, Sandbox
from tests.conftest import Clock

ORDINARY = "+61400000000"


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    with Sandbox(clock=clock) as sandbox:
        yield sandbox
    assert sandbox.errors == []


def number(ending: str) -> str:
    return f"+6140000{ending}"


def send(sandbox: Sandbox, *numbers: str) -> tuple[int, Any]:
    response = httpx.post(
        f"{sandbox.url}/send-mms",
        headers={"APPKEY": sandbox.app_key},
        data={"numbers": json.dumps(numbers), "mms_text": "Hello"},
        files={"mms_file": ("image.gif", b"GIF89a")},
    )
    return response.status_code, response.json()


def test_every_ending_is_explained_and_tested() -> None:
    assert {ending.value for ending in Ending} == {
        *("9901", "9902", "9903", "9904", "9905"),
        *("9911", "9912", "9913", "9914", "9915", "9916"),
        *("9921", "9922"),
    }
    assert all(ending.description for ending in Ending)


@pytest.mark.parametrize("ending", ["9901", "9902"])
def test_refused_beside_others_and_alone(sandbox: Sandbox, ending: str) -> None:
    status, body = send(sandbox, ORDINARY, number(ending))
    assert (status, body["data"]["total_numbers"], body["data"]["success_number"]) == (200, 2, "1")
    assert [message["to"] for message in body["data"]["messages"]] == [ORDINARY]
    assert body["data"]["credits_used"] == "1"
    status, body = send(sandbox, number(ending))
    assert (status, body["meta"]["status"]) == (400, "RECIPIENTS_ERROR")
    assert sandbox.carried_out(number(ending)) == 0
    assert [opt_out.number for opt_out in sandbox.opt_outs] == ([number("9902")] if ending == "9902" else [])


def test_out_of_credit(sandbox: Sandbox) -> None:
    status, body = send(sandbox, ORDINARY, number("9903"))
    assert (status, body["meta"]["status"]) == (400, "FIELD_INVALID")
    assert "credit" in body["msg"]
    assert sandbox.carried_out(ORDINARY) == 0


def test_throttled_always_and_never_counted(sandbox: Sandbox) -> None:
    sandbox.settings.rate = 1
    for _ in range(3):
        status, body = send(sandbox, ORDINARY, number("9904"))
        assert (status, body["meta"]["status"]) == (429, "OVER_LIMIT")
    assert (sandbox.throttled["send-mms"], sandbox.carried_out(ORDINARY)) == (3, 0)
    assert send(sandbox, ORDINARY)[0] == 200


def test_throttled_the_first_time_each_number(sandbox: Sandbox) -> None:
    assert [send(sandbox, ORDINARY, number("9905"))[0] for _ in range(3)] == [429, 200, 200]
    assert send(sandbox, "+61411119905")[0] == 429
    assert sandbox.carried_out(number("9905")) == 2


@pytest.mark.parametrize(
    ("ending", "final"),
    [
        ("9911", "Failed"),
        ("9912", "Rejected"),
        ("9913", "Expired"),
        ("9914", "Aborted"),
        ("9915", "Unknown"),
        ("9916", "Dispatched"),
        ("9921", "Delivered"),
        ("0000", "Delivered"),
    ],
)
def test_final_status(sandbox: Sandbox, clock: Clock, ending: str, final: str) -> None:
    assert send(sandbox, number(ending))[0] == 200
    seen = []
    for _ in range(3):
        seen.append(sandbox.status(sandbox.messages[0].id))
        clock.now += 0.15
    assert seen == ["Queued", "Dispatched", final]


def test_replies(sandbox: Sandbox, clock: Clock) -> None:
    send(sandbox, number("9921"), ORDINARY)
    clock.now += 0.29
    assert sandbox.unread == []
    clock.now += 0.01
    [reply] = sandbox.unread
    assert (reply.sender, reply.text, reply.original_text) == (number("9921"), "Yes please", "Hello")
    assert reply.original_id == sandbox.messages[0].id
    assert sandbox.opt_outs == []


def test_replies_stop(sandbox: Sandbox, clock: Clock) -> None:
    send(sandbox, number("9922"))
    assert sandbox.opt_outs == []
    clock.now += 0.3
    assert [opt_out.number for opt_out in sandbox.opt_outs] == [number("9922")]
    assert [reply.text for reply in sandbox.unread] == ["STOP"]
    assert send(sandbox, number("9922"))[1]["meta"]["status"] == "RECIPIENTS_ERROR"


def test_without_magic_every_number_is_ordinary(sandbox: Sandbox, clock: Clock) -> None:
    sandbox.settings.magic = False
    assert send(sandbox, *map(number, Ending))[0] == 200
    clock.now += 1
    assert {sandbox.status(message.id) for message in sandbox.messages} == {"Delivered"}
    assert (len(sandbox.messages), sandbox.unread) == (len(Ending), [])
