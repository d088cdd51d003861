"""`Sandbox`: the API on a real port, in a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import functools
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import trustme

from mmsclient._api.checks import check_seconds, check_whole, require
from mmsclient.sandbox.app import PREFIX, create_app
from mmsclient.sandbox.callbacks import Poster
from mmsclient.sandbox.calls import CALLS
from mmsclient.sandbox.faults import Faults
from mmsclient.sandbox.listener import HOST, Listener
from mmsclient.sandbox.settings import Settings, SettingsOptions
from mmsclient.sandbox.state import State

if TYPE_CHECKING:
    from mmsclient import AsyncMMSClient


class Sandbox(State):
    """The MMS API on a loopback port, for tests and demos. It costs nothing and reaches nobody.

        async with Sandbox(tls=True) as sandbox:        # or: with
            async with sandbox.client() as mms:
                await mms.send(to="+61400000000", text="Hello", image="hello.png")
            assert sandbox.carried_out("+61400000000") == 1

    It runs in a thread of its own, so it serves synchronous code and any event loop. What it was told and what it
    did stand in the attributes of `State`; what shall go wrong is put into `faults`; set endings of numbers
    (`Ending`) trigger set behaviours. The remaining options are those of `Settings`, and can be changed in
    `settings` while it runs.

    Args:
        app_key: The key that is let in.
        tls: Serve HTTPS, with a certificate that `ssl_context` trusts.
        port: The port, or 0 for a free one.
        keep_alive: Seconds after which an idle connection is closed.
        seed: Of everything random: ids, jitter and shares.
        clock: Monotonic seconds, by which calls are counted and statuses go on.
        **options: The fields of `Settings`.

    Raises:
        ConfigurationError: A wrong value.
    """

    def __init__(
        self,
        *,
        app_key: str = "sandbox-app-key",
        tls: bool = False,
        port: int = 0,
        keep_alive: float = 5.0,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        **options: Unpack[SettingsOptions],
    ) -> None:
        require("app_key", app_key, isinstance(app_key, str) and bool(app_key), "a text that is not empty")
        check_whole("seed", seed, 0)
        check_whole("port", port, 0, 65535)
        check_seconds("keep_alive", keep_alive, zero=True)
        self.faults: Faults = Faults(CALLS)
        """What shall go wrong."""
        super().__init__(Settings(**options), [app_key], seed=seed, clock=clock)
        self.app_key = app_key
        self.app: Any = create_app(self, self.faults)
        """The API as an ASGI app, for those who need no port."""
        self.ssl_context: ssl.SSLContext | None = _client_context() if tls else None
        """For the client: it trusts this server and nothing else. None without TLS."""
        self._port = port
        self._keep_alive = keep_alive
        self._serving: _Serving | None = None

    def reset(self) -> None:
        """Forget everything, faults too; settings, keys and the port stay."""
        super().reset()
        self.faults.clear()

    @property
    def port(self) -> int:
        """The port it listens on; after a stop, the one it will listen on again."""
        if not self._port:
            raise RuntimeError("the sandbox has no port before it is started")
        return self._port

    @property
    def url(self) -> str:
        """The base URL: what the client calls `base_url`."""
        return f"{'https' if self.ssl_context else 'http'}://{HOST}:{self.port}{PREFIX}"

    def client(self, **options: Any) -> AsyncMMSClient:
        """A client of this sandbox; `options` are those of `AsyncMMSClient`."""
        from mmsclient import AsyncMMSClient  # noqa: PLC0415 -- the sandbox itself needs no client

        verify = {} if "http_client" in options else {"verify": self.ssl_context or True}
        return AsyncMMSClient(self.app_key, **{"base_url": self.url, **verify, **options})

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse connections in the meantime and close the idle ones; the same port listens again afterwards."""
        serving = self._serving
        if serving is None:
            raise RuntimeError("the sandbox is not running")
        serving.refuse()
        try:
            yield
        finally:
            if self._serving is serving:
                serving.listen()

    def start(self) -> None:
        """Start to serve; raises `OSError` if the port is taken. `with` and `async with` do it for you."""
        serving = self._begin()
        try:
            serving.started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop now, whatever is under way; once stopped, does nothing. What was recorded stays."""
        if self._serving is not None:
            self._serving.stop()
            self._serving.join()
            self._serving = None

    def _begin(self) -> _Serving:
        if self._serving is not None:
            raise RuntimeError("the sandbox is running already")
        tls = _authority()[1] if self.ssl_context else None
        listener = Listener(self.app, self._port, tls, self._keep_alive)
        self._port = listener.port
        self._serving = _Serving(listener, Poster(self))
        self._serving.start()
        return self._serving

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        serving = self._begin()
        try:
            await _wait(serving.started)
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._serving is not None:
            self._serving.stop()
            await _wait(self._serving.ended)
            self.stop()


class _Serving(threading.Thread):
    """The thread of a listener."""

    def __init__(self, listener: Listener, poster: Poster) -> None:
        super().__init__(name="mmsclient-sandbox", daemon=True)
        self.started: Future[None] = Future()
        self.ended: Future[None] = Future()
        self._listener = listener
        self._poster = poster
        self._loop = asyncio.SelectorEventLoop()  # whatever loop the caller has chosen for itself
        self._stopping = asyncio.Event()

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self.started.done():
                raise
            self.started.set_exception(error)
        finally:
            self.ended.set_result(None)

    def stop(self) -> None:
        """Let it end; `ended` and `join` tell when."""
        with suppress(RuntimeError):  # the loop is closed: it has ended
            self._loop.call_soon_threadsafe(self._stopping.set)

    def refuse(self) -> None:
        """As `Listener.refuse`, from another thread."""
        asyncio.run_coroutine_threadsafe(self._listener.refuse(), self._loop).result()

    def listen(self) -> None:
        """As `Listener.listen`, from another thread."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    async def _listen(self) -> None:
        self._listener.listen()

    async def _serve(self) -> None:
        posting = asyncio.get_running_loop().create_task(self._poster.run())
        try:
            self._listener.listen()
            self.started.set_result(None)
            await self._stopping.wait()
        finally:
            posting.cancel()
            await asyncio.gather(posting, return_exceptions=True)
            await self._listener.close()


async def _wait(future: Future[None]) -> None:
    await asyncio.shield(asyncio.wrap_future(future))


@functools.cache
def _authority() -> tuple[trustme.CA, ssl.SSLContext]:
    """The certificate authority of this process, and a server that it vouches for."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "localhost").configure_cert(context)
    return authority, context


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _authority()[0].configure_trust(context)
    return context
