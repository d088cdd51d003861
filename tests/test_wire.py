"""Answers to models and errors, without a network."""

from __future__ import annotations

import gzip
import json
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsclient
from mmsclient import (
    APIError,
    DeliveryStatus,
    InvalidRequestError,
    MMSError,
    OutcomeUnknownError,
    RateLimitError,
    ServerError,
    TransportError,
    wire,
)
from mmsclient.media import Image
from mmsclient.numbers import recipients

ZONE = ZoneInfo("Australia/Melbourne")
IMAGE = Image(b"GIF89a", "gif")
TO = ["+61400000000", "+61400000001"]


def send_call(to: list[str] = TO) -> wire.Call[Any]:
    return wire.send(recipients(to), "Hello", IMAGE, None, ZONE)


def answer(body: Any, status: int = 200, **headers: str) -> wire.Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.Answer(status=status, headers={name.replace("_", "-"): v for name, v in headers.items()}, body=data)


def decode(call: wire.Call[Any], reply: wire.Answer) -> Any:
    return wire.read(call, reply, wire.unwrap(call, reply))


def meta(data: Any, msg: str = "OK", **more: Any) -> dict[str, Any]:
    return {"meta": {"code": 200, "status": "SUCCESS"}, "msg": msg, "data": data, **more}


def either(code: str, description: str, dialect: str) -> dict[str, Any]:
    """An error as each envelope spells it."""
    if dialect == "meta":
        return {"meta": {"code": 400, "status": code}, "msg": description, "data": []}
    return {"error": {"code": code, "description": description}}


# Every sample of wire.md ----------------------------------------------------------------------------------------------

SENT = {
    "messages": [
        {
            "message_id": "A21741CB-9B8E-3956-A1CE-NNNNNNNNNN",
            "to": "+61400000000",
            "subject": "Hi",
            "body": "Hello",
            "date": "2019-06-24 21:24:32",
            "direction": "out",
        }
    ],
    "total_numbers": 2,
    "success_number": "2",
    "credits_used": "2",
}


@pytest.mark.parametrize("body", [meta(SENT, "Queued"), {"error": {"code": "SUCCESS", "description": "OK"}, **SENT}])
def test_sent_batch_in_both_envelopes(body: dict[str, Any]) -> None:
    sent = decode(send_call(), answer(body))
    assert (sent.accepted, sent.total, sent.credits_used) == (2, 2, Decimal(2))
    assert sent.refused == ()  # the sample lists fewer messages than were accepted: nothing was refused
    assert not sent.is_partial
    message = sent.messages[0]
    assert (message.id, message.to) == ("A21741CB-9B8E-3956-A1CE-NNNNNNNNNN", "+61400000000")
    assert (message.subject, message.text) == ("Hi", "Hello")
    assert message.sent_at == datetime(2019, 6, 24, 11, 24, 32, tzinfo=UTC)
    assert message.sent_at_text == "2019-06-24 21:24:32"
    assert message.raw["direction"] == "out"
    assert sent.raw == body


def test_partial_acceptance_names_the_refused_where_the_answer_tells() -> None:
    body = meta({**SENT, "success_number": 1})
    sent = decode(send_call(), answer(body))
    assert (sent.accepted, sent.total, sent.refused, sent.is_partial) == (1, 2, ("+61400000001",), True)
    untold = decode(send_call(), answer(meta({"messages": [], "total_numbers": 2, "success_number": 1})))
    assert (untold.accepted, untold.refused) == (1, None)


def test_a_recipient_the_api_dropped_from_its_total_is_seen() -> None:
    sent = decode(send_call(), answer(meta({**SENT, "total_numbers": 1, "success_number": 1})))
    assert (sent.accepted, sent.total, sent.refused) == (1, 2, ("+61400000001",))


def test_low_sms_alert() -> None:
    sent = decode(send_call(), answer(meta(SENT, low_sms_alert="Your balance is low")))
    assert sent.low_sms_alert == "Your balance is low"


REPLY = {
    "from": "+61400000000",
    "body": "Yes",
    "received_at": "2019-04-08 17:37:49",
    "original_body": "Hello",
    "original_message_id": "A21741CB-1",
    "message_id": "dba864ec-1",
    "subaccount_id": "",
}


