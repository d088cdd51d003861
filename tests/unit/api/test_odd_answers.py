"""Answers that no server should give: contradictions, bombs, echoes of the key, and whatever hypothesis thinks of."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import pickle
import traceback
import tracemalloc
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from threading import get_ident
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import (
    APIError,
    AsyncMMSClient,
    DeliveryReport,
    MMSError,
    OutcomeUnknownError,
    RateLimitError,
    SentBatch,
    TransportError,
)
from mmsclient._api import calls
from mmsclient._api.media import Image
from mmsclient._api.phone_numbers import e164, recipients
from mmsclient._api.types import MAX_BODY, Call, Envelope, Response
from mmsclient._api.values import DEEPEST, MOST_NODES, TOO_DEEP, document, time_of, wall_clock
from mmsclient._reading.delivery import ask
from mmsclient._reading.sent import warn_of
from mmsclient._transport.credentials import OVERLAP, PIECE, AppKey
from mmsclient.models import MessageStatus
from mmsclient.sandbox import Sandbox, faults
from mmsclient.webhooks import CallbackReceiver, UnreadableCallback, new_token, parse_callbacks
from tests.conftest import PNG, Connect
from tests.support.decoding import answer, decode, meta, outcome_of
from tests.support.fuzzed_answers import CALLS, SCRUB, check_truth, check_usable, values
from tests.support.fuzzing import cases

ZONE = ZoneInfo("Australia/Melbourne")
TO = ("+61400000000", "+61400000001")
KEY = "a-key/of+some-length"


def send_call(*to: str, text: str = "Hello") -> Call[Any]:
    return calls.send(recipients(to or TO), text, Image(b"GIF89a", "gif"), None, ZONE)


def message(to: str, message_id: Any = "A1") -> dict[str, Any]:
    return {"message_id": message_id, "to": to}


def sent(*messages: Any, number: Any = 2, **more: Any) -> SentBatch:
    result = decode(send_call(), answer(meta({"messages": list(messages), "success_number": number, **more})))
    assert isinstance(result, SentBatch)
    return result


# What contradicts the call --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [3, "3", 10**6, 2**63, "9" * 29])
def test_more_successes_than_recipients_are_all_recipients_and_are_told(number: Any) -> None:
    batch = sent(message(TO[0]), number=number)
    assert (batch.accepted, batch.total, batch.refused) == (2, 2, ())
    assert len(batch.flaws) == 1
    assert batch.raw["data"]["success_number"] == number


@pytest.mark.parametrize("number", [0, "1"])
def test_messages_of_more_than_are_said_to_be_accepted_are_told(number: Any, caplog: pytest.LogCaptureFixture) -> None:
    batch = sent(message(TO[0]), message(TO[1], "B"), number=number)
    assert (batch.accepted, batch.refused, len(batch.messages)) == (int(number), None, 2)
    assert batch.flaws == (f"it says that {number} of 2 recipients were accepted, but lists messages to 2",)
    warn_of("send-mms", batch)
    assert [record.message for record in caplog.records] == [
        f"send-mms: the answer contradicts the call: {batch.flaws[0]}"
    ]


def test_messages_that_were_not_asked_for_are_left_out_and_told() -> None:
    batch = sent(message(TO[0]), message("+61499999999", "X"), message("0400 000 001", "B"), message(TO[0], "C"))
    assert [(each.to, each.id) for each in batch.messages] == [(TO[0], "A1"), (TO[1], "B")]
    assert "2 messages" in batch.flaws[0]
    assert len(batch.raw["data"]["messages"]) == 4


def test_there_are_no_more_messages_than_recipients_though_they_name_no_phone() -> None:
    batch = sent({"message_id": "A"}, {"message_id": "B"}, message(TO[1], "C"), {"message_id": "D"})
    assert [each.id for each in batch.messages] == ["A", "C"]
    assert "2 messages" in batch.flaws[0]


def test_a_negative_credit_is_none() -> None:
    assert sent(message(TO[0]), credits_used="-2").credits_used is None
    assert sent(message(TO[0]), credits_used="2.5").credits_used == Decimal("2.5")


def test_an_answer_that_names_none_of_the_recipients_is_that_of_another_call() -> None:
    with pytest.raises(OutcomeUnknownError, match="none of the recipients"):
        sent(message("+61499999999"), message("+61499999998"))
    assert sent({"message_id": "A1"}).accepted == 2  # it names nobody


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("code", ["OK", "QUEUED", "AUTH_FAILED", "RECIPIENTS_ERROR", "OVER_LIMIT", "SUCCESS"])
@pytest.mark.parametrize("data", [{"messages": [message(TO[0])]}, {"success_number": "1"}])
def test_an_answer_that_lists_messages_is_never_a_refusal(status: int, code: str, data: Any) -> None:
    body = {"meta": {"code": status, "status": code}, "msg": "?", "data": data}
    outcome = outcome_of(send_call(), answer(body, status))
    if (status, code) == (200, "SUCCESS") and "success_number" in data:
        assert outcome.accepted == 1
    else:
        assert isinstance(outcome, OutcomeUnknownError)
        assert outcome.code == code


@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 429])
@pytest.mark.parametrize("body", [{"data": {"messages": [message(TO[0])]}}, {"success_number": "1"}])
def test_an_answer_that_lists_messages_is_never_a_refusal_though_it_holds_no_code(status: int, body: Any) -> None:
    with pytest.raises(OutcomeUnknownError, match="it lists messages that were taken") as caught:
        decode(send_call(), answer(body, status))
    assert caught.value.code is None


NAMED = [
    b'{"meta":{"status":"OVER_LIMIT"},"data":[{"message_id":"A1","to":"+61400000000"}]}',
    b'{"meta":{"status":"OVER_LIMIT"},"data":{"0":{"message_id":1}}}',
    b'{"meta":{"status":"OVER_LIMIT"},"data":{"message_id":"A1"}}',
    b'{"meta":{"status":"OVER_LIMIT"},"data":{"responses":[{"message_id":"A1"}]}}',
    b'{"meta":{"status":"OVER_LIMIT"},"data":[],"messages":[{"to":"+61400000000"}]}',
    b'{"meta":{"status":"OVER_LIMIT"},"data":[],"success_number":1}',
    b'{"data":{"success_number":"1"},"meta":{"status":"OVER_LIMIT"},"data":[]}',
    b'{"meta":{"status":"OVER_LIMIT"},"data":{"messages":[{"to":"+61400000000"}],"messages":[]}}',
    b'{"meta":{"status":"OVER_LIMIT"},"data":{"success_number":2,"success_number":0,"x":1e999}}',
    b'{"meta":{"status":"OVER_LIMIT"},"data":{"messages":[{"message_id":"A',
]


@pytest.mark.parametrize("body", NAMED)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_message_that_is_named_anywhere_in_an_answer_was_taken(body: bytes, encoding: str) -> None:
    """Also where a later field of the same name hides it."""
    for status in (200, 400, 429):
        with pytest.raises(OutcomeUnknownError, match="it lists messages that were taken"):
            decode(send_call(), answer(body.decode().encode(encoding), status))


@pytest.mark.parametrize(
    "data",
    [
        [],
        "",
        [TO[0]],
        [{"to": TO[0]}],
        {"message_id": ""},
        [{"message_id": None}],
        {"messages": {}},
        {"success_number": 0},
    ],
)
@pytest.mark.parametrize("place", ["data", "more"])
def test_a_throttling_that_names_no_message_is_one(data: Any, place: str) -> None:
    msg = 'no "message_id": "A1", "success_number": 1'
    with pytest.raises(RateLimitError):
        decode(send_call(), answer({"meta": {"status": "OVER_LIMIT"}, "msg": msg, place: data}))


async def test_a_throttling_that_lists_messages_repeats_no_send(connect: Connect, sandbox: Sandbox) -> None:
    body = json.dumps({"data": {"messages": [message(TO[0])], "success_number": "1"}}).encode()
    sandbox.faults.add(faults.Respond(429, body, carried_out=True), call="send-mms")
    with pytest.raises(OutcomeUnknownError):
        await connect().send(to=TO[0], text="Hi", image=PNG)
    assert sandbox.carried_out(TO[0]) == 1


@pytest.mark.parametrize("data", [[], {}, {"messages": []}, {"messages": "", "success_number": "0"}, "no", 7])
def test_a_code_that_nobody_knows_and_no_message_is_a_refusal(data: Any) -> None:
    with pytest.raises(APIError):
        decode(send_call(), answer({"meta": {"status": "NEW_CODE"}, "msg": "No", "data": data}))


# What cannot be shown or kept -----------------------------------------------------------------------------------------


def test_lone_surrogates_become_replacement_characters() -> None:
    batch = sent(message(TO[0], "A\ud800"), note={"\udfff": "\udfff"})
    assert batch.messages[0].id == "A\ufffd"
    json.dumps(batch.raw, ensure_ascii=False).encode()


def nested(depth: int) -> bytes:
    return b'{"meta":{"status":"SUCCESS"},"data":{"success_number":2,"x":' + b"[" * depth + b"]" * depth + b"}}"


@pytest.mark.parametrize("depth", [DEEPEST, 100, 900])
def test_what_is_nested_too_deep_is_cut_off_and_the_rest_is_read(depth: int) -> None:
    batch = decode(send_call(), answer(nested(depth)))
    assert batch.accepted == 2
    assert TOO_DEEP in json.dumps(batch.raw)
    assert pickle.loads(pickle.dumps(batch)) == batch  # noqa: S301


@pytest.mark.parametrize("depth", [100_000, 500_000])
def test_what_no_parser_takes_is_unreadable(depth: int) -> None:
    with pytest.raises(OutcomeUnknownError):
        decode(send_call(), answer(nested(depth)))


@pytest.mark.parametrize("data", [7, "text", True, None, [7], ["a", []], {"message_id": 7}])
def test_scalars_where_messages_should_be(data: Any) -> None:
    for call in (calls.message("1", ZONE), calls.account(), calls.replies(1, "mms", ZONE), send_call()):
        outcome = outcome_of(call, answer(meta(data)))
        assert isinstance(outcome, TransportError) or not isinstance(outcome, MMSError)


# What costs much ------------------------------------------------------------------------------------------------------


BOMBS = {
    "numbers": b'{"meta":{"status":"SUCCESS"},"data":{"responses":[' + b"1," * 3_900_000 + b"1]}}",
    "objects": b'{"meta":{"status":"SUCCESS"},"data":{"responses":[' + b"{}," * 2_600_000 + b"{}]}}",
    "fields": b'{"meta":{"status":"SUCCESS"},"data":{"responses":[' + b'{"from":"61400000000"},' * 80_000 + b"{}]}}",
    "digits": b'{"meta":{"status":"SUCCESS"},"data":{"success_number":' + b"9" * 8_000_000 + b"}}",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_bomb_is_refused_before_a_model_is_made_of_each_item(name: str, compressed: bool) -> None:
    reply = answer(BOMBS[name])
    if compressed:
        reply = answer(gzip.compress(BOMBS[name]), content_encoding="gzip")
        assert len(reply.body) < 100_000
    for call in (calls.replies(1, "mms", ZONE), calls.opt_outs(1, None, None, ZONE), send_call()):
        with pytest.raises(TransportError):
            decode(call, reply)


@pytest.mark.parametrize("count", [MOST_NODES + 1, 1_000_000])
def test_a_document_of_too_many_values_is_refused_before_it_is_read(count: int) -> None:
    scrubbed: list[str] = []
    with pytest.raises(ValueError, match=f"more than {MOST_NODES} values"):
        document("[" + '"x",' * (count - 1) + '"x"]', scrubbed.append)  # type: ignore[arg-type]
    assert not scrubbed
    with pytest.raises(TransportError):
        decode(
            calls.custom("GET", "anything", params=None, form=None, json=None, repeatable=True),
            answer(b'{"meta":{"status":"SUCCESS"},"data":[' + b"0," * count + b"0]}"),
        )


@pytest.mark.parametrize("unit", ['\\"', '""', "\\\n", '"', "\\", '"\\'])
def test_a_text_without_an_end_is_refused_in_the_time_of_reading_it_once(unit: str) -> None:
    """In quadratic time this takes an hour, in which no other thread runs."""
    with pytest.raises(ValueError, match=r".") as caught:
        document("[" + "," * (MOST_NODES + 1) + '"' + unit * 1_000_000)
    assert str(caught.value) == f"more than {MOST_NODES} values"


def test_a_number_of_many_digits_stays_text() -> None:
    """An int of thousands of digits takes quadratic time, and more than 4300 cannot be shown again."""
    for digits in ("9" * 41, "9" * 5000, "-" + "9" * 5000, "1." + "9" * 5000, "1e" + "9" * 5000, "1e400"):
        assert document(f"[{digits}]") == [digits]
    assert document("[1e3, 12, 9007199254740993]") == [1000.0, 12, 9007199254740993]


def test_what_is_inflated_of_a_compressed_answer_is_bounded() -> None:
    reply = answer(gzip.compress(b" " * 96_000_000), content_encoding="gzip")
    tracemalloc.start()
    try:
        with pytest.raises(TransportError):
            decode(calls.account(), reply)
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_BODY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("text", "zipped"), [("x" * 100, False), ("x" * 200_000, False), ("%41" * 2_000_000, True)])
async def test_a_large_or_compressed_answer_is_scrubbed_and_decoded_in_a_thread(
    text: str, zipped: bool, connect: Connect, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compressed one of a few kilobytes may be as large as it likes."""
    threads: list[int] = []

    def account() -> Call[Any]:
        return Call(name="account", method="GET", repeatable=True, read=lambda envelope: threads.append(get_ident()))

    monkeypatch.setattr(calls, "account", account)
    scrub = AppKey.scrub

    def scrubbing(key: AppKey, data: bytes) -> bytes:
        threads.append(get_ident())
        return scrub(key, data)

    monkeypatch.setattr(AppKey, "scrub", scrubbing)
    body = json.dumps(meta({"account_name": text})).encode()
    headers = {"content-type": "application/json"}
    if zipped:
        body, headers["content-encoding"] = gzip.compress(body), "gzip"
    sandbox.faults.add(faults.Respond(200, body, headers), times=1)
    await connect().account()
    assert [thread == get_ident() for thread in threads] == [text == "x" * 100] * 2


