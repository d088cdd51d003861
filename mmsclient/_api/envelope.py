"""What an answer means: every decision about it is taken here (api-notes.md section 1).

`unwrap` turns a `Response` into an `Envelope` or raises; `read` turns the envelope into the result of its call.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mmsclient import errors
from mmsclient._api.items import bounded
from mmsclient._api.types import Call, Envelope, Response, UnreadableError
from mmsclient._api.values import document, object_of, text_of

T = TypeVar("T")

NOT_CARRIED_OUT = (errors.NotSentError, errors.RateLimitError, errors.LimiterUnavailableError)
"""What never left or got no turn, and what was throttled (api-notes.md section 1, throttle). It may go well later."""

OF_THE_ACCOUNT = (
    errors.AuthenticationError,
    errors.ConfigurationError,
    errors.InsufficientCreditError,
    errors.InvalidRequestError,
    errors.PermissionDeniedError,
    errors.UnknownCallError,
)
"""Refusals for the sake of the account or the set-up: the API carried nothing out (api-notes.md section 2), and would
refuse any other call alike."""

EXCERPT = 200
"""Characters of an unreadable answer that its error quotes."""

_LONGEST_KEY = 8192
"""Characters of an escaped key: what an excerpt is cut from ends so much earlier than what is searched for the key."""

_CLASSES: Mapping[str, type[errors.APIError]] = {
    "AUTH_FAILED_NO_DATA": errors.AuthenticationError,
    "AUTH_FAILED": errors.AuthenticationError,
    "OVER_LIMIT": errors.RateLimitError,
    "FIELD_EMPTY": errors.FieldEmptyError,
    "FIELD_INVALID": errors.FieldInvalidError,
    "FIELD_UNSAFE": errors.FieldInvalidError,
    "BAD_CALLER_ID": errors.FieldInvalidError,
    "RECIPIENTS_ERROR": errors.RecipientsError,
    "LIST_EMPTY": errors.RecipientsError,
    "NOT_FOUND": errors.NotFoundError,
    "NOT_IMPLEMENTED": errors.UnknownCallError,
    "NO_ACCESS": errors.PermissionDeniedError,
    "ACCOUNT_EXPIRED": errors.PermissionDeniedError,
    "KEY_EXISTS": errors.ConflictError,
    "LEDGER_ERROR": errors.InsufficientCreditError,
}

_CLASSES_BY_STATUS: Mapping[int, type[errors.APIError]] = {
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.UnknownCallError,
    429: errors.RateLimitError,
}

_A_CODE = re.compile(r"[A-Z][A-Z0-9_]+")

_NAMED = re.compile(
    r'"message_id"\s*:\s*(?:[1-9]|"[^"])'
    r'|"messages"\s*:\s*(?:[1-9]|"[^"]|[\[{]\s*[^\]}\s])'
    r'|"success_number"\s*:\s*"?[0.]*[1-9]'
)
"""Messages or successes stand in an answer, whatever its code says: in any place, in a field that a later one of the
same name hides, and in an answer that was cut off."""

_NO_REFUSAL = frozenset({408, 499})
"""4xx that speak of the exchange and not of the call: a proxy gave up on one that the server may have had."""


def unwrap(call: Call[Any], response: Response) -> Envelope:
    """The envelope of a success: HTTP 200 and SUCCESS (api-notes.md section 1), or NOT_FOUND where `call` reads it.

    Raises the `APIError` of the code, or where the answer leaves open what happened, `OutcomeUnknownError` for a call
    that must not be repeated and `TransportError` or `ServerError` for one that may.
    """
    try:
        envelope = _open(call, response)
    except UnreadableError as error:
        flaw = str(error)
    else:
        return _judged(call, response, envelope)
    raise _failure(call, response, None, flaw)  # out here, or its context would hold the answer


def _judged(call: Call[Any], response: Response, envelope: Envelope) -> Envelope:
    if envelope.items is not None or (response.status == 200 and envelope.code == "SUCCESS"):
        return envelope
    if call.not_found is not None and envelope.code == "NOT_FOUND" and response.status in (200, 400, 404):
        return envelope
    raise _failure(call, response, envelope, "")


def read_item(call: Call[T], status: int, item: Envelope) -> T:
    """The result of `call` from its envelope in an array that came with that HTTP status. Raises as `unwrap` does."""
    response = Response(status=status, headers={}, body=json.dumps(item.raw).encode())
    return read(call, response, _judged(call, response, item))


def read(call: Call[T], response: Response, envelope: Envelope) -> T:
    """The result of `call` from its envelope. Raises as `unwrap` does, for a success that cannot be read."""
    try:
        if call.not_found is not None and envelope.code == "NOT_FOUND":
            return call.not_found(envelope)
        return call.read(envelope)
    except UnreadableError as error:
        flaw = str(error)
    raise _no_usable_answer(call, response, envelope.code, flaw)


def undecodable(call: Call[Any], response: Response, error: Exception) -> errors.TransportError:
    """The error for an answer on which reading it failed in a way that nobody foresaw."""
    return _no_usable_answer(call, response, None, f"the answer cannot be read ({type(error).__name__})")


def is_throttled(response: Response, error: errors.MMSError | None) -> bool:
    """The server counted this call as over the cap: HTTP 429 or OVER_LIMIT, either alone (api-notes.md section 1)."""
    return response.status == 429 or getattr(error, "code", None) == "OVER_LIMIT"


def is_of_the_api(error: errors.APIError) -> bool:
    """It holds a code as the API writes them (api-notes.md section 2); else it may be a proxy's, about any call.

    A success of HTTP that is none of the API's is never taken for a proxy's: something may have been carried out.
    """
    return error.http_status == 200 or (error.code is not None and _A_CODE.fullmatch(error.code) is not None)


def retry_after(response: Response) -> float | None:
    """Seconds that `Retry-After` asks to wait, as a number or as a date; None where it is missing or unreadable."""
    text = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    until, now = _http_date(text), _http_date(response.headers.get("date", ""))
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds()) if until else None


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _failure(call: Call[Any], response: Response, envelope: Envelope | None, flaw: str) -> errors.MMSError:
    """The error for an answer that is no success."""
    if not call.repeatable and _NAMED.search(_legible(response, call.max_answer)):
        said = (envelope.description if envelope else flaw) or "no success"
        code = (envelope.code if envelope else "") or None
        return _no_usable_answer(call, response, code, f"{said}; but it lists messages that were taken")
    if envelope is not None and not envelope.code:
        envelope, flaw = None, "the answer holds no code"
    status, code = response.status, envelope.code if envelope else None
    description = (envelope.description if envelope else "") or flaw or f"HTTP {status}"
    contradiction = code == "SUCCESS"
    refused = code is not None if status == 200 else 400 <= status < 500 and status not in _NO_REFUSAL
    if envelope is None and call.repeatable:  # asking again tells more than a status that may mean many things
        refused = status in _CLASSES_BY_STATUS
    if call.repeatable and status >= 500:
        cls: type[errors.APIError] = errors.RateLimitError if code == "OVER_LIMIT" else errors.ServerError
    elif refused and not contradiction:
        cls = _error_class(code, status, description)
    else:
        return _no_usable_answer(call, response, code, description)
    error = cls(
        description,
        call=call.name,
        http_status=status,
        code=code,
        excerpt=_excerpt(response),
    )
    if isinstance(error, errors.RateLimitError | errors.ServerError):
        error.retry_after = retry_after(response)
    return error


def _error_class(code: str | None, status: int, description: str) -> type[errors.APIError]:
    if status == 429:
        return errors.RateLimitError
    if code is None:
        return _CLASSES_BY_STATUS.get(status, errors.APIError)
    if code == "FIELD_INVALID" and "credit" in description.lower():
        return errors.InsufficientCreditError
    return _CLASSES.get(code, errors.APIError)


def _no_usable_answer(call: Call[Any], response: Response, code: str | None, description: str) -> errors.TransportError:
    """The answer does not tell whether the call was carried out."""
    cls = errors.TransportError if call.repeatable else errors.OutcomeUnknownError
    error = cls(description, call=call.name, http_status=response.status, code=code, excerpt=_excerpt(response))
    if isinstance(error, errors.OutcomeUnknownError):
        error.timed_out = response.timed_out
    return error


def _excerpt(response: Response) -> str:
    most = EXCERPT * 4 + _LONGEST_KEY
    text = _legible(response, most * 4)[:most]  # no character of any encoding takes more bytes
    scrubbed = response.scrub(text)
    whole = scrubbed if len(text) < most else scrubbed[:-_LONGEST_KEY]
    return errors.one_line(whole[: EXCERPT * 4], EXCERPT)


def _legible(response: Response, most: int) -> str:
    """What can be read of the first `most` bytes of an answer, whole or not."""
    try:
        beginning = _decompressed(response, most, beginning=True)[:most]
    except (UnreadableError, zlib.error):
        return ""
    return beginning.decode(json.detect_encoding(beginning), "replace")


def _open(call: Call[Any], response: Response) -> Envelope:
    """The envelope of any answer, success or not; its code may be empty. Raises `UnreadableError`."""
    if 300 <= response.status < 400:
        raise UnreadableError(f"a redirect to {_host(response.headers.get('location', ''))}, which is not followed")
    if response.flaw:
        raise UnreadableError(response.flaw)
    try:
        body = document(_text(_decompressed(response, call.max_answer)), response.scrub)
    except (ValueError, RecursionError, zlib.error):
        kind = response.headers.get("content-type", "no content type")
        size = len(response.body)
        raise UnreadableError(
            f"the answer is not JSON ({kind}, {size} bytes)" if size else "the answer is empty"
        ) from None
    if isinstance(body, list) and call.reads_array:
        return _opened_array(body, response.status)
    if not isinstance(body, dict):
        raise UnreadableError("the answer is JSON, but not an object")
    return _opened(body)


def _opened_array(body: list[Any], status: int) -> Envelope:
    items = tuple(_opened(object_of(item)) for item in bounded(body))
    return Envelope(
        code="SUCCESS",
        description="",
        data=body,
        page={},
        low_sms_alert=next((item.low_sms_alert for item in items if item.low_sms_alert), None),
        raw={},
        items=items,
        http_status=status,
    )


def _opened(body: Mapping[str, Any]) -> Envelope:
    meta, error = object_of(body.get("meta")), object_of(body.get("error"))
    code = text_of(meta.get("status")) or text_of(error.get("code"))
    data = body["data"] if "data" in body else {k: v for k, v in body.items() if k not in _ENVELOPE_FIELDS}
    return Envelope(
        code=code.strip().upper() if code.strip().upper() in _KNOWN_CODES else code,
        description=text_of(body.get("msg")) or text_of(error.get("description")),
        data=data,
        page=object_of(object_of(data).get("page")) or object_of(body.get("page")),
        low_sms_alert=text_of(body.get("low_sms_alert")) or None,
        raw=body,
    )


_ENVELOPE_FIELDS = frozenset({"meta", "error", "msg", "low_sms_alert"})
_KNOWN_CODES = frozenset(_CLASSES) | {"SUCCESS"}


def _host(location: str) -> str:
    """The host that a redirect names; never its path or query, which may hold anything."""
    try:
        return urlsplit(location).hostname or "the same host"
    except ValueError:
        return "an unreadable address"


def _text(body: bytes) -> str:
    return body.decode(json.detect_encoding(body)).removeprefix("\ufeff")


def _decompressed(response: Response, most: int, *, beginning: bool = False) -> bytes:
    """The body, should a server have compressed it unasked; bounded like every body.

    One that is said to be compressed and is not is read as it is: a proxy may have inflated it and left the header.
    """
    if response.headers.get("content-encoding", "identity").strip().lower() not in (
        "gzip",
        "x-gzip",
        "deflate",
    ):
        return response.body
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        body = inflater.decompress(response.body, most)
    except zlib.error:
        if response.body.lstrip()[:1] not in (b"{", b"["):
            raise
        return response.body
    if not inflater.eof and not beginning:
        raise UnreadableError("the compressed answer is cut short or too large")
    return body