@pytest.mark.parametrize(
    "body",
    [
        meta({"page": {"count": 1, "number": 1}, "total": "1", "responses": [REPLY]}),
        {
            "error": {"code": "SUCCESS", "description": "OK"},
            "page": {"count": "1", "number": "1"},
            "total": 1,
            "responses": [REPLY],
        },
        meta({"page": {"count": 1, "number": 1}, "total": 1, "responses": {"0": REPLY}}),
    ],
)
def test_replies(body: dict[str, Any]) -> None:
    page = decode(wire.replies(1, "mms", ZONE), answer(body))
    assert (page.number, page.count, page.total) == (1, 1, 1)
    (reply,) = page.items
    assert (reply.id, reply.sender, reply.text) == ("dba864ec-1", "+61400000000", "Yes")
    assert (reply.original_message_id, reply.original_text) == ("A21741CB-1", "Hello")
    assert reply.received_at == datetime(2019, 4, 8, 7, 37, 49, tzinfo=UTC)
    assert reply.custom_string is None


EMPTY_LIVE = meta({"page": {"count": "0", "number": 0}, "total": 0, "responses": ""})


@pytest.mark.parametrize(
    "reply",
    [
        answer(EMPTY_LIVE),
        answer(either("NOT_FOUND", "No Response are available!", "meta"), 400),
        answer(either("NOT_FOUND", "No Response are available!", "error"), 404),
        answer(meta([])),
        answer(meta("")),
        answer(meta({"page": {"count": 3, "number": 4}, "total": 75, "responses": []})),
    ],
)
def test_each_spelling_of_an_empty_listing(reply: wire.Answer) -> None:
    assert decode(wire.replies(1, "mms", ZONE), reply).items == ()


def test_an_html_404_is_no_empty_listing() -> None:
    with pytest.raises(mmsclient.UnknownCallError):
        decode(wire.replies(1, "mms", ZONE), answer(b"<html>nginx</html>", 404))


def test_a_success_without_a_listing_is_not_taken_for_an_empty_one() -> None:
    with pytest.raises(TransportError, match="holds no listing"):
        decode(wire.replies(1, "mms", ZONE), answer(meta({"something": "else"})))


def test_one_odd_item_does_not_break_a_listing() -> None:
    odd: list[Any] = [REPLY, None, "text", 7, {"message_id": 12, "received_at": "soon", "new": 1}]
    items = decode(wire.replies(1, "mms", ZONE), answer(meta({"responses": odd}))).items
    assert [item.id for item in items] == ["dba864ec-1", "", "", "", "12"]
    assert items[2].raw == {"item": "text"}
    assert (items[4].received_at, items[4].received_at_text, items[4].raw["new"]) == (None, "soon", 1)


def test_message_status() -> None:
    item = {
        "to": "61400000000",
        "body": "Hello",
        "sent_time": "2019-04-08 17:37:49",
        "message_id": "7",
        "status": "Delivered",
        "subaccount_id": "",
    }
    status = decode(wire.message("7", ZONE), answer(meta([item, {**item, "to": "61400000001"}])))
    assert (status.id, status.to, status.status) == ("7", "61400000000", DeliveryStatus.DELIVERED)
    assert [other.to for other in status.others] == ["61400000001"]
    assert decode(wire.message("7", ZONE), answer(meta([]))) is None
    assert decode(wire.message("7", ZONE), answer(either("NOT_FOUND", "no", "meta"), 400)) is None


def test_a_family_of_emoji_is_a_subject() -> None:
    assert wire.checked_subject("Hi \U0001f468\u200d\U0001f469") == "Hi \U0001f468\u200d\U0001f469"


def test_a_success_that_lists_no_message_is_no_message() -> None:
    body = {"error": {"code": "SUCCESS", "description": "OK"}, "total": 0}
    assert decode(wire.message("7", ZONE), answer(body)) is None


def test_account() -> None:
    data = {
        "account_name": "A",
        "account_email": "a@example.com",
        "sms_balance": "5831.43",
        "mms_balance": 1006.5,
    }
    account = decode(wire.account(), answer(meta(data)))
    assert (account.name, account.email) == ("A", "a@example.com")
    assert (account.sms_balance, account.mms_balance) == (Decimal("5831.43"), Decimal("1006.5"))
    with pytest.raises(TransportError, match="holds no account"):
        decode(wire.account(), answer(meta([])))


