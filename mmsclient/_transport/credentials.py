"""The APPKEY: the one place that holds it."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterator
from typing import Literal, NoReturn
from urllib.parse import unquote

from mmsclient import _environment
from mmsclient.errors import ConfigurationError

AuthMode = Literal["both", "basic", "header"]

_MIN_SCRUBBED = 12
"""A shorter key is not searched for in answers: it would be found in words and numbers."""


PIECE, OVERLAP = 65_536, 8192
"""Characters of a text that are searched for escaped keys at a time, and how many of them once more with the next."""


class AppKey:
    """A key that gives itself away only as request headers (api-notes.md section 1, credentials)."""

    __slots__ = ("_digest", "_encoded", "_headers", "_spellings")

    def __init__(self, key: str, mode: AuthMode) -> None:
        """A key in which `flaw_of` finds no flaw."""
        self._digest = hashlib.sha256(key.encode()).digest()
        basic = base64.b64encode(f"{key}:".encode()).decode()
        both = {"APPKEY": key, "Authorization": f"Basic {basic}"}
        self._headers = {
            name: value for name, value in both.items() if mode == "both" or (name == "APPKEY") == (mode == "header")
        }
        plain = (key, basic, base64.b64encode(key.encode()).decode()) if len(key) >= _MIN_SCRUBBED else ()
        self._spellings = sorted({form for text in plain for form in _forms(text)}, key=len, reverse=True)
        self._encoded = [form.encode() for form in self._spellings]

    def fingerprint(self, salt: bytes) -> str:
        """What tells this key from another without giving it away, with up to 64 bytes of `salt`."""
        return hashlib.blake2b(self._digest, key=salt, digest_size=16).hexdigest()

    def headers(self) -> dict[str, str]:
        """The headers that carry the key."""
        return dict(self._headers)

    def scrub(self, data: bytes) -> bytes:
        """`data` without the key, should a server have echoed it in UTF-8; `scrub_text` finds the rest."""
        for form in self._encoded:
            data = data.replace(form, b"***")
        return data

    def scrub_text(self, text: str) -> str:
        """`text` without the key; "***" alone where it stands there in an escaped form."""
        for form in self._spellings:
            text = text.replace(form, "***")
        if not self._spellings or not any(mark in text for mark in _MARKS):
            return text
        pieces = (text,) if len(text) <= PIECE else _pieces(text)
        for piece in pieces:
            if _ESCAPE.search(piece) and self._is_in(_unescaped(piece)):
                return "***"
        return text

    def _is_in(self, text: str) -> bool:
        return any(form in text for form in self._spellings)

    def __repr__(self) -> str:
        return "AppKey('***')"

    def __reduce__(self) -> NoReturn:
        raise ConfigurationError("an APPKEY is not pickled; hand it to the other process another way")


def app_key(key: str | None, mode: AuthMode) -> AppKey:
    """`key`, or the environment's. Raises `ConfigurationError` where no header can carry it."""
    source = "app_key"
    if key is None:
        source = _environment.APP_KEY
        key = _environment.setting(source)
    flaw = _flaw_of(key, mode, source)
    if flaw or key is None:
        raise ConfigurationError(flaw)
    return AppKey(key, mode)


def _flaw_of(key: object, mode: object, source: str) -> str:
    if key is None:
        return f"app_key: expected an APPKEY, here or in {_environment.APP_KEY}; got none"
    if not isinstance(key, str) or not key:
        return f"{source}: expected a non-empty string"
    if not all("!" <= c <= "~" for c in key):
        return f"{source}: expected printable ASCII without spaces; check for a stray newline"
    if mode not in ("both", "basic", "header"):
        return f"auth: expected 'both', 'basic' or 'header', got {mode!r}"
    if mode != "header" and ":" in key:
        return f"{source}: HTTP Basic cannot carry a colon; use auth='header'"
    return ""


def _forms(text: str) -> tuple[str, ...]:
    return text, text.rstrip("="), text.replace("/", r"\/")


_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|\\[ux/]|&#|\x00")
_MARKS = ("%", "\\", "&#", "\0")
"""One of which begins each escape: looked for first, since that is far quicker."""


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces that overlap by more than an escaped key: each is a short time in which no other thread runs."""
    yield text[:PIECE]
    for start in range(PIECE - OVERLAP, len(text) - OVERLAP, PIECE - OVERLAP):
        yield text[start : start + PIECE]


def _unescaped(text: str) -> str:
    """`text` with the escapes of JSON, HTML and URLs undone."""
    text = re.sub(r"\\(?:u00|x)([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), text)
    text = _REFERENCE.sub(_bounded, unquote(text))
    return html.unescape(text).replace("\x00", "").replace(r"\/", "/")


_REFERENCE = re.compile(r"&#0*([0-9]+)")


def _bounded(reference: re.Match[str]) -> str:
    """A character reference that names a character; `html.unescape` fails on thousands of digits."""
    return f"&#{reference[1]}" if len(reference[1]) <= len("1114111") else "\ufffd"