@pytest.mark.parametrize(
    "form", [quote(KEY, safe=""), "".join(f"%{ord(c):02x}" for c in KEY), KEY.replace("k", "&#107;")]
)
@pytest.mark.parametrize("place", [0, 1, PIECE - OVERLAP - 1, PIECE - OVERLAP, PIECE - 5, PIECE, 3 * PIECE])
def test_an_escaped_key_is_found_wherever_it_stands_in_a_long_text(place: int, form: str) -> None:
    """It is searched for piece by piece, so that other threads can run in between."""
    key = AppKey(KEY, "both")
    text = " " * place + form
    assert key.scrub_text(text + "!" * 70_000) == "***"
    assert key.scrub_text(text) == "***"
    assert key.scrub_text(text[:-1] + "!") == text[:-1] + "!"


REFERENCES = ["&#" + "9" * 5000 + ";", "&#" + "0" * 5000 + "65;", "&#x" + "9" * 5000, "&#" + "9" * 600_000]


@pytest.mark.parametrize("reference", REFERENCES, ids=len)
def test_a_character_reference_of_any_length_is_read_like_any_text(reference: str) -> None:
    """More than 4300 digits are no int: one such reply would close the inbox for good."""
    replies = [{"from": TO[0], "body": "STOP"}, {"from": TO[1], "body": reference}]
    key = AppKey(KEY, "both")
    page = decode(calls.replies(1, "mms", ZONE), evolve(answer(meta({"responses": replies})), scrub=key.scrub_text))
    assert [reply.text for reply in page.items] == ["STOP", reference]
    assert key.scrub_text(f"{reference} {KEY.replace('k', '&#107;')}") == "***"
    assert key.scrub_text(KEY.replace("k", "&#" + "0" * 5000 + "107;")) == "***"


