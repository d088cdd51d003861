"""What the end of a call means for each of its recipients, and for the campaign. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto

from attrs import frozen

from mmsclient.bulk.journal import Mark
from mmsclient.bulk.models import RecipientState as State
from mmsclient.bulk.plan import number
from mmsclient.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    FieldEmptyError,
    FieldInvalidError,
    InsufficientCreditError,
    InvalidRequestError,
    LimiterUnavailableError,
    MMSError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
    RecipientsError,
    UnknownCallError,
)
from mmsclient.models import SentBatch
from mmsclient.numbers import phone_key


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
class Verdict:
    """What became of a call."""

    marks: Sequence[Mark]
    """For each recipient."""
    next: Next = Next.GO_ON
    accepted: int = 0
    refused: tuple[str, ...] | None = ()
    failed: bool = False
    """It counts towards the calls in a row that end a campaign."""


WHICH = "the API refused some of its call and does not tell which"
UNDIVIDED = "the API refused its call, maybe for another recipient in it"

_STOPPING = (
    AuthenticationError,
    ConfigurationError,
    FieldEmptyError,
    FieldInvalidError,
    InsufficientCreditError,
    InvalidRequestError,
    PermissionDeniedError,
    UnknownCallError,
)
"""Refusals of the account, the message or the set-up: the API carried nothing out (wire.md section 2)."""

_NOT_CARRIED_OUT = (NotSentError, RateLimitError, LimiterUnavailableError)
"""What never left or got no turn, and what was throttled (wire.md section 1, throttle). It may go well later."""

_MESSAGE_FIELD = re.compile(r"\b(mms_text|mms_file|subject)\b")


def of_answer(phones: Sequence[int], sent: SentBatch) -> Verdict:
    """What a success tells of each recipient.

    The API may list fewer messages than it accepted, and refuse a part without a word (wire.md section 3, send-mms).
    """
    listed = {phone_key(message.to): message.id or None for message in sent.messages}
    ids = [listed.get(str(phone)) for phone in phones]
    if sent.refused is not None:
        refused = {phone_key(each) for each in sent.refused}
        marks = [
            Mark(State.REFUSED if str(phone) in refused else State.ACCEPTED, message_id)
            for phone, message_id in zip(phones, ids, strict=True)
        ]
        return Verdict(marks, accepted=sent.accepted, refused=sent.refused)
    known = {str(phone) for phone in phones} & listed.keys()
    if len(known) > sent.accepted:  # the answer contradicts itself
        known = set()
    marks = [
        Mark(State.ACCEPTED, message_id) if str(phone) in known else Mark(State.UNKNOWN, message_id, WHICH)
        for phone, message_id in zip(phones, ids, strict=True)
    ]
    return Verdict(marks, accepted=sent.accepted, refused=None)


def of_error(phones: Sequence[int], error: MMSError, *, may_split: bool) -> Verdict:
    """What a failed call means. `may_split`: it may still be cut in halves, should that help.

    A refusal by the API was not carried out (wire.md section 2), but the same again would be refused again.
    """
    if isinstance(error, _NOT_CARRIED_OUT):
        return Verdict(_all(phones, State.FAILED, error), Next.TRY_AGAIN, failed=True)
    if isinstance(error, OutcomeUnknownError):
        return Verdict(_all(phones, State.UNKNOWN, error), failed=True)
    if isinstance(error, FieldInvalidError) and _may_be_a_recipient(error):
        return _of_invalid(phones, error, may_split)
    if isinstance(error, _STOPPING):
        return Verdict(_all(phones, State.PENDING, error), Next.STOP)
    if isinstance(error, APIError):
        failed = not isinstance(error, RecipientsError)  # which says that the call was looked at
        return Verdict(_all(phones, State.REFUSED, error), refused=tuple(map(number, phones)), failed=failed)
    return Verdict(_all(phones, State.UNKNOWN, error), Next.STOP)  # no other leaves `send`; should one, nobody knows


def _of_invalid(phones: Sequence[int], error: FieldInvalidError, may_split: bool) -> Verdict:
    if len(phones) == 1:
        return Verdict(_all(phones, State.REFUSED, error), refused=(number(phones[0]),), failed=True)
    if may_split:
        return Verdict(_all(phones, State.PENDING, error), Next.SPLIT)
    return Verdict([Mark(State.FAILED, reason=f"{UNDIVIDED}: {error}")] * len(phones), failed=True)


def _may_be_a_recipient(error: FieldInvalidError) -> bool:
    """FIELD_INVALID is the one code that may speak of a number, unless it names a field of the message.

    Its words are prose (wire.md section 1), but nothing was carried out: the worst of a wrong guess is a few calls.
    """
    return error.code == "FIELD_INVALID" and not _MESSAGE_FIELD.search(error.description)


def _all(phones: Sequence[int], state: State, error: MMSError) -> list[Mark]:
    return [Mark(state, reason=str(error))] * len(phones)
