"""The token of one attempt: waited for, and reported on to the limiter."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any

from mmsclient._api.types import Call
from mmsclient.errors import ConfigurationError
from mmsclient.limiter import CallKind, DistinguishesKinds, Grant, Limiter

log = logging.getLogger(__name__)

Acquire = Callable[[CallKind, int], Awaitable[Grant]]


def acquire_from(limiter: Limiter) -> Acquire:
    """How to wait for a grant of `limiter`: as one that tells kinds of calls apart, or any other.

    What was replaced last is asked: an `acquire` of the object itself, or of a subclass, that knows nothing of kinds
    must not be passed by.

    Raises:
        ConfigurationError: Its `acquire_for` does not take the size of a call.
    """
    places = (getattr(limiter, "__dict__", {}), *map(vars, type(limiter).__mro__))
    latest = next((place for place in places if "acquire_for" in place or "acquire" in place), {})
    if isinstance(limiter, DistinguishesKinds) and "acquire_for" in latest:
        _check_takes_size(limiter.acquire_for)
        return limiter.acquire_for
    return lambda _kind, _size: limiter.acquire()


def _check_takes_size(acquire: Acquire) -> None:
    try:
        inspect.signature(acquire).bind(CallKind.UPLOAD, 0)
    except TypeError:
        raise ConfigurationError("limiter: expected `acquire_for(kind, size=0)`, see DistinguishesKinds") from None
    except ValueError:  # nobody can tell, as of what is written in C
        pass


def kind_of(call: Call[Any]) -> CallKind:
    """What `call` is to a limiter."""
    if call.files:
        return CallKind.UPLOAD
    return CallKind.READ if call.repeatable else CallKind.WRITE


def size_of(call: Call[Any]) -> int:
    """Bytes that `call` uploads, about; 0 if it is no upload."""
    if not call.files:
        return 0
    texts = call.form.values() if call.form else ()
    return sum(len(file.content) for file in call.files.values()) + sum(map(len, texts))


class WithdrawnError(Exception):
    """The call was given up before its token was spent. Never leaves this package."""


class Token:
    """Waits for the limiter's grant, as long as the call is wanted, and tells it how the call goes on."""

    def __init__(self, acquire: Acquire, call: Call[Any]) -> None:
        self._acquire = partial(acquire, kind_of(call), size_of(call))
        self._grant: Grant | None = None
        self._waiter: asyncio.Task[object] | None = None
        self._is_withdrawn = False
        self.waited: float = 0.0
        """Seconds that it was waited for."""

    @property
    def is_taken(self) -> bool:
        """It is there."""
        return self._grant is not None

    def withdraw(self) -> None:
        """The call is given up: nobody waits for its token any more."""
        self._is_withdrawn = True
        if self._waiter is not None:
            self._waiter.cancel()

    async def take(self) -> float:
        """Wait for it, unless it is there already.

        Returns:
            The seconds that this took.

        Raises:
            WithdrawnError: The call was given up.
            MMSError: The limiter's.
        """
        if self._is_withdrawn:
            raise WithdrawnError
        if self._grant is not None:
            return 0.0
        clock = asyncio.get_running_loop().time
        asked = clock()
        self._waiter = asyncio.current_task()
        try:
            self._grant = _checked(await self._acquire())
        except asyncio.CancelledError:
            if not self._is_withdrawn or self._waiter is None:
                raise
            self._waiter.uncancel()
            raise WithdrawnError from None
        finally:
            self._waiter = None
            self.waited = clock() - asked
        if self._is_withdrawn:
            raise WithdrawnError
        return self.waited

    async def pay_late(self) -> None:
        """Wait for the token of a call that may have left without one. Whatever comes of it, the call has left."""
        try:
            self._grant = _checked(await self._acquire())
        except Exception as error:
            log.warning("the token of a call that had left already could not be taken: %r", error)

    def last_byte_out(self) -> None:
        """The last byte of the call has left."""
        if self._grant is not None:
            _report(self._grant.sent)

    def answered(self) -> None:
        """The response's headers have come."""
        if self._grant is not None:
            _report(self._grant.answered)

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        """The call is over. Told once; without effect where there is no token."""
        grant, self._grant = self._grant, None
        if grant is not None:
            _report(partial(grant.release, throttled=throttled, retry_after=retry_after))


def _report(tell: Callable[[], object]) -> None:
    """Tell the limiter; what it raises changes nothing about the call."""
    try:
        tell()
    except Exception:
        log.exception("the limiter failed as it was told how a call went on")


def _checked(grant: Grant) -> Grant:
    if not _is_grant(type(grant)):
        raise ConfigurationError(f"limiter: expected `acquire` to return a Grant, got {grant!r}")
    return grant


@lru_cache(maxsize=32)
def _is_grant(kind: type) -> bool:
    """Looking for a protocol's methods takes its time."""
    return issubclass(kind, Grant)