@pytest.mark.parametrize("reference", REFERENCES[:3], ids=len)
async def test_a_header_line_that_no_parser_takes_leaves_the_outcome_unknown(reference: str) -> None:
    """Its error quotes the line."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nx: {reference}\0\r\n\r\n".encode())
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with AsyncMMSClient(KEY, base_url=url, rate=None) as mms:
        with pytest.raises(OutcomeUnknownError, match="RemoteProtocolError"):
            await mms.send(to=TO[0], text="Hi", image=PNG)
    server.close()
    await server.wait_closed()


def test_commas_in_a_text_are_no_items() -> None:
    texts = [message(TO[0]) | {"body": "," * 150_000}, message(TO[1]) | {"body": "[,{" * 50_000}]
    assert len(sent(*texts).messages) == 2


def test_callbacks_of_many_items_are_refused() -> None:
    item = b'{"status":"x","recipient":"1"}'
    (event,) = parse_callbacks(b"[" + b",".join([item] * 30_000) + b"]")
    assert isinstance(event, UnreadableCallback)


async def test_the_echo_of_seven_hundred_emoji_to_a_thousand_phones_is_read(connect: Connect, sandbox: Sandbox) -> None:
    numbers = [f"+6140000{number:04}" for number in range(1000)]
    batch = await connect().send(to=numbers, text="\U0001f600" * 700, image=PNG)
    assert batch.accepted == 1000
    assert len(json.dumps(batch.raw)) > MAX_BODY


# The key --------------------------------------------------------------------------------------------------------------


def echoes(key: str) -> dict[str, Response]:
    """Answers in which a server repeats the key."""
    plain = json.dumps({"meta": {"status": "NO"}, "msg": f"key {key}", "data": {"k": [key, {key: key}]}})
    escaped = plain.replace(key, "".join(f"\\u{ord(c):04x}" for c in key))
    page = f"<p>{key} {base64.b64encode(f'{key}:'.encode()).decode()} {quote(key, safe='')}</p>"
    entities = "<p>" + "".join(f"&#{ord(c)};" for c in key) + "</p>"
    return {
        "plain": answer(plain.encode()),
        "gzip": answer(gzip.compress(plain.encode()), content_encoding="gzip"),
        "deflate": answer(zlib.compress(plain.encode()), content_encoding="deflate"),
        "gzip page": answer(gzip.compress(page.encode()), content_encoding="gzip"),
        "gzip cut": answer(gzip.compress(page.encode())[:-9], 500, content_encoding="gzip"),
        "utf-16": answer(plain.encode("utf-16")),
        "utf-16 page": answer(page.encode("utf-16-le")),
        "utf-32": answer(plain.encode("utf-32")),
        "escaped": answer(escaped.encode()),
        "escaped and cut": answer(escaped.encode()[:-3]),
        "page": answer(page.encode(), 400),
        "entities": answer(entities.encode(), 502),
        "percent": answer(quote(page, safe="").encode(), 502),
        "success": answer(meta({"success_number": 2, "messages": [message(TO[0], key)], "echo": key})),
    }


@pytest.mark.parametrize("name", echoes(KEY))
def test_the_key_is_in_no_error_pickle_or_result(name: str) -> None:
    key = AppKey(KEY, "both")
    reply = echoes(KEY)[name]
    reply = Response(
        status=reply.status, headers=reply.headers, body=key.scrub(reply.body), flaw=None, scrub=key.scrub_text
    )
    for call in (send_call(), calls.account(), calls.message("1", ZONE)):
        shown = outcome_of(call, reply)
        text = f"{shown} {shown!r} {pickle.dumps(shown)!r} {getattr(shown, 'raw', '')}"
        for secret in (KEY, quote(KEY, safe=""), base64.b64encode(f"{KEY}:".encode()).decode().rstrip("=")):
            assert secret not in text
        assert "a-key" not in text.replace("\\x00", "").replace(" ", "")


PAGES = [
    ("utf-16-le", "x"),
    ("utf-16", " "),
    ("utf-32", " "),
    ("utf-8", "\u2003"),
    ("utf-8", "\U0001f600"),
    ("utf-8", f"{KEY} "),
    ("utf-8", "%20"),
]


@pytest.mark.parametrize(("encoding", "filler"), PAGES)
@pytest.mark.parametrize("zipped", [False, True])
def test_an_excerpt_ends_within_no_key(encoding: str, filler: str, zipped: bool) -> None:
    """What is cut off in the middle of a key is no longer found as one."""
    key = AppKey(KEY, "both")
    for length in range(0, 10_000, len(KEY) // 2):
        body = ("x" + filler * (length // len(filler)) + KEY + "!" * 100).encode(encoding)
        headers = {"content-encoding": "gzip"} if zipped else {}
        if zipped:
            body = gzip.compress(body, 1)
        reply = evolve(answer(key.scrub(body), 502, **headers), scrub=key.scrub_text)
        assert "a-k" not in str(outcome_of(calls.account(), reply))


def held(error: BaseException | None) -> Iterator[Any]:
    """The errors that led to this one, and the variables of the package's frames that they went through."""
    while error is not None:
        yield error.__dict__
        yield getattr(error, "doc", None)
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "mmsclient" in frame.f_globals["__name__"]:
                yield from frame.f_locals.values()
        error = error.__context__


