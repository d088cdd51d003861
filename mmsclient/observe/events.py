"""What an observer is told: plain, frozen facts. None holds a phone number, a text, a key, or a path."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum

from attrs import frozen

__all__ = [
    "AttemptEnded",
    "BatchEnded",
    "CallEnded",
    "CallRetried",
    "CallStarted",
    "CallThrottled",
    "CallWaited",
    "CallbackAnswered",
    "CallbackReceived",
    "CampaignContinued",
    "CampaignEnded",
    "CampaignPaused",
    "CampaignRef",
    "CampaignReopened",
    "CampaignStarted",
    "CampaignStopped",
    "CampaignWaiting",
    "Event",
    "EventOutcome",
    "EventSettled",
    "LimiterAway",
    "LimiterBack",
    "Outcome",
    "RateChanged",
    "SaturationBegan",
    "SaturationEnded",
]


class Event:
    """What all events have in common. New kinds may be added: ignore those that you do not know."""

    # None has slots: an instance without is made a third faster, and few live long.


class Outcome(Enum):
    """How a call ended."""

    ACCEPTED = "accepted"
    """The API carried it out, a send for one recipient at least."""
    REFUSED = "refused"
    """The API carried nothing out, and said so; a call that was throttled to its last attempt, too."""
    NOT_SENT = "not_sent"
    """It surely never left, or the limiter gave it no token."""
    UNKNOWN = "unknown"
    """It left, and no answer tells whether it was carried out: a message may have gone out."""
    FAILED = "failed"
    """No usable answer to a call that does no harm when it is repeated."""
    ABANDONED = "abandoned"
    """Its caller was cancelled before it left: nothing was sent."""


class EventOutcome(Enum):
    """What became of an event that a callback brought. All but the first three mean that 503 is answered."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    """It was handled before."""
    UNREADABLE = "unreadable"
    """It is neither a delivery report nor an inbound message, and no handler takes those."""
    FAILED = "failed"
    """Its handler raised, or the store of the handled events did."""
    UNCLAIMED = "unclaimed"
    """Nobody took it in time."""
    REFUSED = "refused"
    """Too many of its kind were waiting, or its turn did not come in time."""
    ELSEWHERE = "elsewhere"
    """Another process was still handling it."""
    CLOSED = "closed"
    """The receiver is closed."""

    @property
    def is_settled(self) -> bool:
        """It need not be posted again."""
        return self in _SETTLED


_SETTLED = frozenset({EventOutcome.HANDLED, EventOutcome.DUPLICATE, EventOutcome.UNREADABLE})


@frozen
class CampaignRef:
    """Which run of a campaign something belongs to."""

    id: str
    """Of one run: eight characters that no other run has."""
    name: str
    """In its database, or of the journal's file without its folder; "" for a campaign without a journal."""
    batch: int | None = None
    """For what belongs to a batch its number: of the first call, where that is tried again or cut in halves."""


# Calls ----------------------------------------------------------------------------------------------------------------


@frozen(kw_only=True, slots=False)
class CallStarted(Event):
    """A call was asked for."""

    call: str
    """Its id, the same in everything that is told of it, all its attempts included."""
    name: str
    """Of the API's call, such as `send-mms`."""
    server: str
    """The API's host, and its port where the URL names one."""
    recipients: int
    """Of a send; 0 for other calls."""
    campaign: CampaignRef | None


@frozen(kw_only=True, slots=False)
class CallWaited(Event):
    """The waits of an attempt are over: its first byte leaves now, or it will not leave at all.

    A call of which nothing more is heard after one with `left` waits for its server.
    """

    call: str
    attempt: int
    """From 1."""
    queue: float
    """Seconds for a place among the calls under way."""
    connection: float
    """Seconds for a connection: in the pool, and for opening it."""
    token: float
    """Seconds for the limiter's token."""
    left: bool
    """The first byte leaves, as far as is known by now."""


@frozen(kw_only=True, slots=False)
class AttemptEnded(Event):
    """One attempt of a call is over. There is one for each `CallWaited`."""

    call: str
    attempt: int
    left: bool
    """The first byte left, or may have."""
    seconds: float
    """From the first byte to the end of the answer; 0 where it did not leave."""
    status: int | None
    """The HTTP status, None where no answer came."""
    code: str | None
    """The API's code, None where none came, or one that the API would not write."""
    bytes: int
    """Of the answer's body."""
    timed_out: bool
    """It left, and no complete answer came in time: the server hung."""
    error: str | None
    """The class of what was raised, None after a success."""


@frozen(kw_only=True, slots=False)
class CallThrottled(Event):
    """The server refused an attempt as over the cap."""

    call: str
    retry_after: float | None
    """Seconds that it asked to wait, if it did."""


@frozen(kw_only=True, slots=False)
class CallRetried(Event):
    """Another attempt follows."""

    call: str
    attempt: int
    """The number of the one that follows."""
    wait: float
    """Seconds until then."""
    error: str
    """The class of what ended the attempt before."""


