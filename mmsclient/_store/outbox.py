"""What the outbox asks of its store, whichever engine keeps it.

An order is in one of these states, and moves only as this table says:

| from | to | when |
|---|---|---|
| nothing | waiting | it is put |
| waiting | sending | a worker claims it; committed, and on the disk, before anything leaves |
| waiting | cancelled | somebody takes it back |
| sending | accepted, refused, unknown | its call has ended |
| sending | waiting | its call was surely not carried out, and may be later |
| sending | unknown | its worker has died, or has lost its lease |
| unknown | accepted, refused, waiting | the end comes late, from the worker that had claimed it |
| unknown | waiting | an operator sends it again, to those of its recipients of whom nothing is known |
| waiting | unknown | that is taken back, where an answer had told of some |
| unknown | accepted | evidence proves that its call was carried out (`outbox_evidence`) |
| waiting, cancelled | accepted | the same, where an operator sends it again and it has not left |
| accepted by evidence | accepted, refused, waiting | the end comes late, from the worker that had claimed it |
| waiting | accepted, refused, waiting, unknown | the same, where an operator sends it again and it has not left |
| cancelled | accepted, unknown | the same, where that was cancelled, and the API took it for somebody at least |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from attrs import field, frozen

from mmsclient._store.models import Owner, RecipientState, number_of
from mmsclient._store.protocol import ReportRecorder

__all__ = [
    "DIED",
    "ENDED",
    "MOST_COUNTED",
    "Candidate",
    "HeldOrder",
    "HeldRecipient",
    "Order",
    "OrderEnd",
    "OutboxClaim",
    "OutboxDue",
    "OutboxFigures",
    "OutboxState",
    "OutboxStore",
    "OutboxWorkerStore",
    "chosen",
]


class OutboxState(StrEnum):
    """What became of an order."""

    WAITING = "waiting"
    """To be sent."""
    SENDING = "sending"
    """Its call is under way."""
    ACCEPTED = "accepted"
    """The API took it, for some of its recipients at least."""
    REFUSED = "refused"
    """The API refused the message or its recipients. Not sent again."""
    UNKNOWN = "unknown"
    """It may have been sent, to some of its recipients at least. Not sent again unless you say so."""
    CANCELLED = "cancelled"
    """It was taken back before it was sent."""

    @property
    def is_over(self) -> bool:
        """Nothing more is done about it, but that the end of an unknown one may come late."""
        return self not in (OutboxState.WAITING, OutboxState.SENDING)


ENDED = tuple(state for state in OutboxState if state.is_over)

DIED = json.dumps(
    {
        "error": {
            "class": "OutcomeUnknownError",
            "description": "the worker that sent it ended, or lost its lease, before it recorded the answer",
            "call": "send-mms",
        }
    }
)
"""The result of an order whose worker has died."""

MOST_TOGETHER = 1000
"""Recipients of one call (api-notes.md section 3, send-mms)."""


@frozen
class Order:
    """What is put."""

    key: str
    text: str = field(repr=False)
    """As it goes out."""
    subject: str = field(repr=False)
    """Empty for none."""
    picture: bytes = field(repr=False)
    phones: tuple[int, ...] = field(repr=False)
    """The digits of the numbers in E.164."""
    not_before: float | None = None
    """Unix seconds."""

    @property
    def picture_sha256(self) -> str:
        return hashlib.sha256(self.picture).hexdigest()

    @property
    def message(self) -> str:
        """What equal messages have in common."""
        parts = (self.text, self.subject, self.picture_sha256)
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


@frozen
class HeldRecipient:
    """A recipient of an order, and what an answer said of it."""

    phone: int
    state: RecipientState | None = None
    """None as long as it is what its order is."""
    message_id: str | None = None
    proven: bool = False
    """The id is that of a report or a reply, and not of an answer."""


@frozen
class HeldOrder:
    """What the store holds for a key."""

    id: int
    key: str
    text: str = field(repr=False)
    subject: str = field(repr=False)
    picture_sha256: str
    recipients: tuple[HeldRecipient, ...] = field(repr=False)
    state: OutboxState
    put_at: float
    """Unix seconds, as all times here."""
    not_before: float | None
    claimed_at: float | None
    ended_at: float | None
    attempts: int
    number: int | None
    """Its place among the ends; None as long as it has not ended."""
    result: Mapping[str, Any] = field(repr=False)
    """As in `OrderEnd`, and the answers to its former calls (`outbox_resends`); empty before a first call has ended."""

    def differences(self, order: Order) -> tuple[str, ...]:
        """The names of the parts in which another order with the key differs. Recipients have no order."""
        phones = {recipient.phone for recipient in self.recipients}
        differ = {
            "text": self.text != order.text,
            "subject": self.subject != order.subject,
            "image": self.picture_sha256 != order.picture_sha256,
            "recipients": phones != set(order.phones),
        }
        return tuple(name for name, differs in differ.items() if differs)


@frozen
class Candidate:
    """An order that is waiting, and due."""

    id: int
    key: str
    phones: tuple[int, ...] = field(repr=False)
    """Those of whom nothing is known."""
    attempts: int = 0
    """Calls that it was in."""
    together: int | None = None
    """How many orders may be in its call, None for any number."""


def chosen(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of equal messages that go out in one call with the first. A phone in two of them is in two calls."""
    first = candidates[0]
    taken, phones, most = [first], set(first.phones), first.together
    for each in candidates[1:]:
        limit = min((limit for limit in (most, each.together) if limit is not None), default=None)
        fits = len(phones) + len(each.phones) <= MOST_TOGETHER and phones.isdisjoint(each.phones)
        if fits and (limit is None or len(taken) < limit):
            taken.append(each)
            phones.update(each.phones)
            most = limit
    return taken


