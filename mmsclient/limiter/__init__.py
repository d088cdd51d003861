"""What a client asks of a limiter, and the limiters that come with it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from mmsclient.limiter.bucket import TokenBucket, TokenBucketStats
from mmsclient.limiter.shared import SharedTokenBucket, SharedTokenBucketStats
from mmsclient.limiter.unlimited import NoLimit

__all__ = [
    "Grant",
    "Limiter",
    "NoLimit",
    "SharedTokenBucket",
    "SharedTokenBucketStats",
    "TokenBucket",
    "TokenBucketStats",
]


@runtime_checkable
class Limiter(Protocol):
    """Decides when a call may go on the wire. Hand your own to `AsyncMMSClient(limiter=...)`.

    One limiter belongs to one account; give the same object to several clients to share the cap.
    """

    async def acquire(self) -> Grant:
        """Wait for a token. Asked when a connection is ready and not a byte of the call has left.

        A cancelled wait must leave nothing behind, and a token that was just granted must go to the next waiter.
        """
        ...


@runtime_checkable
class Grant(Protocol):
    """One token that was granted. The client tells it how the call went on, so that the limiter can learn.

    The three methods are called in this order, each at most once and `release` always; none may block.
    """

    def sent(self) -> None:
        """The last byte of the request has left."""
        ...

    def answered(self) -> None:
        """The headers of the answer have arrived. Not called for a call that got no answer."""
        ...

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        """The call is over. `throttled`: the server refused it as over the cap; wait `retry_after` seconds if given."""
        ...
