"""The API's calls and answers as data. No I/O: every decision about what an answer means is taken here.

A `Call` says what to send and how to read the answer. An `Answer` is what came back: status, headers, bytes.
`unwrap` turns it into an `Envelope` or raises; `Call.read` turns the envelope into a model. Facts: wire.md.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlsplit

from attrs import field, frozen

from mmsclient import errors
from mmsclient.media import MAX_BYTES as MAX_MESSAGE_BYTES
from mmsclient.media import Image
from mmsclient.models import (
    Account,
    CallResult,
    DeliveryStatus,
    MessageStatus,
    OptOut,
    Page,
    Reply,
    SentBatch,
    SentMessage,
    Template,
)
from mmsclient.numbers import Recipients, phone_key

T = TypeVar("T")

MAX_BODY = 8 * 1024 * 1024
"""Bytes of an answer that are read; a longer one is an error."""

EXCERPT = 200
"""Characters of an unreadable answer that its error quotes."""


@frozen
class File:
    """A file field of a form."""

    filename: str
    content: bytes = field(repr=False)
    content_type: str


@frozen(kw_only=True)
class Call(Generic[T]):
    """One call of the API: what goes out, and how its answer is read."""

    name: str
    """As in the URL: `send-mms`."""
    method: Literal["GET", "POST"]
    read: Callable[[Envelope], T]
    """Turns the envelope of a success into the result; raises `UnreadableError`."""
    repeatable: bool
    """Carrying it out twice is as good as once."""
    params: Mapping[str, str] = field(factory=dict)
    form: Mapping[str, str] | None = None
    files: Mapping[str, File] | None = None
    json: Any = None
    not_found: Callable[[Envelope], T] | None = None
    """Reads NOT_FOUND where that is an answer and no error."""


@frozen(kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    flaw: str | None = None
    """Why the body is not whole, None where it is."""


@frozen(kw_only=True)
class Envelope:
    """An answer, opened: either spelling of wire.md section 1 in one form."""

    code: str
    description: str
    data: Any
    """The fields of the answer: an object, a list, or whatever stands there."""
    page: Mapping[str, Any]
    low_sms_alert: str | None
    raw: Mapping[str, Any]


class UnreadableError(Exception):
    """The answer cannot be read; the text says why. Never leaves this package."""


# Answers ------------------------------------------------------------------------------------------------------------

_CLASSES: Mapping[str, type[errors.APIError]] = {
    "AUTH_FAILED_NO_DATA": errors.AuthenticationError,
    "AUTH_FAILED": errors.AuthenticationError,
    "OVER_LIMIT": errors.RateLimitError,
    "FIELD_EMPTY": errors.FieldEmptyError,
    "FIELD_INVALID": errors.FieldInvalidError,
    "FIELD_UNSAFE": errors.FieldInvalidError,
    "BAD_CALLER_ID": errors.FieldInvalidError,
    "RECIPIENTS_ERROR": errors.RecipientsError,
    "LIST_EMPTY": errors.RecipientsError,
    "NOT_FOUND": errors.NotFoundError,
    "NOT_IMPLEMENTED": errors.UnknownCallError,
    "NO_ACCESS": errors.PermissionDeniedError,
    "ACCOUNT_EXPIRED": errors.PermissionDeniedError,
    "KEY_EXISTS": errors.ConflictError,
    "LEDGER_ERROR": errors.InsufficientCreditError,
}

_CLASSES_BY_STATUS: Mapping[int, type[errors.APIError]] = {
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.UnknownCallError,
    429: errors.RateLimitError,
}

_NO_REFUSAL = frozenset({408, 499})
"""4xx that speak of the exchange and not of the call: a proxy gave up on one that the server may have had."""


def unwrap(call: Call[Any], answer: Answer) -> Envelope:
    """The envelope of a success: HTTP 200 and SUCCESS (wire.md section 1), or NOT_FOUND where `call` reads it.

    Raises the `APIError` of the code, or where the answer leaves open what happened, `OutcomeUnknownError` for a call
    that must not be repeated and `TransportError` or `ServerError` for one that may.
    """
    try:
        envelope = _open(answer)
    except UnreadableError as flaw:
        raise _failure(call, answer, None, str(flaw)) from None
    if answer.status == 200 and envelope.code == "SUCCESS":
        return envelope
    if call.not_found is not None and envelope.code == "NOT_FOUND" and answer.status in (200, 400, 404):
        return envelope
    raise _failure(call, answer, envelope, "")


def read(call: Call[T], answer: Answer, envelope: Envelope) -> T:
    """The result of `call` from its envelope. Raises as `unwrap` does, for a success that cannot be read."""
    try:
        if call.not_found is not None and envelope.code == "NOT_FOUND":
            return call.not_found(envelope)
        return call.read(envelope)
    except UnreadableError as flaw:
        raise _no_usable_answer(call, answer, envelope.code, str(flaw)) from None


def undecodable(call: Call[Any], answer: Answer, error: Exception) -> errors.TransportError:
    """The error for an answer on which reading it failed in a way that nobody foresaw."""
    return _no_usable_answer(call, answer, None, f"the answer cannot be read ({type(error).__name__})")


def is_throttled(answer: Answer, error: errors.MMSError | None) -> bool:
    """The server counted this call as over the cap: HTTP 429 or OVER_LIMIT, either alone (wire.md section 1)."""
    return answer.status == 429 or getattr(error, "code", None) == "OVER_LIMIT"


def retry_after(answer: Answer) -> float | None:
    """Seconds that `Retry-After` asks to wait, as a number or as a date; None where it is missing or unreadable."""
    text = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    until, now = _http_date(text), _http_date(answer.headers.get("date", ""))
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds()) if until else None


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _failure(call: Call[Any], answer: Answer, envelope: Envelope | None, flaw: str) -> errors.MMSError:
    """The error for an answer that is no success."""
    status, code = answer.status, envelope.code if envelope else None
    description = (envelope.description if envelope else "") or flaw or f"HTTP {status}"
    contradiction = code == "SUCCESS"
    refused = code is not None if status == 200 else 400 <= status < 500 and status not in _NO_REFUSAL
    if envelope is None and call.repeatable:  # asking again tells more than a status that may mean many things
        refused = status in _CLASSES_BY_STATUS
    if call.repeatable and status >= 500:
        cls: type[errors.APIError] = errors.RateLimitError if code == "OVER_LIMIT" else errors.ServerError
    elif refused and not contradiction:
        cls = _error_class(code, status, description)
    else:
        return _no_usable_answer(call, answer, code, description)
    error = cls(
        description,
        call=call.name,
        http_status=status,
        code=code,
        excerpt=_excerpt(answer),
    )
    if isinstance(error, errors.RateLimitError | errors.ServerError):
        error.retry_after = retry_after(answer)
    return error


def _error_class(code: str | None, status: int, description: str) -> type[errors.APIError]:
    if status == 429:
        return errors.RateLimitError
    if code is None:
        return _CLASSES_BY_STATUS.get(status, errors.APIError)
    if code == "FIELD_INVALID" and "credit" in description.lower():
        return errors.InsufficientCreditError
    return _CLASSES.get(code, errors.APIError)


def _no_usable_answer(call: Call[Any], answer: Answer, code: str | None, description: str) -> errors.TransportError:
    """The answer does not tell whether the call was carried out."""
    cls = errors.TransportError if call.repeatable else errors.OutcomeUnknownError
    return cls(description, call=call.name, http_status=answer.status, code=code, excerpt=_excerpt(answer))


def _excerpt(answer: Answer) -> str:
    return errors.one_line(answer.body[: EXCERPT * 4].decode("utf-8", "replace"), EXCERPT)


def _open(answer: Answer) -> Envelope:
    """The envelope of any answer, success or not. Raises `UnreadableError`."""
    if 300 <= answer.status < 400:
        raise UnreadableError(f"a redirect to {_host(answer.headers.get('location', ''))}, which is not followed")
    if answer.flaw:
        raise UnreadableError(answer.flaw)
    try:
        body = json.loads(_decompressed(answer), parse_constant=_no_constant)
    except (ValueError, RecursionError, zlib.error):
        kind = answer.headers.get("content-type", "no content type")
        size = len(answer.body)
        raise UnreadableError(
            f"the answer is not JSON ({kind}, {size} bytes)" if size else "the answer is empty"
        ) from None
    if not isinstance(body, dict):
        raise UnreadableError("the answer is JSON, but not an object")
    meta, error = _object(body.get("meta")), _object(body.get("error"))
    code = text_of(meta.get("status")) or text_of(error.get("code"))
    if not code:
        raise UnreadableError("the answer holds no code")
    data = body["data"] if "data" in body else {k: v for k, v in body.items() if k not in _ENVELOPE_FIELDS}
    return Envelope(
        code=code.strip().upper() if code.strip().upper() in _KNOWN_CODES else code,
        description=text_of(body.get("msg")) or text_of(error.get("description")),
        data=data,
        page=_object(_object(data).get("page")) or _object(body.get("page")),
        low_sms_alert=text_of(body.get("low_sms_alert")) or None,
        raw=body,
    )


_ENVELOPE_FIELDS = frozenset({"meta", "error", "msg", "low_sms_alert"})
_KNOWN_CODES = frozenset(_CLASSES) | {"SUCCESS"}


def _host(location: str) -> str:
    """The host that a redirect names; never its path or query, which may hold anything."""
    try:
        return urlsplit(location).hostname or "the same host"
    except ValueError:
        return "an unreadable address"


def _decompressed(answer: Answer) -> bytes:
    """The body, should a server have compressed it unasked; bounded like every body."""
    if answer.headers.get("content-encoding", "identity").strip().lower() not in (
        "gzip",
        "x-gzip",
        "deflate",
    ):
        return answer.body
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    body = inflater.decompress(answer.body, MAX_BODY)
    if not inflater.eof:
        raise UnreadableError("the compressed answer is cut short or too large")
    return body


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


# Values, which come as numbers or as texts by endpoint (wire.md section 1) --------------------------------------------

_DECIMAL = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?")


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def text_of(value: Any) -> str:
    """`value` as text; "" for null, and JSON for what is no plain value."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def text_or_none(value: Any) -> str | None:
    return None if value is None else text_of(value)