@frozen(kw_only=True, slots=False)
class CallEnded(Event):
    """A call is over. There is one for each `CallStarted`, also where the caller has left."""

    call: str
    name: str
    outcome: Outcome
    attempts: int
    """How many had a turn."""
    recipients: int
    accepted: int
    """Recipients that the API accepted."""
    seconds: float
    """From its start, all waits and attempts included."""
    queue: float
    """Of these, the seconds of its attempts that `CallWaited` tells apart."""
    connection: float
    token: float
    status: int | None
    """Of the last attempt, as `AttemptEnded` has them."""
    code: str | None
    error: str | None
    """The class of what the caller got, or would have got."""
    is_abandoned: bool
    """Its caller was cancelled, and did not hear of the end."""
    message_ids: tuple[str, ...]
    """What the API calls the messages, as delivery reports do."""
    server: str
    """As `CallStarted` has it."""
    campaign: CampaignRef | None


# Limiters -------------------------------------------------------------------------------------------------------------


@frozen(kw_only=True, slots=False)
class RateChanged(Event):
    """The limiter slowed down after a throttling, or has regained a twentieth of the full rate or more since."""

    rate: float
    """Calls a second from now on."""
    full: float
    """Calls a second that the cap allows."""


@frozen(kw_only=True, slots=False)
class LimiterAway(Event):
    """The shared limiter cannot reach Redis."""

    error: str
    """The class of what went wrong."""
    shares: bool
    """The process goes by its own part of the cap; else calls fail until Redis is back."""


@frozen(kw_only=True, slots=False)
class LimiterBack(Event):
    """Redis answers again."""

    seconds: float
    """For which it was away."""


# Callbacks ------------------------------------------------------------------------------------------------------------


@frozen(kw_only=True, slots=False)
class CallbackReceived(Event):
    """A callback has passed the checks of its head, and its body was read."""

    callback: str
    """Its id, the same in what is told of its events and of its answer."""
    bytes: int
    reports: int
    """Delivery reports in it."""
    messages: int
    """Inbound messages in it."""
    unreadable: int
    """Items that are neither."""


@frozen(kw_only=True, slots=False)
class EventSettled(Event):
    """It was settled what becomes of an event of a callback. What happens to copies under way at once is told once."""

    callback: str
    """The one that brought it, first if several did."""
    kind: str
    """`delivery_report`, `inbound_message` or `unreadable`."""
    event: str
    """Its id, as `EventStarted` has it; "" where its handling did not begin."""
    outcome: EventOutcome
    message_id: str
    """As the API names the message, "" where it does not."""
    seconds: float
    """Since its handling began; 0 where it did not."""


@frozen(kw_only=True, slots=False)
class CallbackAnswered(Event):
    """A request to the receiver was answered."""

    callback: str
    status: int
    """The HTTP status; 499 where the sender left before the end of its request, and nothing was answered."""
    reason: str
    """Why 503 was answered: the value of an `EventOutcome`, `no_place` or `late`. Else ""."""
    seconds: float


@frozen(kw_only=True, slots=False)
class SaturationBegan(Event):
    """As many events of a kind are being handled as may be at a time: others wait from now on."""

    kind: str


@frozen(kw_only=True, slots=False)
class SaturationEnded(Event):
    """No event of the kind waits any more, and half of the places are free."""

    kind: str
    seconds: float
    """For which it lasted."""


# Campaigns ------------------------------------------------------------------------------------------------------------


@frozen(kw_only=True, slots=False)
class CampaignStarted(Event):
    """A run of a campaign began."""

    campaign: CampaignRef


@frozen(kw_only=True, slots=False)
class CampaignPaused(Event):
    """Nothing starts for a while: the call of a batch was throttled, or never left, and will be tried again.

    Or another process has paused the campaign, now or before the run: `from_outside`.
    """

    campaign: CampaignRef
    """With its batch, unless it is paused from outside."""
    seconds: float | None
    """None where it is paused from outside: until a `CampaignContinued`, or the end."""
    error: str | None
    """The class of what ended the call; None where it is paused from outside."""
    from_outside: bool = False
    """Another process asked for it."""


@frozen(kw_only=True, slots=False)
class CampaignContinued(Event):
    """A campaign that was paused from outside goes on."""

    campaign: CampaignRef
    seconds: float
    """For which this run was paused."""
    from_outside: bool = True
    """Another process asked for it."""


@frozen(kw_only=True, slots=False)
class CampaignWaiting(Event):
    """Nothing starts before a time: it is outside the campaign's hours."""

    campaign: CampaignRef
    until: datetime
    """When it goes on, in the zone of its window."""


@frozen(kw_only=True, slots=False)
class CampaignReopened(Event):
    """The hours that the campaign waited for have begun."""

    campaign: CampaignRef


@frozen(kw_only=True, slots=False)
class CampaignStopped(Event):
    """Nothing new starts in this run; what has left is waited for."""

    campaign: CampaignRef
    error: str | None
    """The class of what stopped it; None where the program did."""
    from_outside: bool = False
    """Another process asked for it."""


@frozen(kw_only=True, slots=False)
class BatchEnded(Event):
    """A batch of a campaign is over and recorded: one for each `Batch` that the campaign gives."""

    campaign: CampaignRef
    """With its batch."""
    counts: Mapping[str, int]
    """Its recipients by state, as `RecipientState` has them."""
    error: str | None
    """The class of what its last call raised."""


@frozen(kw_only=True, slots=False)
class CampaignEnded(Event):
    """A run of a campaign is over. There is one for each `CampaignStarted`."""

    campaign: CampaignRef
    counts: Mapping[str, int]
    """All recipients of the journal by state, those of earlier runs included; empty where it could not be opened."""
    calls: int
    """Of this run, those included that were taken back before they left."""
    seconds: float
    error: str | None
    """The class of what is raised to the program, None where nothing is."""