def test_opt_outs_with_nulls_and_templates_with_a_capital() -> None:
    nulls = dict.fromkeys(["first_name", "last_name", "gender", "post_code", "dob", "created_at"])
    page = decode(wire.opt_outs(1, None, None, ZONE), answer(meta({"responses": [{"number": "614", **nulls}]})))
    assert (page.items[0].number, page.items[0].first_name, page.items[0].created_at) == ("614", None, None)
    template = {"template_id": 5, "message_title": "T", "Message": "Hello", "created_at": "2024-01-01 00:00:00"}
    page = decode(wire.templates(1, ZONE), answer(meta({"responses": [template]})))
    assert (page.items[0].id, page.items[0].title, page.items[0].text) == ("5", "T", "Hello")


def test_mark_read_answers_nothing_and_is_never_sent_empty() -> None:
    assert decode(wire.mark_read(["1"]), answer(meta([], "done"))) is None
    assert wire.mark_read(["1"]).json == {"message_id": "1"}
    assert wire.mark_read(["1", "2"]).json == {"message_id": ["1", "2"]}
    for ids in ([], [""], ["1", ""]):
        with pytest.raises(InvalidRequestError):
            wire.mark_read(ids)
    with pytest.raises(InvalidRequestError):
        wire.mark_read_before(0)


def test_what_a_send_puts_on_the_wire() -> None:
    call = wire.send(recipients(["0400 000 000", "+61400000001"]), "Hi\r\nthere", IMAGE, "Sub", ZONE)
    assert call.form == {
        "numbers": '["+61400000000","+61400000001"]',
        "mms_text": "Hi\r\nthere",
        "subject": "Sub",
    }
    assert call.files is not None
    assert call.files["mms_file"] == wire.File("image.gif", b"GIF89a", "image/gif")


def test_opt_out_bounds_go_out_in_the_clients_zone() -> None:
    call = wire.opt_outs(2, datetime(2026, 1, 1, tzinfo=UTC), None, ZONE)
    assert call.params == {"page": "2", "DATESTART": "2026-01-01 11:00:00"}


# Errors ---------------------------------------------------------------------------------------------------------------

CODES: list[tuple[str, int, type[MMSError]]] = [
    ("AUTH_FAILED_NO_DATA", 401, mmsclient.AuthenticationError),
    ("AUTH_FAILED", 401, mmsclient.AuthenticationError),
    ("AUTH_FAILED", 400, mmsclient.AuthenticationError),
    ("OVER_LIMIT", 429, mmsclient.RateLimitError),
    ("OVER_LIMIT", 200, mmsclient.RateLimitError),
    ("OVER_LIMIT", 400, mmsclient.RateLimitError),
    ("FIELD_EMPTY", 400, mmsclient.FieldEmptyError),
    ("FIELD_INVALID", 400, mmsclient.FieldInvalidError),
    ("FIELD_INVALID", 200, mmsclient.FieldInvalidError),
    ("RECIPIENTS_ERROR", 400, mmsclient.RecipientsError),
    ("NOT_FOUND", 400, mmsclient.NotFoundError),
    ("NOT_FOUND", 404, mmsclient.NotFoundError),
    ("NOT_IMPLEMENTED", 404, mmsclient.UnknownCallError),
    ("NO_ACCESS", 400, mmsclient.PermissionDeniedError),
    ("NO_ACCESS", 403, mmsclient.PermissionDeniedError),
    ("KEY_EXISTS", 400, mmsclient.ConflictError),
    ("LEDGER_ERROR", 400, mmsclient.InsufficientCreditError),
    ("BAD_CALLER_ID", 400, mmsclient.FieldInvalidError),
    ("LIST_EMPTY", 400, mmsclient.RecipientsError),
    ("FIELD_UNSAFE", 400, mmsclient.FieldInvalidError),
    ("ACCOUNT_EXPIRED", 400, mmsclient.PermissionDeniedError),
    ("FAILED", 400, mmsclient.APIError),
    ("REQUEST_FAILED", 200, mmsclient.APIError),
    ("A_CODE_OF_THEIR_OWN", 400, mmsclient.APIError),
]


