"""What a client asks of a limiter, and the limiters that come with it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mmsclient.limiter.local import TokenBucket
from mmsclient.limiter.protocol import (
    CallKind,
    DistinguishesKinds,
    Grant,
    Limiter,
    SharedTokenBucketStats,
    SignalsCapacity,
    TokenBucketStats,
)
from mmsclient.limiter.unlimited import NoLimit

if TYPE_CHECKING:
    from mmsclient.limiter.redis.limiter import SharedTokenBucket
else:

    def __getattr__(name: str) -> object:
        """`SharedTokenBucket` is loaded where somebody imports it: few need Redis."""
        if name != "SharedTokenBucket":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module("mmsclient.limiter.redis.limiter").SharedTokenBucket


__all__ = [
    "CallKind",
    "DistinguishesKinds",
    "Grant",
    "Limiter",
    "NoLimit",
    "SharedTokenBucket",
    "SharedTokenBucketStats",
    "SignalsCapacity",
    "TokenBucket",
    "TokenBucketStats",
]
