"""Request verification: the token in the path, a password, networks. No I/O, and no response that tells more than no.

Nothing in the API signs a callback (api-notes.md section 4), so all of it rests on what the sender knows and where.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from mmsclient._api.checks import is_whole
from mmsclient.errors import ConfigurationError

Scope = Mapping[str, Any]
Address = IPv4Address | IPv6Address

SHORTEST_TOKEN = 16
"""Characters: of random letters and digits, 95 bits."""

JSON_TYPES = frozenset(
    {
        "",
        "application/json",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "text/json",
        "text/plain",
    }
)
"""Content types of a callback. The API documents none, and those beside JSON's own are what HTTP libraries put on a
body of JSON unless told otherwise (PHP's curl: a form). The body must be JSON under any of them."""

_TOKEN = re.compile(r"[A-Za-z0-9._~-]+")
_PORT = re.compile(r"(\[[^\]]*\]|[0-9.]+):[0-9]+")


def new_token() -> str:
    """Returns a token that nobody can guess: 43 letters, digits, `-` and `_`."""
    return secrets.token_urlsafe(32)


class RequestVerifier:
    """Lets a request in by its head alone: the token, a password, the sender's network, method, type and length.

    Raises `ConfigurationError` for a token that is short or does not fit into a path, and for anything that is no
    network or no number of proxies.
    """

    def __init__(
        self, token: str, *, basic: tuple[str, str] | None, networks: Iterable[str], proxies: int, max_body: int
    ) -> None:
        self._token = _checked_token(token).encode()
        self._basic = None if basic is None else _checked_basic(basic)
        self._networks = _checked_networks(networks)
        if not is_whole(proxies, 0):
            raise ConfigurationError(f"proxies: expected a whole number, 0 or more, got {proxies!r}")
        self._proxies = proxies
        self._max_body = max_body

    def rejection(self, scope: Scope) -> int | None:
        """The HTTP status that rejects a request, or None to let it in.

        404 tells a stranger nothing; the rest is for those who know the token and come from where they may.
        """
        # The last segment, since frameworks and servers disagree on how much of the mount's path stands before it.
        segment = scope["path"].rstrip("/").rpartition("/")[2].encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(segment, self._token) or not self._is_from_network(scope):
            return 404
        headers = _headers(scope)
        if self._basic is not None and not self._has_password(headers):
            return 401
        if scope["method"] != "POST":
            return 405
        if not _is_json(headers):
            return 415
        length = headers.get(b"content-length", b"0")
        return 413 if length.isdigit() and int(length[:20]) > self._max_body else None

    def _has_password(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        try:
            given = base64.b64decode(credentials.strip(), validate=True)
        except binascii.Error:
            given = b""
        return hmac.compare_digest(given, self._basic or b"") and scheme.lower() == b"basic"

    def _is_from_network(self, scope: Scope) -> bool:
        if not self._networks:
            return True
        address = self._sender(scope)
        return address is not None and any(address in network for network in self._networks)

    def _sender(self, scope: Scope) -> Address | None:
        """Where the request comes from. Each of our proxies has added to the right of X-Forwarded-For whom it heard.

        What stands further left was written by the sender, who may write anything.
        """
        if not self._proxies:
            return _address((scope.get("client") or ("",))[0])
        lines = [value for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
        heard = b",".join(lines).decode("latin-1").split(",")
        return _address(heard[-self._proxies]) if len(heard) >= self._proxies else None


def _headers(scope: Scope) -> Mapping[bytes, bytes]:
    return {name.lower(): value for name, value in scope["headers"]}


def _is_json(headers: Mapping[bytes, bytes]) -> bool:
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    return encoding == b"identity" and (kind in JSON_TYPES or kind.endswith("+json"))


def _address(text: str) -> Address | None:
    bare = text.strip()
    if with_port := _PORT.fullmatch(bare):
        bare = with_port[1]
    try:
        address = ip_address(bare.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _checked_token(token: str) -> str:
    if not isinstance(token, str) or len(token) < SHORTEST_TOKEN or not _TOKEN.fullmatch(token):
        raise ConfigurationError(  # without the token: somebody may use the wrong one elsewhere
            f"token: expected {SHORTEST_TOKEN} or more letters, digits, '-', '.', '_' or '~', such as new_token() makes"
        )
    return token


def _checked_basic(basic: tuple[str, str]) -> bytes:
    if len(basic) != 2 or not all(isinstance(part, str) and part for part in basic) or ":" in basic[0]:
        raise ConfigurationError("basic: expected a user without a colon and a password, neither empty")
    return f"{basic[0]}:{basic[1]}".encode()


def _checked_networks(networks: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    given = [networks] if isinstance(networks, str) else networks
    try:
        return [ip_network(network) for network in given]
    except ValueError as error:
        raise ConfigurationError(f"networks: {error}") from None
