"""What is used of the objects of an HTTP library: httpx, httpx2 or what stands in for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

TraceHook = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Awaited by the library at each step of an exchange, with the event's name and what it is about."""


class Request(Protocol):
    """A request as the library has it."""

    @property
    def url(self) -> Any: ...

    @property
    def extensions(self) -> MutableMapping[str, Any]: ...

    def read(self) -> bytes: ...


class HTTPResponse(Protocol):
    """A response whose body may not have been read yet."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def extensions(self) -> Mapping[str, Any]: ...

    @property
    def is_stream_consumed(self) -> bool: ...

    @property
    def content(self) -> bytes: ...

    def aiter_raw(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class HTTPClient(Protocol):
    """What is asked of an injected client: `httpx.AsyncClient` and `httpx2.AsyncClient` have it."""

    def build_request(self, method: str, url: str) -> Request: ...

    # `Any`: each library's client takes requests of its own class alone, which no protocol can say.
    async def send(self, request: Any, *, stream: bool, auth: None, follow_redirects: bool) -> HTTPResponse: ...

    async def aclose(self) -> None: ...


class NetworkStream(Protocol):
    """The network stream of a connection, as in a response's extensions."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes: ...

    async def aclose(self) -> None: ...

    def get_extra_info(self, info: str) -> Any: ...


class Parser(Protocol):
    """The state of a connection of HTTP/1.1."""

    @property
    def trailing_data(self) -> tuple[bytes, bool]: ...
