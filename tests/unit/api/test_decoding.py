"""Answers to models and errors, without a network."""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsclient
from mmsclient import (
    APIError,
    ConfigurationError,
    DeliveryStatus,
    InvalidRequestError,
    MMSError,
    OutcomeUnknownError,
    RateLimitError,
    ServerError,
    TransportError,
)
from mmsclient._api import calls, checks, envelope
from mmsclient._api.media import Image
from mmsclient._api.phone_numbers import recipients
from mmsclient._api.types import MAX_BODY, Call, File, Response
from tests.support.decoding import answer, decode, meta

ZONE = ZoneInfo("Australia/Melbourne")
IMAGE = Image(b"GIF89a", "gif")
TO = ["+61400000000", "+61400000001"]


def send_call(to: list[str] = TO) -> Call[Any]:
    return calls.send(recipients(to), "Hello", IMAGE, None, ZONE)


def either(code: str, description: str, dialect: str) -> dict[str, Any]:
    """An error as each envelope spells it."""
    if dialect == "meta":
        return {"meta": {"code": 400, "status": code}, "msg": description, "data": []}
    return {"error": {"code": code, "description": description}}


# Every sample of api-notes.md -----------------------------------------------------------------------------------------

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
    page = decode(calls.replies(1, "mms", ZONE), answer(body))
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
def test_each_spelling_of_an_empty_listing(reply: Response) -> None:
    assert decode(calls.replies(1, "mms", ZONE), reply).items == ()


def test_a_date_with_slashes_is_read() -> None:
    odd = {**REPLY, "received_at": "2025/08/12 16:29:29"}
    (reply,) = decode(calls.replies(1, "sms", ZONE), answer(meta({"responses": [odd]}))).items
    assert (reply.received_at, reply.received_at_text) == (
        datetime(2025, 8, 12, 6, 29, 29, tzinfo=UTC),
        odd["received_at"],
    )


@pytest.mark.parametrize(("total", "count"), [("3", 1), (0, "0"), (None, "0"), (10**9, 1), ("-1", None)])
def test_the_items_of_a_listing_tell_more_than_its_numbers(total: Any, count: Any) -> None:
    data = {"page": {"count": count, "number": "1"}, "total": total, "responses": [REPLY]}
    page = decode(calls.replies(1, "sms", ZONE), answer(meta(data)))
    assert [item.id for item in page.items] == ["dba864ec-1"]


def test_an_html_404_is_no_empty_listing() -> None:
    with pytest.raises(mmsclient.UnknownCallError):
        decode(calls.replies(1, "mms", ZONE), answer(b"<html>nginx</html>", 404))


def test_a_success_without_a_listing_is_not_taken_for_an_empty_one() -> None:
    with pytest.raises(TransportError, match="holds no listing"):
        decode(calls.replies(1, "mms", ZONE), answer(meta({"something": "else"})))


def test_one_odd_item_does_not_break_a_listing() -> None:
    odd: list[Any] = [REPLY, None, "text", 7, {"message_id": 12, "received_at": "soon", "new": 1}]
    items = decode(calls.replies(1, "mms", ZONE), answer(meta({"responses": odd}))).items
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
    status = decode(calls.message("7", ZONE), answer(meta([item, {**item, "to": "61400000001"}])))
    assert (status.id, status.to, status.status) == ("7", "+61400000000", DeliveryStatus.DELIVERED)
    assert [other.to for other in status.others] == ["+61400000001"]
    assert decode(calls.message("7", ZONE), answer(meta([]))) is None
    assert decode(calls.message("7", ZONE), answer(either("NOT_FOUND", "no", "meta"), 400)) is None


def test_a_family_of_emoji_is_a_subject() -> None:
    assert checks.checked_subject("Hi \U0001f468\u200d\U0001f469") == "Hi \U0001f468\u200d\U0001f469"


def test_a_success_that_lists_no_message_is_no_message() -> None:
    body = {"error": {"code": "SUCCESS", "description": "OK"}, "total": 0}
    assert decode(calls.message("7", ZONE), answer(body)) is None


