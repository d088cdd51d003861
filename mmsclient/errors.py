"""Every error this package raises.

MMSError
├── ConfigurationError (also ValueError)      the key, the base URL or an option of the client
├── InvalidRequestError (also ValueError)     found here, before anything was sent
├── LimiterUnavailableError                   the limiter cannot tell whether a call may go; nothing was sent
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

All of them can be pickled, read as one line in a log, and hold neither the APPKEY nor an object of the HTTP library.
Codes: wire.md section 2.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "APIError",
    "AuthenticationError",
    "ConfigurationError",
    "ConflictError",
    "FieldEmptyError",
    "FieldInvalidError",
    "InsufficientCreditError",
    "InvalidRequestError",
    "LimiterUnavailableError",
    "MMSError",
    "NotFoundError",
    "NotSentError",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "RateLimitError",
    "RecipientsError",
    "ServerError",
    "TransportError",
    "UnknownCallError",
]

SHOWN_VALUE = 60
"""Characters of a wrong value that an error message repeats."""


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
    """The root of all errors of this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__.copy())


class ConfigurationError(MMSError, ValueError):
    """The client cannot work as it was set up: the key, the base URL, an option, or the event loop it is used from."""


class InvalidRequestError(MMSError, ValueError):
    """A call's argument is wrong. Found before anything was sent and before a token was spent."""

    argument: str
    """The argument's name."""
    value: str
    """What was given, shortened."""
    expected: str
    """What is accepted."""

    def __init__(self, argument: str, value: object, expected: str) -> None:
        self.argument = argument
        self.value = (value if isinstance(value, str) else repr(value))[:SHOWN_VALUE]
        self.expected = expected
        shown = ascii(self.value) if isinstance(value, str) else one_line(self.value, SHOWN_VALUE)
        super().__init__(f"{argument}: expected {one_line(expected, 200)}, got {shown}")


class LimiterUnavailableError(MMSError):
    """The limiter that is shared through Redis cannot tell whether the call may go. Nothing was sent."""


class CallError(MMSError):
    """What the two kinds of failed call have in common; not a public name."""

    advice = ""
    """What a person can do about it."""

    call: str
    """The call, as in its URL: `send-mms`."""
    attempts: int
    """How many times it was tried."""
    http_status: int | None
    """The HTTP status, None where no answer came."""
    code: str | None
    """The API's own code, None where the answer holds none."""
    description: str
    """What the API said, or what went wrong on the way."""
    excerpt: str
    """The beginning of the answer's body, empty where none came."""

    def __init__(
        self,
        description: str,
        *,
        call: str,
        attempts: int = 1,
        http_status: int | None = None,
        code: str | None = None,
        excerpt: str = "",
    ) -> None:
        self.description = one_line(description, 500)
        self.call = call
        self.attempts = attempts
        self.http_status = http_status
        self.code = code
        self.excerpt = excerpt
        super().__init__(self.description)

    def __str__(self) -> str:
        said = [one_line(self.code, 60)] if self.code else []
        said += [f"HTTP {self.http_status}"] if self.http_status else []
        parts = [f"{self.call}: {self.description}"]
        parts += [f"({', '.join(said)})"] if said else []
        parts += [f"[{self.attempts} attempts]"] if self.attempts > 1 else []
        parts += [f"answer: {self.excerpt!r}"] if self.excerpt and not self.code else []
        line = " ".join(parts)
        return f"{line}; {self.advice}" if self.advice else line


class TransportError(CallError):
    """No usable answer came. Raised as it is, and not as one of its children, only after calls that are harmless to
    repeat. Whoever repeats on a `TransportError` must catch `OutcomeUnknownError` before it."""


class NotSentError(TransportError):
    """The call was surely not carried out: it never left, so sending it again is safe."""

    advice = "nothing was sent"


class OutcomeUnknownError(TransportError):
    """The call left and no usable answer came: it may have been carried out and billed.

    It was not repeated. Before sending again, look for the message with the provider or ask its recipient.
    """

    advice = "it may have been carried out, so it was not repeated"


class APIError(CallError):
    """The API refused the call. Its code has no class of its own (wire.md section 2: some calls return their own)."""


class AuthenticationError(APIError):
    """The APPKEY is missing, wrong, or not of a registered user."""

    advice = "check the APPKEY"


class PermissionDeniedError(APIError):
    """This account may not do that, or has expired."""

    advice = "ask the provider what this account may do"


class RateLimitError(APIError):
    """Over the account's cap of calls. The call was not carried out."""

    advice = "not carried out; slow down, or ask the provider for a higher cap"

    retry_after: float | None = None
    """Seconds the server asked to wait, None where it did not say."""


class FieldEmptyError(APIError):
    """A required field was empty; the description names it."""


class FieldInvalidError(APIError):
    """A field was wrong; the description names it."""


class RecipientsError(APIError):
    """No valid recipient is left: all are invalid or have unsubscribed."""

    advice = "no recipient can receive it"


class ConflictError(APIError):
    """It exists already."""


class InsufficientCreditError(APIError):
    """The account is out of credit."""

    advice = "top up the account"


class NotFoundError(APIError):
    """There is no such item."""


class UnknownCallError(APIError):
    """The API has no such call; a wrong base URL looks the same."""

    advice = "check the base URL"


class ServerError(APIError):
    """The server failed on a call that is harmless to repeat, each time it was tried."""

    retry_after: float | None = None
    """Seconds the server asked to wait, None where it did not say."""
