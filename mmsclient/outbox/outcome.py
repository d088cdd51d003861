"""What the end of a call means for each of its orders, and how it is told again. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Any

from attrs import evolve

from mmsclient._api.phone_numbers import phone_key
from mmsclient._api.sent_batch import sent_message
from mmsclient._api.values import object_of
from mmsclient._keyed.outcome import end_of, kept_error, proven_batch, restored_error
from mmsclient._store.ledger import SendState
from mmsclient._store.models import RecipientResult, RecipientState, number_of
from mmsclient._store.outbox import Candidate, HeldOrder, HeldRecipient, OrderEnd, OutboxClaim, OutboxState
from mmsclient._store.outbox_resends import BEFORE
from mmsclient._words import counted
from mmsclient.bulk.outcome import WHICH, may_be_a_recipient, outcome_of_answer
from mmsclient.errors import (
    APIError,
    CallError,
    FieldInvalidError,
    NotSentError,
    OutcomeUnknownError,
    RecipientsError,
)
from mmsclient.models import SentBatch, SentMessage
from mmsclient.outbox.models import OutboxRecipient, OutboxResult

__all__ = ["ends_of_answer", "ends_of_error", "result_of"]

UNKNOWN, REFUSED, ACCEPTED = RecipientState.UNKNOWN, RecipientState.REFUSED, RecipientState.ACCEPTED


def ends_of_answer(claim: OutboxClaim, sent: SentBatch) -> list[OrderEnd]:
    """What a success tells of each order: its own part of the answer."""
    results = dict(zip(claim.phones, outcome_of_answer(claim.phones, sent).results, strict=True))
    is_shared = len(claim.orders) > 1
    return [_end_of_part(order, sent, [results[phone] for phone in order.phones], is_shared) for order in claim.orders]


def ends_of_error(claim: OutboxClaim, error: BaseException, delay: float) -> list[OrderEnd]:
    """What a failed call means. Where a single recipient may be at fault, the orders go into smaller calls.

    Args:
        claim: What was sent.
        error: What nobody foresaw may have been carried out.
        delay: Seconds until it is sent again, where it was surely not carried out.
    """
    state, together = OutboxState.UNKNOWN, None
    match end_of(error).state:
        case SendState.FAILED:
            state = OutboxState.WAITING
            together = min((order.together for order in claim.orders if order.together is not None), default=None)
        case SendState.REFUSED:
            state = OutboxState.REFUSED
            several = len(claim.orders) > 1
            if several and isinstance(error, FieldInvalidError) and may_be_a_recipient(error):
                state, together, delay = OutboxState.WAITING, len(claim.orders) // 2, 0.0
    of_each = REFUSED if state is OutboxState.REFUSED else None
    result = {"error": kept_error(error)}
    return [
        OrderEnd(state, result, ((of_each, None),) * len(order.phones), delay=delay, together=together)
        for order in claim.orders
    ]


def _end_of_part(order: Candidate, sent: SentBatch, results: Sequence[RecipientResult], is_shared: bool) -> OrderEnd:
    states = [result.state for result in results]
    part = _part(order, sent, results) if is_shared else sent
    result: dict[str, Any] = {"sent": _kept_sent(part)}
    if UNKNOWN in states:
        state = OutboxState.UNKNOWN
        result["error"] = kept_error(OutcomeUnknownError(WHICH, call="send-mms", http_status=200))
    elif ACCEPTED in states:
        state = OutboxState.ACCEPTED
    else:
        state = OutboxState.REFUSED
        nobody = f"the API accepted none of {counted(len(states), 'recipient')}"
        result["error"] = kept_error(RecipientsError(nobody, call="send-mms", http_status=200))
    return OrderEnd(state, result, tuple((each.state, each.message_id) for each in results))


def _part(order: Candidate, sent: SentBatch, results: Sequence[RecipientResult]) -> SentBatch:
    """An order's own part of an answer to several."""
    phones = {str(phone) for phone in order.phones}
    states = [result.state for result in results]
    refused = (number_of(phone) for phone, state in zip(order.phones, states, strict=True) if state is REFUSED)
    return evolve(
        sent,
        accepted=states.count(ACCEPTED),
        total=len(states),
        messages=tuple(message for message in sent.messages if phone_key(message.to) in phones),
        refused=None if UNKNOWN in states else tuple(refused),
        credits_used=None,
    )


# As JSON --------------------------------------------------------------------------------------------------------------