@pytest.mark.parametrize("name", [*echoes(KEY), "no text"])
@pytest.mark.parametrize("status", [200, 400])
async def test_an_error_holds_neither_the_answer_nor_the_key(name: str, status: int, sandbox: Sandbox) -> None:
    reply = {"no text": answer(b"\xff" + KEY.encode()), **echoes(sandbox.app_key)}[name]
    headers = {name: value for name, value in reply.headers.items() if name == "content-encoding"}
    sandbox.faults.add(faults.Respond(status, reply.body, headers))
    async with sandbox.client(rate=None, max_attempts=1) as mms:
        for call in (mms.account, partial(mms.send, to=TO[0], text="Hi", image=PNG)):
            try:
                await call()
            except MMSError as error:
                everything = [*held(error)]
                assert not any(isinstance(each, Response | Envelope) for each in everything)
                assert sandbox.app_key not in repr(everything)


# Numbers, times, missing ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("61400000000", "+61400000000"),
        ("+61400000000", "+61400000000"),
        ("0400000000", "+61400000000"),
        ("6421123456", "+6421123456"),
        ("12345", "12345"),
        ("MyShop", "MyShop"),
        ("", ""),
        ("0123456789", "0123456789"),
    ],
)
def test_numbers_are_in_e164_wherever_they_come_from(text: str, expected: str) -> None:
    assert e164(text) == expected
    (report,) = parse_callbacks(json.dumps([{"message_id": "1", "status": "Delivered", "recipient": text}]))
    assert isinstance(report, DeliveryReport)
    assert report.recipient == expected
    assert report.raw["recipient"] == text


