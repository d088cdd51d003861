"""The HTTP library, set up and spoken to. The one module that imports httpx; it decides nothing."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from ssl import SSLContext
from types import FunctionType
from typing import Any
from urllib.parse import urlsplit

import httpx

from mmsclient._api.types import Call
from mmsclient._transport.connections import LONGEST_IDLE, Connection, Keepalive
from mmsclient._transport.credentials import AppKey
from mmsclient._transport.endpoint import is_loopback
from mmsclient._transport.protocols import HTTPClient, HTTPResponse, Request, TraceHook
from mmsclient._transport.timeouts import Timeouts
from mmsclient.errors import ConfigurationError

_KNOWN_URLS = 32
"""URLs of calls that are kept parsed."""


def new_client(base_url: str, verify: bool | SSLContext, connections: int) -> HTTPClient:
    """The client that is used where none is injected. Proxies of the environment are used, but not to this machine."""
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=LONGEST_IDLE
    )
    trust_env = not is_loopback(base_url)
    try:
        context = default_context(trust_env) if verify is True else verify
        return httpx.AsyncClient(verify=context, trust_env=trust_env, limits=limits)
    except (ImportError, OSError, ValueError) as error:
        problem = f"a proxy or certificate of the environment cannot be used: {error}"
    except httpx.InvalidURL:  # without its text, which may be a piece of a password
        problem = f"a proxy of the environment cannot be used: {_PROXIES}"
    raise ConfigurationError(problem)


_PROXIES = (
    "expected URLs in HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, with %2F for / in a password,"
    " and host names and addresses in NO_PROXY, but no networks of IPv6"
)


def default_context(trust_env: bool) -> SSLContext:
    """The TLS context of clients that bring none; one for all of them, since each costs 0.5 MB and 50 ms to load."""
    files = tuple(os.environ.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")) if trust_env else ()
    return _context(trust_env, files)


@lru_cache(maxsize=8)
def _context(trust_env: bool, files: tuple[str, ...]) -> SSLContext:
    """`files`: what else it depends on."""
    return httpx.create_ssl_context(trust_env=trust_env)


class Poster:
    """Posts JSON to anybody, past the proxies of the environment: what the sandbox calls back with."""

    def __init__(self, timeout: float) -> None:
        self._client = httpx.AsyncClient(timeout=timeout, trust_env=False)

    async def post(self, url: str, body: bytes) -> int | None:
        """Post `body` and return the status that came; None where none did."""
        try:
            response = await self._client.post(url, content=body, headers={"content-type": "application/json"})
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        return response.status_code

    async def aclose(self) -> None:
        await self._client.aclose()


class Transport:
    """Where exchanges go and with which headers."""

    def __init__(self, client: HTTPClient, base_url: str, key: AppKey, user_agent: str) -> None:
        self._client = client
        self._base_url = base_url
        self._key = key
        # A request made by its class, not by the client, takes over none of the client's headers, cookies or params.
        self._new_request = _request_class(client, base_url)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": user_agent,
        }
        self._urls: dict[str, Any] = {}
        transport = _transport_for(client, self._new_request("GET", base_url).url)
        self.is_of_library: bool = _is_of_library(transport)
        """What carries the requests is the library's own, a mock of it included, and so are its errors."""
        self._pool = transport if self.is_of_library and type(transport).__name__ == "AsyncHTTPTransport" else None
        self._is_traced = self._pool is not None
        self.host: str = urlsplit(base_url).netloc
        self.keepalive: Keepalive = Keepalive()

    @property
    def is_traced(self) -> bool:
        """The trace hook is awaited before the first byte of a call, so that its token can be spent there."""
        return self._is_traced

    def doubt_trace(self) -> None:
        """It is not, or must not wait there: from now on tokens are spent before a call is handed over."""
        self._is_traced = False

    @property
    def is_closed(self) -> bool:
        """Whoever handed the client in has closed it: nothing leaves any more."""
        return getattr(self._client, "is_closed", None) is True

    def request(self, call: Call[Any], timeouts: Mapping[str, float | None], trace: TraceHook) -> Request:
        """`call` as a request of the HTTP library.

        Args:
            call: What goes out.
            timeouts: Seconds for each step, as the library names them; read again at each.
            trace: The hook that the library awaits at each step.
        """
        content: dict[str, Any] = {}
        if call.form is not None:
            content["data"] = call.form
        if call.files is not None:
            content["files"] = {
                name: (file.filename, file.content, file.content_type) for name, file in call.files.items()
            }
        if call.json is not None:
            content["json"] = call.json
        request: Request = self._new_request(
            call.method,
            self._url(call.name),
            params=call.params or None,
            headers=self._headers | self._key.headers(),
            extensions={"timeout": timeouts, "trace": trace},
            **content,
        )
        request.read()  # a form in one piece; the library would write it in a dozen
        return request

    def _url(self, name: str) -> Any:
        """The URL of a call; parsing it takes a good part of making a request."""
        url = self._urls.get(name)
        if url is None:
            url = self._new_request("GET", f"{self._base_url}/{name}").url
            if len(self._urls) < _KNOWN_URLS:
                self._urls[name] = url
        return url

    async def send(self, request: Request) -> HTTPResponse:
        """The response, its body not yet read."""
        return await self._client.send(request, stream=True, auth=None, follow_redirects=False)

    def end_trace(self, request: Request) -> None:
        """The hook of `request` has done its part, unless it guards against what may send it again."""
        if self._is_traced and self._sends_once():
            request.extensions.pop("trace", None)

    def never_got(self, request: Request, timeouts: Timeouts) -> bool:
        """The library has not begun with `request`: an event hook of its client has it, or has failed with it.

        `timeouts`: what it was made with.
        """
        return not timeouts.are_read and request.extensions.get("timeout") is timeouts and self._sends_once()

    def _sends_once(self) -> bool:
        """Nobody has changed how the library sends, down to the connection: it sends what it gets, and no more."""
        transport, handle = self._pool, "handle_async_request"
        return (
            _is_untouched(self._client, "send")
            and _is_untouched(transport, handle)
            and _is_untouched(getattr(transport, "_pool", None), handle)
        )

    def connection_of(self, request: Request | None) -> Connection | None:
        """The connection that `request`, as the trace hook has it, goes out on; None where that cannot be told."""
        return Connection.find(self._pool, request)

    def key_fingerprint(self, salt: bytes) -> str:
        """As `AppKey.fingerprint`."""
        return self._key.fingerprint(salt)

    def scrub(self, data: bytes) -> bytes:
        """`data` without the APPKEY."""
        return self._key.scrub(data)

    def scrub_text(self, text: str) -> str:
        """`text` without the APPKEY."""
        return self._key.scrub_text(text)

    async def aclose(self) -> None:
        await self._client.aclose()


