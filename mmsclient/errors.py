"""Every error this package raises.

MMSError
├── ConfigurationError (also ValueError)      the key, the base URL or an option of the client
├── InvalidRequestError (also ValueError)     found here, before anything was sent
├── LimiterUnavailableError                   the limiter cannot tell whether a call may go; nothing was sent
├── LedgerUnavailableError                    the ledger of keyed sends cannot be used; nothing was sent
├── KeyReusedError                            the key was used for another message or other recipients; nothing was sent
├── SendInProgressError                       a send with the same key is still under way
├── TransportError                            no usable answer; catch OutcomeUnknownError first
│   ├── NotSentError                          surely not carried out
│   └── OutcomeUnknownError                   it left; whether it was carried out is not known
└── APIError                                  the API refused the call; any code without a class of its own
    ├── AuthenticationError                   AUTH_FAILED, AUTH_FAILED_NO_DATA, HTTP 401
    ├── PermissionDeniedError                 NO_ACCESS, ACCOUNT_EXPIRED, HTTP 403
    ├── RateLimitError                        OVER_LIMIT, HTTP 429
    ├── FieldEmptyError                       FIELD_EMPTY
    ├── FieldInvalidError                     FIELD_INVALID, FIELD_UNSAFE, BAD_CALLER_ID
    ├── RecipientsError                       RECIPIENTS_ERROR, LIST_EMPTY
    ├── ConflictError                         KEY_EXISTS
    ├── InsufficientCreditError               LEDGER_ERROR, FIELD_INVALID that speaks of credit
    ├── NotFoundError                         NOT_FOUND
    ├── UnknownCallError                      NOT_IMPLEMENTED, HTTP 404 without a code
    └── ServerError                           HTTP 5xx to a call that is harmless to repeat

Every one of them can be pickled, is a single line in a log, and holds neither the APPKEY nor an object of the HTTP
library.
Codes: api-notes.md section 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar, cast

__all__ = [
    "APIError",
    "AuthenticationError",
    "ConfigurationError",
    "ConflictError",
    "FieldEmptyError",
    "FieldInvalidError",
    "InsufficientCreditError",
    "InvalidRequestError",
    "KeyReusedError",
    "LedgerUnavailableError",
    "LimiterUnavailableError",
    "MMSError",
    "NotFoundError",
    "NotSentError",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "RateLimitError",
    "RecipientsError",
    "SendInProgressError",
    "ServerError",
    "TransportError",
    "UnknownCallError",
]

E = TypeVar("E", bound=BaseException)

SHOWN_VALUE = 60
"""Characters of a wrong value that an error message repeats."""


def described(value: object, show: Callable[[object], str] = repr) -> str:
    """`value` as `repr` or `str` has it. Never fails, whatever a class does there."""
    try:
        return show(value)
    except Exception:
        return f"<unprintable {type(value).__name__} object>"


def one_line(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters, safe to print whatever it holds."""
    printable = "".join(c if c.isprintable() else " " for c in text[: limit * 4])
    line = " ".join(printable.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _restore(cls: type[MMSError], args: tuple[Any, ...], state: dict[str, Any]) -> MMSError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class MMSError(Exception):
    """The base of every error of this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__.copy())


class ConfigurationError(MMSError, ValueError):
    """The client cannot work as configured: the key, the base URL, an option, or the event loop it is used from."""


class InvalidRequestError(MMSError, ValueError):
    """An argument of a call is wrong. Raised before anything is sent and before a token is spent."""

    argument: str
    """The argument's name."""
    value: str
    """What was passed, shortened to 60 characters."""
    expected: str
    """What is accepted."""

    def __init__(self, argument: str, value: object, expected: str) -> None:
        self.argument = argument
        self.value = (value if isinstance(value, str) else described(value))[:SHOWN_VALUE]
        self.expected = expected
        shown = ascii(self.value) if isinstance(value, str) else one_line(self.value, SHOWN_VALUE)
        super().__init__(f"{argument}: expected {one_line(expected, 200)}, got {shown}")


class LimiterUnavailableError(MMSError):
    """The limiter shared through Redis cannot tell whether the call may go. Nothing was sent."""


class LedgerUnavailableError(MMSError):
    """The ledger of keyed sends cannot be opened, read or written. Nothing was sent; send again with the same key."""

    problem: str
    """What is wrong."""
    path: str
    """The ledger's file, or the host and database."""

    def __init__(self, problem: str, path: str | os.PathLike[str] = "") -> None:
        self.problem = one_line(problem, 500)
        self.path = one_line(os.fspath(path), 500)
        where = f"ledger {self.path}" if self.path else "ledger"
        super().__init__(f"{where}: {self.problem}; nothing was sent")


class KeyReusedError(MMSError):
    """The key was used for another message or other recipients. Nothing was sent.

    Another message needs another key, whatever became of the first one.
    """

    key: str
    """The key."""
    differences: tuple[str, ...]
    """What differs: `text`, `subject`, `image`, `recipients`; `kind` where one is an MMS and one an SMS, `options` for
    what an SMS has beside its text."""

    def __init__(self, key: str, differences: Iterable[str] = ()) -> None:
        self.key = key
        self.differences = tuple(differences)
        shown = one_line(key, 200)
        words = {"recipients": "other recipients", "kind": "a message of the other kind", "options": "other options"}
        what = " and ".join(words.get(part, f"another {part}") for part in self.differences)
        super().__init__(f"key {shown!r}: it was used for {what or 'another message'}; nothing was sent")


class SendInProgressError(MMSError):
    """A send with the same key, here or in another process, has not ended within the timeout. This one sent nothing.

    Ask again with the same key: what became of the other one is told then.
    """

    key: str
    """The key."""
    since: datetime | None
    """When the other one began, in UTC; None where that is not known yet."""

    def __init__(self, key: str, since: datetime | None = None) -> None:
        self.key = key
        self.since = since
        began = "" if since is None else f" since {since.isoformat(timespec='seconds')}"
        super().__init__(f"key {one_line(key, 200)!r}: a send with it has been under way{began}; ask again later")


class CallError(MMSError):
    """What both kinds of failed call have in common; not a public name."""

    advice = ""
    """What a person can do about it."""

    call: str
    """The call, as in its URL: `send-mms`, say."""
    attempts: int
    """How often it was tried."""
    host: str
    """The host that was called, with its port unless that is the usual one; empty if no call went out."""
    http_status: int | None
    """The HTTP status, None if no response came."""
    code: str | None
    """The API's own error code, None if the response has none."""
    description: str
    """What the API said, or what went wrong on the way, on one line."""
    excerpt: str
    """The beginning of the response's body, up to 200 characters; empty if none came."""

    def __init__(
        self,
        description: str,
        *,
        call: str,
        attempts: int = 1,
        host: str = "",
        http_status: int | None = None,
        code: str | None = None,
        excerpt: str = "",
    ) -> None:
        self.description = one_line(description, 500)
        self.call = call
        self.attempts = attempts
        self.host = host
        self.http_status = http_status
        self.code = code
        self.excerpt = excerpt
        super().__init__(self.description)

    def __str__(self) -> str:
        said = [one_line(self.code, 60)] if self.code else []
        said += [f"HTTP {self.http_status}"] if self.http_status else []
        where = f"{self.call} at {self.host}" if self.host and not self.code else self.call
        parts = [f"{where}: {self.description}"]
        parts += [f"({', '.join(said)})"] if said else []
        parts += [f"[{self.attempts} attempts]"] if self.attempts > 1 else []
        parts += [f"answer: {self.excerpt!r}"] if self.excerpt and not self.code else []
        line = " ".join(parts)
        return f"{line}; {self.advice}" if self.advice else line


def without_excerpt(error: E) -> E:
    """`error` for a log: a call's without the answer's beginning, which may quote numbers and text."""
    if not isinstance(error, CallError) or not error.excerpt:
        return error
    return cast("E", _restore(type(error), error.args, error.__dict__ | {"excerpt": ""}))


def in_words(outcome: object) -> str:
    """What a call returned or raised on one line of a log, as `without_excerpt`."""
    return one_line(str(without_excerpt(outcome) if isinstance(outcome, BaseException) else outcome), 500)


class TransportError(CallError):
    """No usable response came.

    Raised itself, rather than as a subclass, only for calls that are harmless to repeat. Catch `OutcomeUnknownError`
    first if you retry on a `TransportError`.
    """


class NotSentError(TransportError):
    """The call was certainly not carried out, as it never left: it is safe to send it again."""

    advice = "nothing was sent"


class OutcomeUnknownError(TransportError):
    """The call left and no usable response came: it may have been carried out and billed.

    It was not repeated. Before you send again, look for the message at the provider or ask its recipient.
    """

    advice = "it may have been carried out, so it was not repeated"

    timed_out: bool = False
    """No complete response came within the timeout."""
    sent_at: datetime | None = None
    """When it was sent, in UTC, where a ledger tells it again; None for the send itself."""


class APIError(CallError):
    """The API refused the call. Raised itself for a code without a class of its own (api-notes.md section 2)."""


class AuthenticationError(APIError):
    """The APPKEY is missing, wrong, or belongs to no registered user of this API."""

    advice = "check the APPKEY; a key of the provider's newer platform is none of this API"


class PermissionDeniedError(APIError):
    """The account may not make this call, or has expired."""

    advice = "ask the provider what this account may do"


class RateLimitError(APIError):
    """The account is over its cap of calls. The call was not carried out."""

    advice = "not carried out; slow down, or ask the provider for a higher cap"

    retry_after: float | None = None
    """How long the server asked to wait, in seconds; None if it did not say."""


class FieldEmptyError(APIError):
    """A required field was empty; the description says which."""


class FieldInvalidError(APIError):
    """A field was invalid; the description says which."""


class RecipientsError(APIError):
    """There is no valid recipient: all are invalid or have unsubscribed."""

    advice = "no recipient can receive it"


class ConflictError(APIError):
    """What should be created exists already."""


class InsufficientCreditError(APIError):
    """The account has too little credit for the call."""

    advice = "top up the account"


class NotFoundError(APIError):
    """There is no such item."""


class UnknownCallError(APIError):
    """The API has no such call. A wrong base URL looks the same."""

    advice = "check the base URL"


class ServerError(APIError):
    """The server failed each time a call that is harmless to repeat was tried."""

    retry_after: float | None = None
    """How long the server asked to wait, in seconds; None if it did not say."""