def test_bounds_in_the_repeated_hour_lose_nobody() -> None:
    """Melbourne leaves daylight saving on 5 April 2026 at 3:00."""
    first, second = datetime(2026, 4, 4, 15, 30, tzinfo=UTC), datetime(2026, 4, 4, 16, 30, tzinfo=UTC)
    assert {wall_clock(time, ZONE, is_end=True) for time in (first, second)} == {"2026-04-05 03:30:00"}
    assert {wall_clock(time, ZONE, is_end=False) for time in (first, second)} == {"2026-04-05 01:30:00"}
    plain = datetime(2026, 7, 1, 0, 0, tzinfo=UTC)
    assert wall_clock(plain, ZONE, is_end=True) == wall_clock(plain, ZONE, is_end=False) == "2026-07-01 10:00:00"


def test_a_time_in_the_repeated_hour_is_the_earlier() -> None:
    """So that whoever asks for what came since then misses nothing."""
    for zone, text, earlier in [
        (ZONE, "2026-04-05 02:30:00", datetime(2026, 4, 4, 15, 30, tzinfo=UTC)),
        (ZoneInfo("Europe/Dublin"), "2026-10-25 01:30:00", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ]:
        time = time_of(text, zone)
        assert time is not None
        assert time.astimezone(UTC) == earlier


@pytest.mark.parametrize("none", [{}, {"message_id": ""}, {"message_id": " "}, {"message_id": None}])
async def test_wait_delivered_has_no_status_of_a_message_without_an_id(
    none: dict[str, Any], connect: Connect, sandbox: Sandbox
) -> None:
    batch = sent({"to": TO[0]} | none)
    mms = connect()
    assert await mms.wait_delivered(batch, timeout=5) == {TO[0]: None}
    async with CallbackReceiver(token=new_token()) as receiver:
        async with asyncio.timeout(60):  # it has nothing to wait for
            assert await mms.wait_delivered(batch, timeout=600, via=receiver) == {TO[0]: None}
    assert not sandbox.arrivals


async def test_a_message_without_an_id_is_not_asked_for() -> None:
    batch = sent({"to": TO[0]}, message(TO[1], "B"))

    async def status(message_id: str) -> MessageStatus | None:
        assert message_id == "B"
        found = decode(
            calls.message("B", ZONE), answer(meta([{"message_id": "B", "to": TO[1], "status": "Delivered"}]))
        )
        assert isinstance(found, MessageStatus)
        return found

    assert await ask(batch, status, 5) == {TO[0]: None, TO[1]: "Delivered"}


# Whatever hypothesis thinks of ----------------------------------------------------------------------------------------


@cases(150)
@given(st.sampled_from([*chain(*CALLS.values())]), values, st.sampled_from([200, 200, 301, 400, 404, 429, 500]))
def test_any_document_gives_a_model_or_an_error_that_is_true(call: Call[Any], body: Any, status: int) -> None:
    """Any at all; `test_decoders` has those that are nearly right."""
    reply = evolve(answer(body, status), scrub=SCRUB)
    outcome = outcome_of(call, reply)
    check_usable(outcome)
    check_truth(call, reply, outcome)


@cases(400)
@given(st.lists(values, max_size=5) | values)
def test_any_callback_gives_events_that_can_be_kept(body: Any) -> None:
    for event in parse_callbacks(json.dumps(body).encode()):
        str(event), repr(event)
        assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301
        if not isinstance(event, UnreadableCallback):
            json.dumps(event.raw, ensure_ascii=False, allow_nan=False).encode()
            assert event.raw


@cases(200)
@given(st.text(max_size=200))
def test_any_text_is_a_document_or_a_value_error(text: str) -> None:
    try:
        document(text)
    except (ValueError, RecursionError):
        return
    json.loads(text)


@pytest.mark.parametrize("text", ["61400000000", "0400000000", "+61400000000"])
def test_every_model_has_its_number_in_e164_and_raw_as_it_came(text: str) -> None:
    report, inbound = parse_callbacks(
        json.dumps(
            [
                {"message_id": "1", "status": "Delivered", "recipient": text},
                {"message_id": "2", "from": text, "body": "Hi"},
            ]
        ).encode()
    )
    (reply,) = decode(calls.replies(1, "mms", ZONE), answer(meta({"responses": [{"from": text}]}))).items
    (gone,) = decode(calls.opt_outs(1, None, None, ZONE), answer(meta({"responses": [{"number": text}]}))).items
    for model, name, key in [
        (report, "recipient", "recipient"),
        (inbound, "sender", "from"),
        (reply, "sender", "from"),
        (gone, "number", "number"),
    ]:
        assert getattr(model, name) == "+61400000000"
        assert model.raw[key] == text
