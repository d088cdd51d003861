"""Answers nearly right, wholly wrong, cut, compressed, mangled and huge; and what must hold of their reading."""

from __future__ import annotations

import copy
import gzip
import json
import pickle
import re
import sys
import zlib
from typing import Any
from zoneinfo import ZoneInfo

from attrs import evolve
from hypothesis import strategies as st

from mmsclient import APIError, MMSError, OutcomeUnknownError, RateLimitError, SentBatch
from mmsclient._api import calls, sms_calls
from mmsclient._api.items import MOST_ITEMS
from mmsclient._api.media import Image
from mmsclient._api.phone_numbers import phone_key, recipients
from mmsclient._api.sms_fields import Options
from mmsclient._api.types import Call, Response
from mmsclient._api.values import DEEPEST
from mmsclient._transport.credentials import AppKey
from mmsclient.cli.output import to_json
from mmsclient.models import Page, SentMany
from mmsclient.sms import SMS

ZONE = ZoneInfo("Australia/Melbourne")


TO = ("+61400000000", "+61400000001")


KEY = "a-key/of+some-length"


SCRUB = AppKey(KEY, "both").scrub_text


def send(*to: str, text: str = "Hello") -> Call[Any]:
    return calls.send(recipients(to or TO), text, Image(b"GIF89a", "gif"), None, ZONE)


CALLS: dict[str, list[Call[Any]]] = {
    "send": [send(), send(TO[0])],
    "replies": [calls.replies(1, "mms", ZONE)],
    "opt_outs": [calls.opt_outs(1, None, None, ZONE)],
    "templates": [calls.templates(1, ZONE)],
    "mark_read": [calls.mark_read(["1"]), calls.mark_read(["1", "2"])],
    "mark_read_before": [calls.mark_read_before(1)],
    "message": [calls.message("A1", ZONE)],
    "account": [calls.account()],
    "sms_send": [sms_calls.send("send-sms", TO, "Hello", Options(), ZONE)],
    "sms_send_nz": [sms_calls.send_nz(TO, "Hello", Options(sender="2424"), ZONE)],
    "sms_send_template": [sms_calls.send_template("7", TO, Options(), ZONE)],
    "sms_send_many": [sms_calls.send_many([SMS(to=TO[0], text="Hello"), SMS(to=TO[1], text="Hi")], ZONE)],
    "sms_register_alpha_id": [sms_calls.register_alpha_id("SHOP", "ours")],
    "custom": [
        calls.custom("POST", "send-sms", params=None, form=None, json=None, repeatable=False),
        calls.custom("GET", "anything", params=None, form=None, json=None, repeatable=True),
    ],
}
"""Each function of `calls`, and of `sms_calls`, called."""


MESSAGE = {
    "message_id": "A1",
    "to": TO[0],
    "subject": "Hi",
    "body": "Hello",
    "date": "2026-04-05 02:30:00",
    "status": "Delivered",
    "sent_time": "2026-01-02 03:04:05",
}


SMS_MESSAGE = {**MESSAGE, "from": "SHOP", "custom_string": "order-17", "direction": "out"}


REPLY = {
    "from": "61400000000",
    "body": "Yes",
    "received_at": "2026-01-02 03:04:05",
    "original_body": "Hello",
    "original_message_id": "A1",
    "message_id": "B1",
    "subaccount_id": "",
    "custom_string": None,
}


OPT_OUT = {"number": "61400000000", "first_name": None, "dob": "", "created_at": "2026-01-02 03:04:05"}


TEMPLATE = {"template_id": 7, "message_title": "T", "Message": "Hi", "created_at": "2026-01-02 03:04:05"}


PAGE = {"count": "2", "number": 1}


SAMPLES: dict[str, Any] = {
    "send": {"messages": [MESSAGE, {**MESSAGE, "to": TO[1]}], "success_number": "2", "credits_used": "2.5"},
    "replies": {"page": PAGE, "total": "1", "responses": [REPLY]},
    "opt_outs": {"page": PAGE, "total": 1, "responses": {"0": OPT_OUT}},
    "templates": {"page": PAGE, "total": 1, "responses": [TEMPLATE]},
    "mark_read": [],
    "mark_read_before": [],
    "message": [MESSAGE, MESSAGE],
    "account": {"account_name": "A", "account_email": "a@b.example", "sms_balance": 2, "mms_balance": "2.50"},
    "custom": {"anything": [1, "2", None]},
    "sms_send": {"messages": [SMS_MESSAGE], "total_numbers": 2, "success_number": 2, "credits_used": 2},
    "sms_send_nz": {"messages": [SMS_MESSAGE], "total_numbers": 2, "success_number": 2, "credits_used": 2},
    "sms_send_template": {"messages": [SMS_MESSAGE], "total_numbers": 2, "success_number": 2, "credits_used": 2},
    "sms_send_many": {"messages": [SMS_MESSAGE], "total_numbers": 1, "success_number": 1, "credits_used": 1},
    "sms_register_alpha_id": [],
}
"""What each of them is given when all is well."""


