"""The calls of the MMS API (api-notes.md section 3): fields in, answer out. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from attrs import frozen

from mmsclient.sandbox import sms_calls
from mmsclient.sandbox.answers import Answer, Refusal, empty, invalid
from mmsclient.sandbox.fields import Fields, numbers_of, page_of, refuse, text_of, time_of, unix_time_of
from mmsclient.sandbox.records import OptOut, Reply, Template, digits, wire_time
from mmsclient.sandbox.state import State

T = TypeVar("T")

MAX_TEXT = 1000
MAX_SUBJECT = 40
MAX_BYTES = 380_000
PER_PAGE = 25
TEMPLATES_PER_PAGE = 15

IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\xff\xd8\xff")


def send_mms(state: State, fields: Fields) -> Answer:
    """Send a picture and a text to up to 1000 numbers. Those that may not be sent to are left out silently."""
    numbers = _numbers(fields)
    text = text_of(fields, "mms_text", MAX_TEXT) or refuse(empty("mms_text"))
    image = _image(fields)
    if len(image) + len(text.encode()) > MAX_BYTES:
        raise invalid("mms_file", f"media and text are over {MAX_BYTES} bytes")
    subject = text_of(fields, "subject", MAX_SUBJECT)
    send = state.send(numbers, text, subject, image)
    common = {"subject": subject, "body": text, "date": wire_time(send.sent_at), "direction": "out"}
    messages = [{"message_id": message.id, "to": message.to, **common} for message in state.messages.of(send)]
    return Answer(
        "SUCCESS",
        "Queued",
        {
            "messages": messages,
            "total_numbers": len(numbers),
            "success_number": str(len(messages)),
            "credits_used": str(len(messages)),
        },
    )


def get_responses(state: State, fields: Fields) -> Answer:
    """The unread replies of one kind."""
    kind = fields.get("type") or "mms"
    if kind not in ("mms", "sms"):
        raise invalid("type", "it must be mms or sms")
    replies = [reply for reply in state.unread if reply.kind == kind]
    return _listing(state, fields, "response(s)", replies, _reply, number=str, nothing="No Response are available!")


def inbound_read(state: State, fields: Fields) -> Answer:
    """Mark one reply as read, or those before a time; with neither, every one. An unknown id is no error."""
    if message_id := fields.get("message_id"):
        _mark_read(state, [message_id])
    elif before := fields.get("date_before"):
        time = unix_time_of(before)
        state.mark_read([reply.id for reply in state.unread if reply.received_at < time])
    else:
        state.mark_read([reply.id for reply in state.unread])
    return Answer("SUCCESS", "Inbound messages have been marked as read.")


def inbound_read_bulk(state: State, fields: Fields) -> Answer:
    """Mark several replies as read; ids that do not exist are passed over."""
    ids = fields.get("message_id") or refuse(empty("message_id"))
    if not isinstance(ids, list):
        raise invalid("message_id", "it must be an array of ids")
    _mark_read(state, ids)
    return Answer("SUCCESS", "Inbound messages have been marked as read.")


def get_sms(state: State, fields: Fields) -> Answer:
    """One message with its status. Whether the service takes ids of MMS here is unknown; the sandbox does."""
    message_id = fields.get("message_id") or refuse(empty("message_id"))
    message = state.message(message_id) or refuse(Refusal("NOT_FOUND", f"No message {message_id} was found."))
    item = {
        "to": message.to,
        "body": message.send.text,
        "sent_time": wire_time(message.send.sent_at),
        "message_id": message.id,
        "status": state.status(message.id),
        "subaccount_id": "",
    }
    return Answer("SUCCESS", "Record found", [item])


def account(state: State, fields: Fields) -> Answer:
    """Name, address and balances."""
    return Answer(
        "SUCCESS",
        "Here's your account",
        {
            "account_name": "Sandbox",
            "account_email": "sandbox@example.com",
            "sms_balance": f"{state.sms.balance:.2f}",
            "mms_balance": f"{state.mms.balance:.2f}",
        },
    )


def get_optout(state: State, fields: Fields) -> Answer:
    """The numbers that have opted out, in a span of time if given; both ends belong to it."""
    start, end = time_of(fields, "DATESTART"), time_of(fields, "DATEEND")
    opt_outs = [
        opt_out
        for opt_out in state.opt_outs
        if (start is None or opt_out.created_at >= start) and (end is None or opt_out.created_at <= end)
    ]
    return _listing(state, fields, "optout contact(s)", opt_outs, _opt_out)


def get_template(state: State, fields: Fields) -> Answer:
    """The message templates, 15 a page."""
    extra = {"per_page": TEMPLATES_PER_PAGE}
    return _listing(state, fields, "Template(s)", state.templates, _template, per_page=TEMPLATES_PER_PAGE, extra=extra)


@frozen
class Call:
    """How a call comes in, and what carries it out."""

    method: Literal["GET", "POST"]
    source: Literal["query", "form", "json", "array"]
    """Where its fields are; "array": a JSON array of texts, each with fields of its own."""
    carry_out: Callable[[State, Fields], Answer]
    """Of an array, called for each item."""


CALLS: Mapping[str, Call] = {
    "send-mms": Call("POST", "form", send_mms),
    "get-responses": Call("GET", "query", get_responses),
    "inbound-read": Call("POST", "json", inbound_read),
    "inbound-read-bulk": Call("POST", "json", inbound_read_bulk),
    "get-sms": Call("GET", "query", get_sms),
    "account": Call("GET", "query", account),
    "get-optout": Call("GET", "query", get_optout),
    "get-template": Call("GET", "query", get_template),
    "send-sms": Call("POST", "json", sms_calls.send_sms),
    "bulk-send-sms": Call("POST", "array", sms_calls.send_sms),
    "send-sms-template": Call("POST", "json", sms_calls.send_sms_template),
    "send-sms-nz": Call("POST", "json", sms_calls.send_sms_nz),
    "register-alpha-id": Call("POST", "json", sms_calls.register_alpha_id),
}
"""By the name in the URL."""


# Listings -------------------------------------------------------------------------------------------------------------


def _listing(
    state: State,
    fields: Fields,
    noun: str,
    items: Sequence[T],
    show: Callable[[T], dict[str, Any]],
    *,
    per_page: int = PER_PAGE,
    number: Callable[[int], int | str] = int,
    extra: Fields | None = None,
    nothing: str = "",
) -> Answer:
    """One page. Past the last page is unknown at the service; here it is told like an empty listing."""
    place, total = page_of(fields), len(items)
    count = -(-total // per_page)
    page: dict[str, int | str]
    if place > count:
        if state.settings.empty == "not_found":
            raise Refusal("NOT_FOUND", nothing or f"You have no {noun}")
        page = {"count": str(count), "number": place if count else 0}
        return Answer("SUCCESS", f"You have {total} {noun}", {"page": page, "total": total, "responses": ""})
    shown = [show(item) for item in items[(place - 1) * per_page : place * per_page]]
    page = {"count": count, "number": number(place), **(extra or {})}
    return Answer("SUCCESS", f"You have {total} {noun}", {"page": page, "total": str(total), "responses": shown})


def _reply(reply: Reply) -> dict[str, Any]:
    return {
        "from": digits(reply.sender),
        "body": reply.text,
        "received_at": wire_time(reply.received_at),
        "original_body": reply.original_text,
        "original_message_id": reply.original_id,
        "message_id": reply.id,
        "subaccount_id": "",
        **({"custom_string": reply.custom_string} if reply.kind == "sms" else {}),
    }


def _opt_out(opt_out: OptOut) -> dict[str, Any]:
    return {
        "number": opt_out.number,
        "first_name": opt_out.first_name,
        "last_name": opt_out.last_name,
        "gender": opt_out.gender,
        "post_code": opt_out.post_code,
        "dob": opt_out.dob,
        "created_at": wire_time(opt_out.created_at),
    }


def _template(template: Template) -> dict[str, Any]:
    return {
        "template_id": template.id,
        "message_title": template.title,
        "Message": template.text,
        "created_at": wire_time(template.created_at),
    }


# Fields ---------------------------------------------------------------------------------------------------------------


def _numbers(fields: Fields) -> list[str]:
    text = fields.get("numbers") or refuse(empty("numbers"))
    try:
        return numbers_of(json.loads(text))
    except (ValueError, RecursionError):
        return numbers_of(None)


def _image(fields: Fields) -> bytes:
    image = fields.get("mms_file") or refuse(empty("mms_file"))
    if not isinstance(image, bytes):
        raise invalid("mms_file", "it must be a file")
    if not image.startswith(IMAGE_STARTS):
        raise invalid("mms_file", "it must be a PNG, GIF or JPEG image")
    return image


def _mark_read(state: State, ids: Sequence[Any]) -> None:
    if not all(isinstance(each, str | int) and not isinstance(each, bool) for each in ids):
        raise invalid("message_id", "an id must be a text or a number")
    state.mark_read(map(str, ids))
