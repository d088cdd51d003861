"""The answer to `bulk-send-sms`: an array of envelopes, and which message each of them speaks of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set

from attrs import frozen

from mmsclient._api.envelope import read_item
from mmsclient._api.phone_numbers import phone_key
from mmsclient._api.sms_types import SMS
from mmsclient._api.types import Call, Envelope, UnreadableError
from mmsclient._api.values import items_of, object_of, text_of
from mmsclient.errors import MMSError, OutcomeUnknownError
from mmsclient.models import SentBatch, SentMany, SMSOutcome


@frozen(eq=False, repr=False)
class Item:
    """One of the texts of a call, and how its envelope is read."""

    sms: SMS
    call: Call[SentBatch]

    @property
    def phones(self) -> Set[str]:
        return set(map(phone_key, self.call.json["numbers"]))


@frozen(eq=False, repr=False)
class _Told:
    """What an envelope says of whom it speaks of."""

    phones: Set[str]
    texts: Set[str]
    """Of those that were sent; the API may have changed a text."""

    @classmethod
    def of(cls, envelope: Envelope, sent: Set[str]) -> _Told:
        messages = [object_of(each) for each in items_of(object_of(envelope.data).get("messages"))]
        return cls(
            {phone_key(text_of(each["to"])) for each in messages if each.get("to")},
            sent & {text_of(each.get("body")) for each in messages},
        )

    def fits(self, item: Item) -> bool:
        """It may be the item's: it speaks of none but its phones, and of no other's text."""
        return self.phones <= item.phones and self.texts <= {item.sms.text}


def sent_many(envelope: Envelope, items: Sequence[Item]) -> SentMany:
    """An outcome for each of `items`, in their order; unknown for one that the answer leaves out.

    Raises `UnreadableError` where the answer is a success, but no array.
    """
    if envelope.items is None:
        raise UnreadableError("the answer says SUCCESS, but holds no array of answers")
    found = _matched(envelope.items, items)
    strays = len(envelope.items) - len(found)
    return SentMany(
        outcomes=tuple(
            _outcome(item, envelope.http_status, found.get(place), len(envelope.items))
            for place, item in enumerate(items)
        ),
        low_sms_alert=envelope.low_sms_alert,
        flaws=(f"{strays} of its {len(envelope.items)} answers cannot be matched to a message",) if strays else (),
        raw=tuple(envelope.data),
    )


def _matched(envelopes: Sequence[Envelope], items: Sequence[Item]) -> dict[int, Envelope]:
    """The envelope of each item, by its place.

    They are in the order of the items where there are as many and none speaks of others. Else one is an item's if it
    speaks of all of the item's phones, fits no other item, and no other envelope fits the item. One that speaks of some
    of them proves nothing of the rest, nor do two.
    """
    sent = {item.sms.text for item in items}
    told = [_Told.of(envelope, sent) for envelope in envelopes]
    if len(envelopes) == len(items) and all(each.fits(item) for each, item in zip(told, items, strict=True)):
        return dict(enumerate(envelopes))
    fitting = [[place for place, item in enumerate(items) if each.phones and each.fits(item)] for each in told]
    fits = Counter(place for places in fitting for place in places)
    return {
        places[0]: envelope
        for envelope, each, places in zip(envelopes, told, fitting, strict=True)
        if len(places) == 1 and fits[places[0]] == 1 and each.phones == items[places[0]].phones
    }


def _outcome(item: Item, status: int, envelope: Envelope | None, count: int) -> SMSOutcome:
    if envelope is None:
        missing = f"no answer among the {count} that came is surely about this message"
        return SMSOutcome(sms=item.sms, error=OutcomeUnknownError(missing, call=item.call.name, http_status=status))
    try:
        return SMSOutcome(sms=item.sms, sent=read_item(item.call, status, envelope))
    except MMSError as error:
        return SMSOutcome(sms=item.sms, error=error)
