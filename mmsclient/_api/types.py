"""The API as data: a call and its answer.

A `Call` says what to send and how to read the answer. A `Response` is what came back: status, headers, bytes. An
`Envelope` is an answer, opened. None of the three can be printed: they hold phone numbers and texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from attrs import field, frozen

T = TypeVar("T")

Kind: TypeAlias = Literal["mms", "sms"]
"""Of a message."""

MAX_BODY = 8 * 1024 * 1024
"""Bytes of an answer that are read; a longer one is an error."""


@frozen
class File:
    """A file field of a form."""

    filename: str
    content: bytes = field(repr=False)
    content_type: str


@frozen(kw_only=True, eq=False, repr=False)
class Call(Generic[T]):
    """One call of the API: what goes out, and how its answer is read."""

    name: str
    """As in the URL: `send-mms`."""
    method: Literal["GET", "POST"]
    read: Callable[[Envelope], T]
    """Turns the envelope of a success into the result; raises `UnreadableError`."""
    repeatable: bool
    """Carrying it out twice is as good as once."""
    recipients: int = 0
    """Phones that get a message by it."""
    params: Mapping[str, str] = field(factory=dict)
    form: Mapping[str, str] | None = None
    files: Mapping[str, File] | None = None
    json: Any = None
    not_found: Callable[[Envelope], T] | None = None
    """Reads NOT_FOUND where that is an answer and no error."""
    reads_array: bool = False
    """Its answer is an array of envelopes, with an outcome each."""
    max_answer: int = MAX_BODY
    """Bytes of the answer that are read; a longer one is an error."""


@frozen(kw_only=True, eq=False, repr=False)
class Response:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    flaw: str | None = None
    """Why the body is not whole, None where it is."""
    timed_out: bool = False
    """It was not whole in time."""
    scrub: Callable[[str], str] = str
    """Takes the APPKEY out of a text, should the server have echoed it."""


@frozen(kw_only=True, eq=False, repr=False)
class Envelope:
    """An answer, opened: either spelling of api-notes.md section 1 in one form."""

    code: str
    description: str
    data: Any
    """The fields of the answer: an object, a list, or whatever stands there."""
    page: Mapping[str, Any]
    low_sms_alert: str | None
    raw: Mapping[str, Any]
    items: tuple[Envelope, ...] | None = None
    """Of an answer that is an array of envelopes: each of them."""
    http_status: int = 200


class UnreadableError(Exception):
    """The answer cannot be read; the text says why. Never leaves this package."""