def _decimal(value: Any) -> Decimal | None:
    """A decimal from `2`, `2.5` or `"2.50"`; None for anything else."""
    text = "" if isinstance(value, bool) else text_of(value).strip()
    return Decimal(text) if _DECIMAL.fullmatch(text) else None


def _count(value: Any) -> int | None:
    """A whole number of zero or more; None for anything else."""
    number = _decimal(value)
    return int(number) if number is not None and number >= 0 and number == int(number) else None


def time_of(value: Any, zone: tzinfo) -> datetime | None:
    """`YYYY-MM-DD HH:MM:SS`, which says no zone, as a time in `zone` (wire.md section 1)."""
    try:
        return datetime.strptime(text_of(value), "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone)
    except ValueError:
        return None


def _items(value: Any) -> Sequence[Any]:
    """A listing's items: a list, or whatever else stands for none or for several."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return list(value.values()) if value and all(key.isdigit() for key in value) else [value]
    return [] if value is None or value == "" else [value]


# Calls --------------------------------------------------------------------------------------------------------------


def send(recipients: Recipients, text: str, image: Image, subject: str | None, zone: tzinfo) -> Call[SentBatch]:
    """POST /send-mms: an image and a text to up to 1000 numbers."""
    form = {"numbers": json.dumps(recipients.numbers, separators=(",", ":")), "mms_text": text}
    if subject:
        form["subject"] = subject
    return Call(
        name="send-mms",
        method="POST",
        form=form,
        files={"mms_file": File(image.filename, image.data, image.content_type)},
        repeatable=False,
        read=lambda envelope: _sent_batch(envelope, recipients, zone),
    )


def _sent_batch(envelope: Envelope, recipients: Recipients, zone: tzinfo) -> SentBatch:
    data = _object(envelope.data)
    accepted = _count(data.get("success_number"))
    if accepted is None:
        raise UnreadableError("the answer says SUCCESS, but not how many recipients were accepted")
    messages = tuple(_sent_message(_object(item), item, zone) for item in _items(data.get("messages")))
    total = len(recipients.numbers)  # the API's total_numbers may leave out what it dropped
    return SentBatch(
        accepted=accepted,
        total=total,
        messages=messages,
        refused=_refused(recipients.numbers, messages, accepted, total),
        duplicates=recipients.duplicates,
        credits_used=_decimal(data.get("credits_used")),
        low_sms_alert=envelope.low_sms_alert,
        raw=envelope.raw,
    )


def _refused(
    numbers: Sequence[str], messages: Sequence[SentMessage], accepted: int, total: int
) -> tuple[str, ...] | None:
    """The numbers without a message, if the messages tell: the API may list fewer than it accepted."""
    if accepted >= total:
        return ()
    listed = {phone_key(message.to) for message in messages}
    missing = tuple(number for number in numbers if phone_key(number) not in listed)
    return missing if len(missing) == total - accepted else None


def _sent_message(item: Mapping[str, Any], raw: Any, zone: tzinfo) -> SentMessage:
    return SentMessage(
        id=text_of(item.get("message_id")),
        to=text_of(item.get("to")),
        subject=text_of(item.get("subject")),
        text=text_of(item.get("body")),
        sent_at=time_of(item.get("date"), zone),
        sent_at_text=text_of(item.get("date")),
        raw=_kept(raw),
    )


def _kept(item: Any) -> Mapping[str, Any]:
    """An item of a list as it came; one that is no object is kept under "item"."""
    return item if isinstance(item, dict) else {"item": item}


def replies(page: int, kind: str, zone: tzinfo) -> Call[Page[Reply]]:
    """GET /get-responses: a page of unread replies."""

    def reply(item: Mapping[str, Any], raw: Any) -> Reply:
        return Reply(
            id=text_of(item.get("message_id")),
            sender=text_of(item.get("from")),
            text=text_of(item.get("body")),
            received_at=time_of(item.get("received_at"), zone),
            received_at_text=text_of(item.get("received_at")),
            original_message_id=text_of(item.get("original_message_id")),
            original_text=text_of(item.get("original_body")),
            subaccount_id=text_of(item.get("subaccount_id")),
            custom_string=text_or_none(item.get("custom_string")),
            raw=_kept(raw),
        )

    return _listing("get-responses", page, reply, {"type": kind})


def opt_outs(page: int, since: datetime | None, until: datetime | None, zone: tzinfo) -> Call[Page[OptOut]]:
    """GET /get-optout: a page of numbers that unsubscribed between two times."""

    def opt_out(item: Mapping[str, Any], raw: Any) -> OptOut:
        return OptOut(
            number=text_of(item.get("number")),
            first_name=text_or_none(item.get("first_name")),
            last_name=text_or_none(item.get("last_name")),
            gender=text_or_none(item.get("gender")),
            post_code=text_or_none(item.get("post_code")),
            date_of_birth=text_or_none(item.get("dob")),
            created_at=time_of(item.get("created_at"), zone),
            created_at_text=text_of(item.get("created_at")),
            raw=_kept(raw),
        )

    bounds = {"DATESTART": since, "DATEEND": until}
    texts = {
        name: time.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S") for name, time in bounds.items() if time is not None
    }
    return _listing("get-optout", page, opt_out, texts)


def templates(page: int, zone: tzinfo) -> Call[Page[Template]]:
    """GET /get-template: a page of stored texts."""

    def template(item: Mapping[str, Any], raw: Any) -> Template:
        return Template(
            id=text_of(item.get("template_id")),
            title=text_of(item.get("message_title")),
            text=text_of(item.get("Message")),  # the API's capital
            created_at=time_of(item.get("created_at"), zone),
            created_at_text=text_of(item.get("created_at")),
            raw=_kept(raw),
        )

    return _listing("get-template", page, template, {})


def _listing(
    name: str, page: int, item: Callable[[Mapping[str, Any], Any], T], params: Mapping[str, str]
) -> Call[Page[T]]:
    def read_page(envelope: Envelope) -> Page[T]:
        return Page(
            items=tuple(item(_object(raw), raw) for raw in _listed(envelope)),
            number=_count(envelope.page.get("number")),
            count=_count(envelope.page.get("count")),
            total=_count(_object(envelope.data).get("total")),
            low_sms_alert=envelope.low_sms_alert,
            raw=envelope.raw,
        )

    return Call(
        name=name,
        method="GET",
        params={"page": str(page), **params},
        repeatable=True,
        read=read_page,
        not_found=read_page,
    )


def _listed(envelope: Envelope) -> Sequence[Any]:
    """The items of a listing in any of its spellings. Raises `UnreadableError` where there is no listing."""
    data = envelope.data
    if isinstance(data, dict) and data:
        if "responses" in data:
            return _items(data["responses"])
        if envelope.code == "SUCCESS" and _count(envelope.page.get("count")) != 0:
            raise UnreadableError("the answer says SUCCESS, but holds no listing")
        return []
    return _items(data or None)


def mark_read(ids: Sequence[str]) -> Call[None]:
    """POST /inbound-read for one reply, /inbound-read-bulk for several. Never empty: that would mark every message."""
    if not ids or not all(ids):
        raise errors.InvalidRequestError("replies", "no id", "the id of each reply to mark")
    return Call(
        name="inbound-read" if len(ids) == 1 else "inbound-read-bulk",
        method="POST",
        json={"message_id": ids[0] if len(ids) == 1 else list(ids)},
        repeatable=True,
        read=lambda envelope: None,
    )


def mark_read_before(unix_seconds: int) -> Call[None]:
    """POST /inbound-read for all replies before a time."""
    if unix_seconds <= 0:  # PHP takes 0 for empty, and an empty call marks every message
        raise errors.InvalidRequestError("before", unix_seconds, "a time after 1970")
    return Call(
        name="inbound-read",
        method="POST",
        json={"date_before": unix_seconds},
        repeatable=True,
        read=lambda envelope: None,
    )


def message(message_id: str, zone: tzinfo) -> Call[MessageStatus | None]:
    """GET /get-sms: how far a message got."""

    def status(item: Mapping[str, Any], raw: Any, others: tuple[MessageStatus, ...] = ()) -> MessageStatus:
        return MessageStatus(
            id=text_of(item.get("message_id")),
            to=text_of(item.get("to")),
            text=text_of(item.get("body")),
            status=DeliveryStatus(text_of(item.get("status"))),
            sent_at=time_of(item.get("sent_time"), zone),
            sent_at_text=text_of(item.get("sent_time")),
            subaccount_id=text_of(item.get("subaccount_id")),
            others=others,
            raw=_kept(raw),
        )

    def read_statuses(envelope: Envelope) -> MessageStatus | None:
        items = _items(envelope.data)
        if not any(items) or (items == [envelope.data] and not {"message_id", "status"} & envelope.data.keys()):
            return None
        others = tuple(status(_object(item), item) for item in items[1:])
        return status(_object(items[0]), items[0], others)

    return Call(
        name="get-sms",
        method="GET",
        params={"message_id": message_id},
        repeatable=True,
        read=read_statuses,
        not_found=lambda envelope: None,
    )


def account() -> Call[Account]:
    """GET /account: who the key belongs to, and what is left."""

    def read_account(envelope: Envelope) -> Account:
        if not isinstance(envelope.data, dict):
            raise UnreadableError("the answer says SUCCESS, but holds no account")
        data = envelope.data
        return Account(
            name=text_of(data.get("account_name")),
            email=text_of(data.get("account_email")),
            sms_balance=_decimal(data.get("sms_balance")),
            mms_balance=_decimal(data.get("mms_balance")),
            low_sms_alert=envelope.low_sms_alert,
            raw=envelope.raw,
        )

    return Call(name="account", method="GET", repeatable=True, read=read_account)


_CALL_NAME = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


def custom(
    method: Literal["GET", "POST"],
    name: str,
    *,
    params: Mapping[str, str] | None,
    form: Mapping[str, str] | None,
    json: Any,
    repeatable: bool,
) -> Call[CallResult]:
    """Any call of the API by its name."""
    if method not in ("GET", "POST"):
        raise errors.InvalidRequestError("method", method, "'GET' or 'POST'")
    if not isinstance(name, str) or not _CALL_NAME.fullmatch(name):
        raise errors.InvalidRequestError("name", name, "a call's name as in the vendor's pages, such as 'send-sms'")
    if form is not None and json is not None:
        raise errors.InvalidRequestError("json", json, "either form or json")
    if method == "GET" and (form is not None or json is not None):
        raise errors.InvalidRequestError("method", method, "'POST' where there is a form or json")
    _check_texts("params", params)
    _check_texts("form", form)
    _check_json(json)
    return Call(
        name=name,
        method=method,
        params=params or {},
        form=form,
        json=json,
        repeatable=repeatable,
        read=lambda envelope: CallResult(
            data=envelope.data,
            description=envelope.description,
            low_sms_alert=envelope.low_sms_alert,
            raw=envelope.raw,
        ),
    )


def _check_texts(argument: str, values: Mapping[str, str] | None) -> None:
    if values is None:
        return
    if not isinstance(values, Mapping) or not all(isinstance(text, str) for pair in values.items() for text in pair):
        raise errors.InvalidRequestError(argument, values, "a mapping of strings to strings")
    for text in (text for pair in values.items() for text in pair):
        _encoded(text, argument)


def _check_json(value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        return
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"what JSON can hold ({type(error).__name__}: {error})"
    raise errors.InvalidRequestError("json", value, problem)


# What the API takes -------------------------------------------------------------------------------------------------

MAX_TEXT = 1000
MAX_SUBJECT = 40


def checked_text(text: str, image: Image) -> str:
    """`text` as it goes out: new lines as CR LF (wire.md section 3). Raises `InvalidRequestError`."""
    if not isinstance(text, str) or not text.strip():
        raise errors.InvalidRequestError("text", text, "a text that is not empty")
    outgoing = re.sub(r"\r\n|\r|\n", "\r\n", text)
    if len(outgoing) > MAX_TEXT:
        raise errors.InvalidRequestError(
            "text",
            f"{len(outgoing)} characters",
            f"at most {MAX_TEXT} characters, each new line counting two",
        )
    weight = len(_encoded(outgoing, "text")) + len(image.data)
    if weight > MAX_MESSAGE_BYTES:
        raise errors.InvalidRequestError(
            "image", f"{weight} bytes", f"image and text of at most {MAX_MESSAGE_BYTES} bytes together"
        )
    return outgoing


def checked_subject(subject: str | None) -> str | None:
    """`subject` if it is one line of at most 40 characters. Raises `InvalidRequestError`."""
    if subject is None:
        return None
    if not isinstance(subject, str) or len(subject) > MAX_SUBJECT or _CONTROL.search(subject):
        raise errors.InvalidRequestError("subject", subject, f"one line of at most {MAX_SUBJECT} characters")
    _encoded(subject, "subject")
    return subject


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _encoded(text: str, argument: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise errors.InvalidRequestError(argument, ascii(text), "text without lone surrogates") from None
