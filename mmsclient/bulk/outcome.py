"""What the end of a call means for each of its recipients, and for the campaign. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from enum import Enum, auto

from attrs import frozen

from mmsclient._api.envelope import NOT_CARRIED_OUT, OF_THE_ACCOUNT, is_of_the_api
from mmsclient._api.phone_numbers import phone_key
from mmsclient._store.models import RecipientResult, number_of
from mmsclient._store.models import RecipientState as State
from mmsclient.errors import APIError, FieldEmptyError, FieldInvalidError, MMSError, OutcomeUnknownError
from mmsclient.models import SentBatch


class Next(Enum):
    """What to do after a call."""

    GO_ON = auto()
    TRY_AGAIN = auto()
    """It was surely not carried out, and may be later."""
    SPLIT = auto()
    """It was refused whole; a single recipient may be at fault."""
    STOP = auto()
    """Every other call would fail alike."""


@frozen
class Outcome:
    """What became of a call."""

    results: Sequence[RecipientResult]
    """For each recipient."""
    next: Next = Next.GO_ON
    accepted: int = 0
    refused: tuple[str, ...] | None = ()
    failed: bool = False
    """It counts towards the calls in a row that end a campaign."""


WHICH = "the API refused some of its call and does not tell which"
UNDIVIDED = "the API refused its call, maybe for another recipient in it"

_STOPPING = (*OF_THE_ACCOUNT, FieldEmptyError, FieldInvalidError)
"""Refusals of the account, the message or the set-up."""

_MESSAGE_FIELD = re.compile(r"\b(mms_text|mms_file|subject|sms_text|custom_string|source|field from)\b")


def outcome_of_answer(phones: Sequence[int], sent: SentBatch) -> Outcome:
    """What a success tells of each recipient.

    The API may list fewer messages than it accepted, and refuse a part silently (api-notes.md section 3, send-mms).
    """
    listed = {phone_key(message.to): message.id or None for message in sent.messages}
    ids = [listed.get(str(phone)) for phone in phones]
    if sent.refused is not None:
        refused = {phone_key(each) for each in sent.refused}
        results = [
            RecipientResult(State.REFUSED if str(phone) in refused else State.ACCEPTED, message_id)
            for phone, message_id in zip(phones, ids, strict=True)
        ]
        return Outcome(results, accepted=sent.accepted, refused=sent.refused, failed=not sent.accepted)
    known = {str(phone) for phone in phones} & listed.keys()
    if len(known) > sent.accepted:  # the answer contradicts itself
        known = set()
    results = [
        RecipientResult(State.ACCEPTED, message_id)
        if str(phone) in known
        else RecipientResult(State.UNKNOWN, message_id, WHICH)
        for phone, message_id in zip(phones, ids, strict=True)
    ]
    return Outcome(results, accepted=sent.accepted, refused=None, failed=not sent.accepted)


def outcome_of_error(phones: Sequence[int], error: MMSError, *, may_split: bool, own: Collection[str] = ()) -> Outcome:
    """What a failed call means.

    A refusal by the API was not carried out (api-notes.md section 2), but the same again would be refused again.

    Args:
        phones: Whom it was to.
        error: How it failed.
        may_split: It may still be cut in halves, should that help.
        own: The fields of the call of which others of the campaign may get other ones.
    """
    if isinstance(error, NOT_CARRIED_OUT):
        return Outcome(_all(phones, State.FAILED, error), Next.TRY_AGAIN, failed=True)
    if isinstance(error, OutcomeUnknownError):
        return Outcome(_all(phones, State.UNKNOWN, error), failed=True)
    if isinstance(error, FieldInvalidError) and may_be_a_recipient(error):
        return _of_invalid(phones, error, may_split)
    is_general = isinstance(error, _STOPPING) and not _speaks_of(own, error)
    if is_general or (isinstance(error, APIError) and not is_of_the_api(error)):
        return Outcome(_all(phones, State.PENDING, error), Next.STOP)
    if isinstance(error, APIError):
        return _refused(phones, error)
    return Outcome(_all(phones, State.UNKNOWN, error), Next.STOP)  # no other leaves `send`; should one, nobody knows


def _of_invalid(phones: Sequence[int], error: FieldInvalidError, may_split: bool) -> Outcome:
    if len(phones) == 1:
        return _refused(phones, error)
    if may_split:
        return Outcome(_all(phones, State.PENDING, error), Next.SPLIT)
    return Outcome([RecipientResult(State.FAILED, reason=f"{UNDIVIDED}: {error}")] * len(phones), failed=True)


def may_be_a_recipient(error: FieldInvalidError) -> bool:
    """FIELD_INVALID is the one code that may speak of a number, unless it names a field of the message.

    Its words are prose (api-notes.md section 1), but nothing was carried out: a wrong guess costs a few calls.
    """
    return error.code == "FIELD_INVALID" and not _MESSAGE_FIELD.search(error.description)


def _speaks_of(own: Collection[str], error: MMSError) -> bool:
    if not isinstance(error, FieldInvalidError):
        return False
    return any(re.search(rf"\b{name}\b", error.description) for name in own)


def _refused(phones: Sequence[int], error: MMSError) -> Outcome:
    return Outcome(_all(phones, State.REFUSED, error), refused=tuple(map(number_of, phones)), failed=True)


def _all(phones: Sequence[int], state: State, error: MMSError) -> list[RecipientResult]:
    return [RecipientResult(state, reason=str(error))] * len(phones)
