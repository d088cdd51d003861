"""Where the calls go, and which certificates are trusted there."""

from __future__ import annotations

import os
from ssl import SSLContext, SSLError, create_default_context
from urllib.parse import urlsplit

from mmsclient import _environment
from mmsclient.errors import ConfigurationError

BASE_URL = "https://cellcast.com.au/api/v3"

_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(base_url: str) -> bool:
    """The URL names this machine."""
    return (urlsplit(base_url).hostname or "") in _LOOPBACK_HOSTS


def base_url_of(given: str | None) -> str:
    """`given`, else the environment's, else the service's, without a slash at its end.

    Raises `ConfigurationError` unless it is HTTPS, or HTTP on this machine.
    """
    if given is not None:
        return _checked_base_url(given, "base_url")
    return _checked_base_url(_environment.setting(_environment.BASE_URL) or BASE_URL, _environment.BASE_URL)


def _checked_base_url(base_url: str, source: str) -> str:
    if not isinstance(base_url, str):
        raise ConfigurationError(f"{source}: expected a URL, got {base_url!r}")
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # whose text may be a piece of a password
        parts, host = None, None
    if parts is None or not host or parts.scheme not in ("https", "http"):
        raise ConfigurationError(f"{source}: expected https://host/path")
    if parts.username is not None or parts.password is not None or "?" in base_url or "#" in base_url:
        raise ConfigurationError(f"{source}: expected no credentials, query or fragment in it")
    if parts.scheme == "http" and not is_loopback(base_url):
        raise ConfigurationError(f"{source}: expected https, got http to {host}: the APPKEY would go out in the clear")
    return base_url.rstrip("/")


def trust_of(given: bool | SSLContext | None, base_url: str) -> bool | SSLContext:
    """`given`, else the authority in the environment's file where TLS needs one, else True: the usual ones.

    Raises `ConfigurationError` where that is none, or would trust anybody.
    """
    if given is None:
        path = _environment.setting(_environment.CA_FILE)
        return True if path is None or not base_url.startswith("https:") else trusting(path, _environment.CA_FILE)
    if not isinstance(given, bool | SSLContext):
        raise ConfigurationError(f"verify: expected True or an ssl.SSLContext, got {given!r}")
    if given is False and not is_loopback(base_url):
        raise ConfigurationError("verify: False would give the APPKEY to anybody on the way; pass an ssl.SSLContext")
    return given


def trusting(path: str | os.PathLike[str], source: str) -> SSLContext:
    """Trusts the certificate authorities in a PEM file alone. Raises `ConfigurationError`, naming `source`."""
    try:
        return create_default_context(cafile=path)
    except SSLError:
        raise ConfigurationError(f"{source}: no PEM certificate in {os.fspath(path)}") from None
    except OSError as error:
        raise ConfigurationError(f"{source}: {error.strerror}: {os.fspath(path)}") from None