@frozen
class OutboxClaim:
    """Orders that are `sending` in one call."""

    id: str
    """Of no other claim."""
    text: str = field(repr=False)
    subject: str = field(repr=False)
    picture: bytes = field(repr=False)
    orders: tuple[Candidate, ...]

    @property
    def phones(self) -> tuple[int, ...]:
        """Of all its orders; none is there twice."""
        return tuple(phone for order in self.orders for phone in order.phones)

    @property
    def numbers(self) -> tuple[str, ...]:
        """As they go out."""
        return tuple(map(number_of, self.phones))


@frozen
class OrderEnd:
    """What the end of a call means for one of its orders."""

    state: OutboxState
    result: Mapping[str, Any] = field(repr=False)
    """What is to be told of it, as JSON can hold it."""
    recipients: tuple[tuple[RecipientState | None, str | None], ...] = field(repr=False)
    """State and message id of each of its recipients."""
    delay: float = 0.0
    """Seconds until it is sent again, where it is waiting."""
    together: int | None = None
    """How many orders may be in its next call."""

    @property
    def is_taken(self) -> bool:
        """The API took it, for one of the recipients at least."""
        has_some = any(state is RecipientState.ACCEPTED for state, _ in self.recipients)
        return has_some or self.state is OutboxState.ACCEPTED

    def takes_back(self, state: OutboxState) -> bool:
        """It counts for an order in this `state` that was to be sent again, and has not been since."""
        return self.is_taken or (state is OutboxState.WAITING and self.state is not OutboxState.UNKNOWN)


@frozen
class OutboxFigures:
    """An outbox in figures."""

    counts: Mapping[OutboxState, int]
    oldest_due: float | None
    """Unix seconds since when the oldest one is due that is waiting."""


MOST_COUNTED = 100_000
"""Orders that a worker looks at, at most, when it counts what is due: the count may not keep it from sending."""


@frozen
class OutboxDue:
    """What a worker counts; each number is exact below `MOST_COUNTED`, the most that it is."""

    orders: int
    """Those that wait and whose time has come, those among them that wait to be tried again."""
    oldest: float
    """Seconds since when the oldest of them could have been sent; 0 without any."""
    unknown: int
    """Those that are unknown, and that nothing has settled."""


