"""Events that are told inside the task of what begins: a context variable that an observer sets then holds for it."""

from __future__ import annotations

from attrs import frozen

from mmsclient.observe.events import Event

__all__ = ["AttemptStarted", "EventStarted"]


@frozen(kw_only=True, slots=False)
class AttemptStarted(Event):
    """An attempt of a call has its place in the queue, and asks for a connection.

    Told in the attempt's own task, which the HTTP library works in. There is none where the caller left before that.
    """

    call: str
    attempt: int
    """From 1."""


@frozen(kw_only=True, slots=False)
class EventStarted(Event):
    """The handling of an event of a callback begins. Told in the task that the handler runs in."""

    callback: str
    """The one that brought it."""
    kind: str
    """`delivery_report`, `inbound_message` or `unreadable`."""
    event: str
    """Its id, the same in its `EventSettled`."""
    message_id: str
    """As the API names the message, "" where it does not."""
