"""What the end of a keyed send means for its key, and how it is told again. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from attrs import evolve

from mmsclient import errors
from mmsclient._api import envelope
from mmsclient._api.types import Call, Response
from mmsclient._store.call_evidence import HEARD_OF
from mmsclient._store.heard import digits
from mmsclient._store.ledger import KeyedSend, SendEnd, SendState
from mmsclient._store.models import number_of
from mmsclient.errors import APIError, MMSError, OutcomeUnknownError
from mmsclient.models import SentBatch, SentMessage

__all__ = ["end_of", "kept_error", "proven_batch", "repeated_error", "repeated_result", "restored_error", "sent_at"]

E = TypeVar("E", bound=errors.CallError)

_FIELDS = ("description", "call", "attempts", "host", "http_status", "code", "excerpt")
"""Of an error of a call, as they are kept."""


def end_of(outcome: SentBatch | BaseException) -> SendEnd:
    """How a send ended, for the ledger. What nobody foresaw may have been carried out."""
    if isinstance(outcome, SentBatch):
        named = tuple((message.id, digits(message.to)) for message in outcome.messages if message.id)
        return SendEnd(SendState.ACCEPTED, {"raw": outcome.raw}, named)
    if isinstance(outcome, envelope.NOT_CARRIED_OUT + envelope.OF_THE_ACCOUNT):  # later it may go well
        return SendEnd(SendState.FAILED, kept_error(outcome))
    if isinstance(outcome, APIError):
        of_the_message = envelope.is_of_the_api(outcome)  # else a proxy's, about any call
        return SendEnd(SendState.REFUSED if of_the_message else SendState.FAILED, kept_error(outcome))
    return SendEnd(SendState.UNKNOWN, kept_error(outcome))


def kept_error(error: BaseException) -> Mapping[str, Any]:
    """An error as JSON can hold it; see `restored_error`."""
    if not isinstance(error, errors.CallError):
        return {"class": type(error).__name__, "description": errors.one_line(str(error), 500)}
    kept = {name: getattr(error, name) for name in _FIELDS}
    return {"class": type(error).__name__, **kept, "timed_out": getattr(error, "timed_out", False)}


def sent_at(held: KeyedSend) -> datetime:
    """When it was sent, in UTC."""
    return datetime.fromtimestamp(held.sent_at, UTC)


def repeated_result(call: Call[SentBatch], held: KeyedSend, total: int) -> SentBatch:
    """The result of an accepted send to `total` recipients, read from the API's answer as it was when that came.

    Where there was none, it holds what evidence tells. Raises `OutcomeUnknownError` where this version of the package
    cannot read the answer.
    """
    if HEARD_OF in held.result:
        return evolve(proven_batch(held.result[HEARD_OF], total), repeated=True)
    body = json.dumps(held.result.get("raw")).encode()
    response = Response(status=200, headers={"content-type": "application/json"}, body=body)
    return evolve(envelope.read(call, response, envelope.unwrap(call, response)), repeated=True)


def proven_batch(heard_of: Sequence[tuple[int, str]], total: int) -> SentBatch:
    """What evidence tells of a call to `total` recipients: the phones that were heard of, and their messages' ids."""
    messages = tuple(
        SentMessage(id=message_id, to=number_of(phone), subject="", text="", sent_at=None, sent_at_text="", raw={})
        for phone, message_id in heard_of
    )
    return SentBatch(
        accepted=len(messages),
        total=total,
        messages=messages,
        refused=() if len(messages) == total else None,
        duplicates=(),
        credits_used=None,
        low_sms_alert=None,
        proven=True,
        raw={},
    )


def repeated_error(key: str, call: str, held: KeyedSend) -> MMSError:
    """The error of a send that was refused, or of which it is not known whether it was carried out.

    `call`: its name, where the error that is held does not tell.
    """
    when = sent_at(held)
    about = f"key {errors.one_line(key, 200)!r}, sent at {when.isoformat(timespec='seconds')}"
    if held.state is SendState.REFUSED:
        refusal = restored_error(held.result, APIError)
        refusal.add_note(f"{about}: it was refused then; retry_refused=True sends it again")
        return refusal
    described = {
        "call": call,
        **held.result,
        "class": "",
        "description": f"{about}: {held.result.get('description', '')}",
    }
    unknown = restored_error(described, OutcomeUnknownError)
    unknown.sent_at = when
    return unknown


def restored_error(kept: Mapping[str, Any], base: type[E], otherwise: type[E] | None = None) -> E:
    """The error that `kept_error` was given: of its class where that is a `base`, else of `otherwise`, or `base`."""
    found = getattr(errors, kept.get("class", ""), None)
    cls = found if isinstance(found, type) and issubclass(found, base) else otherwise or base
    fields = {"description": "", "call": "send-mms", **{name: kept[name] for name in _FIELDS if name in kept}}
    error = cls(**fields)
    if isinstance(error, OutcomeUnknownError):
        error.timed_out = bool(kept.get("timed_out", False))
    return error
