"""What a client asks of a limiter, and the figures that the package's own limiters keep."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol, runtime_checkable

import attrs

__all__ = [
    "CallKind",
    "DistinguishesKinds",
    "Grant",
    "Limiter",
    "SharedTokenBucketStats",
    "SignalsCapacity",
    "TokenBucketStats",
]


class CallKind(IntEnum):
    """What a call carries. The calls of a kind take about the same time until the server counts them, and after."""

    READ = 0
    """It may be repeated, and carries little."""
    WRITE = 1
    """It may not be repeated: an SMS, say."""
    UPLOAD = 2
    """It carries a file."""


@runtime_checkable
class Limiter(Protocol):
    """Decides when a call may go on the wire. Pass your own as `AsyncMMSClient(limiter=...)`.

    One limiter belongs to one account; give the same object to several clients to share the cap.
    """

    async def acquire(self) -> Grant:
        """Waits for a token. Called when a connection is ready and not a byte of the call has left.

        A cancelled wait must leave nothing behind, and a token that was just granted must go to the next waiter.

        Returns:
            The grant, which the client releases in any case.
        """
        ...


@runtime_checkable
class Grant(Protocol):
    """One token that was granted. The client reports how the call went on, so that the limiter can learn.

    The three methods are called in this order, each at most once and `release` always; none may block.
    """

    def sent(self) -> None:
        """The last byte of the request has left."""
        ...

    def answered(self) -> None:
        """The headers of the response have arrived. Not called for a call that got no response."""
        ...

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        """The call is over.

        Args:
            throttled: The server refused the call as over the cap.
            retry_after: Seconds to wait after that, if the server named them.
        """
        ...


@runtime_checkable
class DistinguishesKinds(Protocol):
    """An optional capability of a limiter: it learns of each kind of call apart, so that none is held up by another.

    A client calls `acquire_for` in place of `acquire`, unless a subclass, or something set on the object before the
    client was made, has replaced only `acquire`: then that is called, for calls of every kind.
    """

    async def acquire_for(self, kind: CallKind, size: int = 0) -> Grant:
        """As `Limiter.acquire`, for a call of that kind.

        Args:
            kind: Of the call.
            size: Bytes of an upload, about; 0 of another call. The server may count a smaller one sooner.
        """
        ...


@runtime_checkable
class SignalsCapacity(Protocol):
    """An optional capability of a limiter: it tells when it may have room, so that nobody has to poll.

    A campaign starts calls by these signals. All limiters of the package have them.
    """

    @property
    def in_flight(self) -> int:
        """Calls granted and not yet over."""
        ...

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        ...

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Calls back whenever `in_flight` or `waiting` may have changed.

        Args:
            callback: Called in the limiter's event loop, soon after the change and once for several changes. What it
                raises goes to the loop's exception handler.

        Returns:
            A function that ends the subscription; calling it again does nothing.
        """
        ...


@attrs.frozen(kw_only=True)
class TokenBucketStats:
    """What a `TokenBucket` has done so far and is doing now."""

    calls: int
    """Calls granted."""
    waits: int
    """Of these, calls that had to wait."""
    seconds_waited: float
    """Seconds they waited, all together."""
    throttled: int
    """Calls that the server refused as over the cap."""
    throttlings: int
    """Episodes of such refusals: each slowed the rate down once."""
    rate: float
    """Calls a second at present."""
    in_flight: int
    """Calls granted and not yet over."""
    waiting: int
    """Callers in the queue."""
    share: float
    """Calls granted in the last minute, as a share of what the cap allows in a minute."""


@attrs.frozen(kw_only=True)
class SharedTokenBucketStats(TokenBucketStats):
    """What a `SharedTokenBucket` of this process has done so far; `rate` is what all processes share."""

    round_trips: int
    """Exchanges with Redis, those that failed included."""
    alone: bool
    """Redis is away, and this process goes by its own part of the cap."""
