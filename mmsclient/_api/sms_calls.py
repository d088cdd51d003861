"""The calls of SMS, one function an endpoint (api-notes.md section 3, SMS)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import Any

from mmsclient._api.calls import call_result
from mmsclient._api.checks import checked_line
from mmsclient._api.media import digest_of
from mmsclient._api.phone_numbers import MAX_RECIPIENTS, Recipients, recipients
from mmsclient._api.sent_batch import longest_answer, sent_batch
from mmsclient._api.sms_fields import Options, checked_sms_text
from mmsclient._api.sms_many import Item, sent_many
from mmsclient._api.sms_sender import checked_custom_id, checked_nz_sender
from mmsclient._api.sms_text import MOST_PARTS, Alphabet
from mmsclient._api.sms_types import SMS, TemplateRecipient
from mmsclient._api.types import Call
from mmsclient.errors import InvalidRequestError
from mmsclient.models import CallResult, SentBatch, SentMany

LONGEST_TEXT = MOST_PARTS * Alphabet.GSM.each


def send(name: str, to: str | Iterable[str], text: str, options: Options, zone: tzinfo) -> Call[SentBatch]:
    """POST /send-sms, or /send-sms-nz: a text to up to 1000 numbers."""
    phones = recipients(to)
    body = {"sms_text": checked_sms_text(text), "numbers": list(phones.numbers), **options.fields(zone)}
    return _send(name, body, phones, zone)


def content_of(call: Call[SentBatch]) -> tuple[str, str, str, Sequence[str]]:
    """What a call of `send` is about: its text, no subject, what it has beside them, and its recipients."""
    options = {name: value for name, value in call.json.items() if name not in ("sms_text", "numbers")}
    digest = digest_of(json.dumps(options, sort_keys=True).encode())
    return call.json["sms_text"], "", f"sms {digest}", call.json["numbers"]


def send_nz(to: str | Iterable[str], text: str, options: Options, zone: tzinfo) -> Call[SentBatch]:
    """POST /send-sms-nz: a text to phones in New Zealand, from a short number."""
    checked_nz_sender(options.sender or "")
    return send("send-sms-nz", to, text, options, zone)


def send_template(
    template_id: str, to: Iterable[TemplateRecipient | str], options: Options, zone: tzinfo
) -> Call[SentBatch]:
    """POST /send-sms-template: a stored text to up to 1000 phones, with what is said of each."""
    if isinstance(to, str | TemplateRecipient) or not isinstance(to, Iterable):
        raise InvalidRequestError("to", type(to).__name__, "several of TemplateRecipient or of numbers")
    given = [TemplateRecipient(number=each) if isinstance(each, str) else each for each in to]
    if not all(isinstance(each, TemplateRecipient) for each in given):
        raise InvalidRequestError("to", [type(each).__name__ for each in given], "TemplateRecipient or a number")
    phones = recipients([each.number for each in given])
    values = {recipients(each.number).numbers[0]: _values(each, place) for place, each in reversed([*enumerate(given)])}
    body = {
        "template_id": checked_line("template_id", template_id),
        "numbers": [{"number": number, **values[number]} for number in phones.numbers],
        **options.fields(zone),
    }
    return _send("send-sms-template", body, phones, zone)


def _values(recipient: TemplateRecipient, place: int) -> Mapping[str, str]:
    """What is said of a recipient, as it goes out."""
    custom = recipient.custom_values
    if isinstance(custom, str) or not isinstance(custom, Sequence) or len(custom) > 3:
        raise InvalidRequestError(f"to[{place}].custom_values", custom, "up to three texts")
    fields: dict[str, str | None] = {
        "fname": recipient.first_name,
        "lname": recipient.last_name,
        "gender": recipient.gender,
        "post_code": recipient.post_code,
        "dob": recipient.date_of_birth,
        **{f"custom_value_{number}": value for number, value in enumerate(custom, 1)},
        "special": recipient.special,
    }
    return {
        name: checked_line(f"to[{place}].{name}", value) for name, value in fields.items() if value not in (None, "")
    }


def _send(name: str, body: Mapping[str, Any], phones: Recipients, zone: tzinfo) -> Call[SentBatch]:
    return Call(
        name=name,
        method="POST",
        json=body,
        repeatable=False,
        recipients=len(phones.numbers),
        read=lambda envelope: sent_batch(envelope, phones, zone),
        max_answer=longest_answer(len(phones.numbers), LONGEST_TEXT),
    )


def send_many(messages: Iterable[SMS], zone: tzinfo) -> Call[SentMany]:
    """POST /bulk-send-sms: several texts, each to numbers of its own, to at most 1000 phones in all (ours)."""
    if isinstance(messages, SMS | str) or not isinstance(messages, Iterable):
        raise InvalidRequestError("messages", type(messages).__name__, "several SMS")
    items: list[Item] = []
    count = 0
    for place, sms in enumerate(messages):
        items.append(_item(place, sms, zone))
        count += items[-1].call.recipients
        if count > MAX_RECIPIENTS:
            expected = f"at most {MAX_RECIPIENTS} recipients a call, of all messages; split them"
            raise InvalidRequestError("messages", f"more than {MAX_RECIPIENTS}", expected)
    if not items:
        raise InvalidRequestError("messages", "none", "at least one SMS")
    return Call(
        name="bulk-send-sms",
        method="POST",
        json=[item.call.json for item in items],
        repeatable=False,
        recipients=count,
        read=lambda envelope: sent_many(envelope, items),
        reads_array=True,
        max_answer=longest_answer(count, LONGEST_TEXT),
    )


def _item(place: int, sms: SMS, zone: tzinfo) -> Item:
    if not isinstance(sms, SMS):
        raise InvalidRequestError(f"messages[{place}]", type(sms).__name__, "an SMS")
    options = Options(sender=sms.sender, custom_string=sms.custom_string, source=sms.source)
    try:
        return Item(sms, send("bulk-send-sms", sms.to, sms.text, options, zone))
    except InvalidRequestError as error:
        problem = InvalidRequestError(f"messages[{place}].{error.argument}", error.value, error.expected)
    raise problem


def register_alpha_id(custom_id: str, description: str) -> Call[CallResult]:
    """POST /register-alpha-id: ask for an alphanumeric sender."""
    return Call(
        name="register-alpha-id",
        method="POST",
        json={"custom_id": checked_custom_id(custom_id), "description": checked_line("description", description)},
        repeatable=False,
        read=call_result,
    )