def _kept_sent(sent: SentBatch) -> Mapping[str, Any]:
    return {
        "accepted": sent.accepted,
        "total": sent.total,
        "messages": [_kept_message(message) for message in sent.messages],
        "refused": sent.refused,
        "credits_used": None if sent.credits_used is None else str(sent.credits_used),
        "low_sms_alert": sent.low_sms_alert,
        "flaws": sent.flaws,
        "raw": _without_messages(sent.raw),
    }


def _kept_message(message: SentMessage) -> Mapping[str, Any]:
    return {"raw": message.raw, "sent_at": None if message.sent_at is None else message.sent_at.isoformat()}


def _without_messages(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = {name: value for name, value in raw.items() if name != "messages"}
    if isinstance(data := kept.get("data"), dict):
        kept["data"] = {name: value for name, value in data.items() if name != "messages"}
    return kept


def _restored_sent(kept: Mapping[str, Any]) -> SentBatch:
    refused, credits_used = kept["refused"], kept["credits_used"]
    return SentBatch(
        accepted=kept["accepted"],
        total=kept["total"],
        messages=tuple(map(_restored_message, kept["messages"])),
        refused=None if refused is None else tuple(refused),
        duplicates=(),
        credits_used=None if credits_used is None else Decimal(credits_used),
        low_sms_alert=kept["low_sms_alert"],
        flaws=tuple(kept["flaws"]),
        raw=kept["raw"],
    )


def _restored_message(kept: Mapping[str, Any]) -> SentMessage:
    message = sent_message(object_of(kept["raw"]), kept["raw"], UTC)
    return evolve(message, sent_at=None if kept["sent_at"] is None else datetime.fromisoformat(kept["sent_at"]))


# For the caller -------------------------------------------------------------------------------------------------------


def result_of(held: HeldOrder) -> OutboxResult:
    """An order as the caller is told of it."""
    error = held.result.get("error")
    failure = None if error is None else _error(held.state, error)
    if isinstance(failure, OutcomeUnknownError):
        failure.sent_at = _time(held.claimed_at)
    return OutboxResult(
        key=held.key,
        state=held.state,
        recipients=tuple(_recipient(held, recipient) for recipient in held.recipients),
        sent=_sent(held),
        error=failure,
        put_at=datetime.fromtimestamp(held.put_at, UTC),
        not_before=_time(held.not_before),
        sent_at=_time(held.claimed_at),
        ended_at=_time(held.ended_at),
        attempts=held.attempts,
        number=held.number,
    )


def _sent(held: HeldOrder) -> SentBatch | None:
    """What the API answered for it; where it was sent again, all that it answered, as one."""
    last, before = held.result.get("sent"), held.result.get(BEFORE)
    if before is None:
        return _proven(held) if last is None else _restored_sent(last)
    answers = [_restored_sent(answer) for answer in (*before, *(() if last is None else (last,)))]
    states = {number_of(each.phone): held.state if each.state is None else each.state for each in held.recipients}
    refused = tuple(number for number, state in states.items() if state == REFUSED)
    accepted = sum(state == ACCEPTED for state in states.values())
    costs = [answer.credits_used for answer in answers if answer.credits_used is not None]
    return evolve(
        answers[-1],
        accepted=accepted,
        total=len(states),
        messages=tuple(chain.from_iterable(answer.messages for answer in answers)),
        refused=refused if accepted + len(refused) == len(states) else None,
        credits_used=sum(costs, Decimal(0)) if len(costs) == len(answers) else None,
        flaws=tuple(chain.from_iterable(answer.flaws for answer in answers)),
    )


def _proven(held: HeldOrder) -> SentBatch | None:
    """What evidence tells of an order that no answer told of; None where it does not."""
    if held.state is not OutboxState.ACCEPTED:
        return None
    heard_of = [(each.phone, each.message_id or "") for each in held.recipients if each.proven]
    return proven_batch(heard_of, len(held.recipients))


def _error(state: OutboxState, kept: Mapping[str, Any]) -> CallError:
    if state is OutboxState.UNKNOWN:
        return restored_error(kept, OutcomeUnknownError)
    if state is OutboxState.REFUSED:
        return restored_error(kept, APIError)
    return restored_error(kept, CallError, NotSentError)


def _recipient(held: HeldOrder, recipient: HeldRecipient) -> OutboxRecipient:
    state = held.state if recipient.state is None else OutboxState(recipient.state)
    number = number_of(recipient.phone)
    return OutboxRecipient(number=number, state=state, message_id=recipient.message_id, proven=recipient.proven)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