FIELDS = sorted(
    {*MESSAGE, *REPLY, *OPT_OUT, *TEMPLATE, *SAMPLES["send"], *SAMPLES["replies"], *SAMPLES["account"], "recipient"}
    | {"meta", "error", "msg", "data", "low_sms_alert", "code", "description", "0", "1"}
)


values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(
        [*TO, "61499999999", "SUCCESS", "", "0", "-1", "2", "1e9", "NaN", 2**63, "9" * 400, "\ud800", KEY]
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=12,
)
"""Anything that JSON can hold, with the names and values of the API among it."""


growths = st.sampled_from(
    [
        *((f"deep {depth}", "[" * depth + "]" * depth) for depth in (DEEPEST, 900, 5_000, 100_000)),
        *((f"objects {depth}", '{"a":' * depth + "1" + "}" * depth) for depth in (DEEPEST, 900, 5_000)),
        *((f"digits {count}", "9" * count) for count in (41, 5_000, 100_000)),
        *((f"items {count}", "[" + "1," * count + "1]") for count in (100, 3_000, 300_000)),
        *((f"objects {count}", "[" + '{"to":"1"},' * count + "{}]") for count in (100, 3_000, 80_000)),
        ("text", '"' + "[{,x" * 50_000 + '"'),
        ("exponent", "1e400"),
        ("constant", "-Infinity"),
    ]
).map(lambda growth: growth[1])
"""JSON that no generator of values makes, as text."""


def nodes(document: Any) -> list[tuple[Any, Any]]:
    """Each place in `document`, as what holds it and its key there."""
    if not isinstance(document, dict | list):
        return []
    places = list(document.items() if isinstance(document, dict) else enumerate(document))
    return [(document, key) for key, _ in places] + [node for _, value in places for node in nodes(value)]


@st.composite
def documents(draw: Any, name: str) -> str:
    """The sample answer of the call `name` as JSON, in either envelope, with up to five changes anywhere in it."""
    code = draw(st.sampled_from(["SUCCESS"] * 4 + ["success ", "OK", "NOT_FOUND", "OVER_LIMIT", "FIELD_INVALID", ""]))
    data = copy.deepcopy(SAMPLES[name])
    document: Any = {"error": {"code": code, "description": "?"}, **(data if isinstance(data, dict) else {})}
    if draw(st.booleans()):
        document = {"meta": {"code": 200, "status": code}, "msg": "?", "data": data, "low_sms_alert": ""}
    if name == "sms_send_many":
        document = [document, copy.deepcopy(document)][: draw(st.integers(0, 2))]
    grown = ""
    for _ in range(draw(st.integers(0, 5))):
        places = nodes(document)
        if not places:
            break
        parent, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "replace", "delete", "repeat", "wrap", "spell", "grow"]))
        if change == "delete":
            del parent[key]
        elif change == "repeat" and isinstance(parent[key], list):
            parent[key] = parent[key] * draw(st.integers(2, 40))
        elif change == "wrap":
            parent[key] = draw(st.sampled_from([[parent[key]], {"0": parent[key]}, {"item": parent[key]}]))
        elif change == "spell":
            parent[key] = json.dumps(parent[key])
        elif change == "grow":
            grown, parent[key] = draw(growths), "@grown@"
        else:
            parent[key] = draw(values)
    return json.dumps(document, ensure_ascii=draw(st.booleans())).replace('"@grown@"', grown)