def _request_class(client: HTTPClient, base_url: str) -> Callable[..., Any]:
    """The library's class of requests. Raises `ConfigurationError` where the client or the host is none."""
    try:
        if inspect.iscoroutinefunction(client.send):
            return type(client.build_request("GET", base_url))
        problem = f"http_client: expected an httpx.AsyncClient, got {client!r}"
    except AttributeError:
        problem = f"http_client: expected an httpx.AsyncClient, got {client!r}"
    except Exception as error:  # of the library, or of what it parses host names with
        problem = f"base_url: expected https://host/path ({error})"
    raise ConfigurationError(problem)


def _transport_for(client: Any, url: Any) -> Any:
    """What the client sends requests to `url` with; None where that cannot be told."""
    try:
        return client._transport_for_url(url)  # no public way leads to it, and a proxy may stand for this URL
    except AttributeError:
        return None


_LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2"})


def _is_of_library(thing: object) -> bool:
    return type(thing).__module__.partition(".")[0] in _LIBRARIES


def _is_untouched(thing: object, method: str) -> bool:
    """`thing` has the library's own `method`, neither overridden nor replaced; a wrapper may bear its name."""
    own = getattr(type(thing), method, None)
    return (
        _is_of_library(thing)
        and method not in getattr(thing, "__dict__", ())
        and type(own) is FunctionType
        and own.__globals__.get("__name__", "").partition(".")[0] in _LIBRARIES
    )
