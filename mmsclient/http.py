"""A single exchange over HTTP, and what is known if it fails. The one module that imports httpx."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from ssl import SSLContext
from typing import Any, Protocol
from urllib.parse import urlsplit

import anyio
import httpx
from attrs import frozen

from mmsclient.credentials import AppKey
from mmsclient.errors import ConfigurationError, MMSError
from mmsclient.limiter import Grant, Limiter
from mmsclient.wire import MAX_BODY, Answer, Call

CONNECT_TIMEOUT = 10.0
"""Seconds for a connection with its TLS handshake, and for a place in the pool."""

KEEPALIVE = 2.5
"""Seconds that a connection stays open without work. Servers commonly close after 5: a call that meets a closing
connection would end with its outcome unknown, and a handshake is the cheaper of the two."""

STALE_AFTER = 1.5
"""Seconds that a ready connection may wait for its token. One that waited longer is replaced, for the same reason."""

_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class HTTPClient(Protocol):
    """What is asked of an injected client: `httpx.AsyncClient` and `httpx2.AsyncClient` have it."""

    def build_request(self, method: str, url: str) -> Any: ...

    async def send(self, request: Any, *, stream: bool, auth: None, follow_redirects: bool) -> Any: ...

    async def aclose(self) -> None: ...


@frozen
class Failure:
    """An exchange that brought no answer."""

    reason: str
    sent: bool
    """The call may have left. False only where it surely did not."""


class _NothingSentError(Exception):
    """Raised at the wire to end an exchange before its first byte."""


def is_loopback(base_url: str) -> bool:
    """The URL names this machine."""
    return (urlsplit(base_url).hostname or "") in _LOOPBACK_HOSTS


def check_base_url(base_url: str) -> str:
    """`base_url` without a slash at its end. Raises `ConfigurationError` unless HTTPS, or HTTP on this machine."""
    if not isinstance(base_url, str):
        raise ConfigurationError(f"base_url: expected a URL, got {base_url!r}")
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"base_url: expected a URL ({error})") from None
    if not host or parts.scheme not in ("https", "http"):
        raise ConfigurationError("base_url: expected https://host/path")
    if parts.username is not None or parts.password is not None or "?" in base_url or "#" in base_url:
        raise ConfigurationError("base_url: expected no credentials, query or fragment in it")
    if parts.scheme == "http" and not is_loopback(base_url):
        raise ConfigurationError(f"base_url: expected https, got http to {host}: the APPKEY would go out in the clear")
    return base_url.rstrip("/")


def new_client(base_url: str, verify: bool | SSLContext, connections: int) -> HTTPClient:
    """The client that is used where none is injected. Proxies of the environment are used, but not to this machine."""
    if not isinstance(verify, bool | SSLContext):
        raise ConfigurationError(f"verify: expected True or an ssl.SSLContext, got {verify!r}")
    if verify is False and not is_loopback(base_url):
        raise ConfigurationError("verify: False would give the APPKEY to anybody on the way; pass an ssl.SSLContext")
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEPALIVE
    )
    try:
        return httpx.AsyncClient(verify=verify, trust_env=not is_loopback(base_url), limits=limits)
    except (ImportError, OSError, ValueError) as error:
        problem = f"a proxy or certificate of the environment cannot be used: {error}"
    raise ConfigurationError(problem)


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
        self.traced = _is_traced(client, self._new_request("GET", base_url).url)

    def request(self, call: Call[Any], extensions: Mapping[str, Any]) -> Any:
        """`call` as a request of the HTTP library."""
        content: dict[str, Any] = {}
        if call.form is not None:
            content["data"] = call.form
        if call.files is not None:
            content["files"] = {
                name: (file.filename, file.content, file.content_type) for name, file in call.files.items()
            }
        if call.json is not None:
            content["json"] = call.json
        request = self._new_request(
            call.method,
            f"{self._base_url}/{call.name}",
            params=call.params or None,
            headers=self._headers | self._key.headers(),
            extensions=extensions,
            **content,
        )
        request.read()  # a form in one piece; the library would write it in a dozen
        return request

    async def send(self, request: Any) -> Any:
        """The response, its body not yet read."""
        return await self._client.send(request, stream=True, auth=None, follow_redirects=False)

    def scrub(self, data: bytes) -> bytes:
        """`data` without the APPKEY."""
        return self._key.scrub(data)

    def scrub_text(self, text: str) -> str:
        """`text` without the APPKEY."""
        return self._key.scrub(text.encode(errors="replace")).decode()

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


def _is_traced(client: Any, url: Any) -> bool:
    """The client's transport is one that calls the `trace` extension: the library's own, not a mock or ASGI one."""
    try:
        kind = type(client._transport_for_url(url))
    except AttributeError:
        return False
    return kind.__name__ == "AsyncHTTPTransport" and kind.__module__.partition(".")[0] in ("httpx", "httpx2")


class Exchange:
    """One attempt at one call, never torn once its first byte has left.

    The token is taken at the wire: the library awaits a hook when a connection is ready and nothing has left. What is
    known of a failure follows from the same hook: before it, the call was surely not carried out.
    """

    def __init__(
        self,
        transport: Transport,
        limiter: Limiter,
        call: Call[Any],
        timeout: float,
        on_wire: Callable[[Exchange], None],
    ) -> None:
        """`timeout`: seconds from the first byte to the end of the answer. `on_wire` runs just before that byte."""
        self._transport = transport
        self._limiter = limiter
        self._call = call
        self._timeout = timeout
        self._on_wire = on_wire
        self._grant: Grant | None = None
        self._scope = anyio.CancelScope()
        self._waiter: asyncio.Task[Any] | None = None
        self._abandoned = ""
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._handed_over = False
        self._traced = False
        self._left = False
        self.in_line = True
        """It waits for its token."""
        self.sent = False
        """The token is spent: the first byte leaves now."""
        self.waited = 0.0
        """Seconds that it waited for its token with a connection ready."""
        self.room = 0
        """How many might wait so when it joined them."""

    def abandon(self, reason: str) -> None:
        """End the exchange if nothing has left yet; else let it go on.

        A connection that is being opened is waited for: torn, it is left open, and httpx 0.28 loses its place.
        """
        if not self.sent:
            self._abandoned = reason
            if self._waiter is not None:
                self._waiter.cancel()

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        """Tell the limiter that the exchange is over."""
        if self._grant is not None:
            self._grant.release(throttled=throttled, retry_after=retry_after)
            self._grant = None

    async def run(self) -> Answer | Failure:
        """The answer, or what is known of the failure. Raises only the limiter's errors: then nothing was sent."""
        flaw, left = None, True
        with self._scope:
            try:
                while not self._abandoned:
                    try:
                        await self._attempt()
                        break
                    except _NothingSentError:
                        self._handed_over = False
            except MMSError:
                raise
            except Exception as error:
                flaw = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                left = self._may_have_left(error)
        if self._scope.cancelled_caught:
            flaw = f"no complete answer within {self._timeout:g} s"
        if self._status is None:
            reason = self._abandoned or self._transport.scrub_text(flaw or "")
            return Failure(reason, sent=left and not self._abandoned)
        body = self._transport.scrub(bytes(self._body))
        flaw = None if flaw is None else self._transport.scrub_text(flaw)
        return Answer(status=self._status, headers=self._headers, body=body, flaw=flaw)

    def _may_have_left(self, error: Exception) -> bool:
        """Whether the call may have left before `error`, which brought no answer. The hook knows; else guess yes."""
        if self._left:
            return True
        if self._traced and not self.sent:
            return False
        return self._handed_over and type(error).__name__ not in _NEVER_CONNECTED

    async def _attempt(self) -> None:
        request = self._transport.request(self._call, self._extensions())
        if not self._transport.traced:
            await self._take_token()
        self._handed_over = True
        response = await self._transport.send(request)
        try:
            if not self.sent:  # a transport that should call the hook and does not: pay now, and earlier from now on
                self._transport.traced = False
                await self._take_token()
            if self._grant is not None:
                self._grant.answered()
            self._status = response.status_code
            scrub = self._transport.scrub_text
            self._headers = {name.lower(): scrub(value) for name, value in response.headers.items()}
            if response.is_stream_consumed:  # a mock's answer comes read and decoded
                self._headers.pop("content-encoding", None)
                self._add_to_body(response.content)
            else:
                async for chunk in response.aiter_raw():
                    self._add_to_body(chunk)
        finally:
            await response.aclose()

    def _extensions(self) -> dict[str, Any]:
        limits = {"connect": CONNECT_TIMEOUT, "pool": CONNECT_TIMEOUT, "write": self._timeout, "read": self._timeout}
        return {"timeout": limits, "trace": self._trace}

    def _add_to_body(self, chunk: bytes) -> None:
        self._body += chunk
        if len(self._body) > MAX_BODY:
            raise ValueError(f"the answer is larger than {MAX_BODY} bytes")

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Awaited by the library at each step of an exchange."""
        self._traced = True
        protocol, _, step = event.partition(".")
        if step == "send_request_headers.started":
            if info["request"].method == b"CONNECT":  # a proxy's tunnel is not the call
                return
            if self._left:
                raise RuntimeError("the HTTP client would send the call a second time")
            if not self.sent:
                if protocol != "http11":  # HTTP/2 gives a stream's number to the next call while this one waits
                    self._transport.traced = False
                    raise _NothingSentError
                await self._take_token()
            self._left = True
        elif step == "send_request_body.complete" and self.sent and self._grant is not None:
            self._grant.sent()

    async def _take_token(self) -> None:
        """Wait for the token; return with the call due to leave at once, or raise `_NothingSentError`."""
        if self._abandoned:
            raise _NothingSentError
        if self._grant is None:
            asked = anyio.current_time()
            self._waiter = asyncio.current_task()
            try:
                self._grant = await self._limiter.acquire()
            except asyncio.CancelledError:
                if not self._abandoned or self._waiter is None:
                    raise
                self._waiter.uncancel()
                raise _NothingSentError from None
            finally:
                self._waiter = None
            if not isinstance(self._grant, Grant):
                stranger, self._grant = self._grant, None
                raise ConfigurationError(f"limiter: expected `acquire` to answer a Grant, got {stranger!r}")
            if self._abandoned:
                raise _NothingSentError
            if self._transport.traced:
                self.waited = anyio.current_time() - asked
            if self.waited > STALE_AFTER:
                raise _NothingSentError  # the token stays ours; the connection is replaced
        self._scope.deadline = anyio.current_time() + self._timeout
        self.sent = True
        self._on_wire(self)


_NEVER_CONNECTED = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"})
"""Errors of the HTTP library that come before a connection is there."""
