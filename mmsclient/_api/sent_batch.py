"""The answer to a send, of either kind: who was accepted, and under which ids (api-notes.md section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

from mmsclient._api.items import bounded, kept
from mmsclient._api.phone_numbers import Recipients, e164, phone_key
from mmsclient._api.types import MAX_BODY, Envelope, UnreadableError
from mmsclient._api.values import count_of, credit_of, items_of, object_of, text_of, text_or_none, time_of
from mmsclient.models import SentBatch, SentMessage


def longest_answer(recipients: int, characters: int) -> int:
    """Bytes of an answer that echoes a text to each of so many recipients."""
    return max(MAX_BODY, recipients * (1024 + 12 * characters))


def sent_batch(envelope: Envelope, recipients: Recipients, zone: tzinfo) -> SentBatch:
    data = object_of(envelope.data)
    said = count_of(data.get("success_number"))
    if said is None:
        raise UnreadableError("the answer says SUCCESS, but not how many recipients were accepted")
    total = len(recipients.numbers)  # the API's total_numbers may leave out what it dropped
    accepted = min(said, total)
    listed = [sent_message(object_of(item), item, zone) for item in bounded(items_of(data.get("messages")), total)]
    messages = _ours(listed, recipients.numbers)
    flaws = [f"it says that {said} of {total} recipients were accepted"] if said > total else []
    if len(messages) > accepted:
        flaws.append(f"it says that {said} of {total} recipients were accepted, but lists messages to {len(messages)}")
    if len(messages) < len(listed):
        flaws.append(f"it lists {len(listed) - len(messages)} messages that were not asked for, or twice")
    return SentBatch(
        accepted=accepted,
        total=total,
        messages=messages,
        refused=_refused(recipients.numbers, messages, accepted, total),
        duplicates=recipients.duplicates,
        credits_used=credit_of(data.get("credits_used")),
        low_sms_alert=envelope.low_sms_alert,
        flaws=tuple(flaws),
        raw=envelope.raw,
    )


def _ours(listed: Sequence[SentMessage], numbers: Sequence[str]) -> tuple[SentMessage, ...]:
    """One message for each of `numbers` at most, and none for another; one that names no phone may be any other's.

    Raises `UnreadableError` where the answer speaks of others only: then it is the answer to another call.
    """
    unnamed = {phone_key(number) for number in numbers}
    ours: list[int] = []
    for place, message in enumerate(listed):
        if (phone := phone_key(message.to)) in unnamed:
            unnamed.discard(phone)
            ours.append(place)
    ours += [place for place, message in enumerate(listed) if not message.to][: len(unnamed)]
    if listed and not ours:
        raise UnreadableError("the answer names none of the recipients; it may be that of another call")
    return tuple(listed[place] for place in sorted(ours))


def _refused(
    numbers: Sequence[str], messages: Sequence[SentMessage], accepted: int, total: int
) -> tuple[str, ...] | None:
    """The numbers without a message, if the messages tell: the API may list fewer than it accepted."""
    if accepted >= total:
        return ()
    listed = {phone_key(message.to) for message in messages}
    missing = tuple(number for number in numbers if phone_key(number) not in listed)
    return missing if len(missing) == total - accepted else None


def sent_message(item: Mapping[str, Any], raw: Any, zone: tzinfo) -> SentMessage:
    """A message of an answer to `send`; `raw`: the item as it came."""
    return SentMessage(
        id=text_of(item.get("message_id")),
        to=e164(text_of(item.get("to"))),
        subject=text_of(item.get("subject")),
        text=text_of(item.get("body")),
        sent_at=time_of(item.get("date"), zone),
        sent_at_text=text_of(item.get("date")),
        sender=text_or_none(item.get("from")),
        custom_string=text_or_none(item.get("custom_string")),
        raw=kept(raw),
    )
