"""The replies that came, and those that will. No I/O."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable

from mmsclient.sandbox.records import Reply


class Inbox:
    """Inbound messages: scheduled, received, unread. Its owner holds the lock."""

    def __init__(self) -> None:
        self.received: list[Reply] = []
        """Every inbound message so far, read ones too."""
        self._unread: dict[str, Reply] = {}
        self._ids: set[str] = set()
        self._due: list[tuple[float, int, Reply]] = []
        self._serial = itertools.count()

    @property
    def unread(self) -> list[Reply]:
        """Those not yet marked read, oldest first."""
        return list(self._unread.values())

    def receive(self, reply: Reply) -> None:
        """`reply` comes now."""
        self.received.append(reply)
        self._ids.add(reply.id)
        self._unread[reply.id] = reply

    def schedule(self, due: float, reply: Reply) -> None:
        """`reply` comes at `due`, by the sandbox's clock."""
        heapq.heappush(self._due, (due, next(self._serial), reply))

    def settle(self, now: float) -> list[Reply]:
        """Receive what is due; returns it."""
        came: list[Reply] = []
        while self._due and self._due[0][0] <= now:
            came.append(heapq.heappop(self._due)[2])
        for reply in came:
            self.receive(reply)
        return came

    def mark_read(self, ids: Iterable[str]) -> int:
        """Mark replies as read, again if need be. Returns how many of `ids` exist."""
        known = self._ids.intersection(ids)
        for reply_id in known:
            self._unread.pop(reply_id, None)
        return len(known)
