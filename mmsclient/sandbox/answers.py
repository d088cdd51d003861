"""What a call answers, and either way of writing it down (api-notes.md section 1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from attrs import frozen

Dialect = Literal["meta", "error"]
"""`meta`: the envelope of the endpoint pages and of live replies. `error`: that of the overview."""

Statuses = Literal["documented", "always 200"]

_HTTP_STATUS = {
    "SUCCESS": 200,
    "AUTH_FAILED_NO_DATA": 401,
    "AUTH_FAILED": 401,
    "OVER_LIMIT": 429,
    "NOT_IMPLEMENTED": 404,
}


def http_status(code: str) -> int:
    """The HTTP status that goes with a code (api-notes.md section 2)."""
    return _HTTP_STATUS.get(code, 400)


@frozen
class Answer:
    """An answer before it is written down."""

    code: str
    text: str
    """`msg` in one dialect, the description in the other."""
    data: Mapping[str, Any] | Sequence[Any] = ()

    def body(self, dialect: Dialect, low_sms_alert: str | None = None, status: int | None = None) -> bytes:
        """The JSON of this answer."""
        return as_json(self.envelope(dialect, low_sms_alert, status))

    def envelope(self, dialect: Dialect, low_sms_alert: str | None = None, status: int | None = None) -> dict[str, Any]:
        """This answer, written down. `low_sms_alert` stands at the top of a success in both dialects."""
        envelope = self._meta(status or http_status(self.code)) if dialect == "meta" else self._error()
        if low_sms_alert and self.code == "SUCCESS":
            envelope["low_sms_alert"] = low_sms_alert
        return envelope

    def _meta(self, status: int) -> dict[str, Any]:
        return {"meta": {"code": status, "status": self.code}, "msg": self.text, "data": self.data}

    def _error(self) -> dict[str, Any]:
        description = "OK" if self.code == "SUCCESS" else self.text
        fields = self.data if isinstance(self.data, Mapping) else {"data": self.data} if self.data else {}
        return {"error": {"code": self.code, "description": description}, **fields}


def as_json(document: Any) -> bytes:
    """As the service writes it."""
    return json.dumps(document, separators=(",", ":")).encode()


class Refusal(Exception):  # noqa: N818 -- it is an answer
    """A call that is not carried out."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.answer: Answer = Answer(code, text)


def empty(field: str) -> Refusal:
    """A required field is missing or empty."""
    return Refusal("FIELD_EMPTY", f"The field {field} is required.")


def invalid(field: str, why: str) -> Refusal:
    """A field is wrong."""
    return Refusal("FIELD_INVALID", f"The field {field} is invalid: {why}.")


def over_limit() -> Refusal:
    """Throttled."""
    return Refusal("OVER_LIMIT", "Too many requests: you have exceeded the calls allowed each second.")


def low_credit(left: Decimal) -> str:
    """The sentence of a low balance, as live."""
    return f"Your account credits are low, you have {left:.2f} credits remaining, please top-up via the platform"


def no_credit() -> Refusal:
    """Out of credit; the service says so under the code of a wrong field (api-notes.md section 2)."""
    return Refusal("FIELD_INVALID", "You do not have enough credit to send this message.")