def test_account() -> None:
    data = {
        "account_name": "A",
        "account_email": "a@example.com",
        "sms_balance": "5831.43",
        "mms_balance": 1006.5,
    }
    account = decode(calls.account(), answer(meta(data)))
    assert (account.name, account.email) == ("A", "a@example.com")
    assert (account.sms_balance, account.mms_balance) == (Decimal("5831.43"), Decimal("1006.5"))
    with pytest.raises(TransportError, match="holds no account"):
        decode(calls.account(), answer(meta([])))


def test_opt_outs_with_nulls_and_templates_with_a_capital() -> None:
    nulls = dict.fromkeys(["first_name", "last_name", "gender", "post_code", "dob", "created_at"])
    page = decode(calls.opt_outs(1, None, None, ZONE), answer(meta({"responses": [{"number": "614", **nulls}]})))
    assert (page.items[0].number, page.items[0].first_name, page.items[0].created_at) == ("614", None, None)
    template = {"template_id": 5, "message_title": "T", "Message": "Hello", "created_at": "2024-01-01 00:00:00"}
    page = decode(calls.templates(1, ZONE), answer(meta({"responses": [template]})))
    assert (page.items[0].id, page.items[0].title, page.items[0].text) == ("5", "T", "Hello")


def test_mark_read_answers_nothing_and_is_never_sent_empty() -> None:
    assert decode(calls.mark_read(["1"]), answer(meta([], "done"))) is None
    assert calls.mark_read(["1"]).json == {"message_id": "1"}
    assert calls.mark_read(["1", "2"]).json == {"message_id": ["1", "2"]}
    for ids in ([], [""], ["1", ""]):
        with pytest.raises(InvalidRequestError):
            calls.mark_read(ids)
    with pytest.raises(InvalidRequestError):
        calls.mark_read_before(0)


def test_what_a_send_puts_on_the_wire() -> None:
    call = calls.send(recipients(["0400 000 000", "+61400000001"]), "Hi\r\nthere", IMAGE, "Sub", ZONE)
    assert call.form == {
        "numbers": '["+61400000000","+61400000001"]',
        "mms_text": "Hi\r\nthere",
        "subject": "Sub",
    }
    assert call.files is not None
    assert call.files["mms_file"] == File("image.gif", b"GIF89a", "image/gif")


def test_opt_out_bounds_go_out_in_the_clients_zone() -> None:
    call = calls.opt_outs(2, datetime(2026, 1, 1, tzinfo=UTC), None, ZONE)
    assert call.params == {"page": "2", "DATESTART": "2026-01-01 11:00:00"}


ZONES = st.sampled_from(
    [
        ZoneInfo(name)
        for name in ("Australia/Melbourne", "Australia/Lord_Howe", "Europe/Dublin", "America/St_Johns", "UTC")
    ]
)
CHANGES = st.sampled_from([(4, 5), (10, 4), (3, 29), (10, 25), (3, 8), (11, 1), (7, 1)])  # of 2026, in some zone each


@st.composite
def times_near_a_change(draw: st.DrawFn) -> tuple[datetime, ZoneInfo]:
    """A time within a day of a change of some zone's offset, and a zone."""
    month, day = draw(CHANGES)
    seconds = st.one_of(st.integers(-100, 100).map(lambda quarter: quarter * 900.0), st.floats(-90_000, 90_000))
    return datetime(2026, month, day, tzinfo=UTC) + timedelta(seconds=draw(seconds)), draw(ZONES)


def readings(text: str, zone: ZoneInfo) -> list[datetime]:
    """Each time that a text without a zone may stand for."""
    naive = datetime.strptime(text, "%Y-%m-%d %H:%M:%S")
    return [naive.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]


@given(times_near_a_change())
def test_whichever_way_the_api_reads_a_bound_in_a_repeated_hour_nobody_is_missing(
    case: tuple[datetime, ZoneInfo],
) -> None:
    time, zone = case
    bounds = calls.opt_outs(1, time, time, zone).params
    for since in readings(bounds["DATESTART"], zone):
        assert time - timedelta(hours=2, seconds=1) <= since <= time
    for until in readings(bounds["DATEEND"], zone):
        assert time <= until <= time + timedelta(hours=2, seconds=1)


