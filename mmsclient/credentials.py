"""The APPKEY: the one place that holds it."""

from __future__ import annotations

import base64
import os
from typing import Literal, NoReturn

from mmsclient.errors import ConfigurationError

AuthMode = Literal["both", "basic", "header"]
ENVIRONMENT_VARIABLE = "MMSCLIENT_APP_KEY"

_MIN_SCRUBBED = 12
"""A shorter key is not searched for in answers: it would be found in words and numbers."""


class AppKey:
    """A key that gives itself away only as request headers (wire.md section 1, credentials)."""

    __slots__ = ("_headers", "_spellings")

    def __init__(self, key: str | None, mode: AuthMode) -> None:
        """`key`, or the environment's. Raises `ConfigurationError` for one that no header can carry."""
        if key is None:
            key = os.environ.get(ENVIRONMENT_VARIABLE)
        if key is None:
            raise ConfigurationError(f"app_key: expected an APPKEY, here or in {ENVIRONMENT_VARIABLE}; got none")
        if not isinstance(key, str) or not key:
            raise ConfigurationError("app_key: expected a non-empty string")
        if not all("!" <= c <= "~" for c in key):
            raise ConfigurationError("app_key: expected printable ASCII without spaces; check for a stray newline")
        if mode not in ("both", "basic", "header"):
            raise ConfigurationError(f"auth: expected 'both', 'basic' or 'header', got {mode!r}")
        if mode != "header" and ":" in key:
            raise ConfigurationError("app_key: HTTP Basic cannot carry a colon; use auth='header'")
        basic = base64.b64encode(f"{key}:".encode()).decode()
        both = {"APPKEY": key, "Authorization": f"Basic {basic}"}
        self._headers = {
            name: value for name, value in both.items() if mode == "both" or (name == "APPKEY") == (mode == "header")
        }
        plain = (key, basic) if len(key) >= _MIN_SCRUBBED else ()
        self._spellings = [
            spelling.encode() for text in plain for spelling in (text, text.rstrip("="), text.replace("/", r"\/"))
        ]

    def headers(self) -> dict[str, str]:
        """The headers that carry the key."""
        return dict(self._headers)

    def scrub(self, data: bytes) -> bytes:
        """`data` without the key, should a server have echoed it."""
        for spelling in self._spellings:
            data = data.replace(spelling, b"***")
        return data

    def __repr__(self) -> str:
        return "AppKey('***')"

    def __reduce__(self) -> NoReturn:
        raise ConfigurationError("an APPKEY is not pickled; hand it to the other process another way")
