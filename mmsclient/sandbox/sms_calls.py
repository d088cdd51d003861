"""The calls of SMS (api-notes.md section 3): fields in, answer out. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from mmsclient._api.sms_sender import is_custom_id
from mmsclient._api.sms_text import credits_of, parts
from mmsclient.sandbox.answers import Answer, Refusal, empty, invalid
from mmsclient.sandbox.fields import Fields, check_count, numbers_of, refuse, text_of, time_of
from mmsclient.sandbox.outgoing import Order
from mmsclient.sandbox.records import wire_time
from mmsclient.sandbox.state import State

OWN_NUMBER = "61480000000"
"""Whom an SMS comes from that names no sender."""

MOST_MINUTES = 1440
LONGEST = 1000
"""Characters of a field that says nothing of its length."""

_SENDER = re.compile(r"[0-9]{1,16}|[A-Za-z0-9 -]{1,11}")
_CUSTOM_STRING = re.compile(r"[A-Za-z0-9-]*")
_NZ_SENDER = re.compile(r"[0-9]{4}")


def send_sms(state: State, fields: Fields) -> Answer:
    """Send a text to up to 1000 numbers. Those that may not be sent to are left out silently."""
    numbers = _plain_numbers(fields.get("numbers") or refuse(empty("numbers")))
    return _send(state, fields, numbers, _text(fields.get("sms_text")))


def send_sms_nz(state: State, fields: Fields) -> Answer:
    """As `send-sms`, from a number of 4 digits."""
    sender = text_of(fields, "from", LONGEST) or refuse(empty("from"))
    if not _NZ_SENDER.fullmatch(sender):
        raise invalid("from", "it must be exactly 4 digits")
    return send_sms(state, fields)


def send_sms_template(state: State, fields: Fields) -> Answer:
    """Send a stored text. How it says what is personal is not documented: it goes out as it is."""
    template_id = text_of(fields, "template_id", LONGEST) or refuse(empty("template_id"))
    people = fields.get("numbers") or refuse(empty("numbers"))
    if not isinstance(people, list) or not all(isinstance(each, dict) for each in people):
        raise invalid("numbers", "it must be a JSON array of objects")
    numbers = _plain_numbers([each.get("number", "") for each in people])
    template = next((each for each in state.templates if each.id == template_id), None)
    if template is None:
        raise Refusal("NOT_FOUND", f"No template {template_id} was found.")
    return _send(state, fields, numbers, template.text)


def register_alpha_id(state: State, fields: Fields) -> Answer:
    """Register an alphanumeric sender; here it holds at once."""
    custom_id = text_of(fields, "custom_id", LONGEST) or refuse(empty("custom_id"))
    description = text_of(fields, "description", LONGEST) or refuse(empty("description"))
    if not _SENDER.fullmatch(custom_id) or not is_custom_id(custom_id):
        raise invalid("custom_id", "it must have at most 11 letters, digits, spaces and dashes")
    if custom_id in state.sender_ids:
        raise Refusal("KEY_EXISTS", f"{custom_id} is registered already.")
    state.sender_ids[custom_id] = description
    return Answer("SUCCESS", "Your custom id has been registered.")


def _send(state: State, fields: Fields, numbers: Sequence[str], text: str) -> Answer:
    sender = _sender(state, fields)
    order = Order(
        numbers=numbers,
        text=text,
        sender=sender,
        custom_string=_custom_string(fields),
        source=text_of(fields, "source", LONGEST),
        wait=_wait(state, fields),
        cost=credits_of(parts(text).count, sender or None),
    )
    send = state.carry_out(state.sms, order)
    common = {
        "from": sender or OWN_NUMBER,
        "body": text,
        "date": wire_time(send.sent_at),
        "custom_string": send.custom_string,
        "direction": "out",
    }
    messages = [{"message_id": message.id, "to": message.to, **common} for message in state.sms.messages.of(send)]
    used = len(messages) * order.cost
    return Answer(
        "SUCCESS",
        "Queued",
        {
            "messages": messages,
            "total_numbers": len(numbers),
            "success_number": len(messages),
            "credits_used": int(used) if used == int(used) else float(used.quantize(Decimal("0.01"))),
        },
    )


# Fields ---------------------------------------------------------------------------------------------------------------


def _plain_numbers(numbers: Any) -> list[str]:
    """The recipients, which other languages write as numbers, too."""
    if isinstance(numbers, list):
        check_count(numbers)
        numbers = [str(each) if isinstance(each, int) and not isinstance(each, bool) else each for each in numbers]
    return numbers_of(numbers, "it must be an array of numbers")


def _text(text: Any) -> str:
    if not text:
        raise empty("sms_text")
    if not isinstance(text, str):
        raise invalid("sms_text", "it must be text")
    if not parts(text).fits:
        raise invalid("sms_text", f"{len(text)} characters are too many")
    return text


def _sender(state: State, fields: Fields) -> str:
    sender = text_of(fields, "from", LONGEST)
    if sender and not _SENDER.fullmatch(sender):
        raise invalid("from", "it must have at most 16 digits, or 11 letters, digits, spaces and dashes")
    if sender and is_custom_id(sender) and state.settings.senders != "any" and sender not in state.sender_ids:
        raise Refusal("BAD_CALLER_ID", f"{sender} is not registered.")
    return sender


def _custom_string(fields: Fields) -> str:
    custom_string = text_of(fields, "custom_string", LONGEST)
    if not _CUSTOM_STRING.fullmatch(custom_string):
        raise invalid("custom_string", "it must have letters, digits and dashes only")
    return custom_string


def _wait(state: State, fields: Fields) -> float:
    """Seconds until it goes out. What a time that is over means is unknown at the service; here it goes out at once."""
    delay, schedule = fields.get("delay"), time_of(fields, "schedule_time")
    if delay in (None, ""):
        return 0.0 if schedule is None else max(0.0, schedule.timestamp() - state.now().timestamp())
    if schedule is not None:
        raise invalid("delay", "there is a schedule_time already")
    text = str(delay)
    if isinstance(delay, bool) or not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_MINUTES):
        raise invalid("delay", f"it must be minutes from 1 to {MOST_MINUTES}")
    return 60.0 * int(text)