@given(times_near_a_change())
def test_a_time_in_a_repeated_hour_is_the_earlier(case: tuple[datetime, ZoneInfo]) -> None:
    time, zone = case[0].replace(microsecond=0), case[1]
    found = decode(
        calls.opt_outs(1, None, None, zone), answer(meta({"responses": [{"created_at": written(time, zone)}]}))
    )
    (opt_out,) = found.items
    assert opt_out.created_at.astimezone(UTC) == min(readings(written(time, zone), zone)) <= time


def written(time: datetime, zone: ZoneInfo) -> str:
    """`time` as the API writes it."""
    return time.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


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
    assert envelope.retry_after(Response(status=429, headers=header, body=b"")) == seconds


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
    "200 flaw": Response(status=200, headers={}, body=b"{", flaw="the connection was lost"),
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
    "bomb": answer(gzip.compress(b" " * (MAX_BODY + 1)), content_encoding="gzip"),
    "not gzip": answer(b"{}", content_encoding="gzip"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_send_without_a_usable_answer_is_unknown(name: str) -> None:
    with pytest.raises(OutcomeUnknownError) as caught:
        decode(send_call(), UNUSABLE[name])
    assert caught.value.http_status == UNUSABLE[name].status
    assert "not repeated" in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(UNUSABLE) - {"no count", "nan"}))
def test_a_read_without_a_usable_answer_is_not_called_unknown(name: str) -> None:
    with pytest.raises((TransportError, ServerError, RateLimitError)) as caught:
        decode(calls.account(), UNUSABLE[name])
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


@given(st.text(max_size=1200), st.integers(0, 380_000))
def test_any_text_is_taken_or_refused(text: str, weight: int) -> None:
    try:
        outgoing = checks.checked_text(text, Image(bytes(weight), "png"))
    except InvalidRequestError:
        return
    assert 0 < len(outgoing) <= 1000
    assert len(outgoing.encode()) + weight <= 380_000
    assert outgoing.replace("\r\n", "").count("\n") == outgoing.replace("\r\n", "").count("\r") == 0
    assert outgoing.split("\r\n") == text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


@pytest.mark.parametrize("subject", ["a" * 41, "two\nlines", "end\n", "nul\0", "\u2028", 7, "\ud800"])
def test_wrong_subjects(subject: Any) -> None:
    with pytest.raises(InvalidRequestError, match="subject"):
        checks.checked_subject(subject)


@pytest.mark.parametrize("text", ["", "  ", None, 7, "a" * 1001, "\n" * 501 + "a", "\ud800"])
def test_wrong_texts(text: Any) -> None:
    with pytest.raises(InvalidRequestError, match="text"):
        checks.checked_text(text, IMAGE)


@pytest.mark.parametrize("error", [ConfigurationError, InvalidRequestError])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, "seconds, more than 0") for value in (0, -1.0, math.nan, -math.inf, math.inf, True, "1", None)),
        (10**400, "seconds, more than 0 and at most 1,000,000,000"),
    ],
)
def test_what_seconds_are(value: Any, expected: str, error: Any) -> None:
    with pytest.raises(error, match=rf"^pause: expected {expected}, got ") as caught:
        checks.check_seconds("pause", value, error=error)
    assert type(caught.value) is error


def test_bounds_of_seconds() -> None:
    checks.check_seconds("pause", 1e-9)
    checks.check_seconds("pause", 5, most=5)
    checks.check_seconds("pause", 0, zero=True)
    for value in (-1, math.nan, False):
        with pytest.raises(ConfigurationError, match=r"^pause: expected seconds, 0 or more, got "):
            checks.check_seconds("pause", value, zero=True)
    with pytest.raises(ConfigurationError, match=r"^pause: expected seconds, more than 0 and at most 2\.5, got 2\.6$"):
        checks.check_seconds("pause", 2.6, most=2.5)


@pytest.mark.parametrize("error", [ConfigurationError, InvalidRequestError])
@pytest.mark.parametrize("value", [0, 6, 1.0, math.nan, True, "3", None])
def test_what_a_whole_number_is(value: Any, error: Any) -> None:
    with pytest.raises(error, match=r"^lots: expected a whole number from 1 to 5, got "):
        checks.check_whole("lots", value, 1, 5, error=error)
    checks.check_whole("lots", 1, 1, 5)
    checks.check_whole("lots", 5, 1, 5)
    with pytest.raises(error, match=r"^lots: expected a whole number, 7 or more, got "):
        checks.check_whole("lots", value, 7, error=error)
