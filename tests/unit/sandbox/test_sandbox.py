"""The sandbox's API over a real socket, asked by plain httpx."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_type_hints

import httpx
import pytest

from mmsclient import ConfigurationError
from mmsclient.sandbox import Sandbox, Settings
from mmsclient.sandbox.faults import throttle
from mmsclient.sandbox.settings import SettingsOptions
from tests.conftest import Clock

GIF = b"GIF89a" + bytes(20)
NUMBERS = ["+61400000000", "+61400000001"]


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    with Sandbox(clock=clock, rate=None) as sandbox:
        yield sandbox
    assert sandbox.errors == []


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.url, headers={"APPKEY": sandbox.app_key}) as http:
        yield http


def send(
    http: httpx.Client,
    numbers: Any = NUMBERS,
    text: str | None = "Hello",
    image: bytes | None = GIF,
    subject: str | None = "Hi",
) -> httpx.Response:
    fields = {"numbers": numbers if isinstance(numbers, str) else json.dumps(numbers)}
    if text is not None:
        fields["mms_text"] = text
    if subject is not None:
        fields["subject"] = subject
    files = {"mms_file": ("image", b"" if image is None else image, "application/octet-stream")}
    return http.post("/send-mms", data=fields, files=files)


def code(response: httpx.Response) -> str:
    """The code of an answer in either envelope; its HTTP status is the one of the envelope."""
    body = response.json()
    if "meta" in body:
        assert body["meta"]["code"] == response.status_code
        return str(body["meta"]["status"])
    return str(body["error"]["code"])


# send-mms -------------------------------------------------------------------------------------------------------------


def test_send_answers_as_documented_and_is_recorded(sandbox: Sandbox, http: httpx.Client) -> None:
    response = send(http)
    body = response.json()
    assert (response.status_code, body["meta"], body["msg"]) == (200, {"code": 200, "status": "SUCCESS"}, "Queued")
    data = body["data"]
    assert (data["total_numbers"], data["success_number"], data["credits_used"]) == (2, "2", "2")
    first = data["messages"][0]
    assert (first["to"], first["subject"], first["body"], first["direction"]) == (NUMBERS[0], "Hi", "Hello", "out")
    datetime.strptime(first["date"], "%Y-%m-%d %H:%M:%S")

    [sent] = sandbox.sends
    assert (sent.number, sent.text, sent.subject, sent.image_size) == (1, "Hello", "Hi", len(GIF))
    assert [message.id for message in sandbox.messages] == [item["message_id"] for item in data["messages"]]
    assert [message.to for message in sandbox.messages] == NUMBERS
    assert {message.send for message in sandbox.messages} == {sent}
    assert sandbox.credits_used == 2
    assert sandbox.balance == Settings().mms_balance - 2


def test_the_error_dialect_puts_the_fields_beside_the_code(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.settings.dialect = "error"
    body = send(http).json()
    assert body["error"] == {"code": "SUCCESS", "description": "OK"}
    assert body["success_number"] == "2"
    assert not {"meta", "msg", "data"} & body.keys()
    item = http.get("/get-sms", params={"message_id": sandbox.messages[0].id}).json()
    assert item["data"][0]["to"] == NUMBERS[0]


@pytest.mark.parametrize("dialect", ["meta", "error"])
@pytest.mark.parametrize(
    ("wrong", "expected", "field"),
    [
        ({"numbers": ""}, "FIELD_EMPTY", "numbers"),
        ({"numbers": []}, "FIELD_EMPTY", "numbers"),
        ({"numbers": "+61400000000"}, "FIELD_INVALID", "numbers"),
        ({"numbers": [61400000000]}, "FIELD_INVALID", "numbers"),
        ({"numbers": "{}"}, "FIELD_INVALID", "numbers"),
        ({"numbers": ["+61400000000"] * 1001}, "FIELD_INVALID", "numbers"),
        ({"text": None}, "FIELD_EMPTY", "mms_text"),
        ({"text": "x" * 1001}, "FIELD_INVALID", "mms_text"),
        ({"image": None}, "FIELD_EMPTY", "mms_file"),
        ({"image": b"<svg/>"}, "FIELD_INVALID", "mms_file"),
        ({"image": GIF.ljust(380_000)}, "FIELD_INVALID", "mms_file"),
        ({"image": GIF.ljust(3_000_000)}, "FIELD_INVALID", "mms_file"),
        ({"subject": "x" * 41}, "FIELD_INVALID", "subject"),
        ({"numbers": ["nonsense", "+6140000", "+612345"]}, "RECIPIENTS_ERROR", "recipient"),
    ],
)
def test_a_wrong_field_is_named(
    sandbox: Sandbox, http: httpx.Client, *, dialect: Any, wrong: dict[str, Any], expected: str, field: str
) -> None:
    sandbox.settings.dialect = dialect
    response = send(http, **wrong)
    body = response.json()
    assert (response.status_code, code(response)) == (400, expected)
    assert field in (body["msg"] if dialect == "meta" else body["error"]["description"])
    assert "credit" not in response.text
    assert body.get("data", []) == []
    assert len(sandbox.messages) == 0


def test_the_largest_send_that_fits(sandbox: Sandbox, http: httpx.Client) -> None:
    image = b"\x89PNG\r\n\x1a\n".ljust(379_000)
    assert send(http, [f"+614{n:08}" for n in range(1000)], "é" * 500, image, "x" * 40).status_code == 200
    assert (len(sandbox.messages), sandbox.messages[-1].to) == (1000, "+61400000999")


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"numbers": NUMBERS}},
        {"data": {"numbers": json.dumps(NUMBERS), "mms_text": "Hello"}},
        {"content": b"no parts", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": b"no boundary", "headers": {"content-type": "multipart/form-data"}},
    ],
)
def test_another_kind_of_body_is_no_send(sandbox: Sandbox, http: httpx.Client, request_: Any) -> None:
    assert code(http.post("/send-mms", **request_)) in {"FIELD_EMPTY", "FIELD_INVALID"}
    assert len(sandbox.sends) == 0


def test_an_image_that_is_text_and_a_text_that_is_a_file(http: httpx.Client) -> None:
    fields = {"numbers": json.dumps(NUMBERS), "mms_text": "Hello"}
    parts: dict[str, Any] = {name: (None, value) for name, value in fields.items()}
    assert "mms_file" in http.post("/send-mms", files={**parts, "mms_file": (None, "GIF89a")}).json()["msg"]
    parts["mms_text"] = ("text.txt", b"Hello")
    assert "mms_text" in http.post("/send-mms", files={**parts, "mms_file": ("a.gif", GIF)}).json()["msg"]


def test_numbers_are_compared_by_digits_and_echoed_as_given(sandbox: Sandbox, http: httpx.Client) -> None:
    given = ["+61400000000", "0400000000", "61400000000", "+6421234567"]
    messages = send(http, given).json()["data"]["messages"]
    assert [message["to"] for message in messages] == given
    assert sandbox.carried_out("+61400000000") == sandbox.carried_out("0400000000") == 3
    assert sandbox.carried_out("+61400000009") == 0


def test_what_may_not_be_sent_to_is_left_out(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.add_opt_out("+61400000001")
    data = send(http, [*NUMBERS, "nonsense"]).json()["data"]
    assert (data["total_numbers"], data["success_number"], data["credits_used"]) == (3, "1", "1")
    assert [message["to"] for message in data["messages"]] == NUMBERS[:1]
    assert sandbox.sends[0].refused == ("+61400000001", "nonsense")
    assert code(send(http, ["0400000001"])) == "RECIPIENTS_ERROR"


def test_credit_runs_out_before_anything_is_sent(http: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.balance = Decimal("1.50")
    response = send(http)
    assert (response.status_code, code(response)) == (400, "FIELD_INVALID")
    assert "credit" in response.json()["msg"]
    assert (len(sandbox.messages), sandbox.balance) == (0, Decimal("1.50"))
    assert send(http, NUMBERS[:1]).status_code == 200
    assert http.get("/account").json()["data"]["mms_balance"] == "0.50"


@pytest.mark.parametrize("dialect", ["meta", "error"])
def test_a_low_balance_is_told_on_every_success(sandbox: Sandbox, http: httpx.Client, dialect: Any) -> None:
    sandbox.settings.dialect = dialect
    assert "low_sms_alert" not in http.get("/account").json()
    sandbox.settings.low_balance = sandbox.balance + 1
    assert "low" in http.get("/account").json()["low_sms_alert"]
    assert "low_sms_alert" not in http.get("/get-sms").json()


# Credentials and cap --------------------------------------------------------------------------------------------------


def basic(user: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("dialect", ["meta", "error"])
@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [
        ({"APPKEY": "key"}, 200, "SUCCESS"),
        ({"Authorization": basic("key")}, 200, "SUCCESS"),
        ({"APPKEY": "key", "Authorization": basic("key")}, 200, "SUCCESS"),
        ({"APPKEY": "second"}, 200, "SUCCESS"),
        ({}, 401, "AUTH_FAILED_NO_DATA"),
        ({"APPKEY": "wrong"}, 401, "AUTH_FAILED"),
        ({"APPKEY": ""}, 401, "AUTH_FAILED"),
        ({"APPKEY": "key", "Authorization": basic("second")}, 401, "AUTH_FAILED"),
        ({"APPKEY": "key", "Authorization": "Bearer key"}, 401, "AUTH_FAILED"),
        ({"Authorization": basic("key", "password")}, 401, "AUTH_FAILED"),
        ({"Authorization": "Basic ???"}, 401, "AUTH_FAILED"),
        ({"Authorization": "Basic /w=="}, 401, "AUTH_FAILED"),
    ],
)
def test_credentials(dialect: Any, headers: dict[str, str], status: int, expected: str) -> None:
    with Sandbox(app_key="key", dialect=dialect) as sandbox:
        sandbox.keys.add("second")
        response = httpx.get(f"{sandbox.url}/account", headers=headers)
        assert (response.status_code, code(response)) == (status, expected)
        assert [(arrival.call, arrival.status) for arrival in sandbox.arrivals] == [("account", status)]


@pytest.mark.parametrize("dialect", ["meta", "error"])
def test_the_sixteenth_call_in_a_second_is_throttled_and_not_counted(
    sandbox: Sandbox, http: httpx.Client, clock: Clock, dialect: Any
) -> None:
    sandbox.settings.rate = 15
    sandbox.settings.dialect = dialect
    sandbox.keys.add("second")
    responses = [send(http, NUMBERS[:1]) for _ in range(16)]
    assert [response.status_code for response in responses] == [200] * 15 + [429]
    assert code(responses[-1]) == "OVER_LIMIT"
    assert len(sandbox.messages) == 15
    assert (sandbox.calls["send-mms"], sandbox.throttled["send-mms"]) == (16, 1)
    assert [arrival.throttled for arrival in sandbox.arrivals] == [False] * 15 + [True]
    assert http.get("/account", headers={"APPKEY": "second"}).status_code == 200

    clock.now += 0.999
    assert send(http).status_code == 429
    clock.now += 0.001
    assert [send(http).status_code for _ in range(16)] == [200] * 15 + [429]


def test_a_call_without_credentials_does_not_count(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.settings.rate = 1
    assert http.get("/account", headers={"APPKEY": "wrong"}).status_code == 401
    assert http.get("/account").status_code == 200
    assert http.get("/account").status_code == 429


@pytest.mark.parametrize("dialect", ["meta", "error"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nope"), ("GET", "/send-mms"), ("POST", "/account"), ("POST", "/send-fax")]
)
def test_no_such_call(sandbox: Sandbox, http: httpx.Client, dialect: Any, method: str, path: str) -> None:
    sandbox.settings.dialect = dialect
    response = http.request(method, path)
    assert (response.status_code, code(response)) == (404, "NOT_IMPLEMENTED")


def test_no_such_path(sandbox: Sandbox, http: httpx.Client) -> None:
    assert code(http.get(sandbox.url.removesuffix("/api/v3"))) == "NOT_IMPLEMENTED"


# Listings -------------------------------------------------------------------------------------------------------------


def test_replies_come_by_25_and_unread_only(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.add_replies(51)
    first = http.get("/get-responses", params={"type": "mms"}).json()["data"]
    assert (first["page"], first["total"], len(first["responses"])) == ({"count": 3, "number": "1"}, "51", 25)
    last = http.get("/get-responses", params={"type": "mms", "page": "3"}).json()["data"]
    assert [item["body"] for item in last["responses"]] == ["Reply 51"]
    sandbox.mark_read([item["message_id"] for item in first["responses"]])
    shifted = http.get("/get-responses", params={"page": "2"}).json()["data"]
    assert (shifted["page"], shifted["responses"][0]["body"]) == ({"count": 2, "number": "2"}, "Reply 51")


def test_a_reply_names_the_message_that_it_answers(sandbox: Sandbox, http: httpx.Client) -> None:
    send(http)
    message = sandbox.messages[0]
    reply = sandbox.add_reply(message.to, "Yes", to=message, at=datetime(2026, 1, 8, 6, 50, 34, tzinfo=UTC))
    assert http.get("/get-responses").json()["data"]["responses"] == [
        {
            "from": NUMBERS[0].removeprefix("+"),
            "body": "Yes",
            "received_at": "2026-01-08 17:50:34",
            "original_body": "Hello",
            "original_message_id": message.id,
            "message_id": reply.id,
            "subaccount_id": "",
        }
    ]


@pytest.mark.parametrize("path", ["/get-responses", "/get-responses?type=sms", "/get-optout", "/get-template"])
def test_an_empty_listing_in_both_spellings(sandbox: Sandbox, http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert response.status_code == 200
    assert response.json()["data"] == {"page": {"count": "0", "number": 0}, "total": 0, "responses": ""}
    sandbox.settings.empty = "not_found"
    response = http.get(path)
    assert (response.status_code, code(response), response.json()["data"]) == (400, "NOT_FOUND", [])


def test_past_the_last_page_is_empty(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.add_replies(1)
    data = http.get("/get-responses", params={"page": "2"}).json()["data"]
    assert data == {"page": {"count": "1", "number": 2}, "total": 1, "responses": ""}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/get-responses?page=0", "page"),
        ("/get-responses?page=x", "page"),
        ("/get-responses?type=fax", "type"),
        ("/get-optout?DATESTART=2026-01-01", "DATESTART"),
        ("/get-optout?DATEEND=now", "DATEEND"),
    ],
)
def test_a_wrong_parameter_is_named(http: httpx.Client, path: str, field: str) -> None:
    response = http.get(path)
    assert code(response) == "FIELD_INVALID"
    assert field in response.json()["msg"]


def test_opt_outs_of_a_span(sandbox: Sandbox, http: httpx.Client) -> None:
    start = datetime(2026, 1, 1, 1, tzinfo=UTC)
    for day in range(3):
        sandbox.add_opt_out(f"+6140000000{day}", at=start + timedelta(days=day), first_name="Kim")
    span = {"DATESTART": "2026-01-02 12:00:00", "DATEEND": "2026-01-02 12:00:00"}
    [opt_out] = http.get("/get-optout", params=span).json()["data"]["responses"]
    assert opt_out == {
        "number": "+61400000001",
        "first_name": "Kim",
        "last_name": None,
        "gender": None,
        "post_code": None,
        "dob": None,
        "created_at": "2026-01-02 12:00:00",
    }
    assert http.get("/get-optout").json()["data"]["total"] == "3"


def test_templates_come_by_15(sandbox: Sandbox, http: httpx.Client) -> None:
    for number in range(16):
        sandbox.add_template(f"Title {number}", "Text", at=datetime(2026, 6, 1, tzinfo=UTC))
    data = http.get("/get-template", params={"page": "2"}).json()["data"]
    assert data["page"] == {"count": 2, "number": 2, "per_page": 15}
    assert re.fullmatch(r"[0-9a-f]{32}", data["responses"][0]["template_id"])
    [template] = data["responses"]
    assert (template["message_title"], template["Message"]) == ("Title 15", "Text")
    assert template["created_at"] == "2026-06-01 10:00:00"


# Marking as read ------------------------------------------------------------------------------------------------------


def test_one_reply_is_marked_read_as_often_as_you_like(sandbox: Sandbox, http: httpx.Client) -> None:
    first, second = sandbox.add_replies(2)
    for _ in range(2):
        response = http.post("/inbound-read", json={"message_id": first.id})
        assert (code(response), response.json()["data"]) == ("SUCCESS", [])
    assert sandbox.unread == [second]
    assert sandbox.replies == [first, second]


def test_replies_before_a_time_are_marked_read(sandbox: Sandbox, http: httpx.Client) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    sandbox.add_reply(at=noon - timedelta(seconds=1))
    late = sandbox.add_reply(at=noon)
    assert code(http.post("/inbound-read", json={"date_before": int(noon.timestamp())})) == "SUCCESS"
    assert sandbox.unread == [late]


def test_an_id_may_be_a_number_and_an_unknown_one_is_no_error(sandbox: Sandbox, http: httpx.Client) -> None:
    first, second = sandbox.add_reply(kind="sms"), sandbox.add_reply(kind="sms")
    for path, message_id in (
        ("/inbound-read", "unknown"),
        ("/inbound-read", int(first.id)),
        ("/inbound-read-bulk", ["unknown", 7]),
        ("/inbound-read-bulk", [int(first.id)]),
    ):
        assert code(http.post(path, json={"message_id": message_id})) == "SUCCESS"
    assert sandbox.unread == [second]


@pytest.mark.parametrize("request_", [{}, {"json": {}}, {"json": []}, {"json": {"message_id": ""}}])
def test_with_neither_field_everything_is_marked_read(sandbox: Sandbox, http: httpx.Client, request_: Any) -> None:
    sandbox.add_replies(30)
    assert code(http.post("/inbound-read", **request_)) == "SUCCESS"
    assert sandbox.unread == []


def test_several_replies_are_marked_read(sandbox: Sandbox, http: httpx.Client) -> None:
    first, second, third = sandbox.add_replies(3)
    response = http.post("/inbound-read-bulk", json={"message_id": [first.id, third.id, "unknown"]})
    assert code(response) == "SUCCESS"
    assert sandbox.unread == [second]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/inbound-read", {"message_id": True}, "FIELD_INVALID"),
        ("/inbound-read", {"message_id": {"id": 5}}, "FIELD_INVALID"),
        ("/inbound-read", {"date_before": "yesterday"}, "FIELD_INVALID"),
        ("/inbound-read", ["id"], "FIELD_INVALID"),
        ("/inbound-read-bulk", {}, "FIELD_EMPTY"),
        ("/inbound-read-bulk", {"message_id": []}, "FIELD_EMPTY"),
        ("/inbound-read-bulk", {"message_id": "id"}, "FIELD_INVALID"),
        ("/inbound-read-bulk", {"message_id": [None]}, "FIELD_INVALID"),
    ],
)
def test_marking_that_is_refused_marks_nothing(
    sandbox: Sandbox, http: httpx.Client, path: str, body: Any, expected: str
) -> None:
    sandbox.add_replies(1)
    response = http.post(path, json=body)
    assert (response.status_code, code(response)) == (400, expected)
    assert len(sandbox.unread) == 1


def test_a_form_is_not_json(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.add_replies(1)
    assert code(http.post("/inbound-read", data={"message_id": "x"})) == "FIELD_INVALID"
    assert len(sandbox.unread) == 1


# Status ---------------------------------------------------------------------------------------------------------------


def test_a_message_goes_from_queued_to_delivered(sandbox: Sandbox, http: httpx.Client, clock: Clock) -> None:
    send(http)
    message = sandbox.messages[1]

    def status() -> str:
        [item] = http.get("/get-sms", params={"message_id": message.id}).json()["data"]
        assert (item["to"], item["body"], item["message_id"]) == (message.to, "Hello", message.id)
        return str(item["status"])

    assert status() == "Queued"
    clock.now += 0.1
    assert status() == "Dispatched"
    clock.now += 0.1
    assert status() == sandbox.status(message.id) == "Delivered"
    sandbox.set_status(message.id, "Something new")
    assert status() == "Something new"


@pytest.mark.parametrize("message_id", ["unknown", "A21741CB-9B8E-3956-A1CE-000000000000", "-1", "0-FFFFFFFFFF"])
def test_an_unknown_message(sandbox: Sandbox, http: httpx.Client, message_id: str) -> None:
    send(http)
    response = http.get("/get-sms", params={"message_id": message_id})
    assert (response.status_code, code(response)) == (400, "NOT_FOUND")
    with pytest.raises(LookupError, match=message_id):
        sandbox.set_status(message_id, "Failed")


def test_which_message_must_be_said(http: httpx.Client) -> None:
    assert code(http.get("/get-sms")) == "FIELD_EMPTY"


def test_account(http: httpx.Client) -> None:
    data = http.get("/account").json()["data"]
    assert data.keys() == {"account_name", "account_email", "sms_balance", "mms_balance"}
    assert data["mms_balance"] == "1000000.00"


def test_the_prose_is_that_of_live_answers(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.add_reply()
    sandbox.add_opt_out("+61400000000")
    sandbox.add_template("Title", "Text")
    send(http, NUMBERS[1:])
    for path, expected in (
        ("/get-responses", "You have 1 response(s)"),
        ("/get-optout", "You have 1 optout contact(s)"),
        ("/get-template", "You have 1 Template(s)"),
        ("/account", "Here's your account"),
        (f"/get-sms?message_id={sandbox.messages[0].id}", "Record found"),
    ):
        assert http.get(path).json()["msg"] == expected
    wrong = http.get("/account", headers={"APPKEY": "wrong"}).json()
    assert (wrong["meta"]["status"], wrong["msg"]) == ("AUTH_FAILED", "APPKEY you have provided is invalid")
    del http.headers["APPKEY"]
    assert http.get("/account").json()["msg"] == "You have not provided APPKEY"


def test_errors_with_http_200(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.settings.statuses = "always 200"
    sandbox.settings.rate = 7
    for answer, expected in (
        (http.get("/account", headers={"APPKEY": "wrong"}), "AUTH_FAILED"),
        (http.get("/nope"), "NOT_IMPLEMENTED"),
        (send(http, []), "FIELD_EMPTY"),
        (send(http, ["nonsense"]), "RECIPIENTS_ERROR"),
        (send(http, ["+61400009904"]), "OVER_LIMIT"),  # which does not count
        (http.get("/get-sms?message_id=unknown"), "NOT_FOUND"),
        (http.get("/account"), "SUCCESS"),
        (http.get("/account"), "SUCCESS"),
        (http.get("/account"), "SUCCESS"),
        (http.get("/account"), "OVER_LIMIT"),
    ):
        assert (answer.status_code, answer.json()["meta"]["status"]) == (200, expected)
    assert [arrival.throttled for arrival in sandbox.arrivals].count(True) == 2


# State ----------------------------------------------------------------------------------------------------------------


def test_reset_forgets_everything_but_the_settings(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.settings.rate = 1
    sandbox.add_replies(1)
    sandbox.add_opt_out("+61400000000")
    sandbox.add_template("Title", "Text")
    send(http, NUMBERS[1:])
    sandbox.reset()
    for forgotten in (sandbox.messages, sandbox.sends, sandbox.arrivals, sandbox.replies, sandbox.unread):
        assert len(forgotten) == 0
    assert len(sandbox.opt_outs) == len(sandbox.templates) == 0
    assert sandbox.credits_used == sandbox.carried_out(NUMBERS[1]) == 0
    assert send(http).status_code == 200
    assert sandbox.settings.rate == 1


def test_a_million_recipients_are_cheap_to_remember() -> None:
    sandbox = Sandbox(magic=False)
    for call in range(1000):
        sandbox.send([f"+614{call * 1000 + place:08}" for place in range(1000)], "Hello", "", GIF)
    assert len(sandbox.messages) == 1_000_000
    message = sandbox.messages[-1]
    assert (message.to, message.send.number) == ("+61400999999", 1000)
    assert sandbox.message(message.id) == message
    assert sandbox.messages.of(message.send)[-1] == message
    assert [each.to for each in sandbox.messages[999:1001]] == ["+61400000999", "+61400001000"]
    with pytest.raises(IndexError):
        _ = sandbox.messages[1_000_000]


# Options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        *(("rate", value) for value in (0, 1.5, True, "15")),
        ("dialect", "old"),
        ("statuses", "always"),
        ("empty", ""),
        ("inbound_shape", "list"),
        ("callback_statuses", "none"),
        *(("deliver_after", value) for value in (-1, float("nan"), "soon", True)),
        ("duplicates", -1),
        ("callback_attempts", 0),
        *(("port", value) for value in (-1, 65_536, "8080")),
        ("keep_alive", -1.0),
        ("mms_balance", 100.0),
        ("low_balance", "1"),
        ("callback_url", "localhost:8080"),
        ("magic", "no"),
        ("app_key", ""),
        ("seed", "x"),
    ],
)
def test_a_wrong_option_is_named(option: str, wrong: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{option}: expected .*, got {re.escape(repr(wrong))}"):
        Sandbox(**{option: wrong})  # type: ignore[arg-type]


def test_a_setting_is_checked_when_it_is_changed(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match="rate"):
        sandbox.settings.rate = 0
    assert sandbox.settings.rate != 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"call": "sendmms"},
        {"call": ["send-mms"]},
        {"times": -1},
        {"times": 1.5},
        {"share": 1.1},
        {"share": "all"},
        {"skip": -1},
    ],
)
def test_a_wrong_rule_of_a_fault_is_named(sandbox: Sandbox, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        sandbox.faults.add(throttle(), **wrong)
    with pytest.raises(ConfigurationError, match="fault: expected a fault"):
        sandbox.faults.add(throttle)  # type: ignore[arg-type]
    assert sandbox.faults.draw("send-mms", random.Random(0)) == []


def test_the_options_are_the_settings() -> None:
    assert get_type_hints(SettingsOptions) == get_type_hints(Settings)
