"""Events of what leads to a call, or stands in for one: orders of an outbox, keyed sends, pictures of their own."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from mmsclient.observe.events import CampaignRef, Event, Outcome

__all__ = ["OrdersClaimed", "OrdersDue", "OrdersEnded", "OrdersLost", "PictureMade", "SendRepeated"]


@frozen(kw_only=True, slots=False)
class OrdersClaimed(Event):
    """A worker of an outbox has claimed orders of one message, and makes their call. Told in the task that does."""

    claim: str
    """Its id, the same in its `OrdersEnded`."""
    outbox: str
    """The name of the database, or of the file without its folder; as in `outbox.db (2)` where there is another one."""
    orders: int
    recipients: int


@frozen(kw_only=True, slots=False)
class OrdersEnded(Event):
    """That call is over and recorded, as far as it can be: one for each `OrdersClaimed`."""

    claim: str
    outbox: str
    counts: Mapping[str, int]
    """The orders by the state that they came into, as `OutboxState` has them; those `waiting` are sent again. Empty
    where that could not be recorded: then they are `unknown`, and the next worker's `OrdersLost` tells so."""
    seconds: float
    error: str | None
    """The class of what its call raised."""


@frozen(kw_only=True, slots=False)
class OrdersDue(Event):
    """What waits in an outbox, and not for a later hour. Told by a worker at its start, every 15 seconds, and at its
    end: then, and where it could not be counted, there is no figure."""

    outbox: str
    orders: int | None
    """Exact below 100 000, which stands for that many and more; so `unknown`."""
    oldest: float | None
    """Seconds for which the oldest of them has waited, in which it may have been tried; 0 without any."""
    unknown: int | None
    """Orders that may have been sent, and that nothing has settled."""
    error: str | None
    """The class of what kept it from being counted, or ended the worker; None where that was stopped."""


@frozen(kw_only=True, slots=False)
class OrdersLost(Event):
    """A worker of the outbox is gone: what it was sending is `unknown`, unless evidence proves it. Told by another."""

    outbox: str
    orders: int


@frozen(kw_only=True, slots=False)
class SendRepeated(Event):
    """A keyed send made no call, since its key was used before, or since the ledger could not be asked."""

    name: str
    """Of the API's call that was not made."""
    server: str
    """The API's, as `CallStarted` has it."""
    recipients: int
    outcome: Outcome
    """What its caller was told: `accepted`, `refused` or `unknown`, as the first send with the key ended; `not_sent`
    where that goes on or was another message, or where the ledger is away."""
    seconds: float
    error: str | None
    """The class of what was raised."""


@frozen(kw_only=True, slots=False)
class PictureMade(Event):
    """A recipient's own picture was made, or could not be; again, if it is no longer kept, when its turn comes."""

    campaign: CampaignRef
    seconds: float
    """Of the program's function, and of reading and fitting what it gave."""
    bytes: int
    """0 where there is none."""
    error: str | None
    """The class of what went wrong; such a recipient is set aside."""
