"""The sandbox's calls of SMS over a real socket, asked by plain httpx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from mmsclient import ConfigurationError
from mmsclient.sandbox import ManualClock, Sandbox
from mmsclient.sandbox.records import wire_time

ONE, TWO = "+61400000000", "+61400000001"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sandbox(clock: ManualClock) -> Iterator[Sandbox]:
    with Sandbox(clock=clock, rate=None) as sandbox:
        yield sandbox
    assert sandbox.errors == []


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.url, headers={"APPKEY": sandbox.app_key}) as http:
        yield http


def code(answer: Any) -> str:
    return str(answer["meta"]["status"] if "meta" in answer else answer["error"]["code"])


def send(http: httpx.Client, numbers: Any = (ONE, TWO), call: str = "send-sms", **fields: Any) -> Any:
    body = json.dumps({"sms_text": "Hello", "numbers": numbers, **fields})
    return http.post(f"/{call}", content=body, headers={"content-type": "application/json"}).json()


def test_send_sms_answers_as_live(sandbox: Sandbox, http: httpx.Client) -> None:
    answer = send(http, [ONE, 61400000001], custom_string="order-17", source="shop", **{"from": "SHOP"})
    assert (answer["meta"], answer["msg"]) == ({"code": 200, "status": "SUCCESS"}, "Queued")
    data = answer["data"]
    assert (data["total_numbers"], data["success_number"], data["credits_used"]) == (2, 2, 2.66)  # numbers, not texts
    assert [set(each) for each in data["messages"]] == 2 * [
        {"message_id", "from", "to", "body", "date", "custom_string", "direction"}
    ]
    first = data["messages"][0]
    assert first["message_id"].isdigit()
    assert (first["from"], first["to"], first["body"]) == ("SHOP", ONE, "Hello")
    assert (first["custom_string"], first["direction"]) == ("order-17", "out")
    (kept,) = sandbox.sms.sends
    assert (kept.kind, kept.sender, kept.custom_string, kept.source) == ("sms", "SHOP", "order-17", "shop")
    assert (len(sandbox.mms.messages), sandbox.sms.carried_out("0400000001"), sandbox.carried_out(ONE)) == (0, 1, 1)
    assert sandbox.sms.credits_used == Decimal("2.66")
    account = http.get("/account").json()["data"]
    assert (account["sms_balance"], account["mms_balance"]) == ("999997.34", "1000000.00")


@pytest.mark.parametrize(
    ("fields", "expected", "field"),
    [
        ({"numbers": []}, "FIELD_EMPTY", "numbers"),
        ({"numbers": "61400000000"}, "FIELD_INVALID", "numbers"),
        ({"numbers": [None]}, "FIELD_INVALID", "numbers"),
        ({"numbers": [ONE] * 1001}, "FIELD_INVALID", "numbers"),
        ({"sms_text": ""}, "FIELD_EMPTY", "sms_text"),
        ({"sms_text": 7}, "FIELD_INVALID", "sms_text"),
        ({"sms_text": "x" * 919}, "FIELD_INVALID", "sms_text"),
        ({"sms_text": "ж" * 403}, "FIELD_INVALID", "sms_text"),
        ({"from": "1" * 17}, "FIELD_INVALID", "from"),
        ({"from": "twelve chars"}, "FIELD_INVALID", "from"),
        ({"custom_string": "order 17"}, "FIELD_INVALID", "custom_string"),
        ({"schedule_time": "tomorrow"}, "FIELD_INVALID", "schedule_time"),
        ({"schedule_time": 20261201}, "FIELD_INVALID", "schedule_time"),
        ({"schedule_time": ["2099-01-01 00:00:00"]}, "FIELD_INVALID", "schedule_time"),
        ({"schedule_time": 0}, "FIELD_INVALID", "schedule_time"),
        ({"sms_text": "a\ud800"}, "FIELD_INVALID", "sms_text"),
        ({"source": "\ud800"}, "FIELD_INVALID", "source"),
        ({"numbers": ["\ud800"]}, "FIELD_INVALID", "numbers"),
        ({"delay": 0}, "FIELD_INVALID", "delay"),
        ({"delay": "1441"}, "FIELD_INVALID", "delay"),
        ({"delay": 1, "schedule_time": "2099-01-01 00:00:00"}, "FIELD_INVALID", "delay"),
        ({"numbers": ["nonsense", "+612345"]}, "RECIPIENTS_ERROR", "recipient"),
    ],
)
def test_a_wrong_field_is_named(
    sandbox: Sandbox, http: httpx.Client, fields: dict[str, Any], expected: str, field: str
) -> None:
    answer = send(http, **{"numbers": [ONE], **fields})
    assert code(answer) == expected
    assert field in answer["msg"]
    assert sandbox.sms.sends == []


def test_what_may_not_be_sent_to_and_what_is_not_paid_for(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.add_opt_out(TWO)
    data = send(http, [ONE, TWO, "+61400009901"])["data"]
    assert (data["total_numbers"], data["success_number"], len(data["messages"])) == (3, 1, 1)
    sandbox.sms.balance = Decimal("1.5")
    refused = send(http, [ONE], sms_text="x" * 161)
    assert (code(refused), "credit" in refused["msg"]) == ("FIELD_INVALID", True)
    sandbox.settings.low_balance = Decimal(2)
    low = "Your account credits are low, you have 0.50 credits remaining, please top-up via the platform"
    assert send(http, [ONE])["low_sms_alert"] == low


@pytest.mark.parametrize("dialect", ["meta", "error"])
def test_several_texts_are_answered_by_an_array(sandbox: Sandbox, http: httpx.Client, dialect: Any) -> None:
    sandbox.settings.dialect = dialect
    items: list[Any] = [
        {"sms_text": "one", "numbers": [ONE]},
        {"sms_text": "", "numbers": [ONE]},
        "text",
        {"sms_text": "two", "numbers": [ONE, TWO], "custom_string": "b"},
        {"sms_text": "no", "numbers": ["+61400009903"]},
    ]
    response = http.post("/bulk-send-sms", json=items)
    answers = response.json()
    assert response.status_code == 200
    expected = ["SUCCESS", "FIELD_EMPTY", "FIELD_INVALID", "SUCCESS", "FIELD_INVALID"]
    assert [code(answer) for answer in answers] == expected
    assert (answers[3].get("data") or answers[3])["success_number"] == 2
    assert [send.text for send in sandbox.sms.sends] == ["one", "two"]
    for wrong, expected_code in (({}, "FIELD_INVALID"), ([], "FIELD_EMPTY"), (None, "FIELD_INVALID")):
        assert code(http.post("/bulk-send-sms", json=wrong).json()) == expected_code
    assert sandbox.calls["bulk-send-sms"] == 4


def test_a_template_is_sent_and_an_unknown_one_is_not(sandbox: Sandbox, http: httpx.Client) -> None:
    template = sandbox.add_template("Sale", "Sale on now")
    people = [{"number": ONE, "fname": "Ann", "custom_value_1": "x"}, {"number": "61400000001"}]
    answer = send(http, people, "send-sms-template", template_id=template.id)
    assert [each["body"] for each in answer["data"]["messages"]] == ["Sale on now"] * 2
    for numbers, template_id, expected in (
        (people, "f" * 32, "NOT_FOUND"),
        (people, "", "FIELD_EMPTY"),
        ([], template.id, "FIELD_EMPTY"),
        ([ONE], template.id, "FIELD_INVALID"),
        ([{"fname": "Ann"}], template.id, "RECIPIENTS_ERROR"),
    ):
        assert code(send(http, numbers, "send-sms-template", template_id=template_id)) == expected


def test_new_zealand_needs_a_sender_of_four_digits(http: httpx.Client) -> None:
    answer = send(http, ["+6421234567"], "send-sms-nz", **{"from": "2424"})
    assert answer["data"]["messages"][0]["from"] == "2424"
    assert code(send(http, ["+6421234567"], "send-sms-nz")) == "FIELD_EMPTY"
    assert code(send(http, ["+6421234567"], "send-sms-nz", **{"from": "SHOP"})) == "FIELD_INVALID"


def test_senders_that_must_be_registered(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.settings.senders = "registered"
    assert code(send(http, **{"from": "SHOP"})) == "BAD_CALLER_ID"
    assert code(send(http, **{"from": "61400000000"})) == "SUCCESS"
    body = {"custom_id": "SHOP", "description": "ours"}
    assert [code(http.post("/register-alpha-id", json=body).json()) for _ in range(2)] == ["SUCCESS", "KEY_EXISTS"]
    assert code(send(http, **{"from": "SHOP"})) == "SUCCESS"
    assert sandbox.sender_ids == {"SHOP": "ours"}
    for wrong in ({"custom_id": "1234"}, {"custom_id": ""}, {"description": ""}, {"custom_id": "x" * 12}):
        assert code(http.post("/register-alpha-id", json={**body, **wrong}).json()).startswith("FIELD_")
    with pytest.raises(ConfigurationError, match="senders"):
        sandbox.settings.senders = "none"  # type: ignore[assignment]


def test_nothing_goes_out_before_its_time(sandbox: Sandbox, http: httpx.Client, clock: ManualClock) -> None:
    sandbox.settings.deliver_after, sandbox.settings.dispatch_after, sandbox.settings.reply_after = 2.0, 1.0, 3.0
    replying = "+61400009921"
    at = sandbox.now() + timedelta(hours=2)
    scheduled = send(http, [replying], schedule_time=wire_time(at))["data"]["messages"][0]
    delayed = send(http, [TWO], delay="30")["data"]["messages"][0]
    assert scheduled["date"] == wire_time(at)
    assert (len(sandbox.sms.scheduled), sandbox.sms.credits_used) == (2, Decimal(2))

    def statuses() -> list[str]:
        return [
            http.get("/get-sms", params={"message_id": each["message_id"]}).json()["data"][0]["status"]
            for each in (scheduled, delayed)
        ]

    assert (statuses(), sandbox.carried_out(replying), sandbox.carried_out(TWO)) == (["Queued", "Queued"], 0, 0)
    clock.advance(1800)
    assert (statuses(), sandbox.carried_out(replying), sandbox.carried_out(TWO)) == (["Queued", "Queued"], 0, 1)
    clock.advance(2)
    assert statuses() == ["Queued", "Delivered"]
    clock.advance(5398)
    assert (sandbox.carried_out(replying), sandbox.unread, sandbox.sms.scheduled) == (1, [], [])
    clock.advance(3)
    assert statuses() == ["Delivered", "Delivered"]
    (reply,) = sandbox.unread
    assert reply.received_at == at + timedelta(seconds=3)
    assert wire_time(sandbox.now()) == wire_time(at + timedelta(seconds=3))
    over = send(http, [TWO], schedule_time="2020-01-01 00:00:00")
    assert (code(over), sandbox.carried_out(TWO)) == ("SUCCESS", 2)


def test_replies_of_either_kind_are_listed_apart(sandbox: Sandbox, http: httpx.Client, clock: ManualClock) -> None:
    sandbox.add_reply(text="to an MMS")
    sandbox.add_reply(text="to nothing", kind="sms")
    sent = send(http, ["+61400009921"], custom_string="order-17")["data"]["messages"][0]
    clock.advance(1)
    mms = http.get("/get-responses", params={"type": "mms"}).json()["data"]["responses"]
    sms = http.get("/get-responses", params={"type": "sms"}).json()["data"]["responses"]
    assert ([each["body"] for each in mms], [each["body"] for each in sms]) == (
        ["to an MMS"],
        ["to nothing", "Yes please"],
    )
    assert "custom_string" not in mms[0]
    assert [(each["custom_string"], each["original_message_id"]) for each in sms] == [
        ("", ""),
        ("order-17", sent["message_id"]),
    ]
    assert all(each["message_id"].isdigit() for each in sms)
    found = http.get("/get-sms", params={"message_id": sent["message_id"]}).json()["data"][0]
    assert (found["to"], found["status"]) == ("+61400009921", "Delivered")
    assert code(http.get("/get-sms", params={"message_id": "6952176712"}).json()) == "NOT_FOUND"


def test_reset_forgets_the_sms(sandbox: Sandbox, http: httpx.Client) -> None:
    send(http, delay=5)
    sandbox.reset()
    assert (sandbox.sms.sends, len(sandbox.sms.messages), sandbox.sender_ids) == ([], 0, {})
    assert datetime.now(UTC) - sandbox.now() < timedelta(hours=1)
