"""The grant of a limiter that counts slots."""

from __future__ import annotations

import asyncio
from typing import Protocol

from mmsclient.limiter.protocol import CallKind
from mmsclient.limiter.slots import CountedBy, SlotRule

__all__ = ["GrantOwner", "SlotGrant"]


class GrantOwner(Protocol):
    """Whoever gave a grant, and is told how its call goes on."""

    def sent(self, grant: SlotGrant, counted_by: CountedBy) -> None:
        """The last byte has left: the server will have counted the call by that moment, at the latest."""
        ...

    def ended(self, grant: SlotGrant, counted_by: CountedBy) -> None:
        """The call is over, and that moment may be earlier than was known before. Told once."""
        ...

    def throttled(self, grant: SlotGrant, retry_after: float | None) -> None:
        """The server refused the call, which is over, as over the cap."""
        ...


class SlotGrant:
    """A slot in use. It takes the times of its call, and derives from them when the server has counted it.

    Args:
        owner: Gets told.
        rule: Says when the server has counted the call.
        loop: Has the clock.
        kind: Of its call.
        size: Bytes that its call carries.
        episode: How many episodes of throttling there were when it was granted.
        key: The owner's name for it.
    """

    __slots__ = (
        "_answered",
        "_is_over",
        "_loop",
        "_owner",
        "_rule",
        "_sent",
        "episode",
        "exchange",
        "key",
        "kind",
        "size",
    )

    def __init__(
        self,
        owner: GrantOwner,
        rule: SlotRule,
        loop: asyncio.AbstractEventLoop,
        *,
        kind: CallKind,
        size: int,
        episode: int,
        key: str = "",
    ) -> None:
        self._owner = owner
        self._rule = rule
        self._loop = loop
        self._sent: float | None = None
        self._answered: float | None = None
        self._is_over = False
        self.kind: CallKind = kind
        self.size: int = size
        self.exchange: float | None = None
        """Seconds from the last byte sent to the response, when that has come the usual way."""
        self.episode: int = episode
        self.key: str = key

    def sent(self) -> None:
        if not self._is_over:
            self._sent = self._loop.time()
            self._owner.sent(self, self._rule.counted_by(self.kind, self._sent, None))

    def answered(self) -> None:
        self._answered = self._loop.time()

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        if self._is_over:
            return
        self._is_over = True
        sent = self._loop.time() if self._sent is None else self._sent
        unusual = throttled or self._sent is None
        answered = self._answered
        if answered is not None and not unusual:
            self.exchange = answered - sent
        counted_by = self._rule.counted_by(self.kind, sent, answered, size=self.size, unusual=unusual)
        self._owner.ended(self, counted_by)
        if throttled:
            self._owner.throttled(self, retry_after)
