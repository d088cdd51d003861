"""The calls of the API, one function an endpoint: its path, its parameters, and how its answer is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, Literal, TypeVar

from mmsclient._api.checks import check_json, check_texts
from mmsclient._api.items import bounded, kept
from mmsclient._api.media import Image
from mmsclient._api.phone_numbers import Recipients, e164
from mmsclient._api.sent_batch import longest_answer, sent_batch
from mmsclient._api.types import Call, Envelope, File, UnreadableError
from mmsclient._api.values import (
    count_of,
    decimal_of,
    items_of,
    object_of,
    text_of,
    text_or_none,
    time_of,
    wall_clock,
)
from mmsclient.errors import InvalidRequestError
from mmsclient.models import (
    Account,
    CallResult,
    DeliveryStatus,
    MessageStatus,
    OptOut,
    Page,
    Reply,
    SentBatch,
    Template,
)

T = TypeVar("T")


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
        recipients=len(recipients.numbers),
        read=lambda envelope: sent_batch(envelope, recipients, zone),
        max_answer=longest_answer(len(recipients.numbers), len(text) + len(subject or "")),
    )


def replies(page: int, kind: str, zone: tzinfo) -> Call[Page[Reply]]:
    """GET /get-responses: a page of unread replies."""

    def reply(item: Mapping[str, Any], raw: Any) -> Reply:
        return Reply(
            id=text_of(item.get("message_id")),
            sender=e164(text_of(item.get("from"))),
            text=text_of(item.get("body")),
            received_at=time_of(item.get("received_at"), zone),
            received_at_text=text_of(item.get("received_at")),
            original_message_id=text_of(item.get("original_message_id")),
            original_text=text_of(item.get("original_body")),
            subaccount_id=text_of(item.get("subaccount_id")),
            custom_string=text_or_none(item.get("custom_string")),
            kind=kind.upper(),
            raw=kept(raw),
        )

    return _listing("get-responses", page, reply, {"type": kind})


def opt_outs(page: int, since: datetime | None, until: datetime | None, zone: tzinfo) -> Call[Page[OptOut]]:
    """GET /get-optout: a page of numbers that unsubscribed between two times."""

    def opt_out(item: Mapping[str, Any], raw: Any) -> OptOut:
        return OptOut(
            number=e164(text_of(item.get("number"))),
            first_name=text_or_none(item.get("first_name")),
            last_name=text_or_none(item.get("last_name")),
            gender=text_or_none(item.get("gender")),
            post_code=text_or_none(item.get("post_code")),
            date_of_birth=text_or_none(item.get("dob")),
            created_at=time_of(item.get("created_at"), zone),
            created_at_text=text_of(item.get("created_at")),
            raw=kept(raw),
        )

    bounds = {"DATESTART": since, "DATEEND": until}
    texts = {
        name: wall_clock(time, zone, is_end=name == "DATEEND") for name, time in bounds.items() if time is not None
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
            raw=kept(raw),
        )

    return _listing("get-template", page, template, {})


def _listing(
    name: str, page: int, item: Callable[[Mapping[str, Any], Any], T], params: Mapping[str, str]
) -> Call[Page[T]]:
    def read_page(envelope: Envelope) -> Page[T]:
        return Page(
            items=tuple(item(object_of(raw), raw) for raw in bounded(_listed(envelope))),
            number=count_of(envelope.page.get("number")),
            count=count_of(envelope.page.get("count")),
            total=count_of(object_of(envelope.data).get("total")),
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
            return items_of(data["responses"])
        if envelope.code == "SUCCESS" and count_of(envelope.page.get("count")) != 0:
            raise UnreadableError("the answer says SUCCESS, but holds no listing")
        return []
    return items_of(data or None)


def mark_read(ids: Sequence[str]) -> Call[None]:
    """POST /inbound-read for one reply, /inbound-read-bulk for several. Never empty: that would mark every message."""
    if not ids or not all(ids):
        raise InvalidRequestError("replies", "no id", "the id of each reply to mark")
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
        raise InvalidRequestError("before", unix_seconds, "a time after 1970")
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
            to=e164(text_of(item.get("to"))),
            text=text_of(item.get("body")),
            status=DeliveryStatus(text_of(item.get("status"))),
            sent_at=time_of(item.get("sent_time"), zone),
            sent_at_text=text_of(item.get("sent_time")),
            subaccount_id=text_of(item.get("subaccount_id")),
            others=others,
            raw=kept(raw),
        )

    def read_statuses(envelope: Envelope) -> MessageStatus | None:
        items = bounded(items_of(envelope.data))
        if not any(items) or (
            items == [envelope.data] and not {"message_id", "status"} & object_of(envelope.data).keys()
        ):
            return None
        others = tuple(status(object_of(item), item) for item in items[1:])
        return status(object_of(items[0]), items[0], others)

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
            sms_balance=decimal_of(data.get("sms_balance")),
            mms_balance=decimal_of(data.get("mms_balance")),
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
        raise InvalidRequestError("method", method, "'GET' or 'POST'")
    if not isinstance(name, str) or not _CALL_NAME.fullmatch(name):
        raise InvalidRequestError("name", name, "a call's name as in the vendor's pages, such as 'send-sms'")
    if form is not None and json is not None:
        raise InvalidRequestError("json", json, "either form or json")
    if method == "GET" and (form is not None or json is not None):
        raise InvalidRequestError("method", method, "'POST' where there is a form or json")
    check_texts("params", params)
    check_texts("form", form)
    check_json(json)
    return Call(
        name=name,
        method=method,
        params=params or {},
        form=form,
        json=json,
        repeatable=repeatable,
        read=call_result,
    )


def call_result(envelope: Envelope) -> CallResult:
    """An answer as it came."""
    return CallResult(
        data=envelope.data,
        description=envelope.description,
        low_sms_alert=envelope.low_sms_alert,
        raw=envelope.raw,
    )