class OutboxStore(Protocol):
    """Takes orders in, and tells what became of them. Not for several threads at once.

    Its methods raise `JournalError`s of the engine, and then nothing is recorded.
    """

    @property
    def shown(self) -> str:
        """As errors and logs name it: without a password."""
        ...

    @property
    def identity(self) -> str:
        """Tells it from any other that this process may use. Without a password."""
        ...

    def put(self, order: Order) -> HeldOrder:
        """Record an order, and return what is held for its key; on the disk when this returns.

        Raises:
            KeyReusedError: There is another order with the key.
        """
        ...

    def find(self, key: str) -> HeldOrder | None:
        """What is held for a key."""
        ...

    def cancel(self, key: str) -> bool:
        """Take an order back that is waiting; False where there is none.

        One that was to be sent again is unknown again, where an answer had told of some of its recipients.
        """
        ...

    def resend(self, key: str) -> bool:
        """Let an order wait again that is unknown, for those of its recipients of whom nothing is known.

        False where there is none.
        """
        ...

    def figures(self) -> OutboxFigures:
        """Counts. Walks through all orders."""
        ...

    def listed(self, state: OutboxState | None, after: int, limit: int) -> list[HeldOrder]:
        """Orders with ids beyond `after`, as they were put."""
        ...

    def ended(self, after: int, limit: int) -> list[HeldOrder]:
        """Orders by the number of their end, beyond `after`: no end comes later with a lower number."""
        ...

    def last_number(self) -> int:
        """The number of the last end."""
        ...

    async def listen(self, on_news: Callable[[], object]) -> None:
        """Call `on_news` when something was put or has ended, until cancelled; returns where the engine cannot tell."""
        ...

    def open_recorder(self) -> ReportRecorder:
        """Open a connection for what was heard, which settles what it proves."""
        ...

    def settle(self) -> int:
        """Notice that a worker died, and settle unknown orders by evidence; how many that made `accepted`.

        Raises:
            JournalBusyError: There is a worker, the engine has room for one, and that one does it.
        """
        ...

    def open_worker(self, owner: Owner) -> OutboxWorkerStore:
        """What a worker uses, in a thread of its own.

        Raises:
            OutboxBusyError: There is another worker, and the engine has room for one.
            JournalMismatchError: The outbox is another owner's.
        """
        ...

    def close(self) -> None:
        """Close it. May be called again."""
        ...


class OutboxWorkerStore(Protocol):
    """Claims orders and records their ends, for one worker. Not for several threads at once."""

    @property
    def may_send(self) -> bool:
        """No other worker can have taken its claims for those of a dead one. For any thread."""
        ...

    def claim(self) -> OutboxClaim | None:
        """Set the next orders of one message to `sending`, and return them; None where none is due."""
        ...

    def finish(self, claim: OutboxClaim, ends: Sequence[OrderEnd]) -> int:
        """Record how each order of a claim ended; for how many that was done, or had been before.

        May be called again with the same ends, where it is not known whether they were recorded.
        """
        ...

    def due(self) -> OutboxDue:
        """What is due, and what is unknown. Looks at the first `MOST_COUNTED` of each alone."""
        ...

    def lose_dead(self) -> int:
        """What dead workers were sending is unknown from now on; how many orders that were.

        Where it could not be told whether that was recorded, the next call counts them.
        """
        ...

    def settle(self) -> int:
        """Settle unknown orders by evidence; how many that made `accepted`.

        What is recorded, and what ends, is settled at once: this is for what other calls have left open until now.
        """
        ...

    def purge(self, keep: float | None = None) -> None:
        """Forget orders that ended so many seconds ago, and pictures that no order needs any more.

        None: the longest that anybody who opened the store asked for; no order where nobody has.
        """
        ...

    def close(self) -> None:
        """Close it. What is still sending is then that of a dead worker. May be called again."""
        ...