encodings = st.sampled_from(["utf-8"] * 5 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp037"])


codings = st.sampled_from([""] * 5 + ["gzip", "x-gzip", "GZIP ", "deflate", "br"])


headers = st.dictionaries(
    st.sampled_from(["location", "retry-after", "date", "content-type", "content-encoding"]),
    st.text(max_size=20) | st.sampled_from(["gzip", "https://[", "//x", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 400]),
    max_size=2,
)


@st.composite
def answers(draw: Any, name: str) -> Response:
    """An answer to the call `name`: nearly right, any JSON, or any bytes."""
    text = draw(documents(name) | documents(name) | documents(name) | values.map(json.dumps))
    encoding = draw(encodings)
    body = text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
    coding = draw(codings)
    if coding.strip().lower() in ("gzip", "x-gzip"):
        body = gzip.compress(body)
    elif coding == "deflate":
        body = zlib.compress(body)
    damage = draw(st.sampled_from([""] * 6 + ["cut", "flip", "bytes"]))
    if damage == "cut":
        body = body[: draw(st.integers(0, len(body)))]
    elif damage == "flip" and body:
        place = draw(st.integers(0, len(body) - 1))
        body = body[:place] + draw(st.binary(min_size=1, max_size=3)) + body[place + 1 :]
    elif damage == "bytes":
        body = draw(st.binary(max_size=60))
    return Response(
        status=draw(st.sampled_from([200] * 6 + [201, 204, 301, 400, 401, 403, 404, 408, 413, 429, 500, 503])),
        headers={**draw(headers), **({"content-encoding": coding} if coding else {})},
        body=body,
        flaw=draw(st.sampled_from([None] * 9 + ["the connection was lost"])),
        scrub=SCRUB,
    )


class Exchange:
    """A call and what came back. Its repr is short, whatever came."""

    def __init__(self, call: Call[Any], reply: Response) -> None:
        self.call = call
        self.reply = reply

    def __repr__(self) -> str:
        shown = evolve(self.reply, body=self.reply.body[:2_000])
        return f"Exchange({self.call.name}, {shown!r}, of {len(self.reply.body)} bytes)"


@st.composite
def exchanges(draw: Any) -> Exchange:
    name = draw(st.sampled_from(sorted(CALLS)))
    return Exchange(draw(st.sampled_from(CALLS[name])), draw(answers(name)))


def said(data: Any, status: int = 200, code: str = "SUCCESS", **more: str) -> Response:
    """An answer in the newer envelope; `data` may be JSON already."""
    text = data if isinstance(data, str) else json.dumps(data)
    body = f'{{"meta":{{"code":{status},"status":"{code}"}},"msg":"?","data":{text}}}'.encode()
    if more.get("content_encoding") == "gzip":
        body = gzip.compress(body)
    return Response(status=status, headers={name.replace("_", "-"): v for name, v in more.items()}, body=body)


EMOJI = "\U0001f600" * 700


THOUSAND = [f"+6140000{number:04}" for number in range(1000)]


ECHO = {"messages": [{**MESSAGE, "to": to, "body": EMOJI} for to in THOUSAND], "success_number": 1000}


class Work:
    """Calls of functions, Python's and C's, while it is entered: a measure of time that no other load changes."""

    def __enter__(self) -> Work:
        self.calls = 0
        self._before = sys.getprofile()
        sys.setprofile(self._count)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(self._before)

    def _count(self, frame: Any, event: str, argument: Any) -> None:
        self.calls += event in ("call", "c_call")


def size_of(reply: Response) -> int:
    """Bytes of the answer, inflated where it can be."""
    try:
        return max(len(reply.body), len(zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(reply.body, 2**24)))
    except zlib.error:
        return len(reply.body)


def lists_messages(reply: Response) -> bool:
    """Messages stand in the answer, which came whole, as far as the tests can read it."""
    if reply.flaw:
        return False
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return False
    for each in document if isinstance(document, list) else [document]:
        data = each.get("data", each) if isinstance(each, dict) else {}
        if isinstance(data, dict) and data.get("messages"):
            return True
    return False


def check_truth(call: Call[Any], reply: Response, outcome: Any) -> None:
    """What the outcome says of the call is no more than the answer tells."""
    if isinstance(outcome, SentBatch):
        total = len(set(re.findall(r"\+614[0-9]{8}", (call.form or {}).get("numbers") or json.dumps(call.json))))
        assert 0 <= outcome.accepted <= outcome.total == total
        assert {phone_key(each.to) for each in outcome.messages if each.to} <= {to[1:] for to in (*TO, *THOUSAND)}
        assert len(outcome.messages) <= total
        assert outcome.refused is None or len(outcome.refused) == outcome.total - outcome.accepted
        assert outcome.credits_used is None or outcome.credits_used >= 0
    elif isinstance(outcome, Page):
        assert len(outcome.items) <= MOST_ITEMS
    elif isinstance(outcome, SentMany):
        check_truth_of_many(call, reply, outcome)
        return
    if not isinstance(outcome, MMSError):
        assert reply.status == 200 or call.not_found is not None
        assert reply.flaw is None
    elif not call.repeatable and (reply.status >= 500 or (reply.status < 400 and not isinstance(outcome, APIError))):
        assert isinstance(outcome, OutcomeUnknownError)
    if isinstance(outcome, APIError) and not call.repeatable:
        assert reply.status in (200, 429) or 400 <= reply.status < 500
        assert not isinstance(outcome, RateLimitError) or reply.status == 429 or outcome.code == "OVER_LIMIT"
        assert not lists_messages(reply), "a send that may have been carried out"


def check_truth_of_many(call: Call[Any], reply: Response, outcome: SentMany) -> None:
    assert [each.sms.to for each in outcome] == [item["numbers"][0] for item in call.json]
    for each in outcome:
        assert (each.sent is None) != (each.error is None)
        assert each.sent is None or reply.status == 200
        assert not isinstance(each.error, APIError) or reply.status in (200, 429) or 400 <= reply.status < 500
    assert outcome.accepted <= len(call.json)


def check_usable(outcome: Any) -> bytes:
    """It can be shown, pickled and written as JSON, and holds no key; its pickle."""
    pickled = pickle.dumps(outcome)
    twin = pickle.loads(pickled)  # noqa: S301
    shown = f"{outcome} {outcome!r}"
    if isinstance(outcome, MMSError):
        assert (type(twin), str(twin), twin.__dict__) == (type(outcome), str(outcome), outcome.__dict__)
        assert len(str(outcome).splitlines()) == 1
        assert len(str(outcome)) < 2_000
    else:
        assert twin == outcome
        shown += to_json(outcome)
        json.dumps(getattr(outcome, "raw", None), ensure_ascii=False, allow_nan=False).encode()
    assert KEY not in shown
    assert KEY.encode() not in pickled
    return pickled