@pytest.mark.parametrize("dialect", ["meta", "error"])
@pytest.mark.parametrize(("code", "status", "expected"), CODES)
def test_each_code_raises_its_class(code: str, status: int, expected: type[MMSError], dialect: str) -> None:
    with pytest.raises(APIError) as caught:
        decode(send_call(), answer(either(code, "Field 'x' is wrong.", dialect), status))
    error = caught.value
    assert type(error) is expected
    assert (error.code, error.description, error.http_status, error.call) == (
        code,
        "Field 'x' is wrong.",
        status,
        "send-mms",
    )
    assert code in str(error)
    assert str(status) in str(error)


@pytest.mark.parametrize("dialect", ["meta", "error"])
def test_credit_in_a_field_invalid(dialect: str) -> None:
    with pytest.raises(mmsclient.InsufficientCreditError):
        decode(send_call(), answer(either("FIELD_INVALID", "Insufficient Credit", dialect), 400))


def test_429_without_a_code_and_retry_after() -> None:
    for body in (b"", b"<html>slow down</html>", json.dumps(either("FIELD_INVALID", "x", "meta")).encode()):
        with pytest.raises(RateLimitError) as caught:
            decode(send_call(), answer(body, 429, retry_after="7"))
        assert caught.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:09 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "\u0663"}, None),
        ({}, None),
    ],
)
def test_retry_after(header: dict[str, str], seconds: float | None) -> None:
    assert wire.retry_after(wire.Answer(status=429, headers=header, body=b"")) == seconds


UNUSABLE = {
    "500": answer(either("FAILED", "oops", "meta"), 500),
    "500 over limit": answer(either("OVER_LIMIT", "oops", "meta"), 503),
    "502 html": answer(b"<html>Bad Gateway</html>", 502, content_type="text/html"),
    "500 success": answer(meta(SENT), 500),
    "200 html": answer(b"<html>Welcome</html>"),
    "200 empty": answer(b""),
    "200 cut": answer(json.dumps(meta(SENT)).encode()[:-10]),
    "200 no code": answer({"data": []}),
    "200 a list": answer([1]),
    "200 flaw": wire.Answer(status=200, headers={}, body=b"{", flaw="the connection was lost"),
    "202": answer(meta(SENT), 202),
    "204": answer(b"", 204),
    "400 success": answer(meta(SENT), 400),
    "429 success": answer(meta(SENT), 429),
    "408": answer(b"", 408),
    "302": answer(b"", 302, location="https://user:secret@evil.example/path?key=1"),
    "304": answer(b"", 304),
    "no count": answer(meta({"messages": []})),
    "deep": answer(b"[" * 100_000),
    "nan": answer(b'{"meta":{"status":"SUCCESS"},"data":{"success_number":NaN}}'),
    "bomb": answer(gzip.compress(b" " * (wire.MAX_BODY + 1)), content_encoding="gzip"),
    "not gzip": answer(b"{}", content_encoding="gzip"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_send_without_a_usable_answer_is_unknown(name: str) -> None:
    with pytest.raises(OutcomeUnknownError) as caught:
        decode(send_call(), UNUSABLE[name])
    assert caught.value.http_status == UNUSABLE[name].status
    assert "not repeated" in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(UNUSABLE) - {"no count"}))
def test_a_read_without_a_usable_answer_is_not_called_unknown(name: str) -> None:
    with pytest.raises((TransportError, ServerError, RateLimitError)) as caught:
        decode(wire.account(), UNUSABLE[name])
    assert not isinstance(caught.value, OutcomeUnknownError)


def test_a_redirect_names_the_host_and_nothing_more() -> None:
    with pytest.raises(OutcomeUnknownError) as caught:
        decode(send_call(), UNUSABLE["302"])
    assert "evil.example" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "key=1" not in str(caught.value)


def test_a_refusal_in_html_is_still_a_refusal() -> None:
    with pytest.raises(mmsclient.PermissionDeniedError) as caught:
        decode(send_call(), answer(b"<html>\n<b>Forbidden</b></html>", 403))
    assert caught.value.excerpt == "<html> <b>Forbidden</b></html>"


