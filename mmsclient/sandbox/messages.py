"""The messages that were carried out, and how they go on from there. No I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol, overload

from attrs import frozen

from mmsclient.sandbox.magic import FINAL_STATUS, Endings
from mmsclient.sandbox.records import Message, Send
from mmsclient.sandbox.settings import Settings


class Ids(Protocol):
    """The ids of messages, by their places."""

    def of(self, place: int) -> str: ...

    def place(self, message_id: str) -> int:
        """Raises `ValueError` for what can be none."""
        ...


@frozen
class LikeUUIDs:
    """The ids of MMS."""

    prefix: str

    def of(self, place: int) -> str:
        return f"{self.prefix}-{place:012X}"

    def place(self, message_id: str) -> int:
        return int(message_id.removeprefix(f"{self.prefix}-"), 16)


@frozen
class Digits:
    """The ids of SMS."""

    first: int

    def of(self, place: int) -> str:
        return str(self.first + place)

    def place(self, message_id: str) -> int:
        return int(message_id) - self.first


class Messages(Sequence[Message]):
    """The messages of all sends, made when looked at: a million cost little more than their numbers."""

    def __init__(self, sends: list[Send], ids: Ids) -> None:
        self._sends = sends
        self._ids = ids

    def __len__(self) -> int:
        if not self._sends:
            return 0
        last = self._sends[-1]
        return last.first + len(last.recipients)

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> list[Message]: ...
    def __getitem__(self, place: int | slice) -> Message | list[Message]:
        places = range(len(self))[place]
        return self._at(places) if isinstance(places, int) else [self._at(each) for each in places]

    def of(self, send: Send) -> list[Message]:
        """The messages of one send."""
        return [self._message(send, place) for place in range(send.first, send.first + len(send.recipients))]

    def find(self, message_id: str) -> Message | None:
        """The message of that id, None if there is none."""
        try:
            message = self[self._ids.place(message_id)]
        except (ValueError, IndexError):
            return None
        return message if message.id == message_id else None

    def _at(self, place: int) -> Message:
        return self._message(self._sends[bisect_right(self._sends, place, key=lambda send: send.first) - 1], place)

    def _message(self, send: Send, place: int) -> Message:
        return Message(self._ids.of(place), send.recipients[place - send.first], send)


class Statuses:
    """The status of each message: by its timeline, or as it was set."""

    def __init__(self, settings: Settings, endings: Endings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._endings = endings
        self._clock = clock
        self._set: dict[str, str] = {}

    def timeline(self, message: Message) -> list[tuple[float, str]]:
        """The statuses of a message: by the sandbox's clock from when on, and which."""
        sent, settings = message.send.due, self._settings
        return [
            (message.send.at, "Queued"),
            (sent + settings.dispatch_after, "Dispatched"),
            (sent + settings.deliver_after, FINAL_STATUS.get(self._endings.of(message.to), "Delivered")),
        ]

    def changes(self, message: Message) -> list[tuple[float, str]]:
        """Its timeline without the first status and those that are no change."""
        timeline = self.timeline(message)
        return [(due, status) for (_, before), (due, status) in pairwise(timeline) if status != before]

    def now(self, message: Message) -> str:
        """The status of a message now."""
        if message.id in self._set:
            return self._set[message.id]
        time = self._clock()
        return [status for start, status in self.timeline(message) if start <= time][-1]

    def set(self, message: Message, status: str) -> None:
        """Let a message have any status from now on."""
        self._set[message.id] = status

    def keeps_to_its_timeline(self, message: Message) -> bool:
        """No other status was set."""
        return message.id not in self._set