def test_compressed_unasked() -> None:
    reply = answer(gzip.compress(json.dumps(meta(SENT)).encode()), content_encoding="gzip")
    assert decode(send_call(), reply).accepted == 2


# Whatever comes -------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
codes = st.sampled_from([code for code, _, _ in CODES] + ["SUCCESS", "success", "", "X"])
fields = st.sampled_from(
    ["messages", "responses", "page", "success_number", "total_numbers", "credits_used", "total", "message_id", "to"]
)
payloads = json_values | st.dictionaries(fields, json_values | st.lists(st.dictionaries(fields, json_values)))
envelopes = st.builds(
    lambda code, data, msg, spelling: (
        {"meta": {"status": code, "code": 200}, "msg": msg, "data": data}
        if spelling == 0
        else {"error": {"code": code, "description": msg}, "data": data}
        if spelling == 1
        else {"error": {"code": code, "description": msg}, **(data if isinstance(data, dict) else {})}
    ),
    codes | json_values,
    payloads,
    json_values,
    st.integers(0, 2),
)
bodies = (
    st.binary(max_size=60) | json_values.map(json.dumps).map(str.encode) | envelopes.map(json.dumps).map(str.encode)
)
headers = st.dictionaries(
    st.sampled_from(["location", "retry-after", "date", "content-type", "content-encoding"]),
    st.text(max_size=20) | st.sampled_from(["gzip", "deflate", "https://[", "//x", "Wed, 21 Oct 2026 07:28:00 GMT"]),
)
calls = st.sampled_from(
    [
        send_call(),
        wire.replies(1, "mms", ZONE),
        wire.opt_outs(1, None, None, ZONE),
        wire.templates(1, ZONE),
        wire.mark_read(["1"]),
        wire.message("1", ZONE),
        wire.account(),
        wire.custom("POST", "send-sms", params=None, form=None, json=None, repeatable=False),
    ]
)


def outcome_of(call: wire.Call[Any], reply: wire.Answer) -> Any:
    try:
        return decode(call, reply)
    except MMSError as error:
        return error


@given(calls, bodies, st.integers(200, 599), headers, st.none() | st.just("cut short"))
def test_any_bytes_give_a_model_or_an_error(
    call: wire.Call[Any], body: bytes, status: int, header: dict[str, str], flaw: str | None
) -> None:
    reply = wire.Answer(status=status, headers=header, body=body, flaw=flaw)
    outcome = outcome_of(call, reply)
    if isinstance(outcome, MMSError):
        error = outcome
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(copy), str(copy), copy.__dict__) == (type(error), str(error), error.__dict__)
        assert len(str(error).splitlines()) == 1
        if not call.repeatable and (status >= 500 or (status < 400 and not isinstance(error, APIError))):
            assert isinstance(error, OutcomeUnknownError)
        wire.is_throttled(reply, error)
    else:
        assert status == 200 or call.not_found is not None
        repr(outcome)
    wire.retry_after(reply)


@given(st.text(max_size=1200), st.integers(0, 380_000))
def test_any_text_is_taken_or_refused(text: str, weight: int) -> None:
    try:
        outgoing = wire.checked_text(text, Image(bytes(weight), "png"))
    except InvalidRequestError:
        return
    assert 0 < len(outgoing) <= 1000
    assert len(outgoing.encode()) + weight <= 380_000
    assert outgoing.replace("\r\n", "").count("\n") == outgoing.replace("\r\n", "").count("\r") == 0
    assert outgoing.split("\r\n") == text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


@pytest.mark.parametrize("subject", ["a" * 41, "two\nlines", "end\n", "nul\0", "\u2028", 7, "\ud800"])
def test_wrong_subjects(subject: Any) -> None:
    with pytest.raises(InvalidRequestError, match="subject"):
        wire.checked_subject(subject)


@pytest.mark.parametrize("text", ["", "  ", None, 7, "a" * 1001, "\n" * 501 + "a", "\ud800"])
def test_wrong_texts(text: Any) -> None:
    with pytest.raises(InvalidRequestError, match="text"):
        wire.checked_text(text, IMAGE)
