"""Watches and steers a campaign from another process, through its journal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from attrs import evolve, field, frozen

from mmsclient._store.models import RecipientState
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.steering import Activity, FailedCall, Order, Standing, Waiter
from mmsclient._store.stores import JournalStore, store_at
from mmsclient._threads import STORES
from mmsclient._words import counted
from mmsclient.bulk.arrivals import look
from mmsclient.bulk.models import Counts

__all__ = ["Activity", "CampaignStatus", "FailedCall", "pause", "read_status", "stop", "unpause"]

WINDOW = 30.0
"""Seconds over which the rate is measured."""

OPENING = "a process has the journal open, and does not send yet"


@frozen(kw_only=True)
class CampaignStatus:
    """How a campaign stands, as it was when it was asked for."""

    activity: Activity
    """What its sender is doing."""
    why: str
    """For what it waits, or by whom it is paused; "" where it sends."""
    sender: str | None
    """Machine and process of the sender, also of one that is lost, or that waits for delivery reports; None where there
    is none."""
    sender_since: datetime | None
    """When that one began to send, or to wait for reports, in UTC."""
    paused_at: datetime | None
    """Since when it is paused, in UTC, whether or not there is a sender; None where it is not."""
    paused_by: str | None
    """Machine and process that asked for the pause."""
    counts: Mapping[RecipientState, int]
    """Recipients in each state, earlier runs included."""
    list_read: bool
    """The list was read to its end, so that the counts hold all of it."""
    calls: int
    """Calls that were made, or are about to be made."""
    calls_per_second: float
    """Of the sender, over the last half minute."""
    recipients_per_second: float
    """In calls that did not fail, over the same time."""
    seconds_left: float | None
    """At the present rate; None until there is one, while the list is being read, and while nothing starts."""
    credits_used: Decimal
    """As far as the API said."""
    started_at: datetime | None
    """When the first call was made, in UTC."""
    ended_at: datetime | None
    """When the last answer was recorded, in UTC."""
    last_error: str | None
    """Of the last call that failed, None where none did."""
    last_error_at: datetime | None
    """When it did, in UTC."""
    throttled: int
    """Calls that the API refused as over the cap, all runs together."""
    last_failures: tuple[FailedCall, ...]
    """The last calls that went wrong, the latest first: at most five, those of which the API took a part included."""
    journal: str = field(repr=False)
    """The journal's file, or host, database and name."""
    reports_awaited: int | None = None
    """Recipients whose delivery reports the sender waits for, to send an SMS where the MMS does not arrive. None where
    it waits for none."""
    without_picture: int = 0
    """As `Report.without_picture`."""
    fallback: CampaignStatus | None = None
    """How the SMS stand that those get whose MMS did not arrive: a campaign of their own, and `is_over` says
    nothing of them. None where none was begun."""

    @property
    def is_over(self) -> bool:
        """There is no sender, and nobody is left to send to."""
        open_states = (RecipientState.PENDING, RecipientState.SENDING, RecipientState.FAILED)
        left = self.without_picture + sum(self.counts[each] for each in open_states)
        return self.activity is Activity.IDLE and self.list_read and not left

    @property
    def is_pause_unnoticed(self) -> bool:
        """A pause was asked for, and no sender has noticed it."""
        return self.paused_at is not None and self.activity not in (Activity.PAUSING, Activity.PAUSED)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        why = f" ({self.why})" if self.why else ""
        paused = ", a pause is asked for" if self.is_pause_unnoticed else ""
        return f"{self.activity}{why}{paused}: {counts or counted(0, 'recipient')}"


async def read_status(journal: str | os.PathLike[str], name: str | None = None) -> CampaignStatus:
    """How a campaign stands at this moment, also while another process or machine sends it. Writes nothing.

    Args:
        journal: A file, or the URL of a PostgreSQL database.
        name: What the campaign is called in the database.

    Raises:
        JournalError: There is no such campaign, or it cannot be read.
    """
    store = store_at(journal, name)
    return await STORES.run(_read, store)


async def pause(journal: str | os.PathLike[str], name: str | None = None) -> CampaignStatus:
    """Pause a campaign, whichever process sends it, until `unpause`. Returns how it stands when that is recorded.

    The sender notices within a second, on PostgreSQL behind a pooler that passes no notifications within two. From
    then on no call starts, and none leaves that was waiting for its turn; those on the wire end and are recorded.
    Until then `activity` is `PAUSING`, and `PAUSED` after the last. Kept in the journal: a sender that dies, is
    resumed or begins later finds it paused, says so in its log, and waits. Asked for again, it changes nothing. The SMS
    to those whose MMS did not arrive are paused with it, also where they are what is being sent.

    Args and errors are those of `read_status`; `JournalUnavailableError` where it cannot be written for the moment.
    """
    return await _ordered(journal, name, Order.PAUSE)


async def unpause(journal: str | os.PathLike[str], name: str | None = None) -> CampaignStatus:
    """End the pause of a campaign. As `pause` otherwise; without a pause it changes nothing."""
    return await _ordered(journal, name, Order.UNPAUSE)


async def stop(journal: str | os.PathLike[str], name: str | None = None) -> CampaignStatus:
    """End the run of a campaign, whichever process sends it. Returns how it stands when that is recorded.

    Nothing new starts, the calls on the wire are waited for, and the sender's program gets `CampaignStoppedError` with
    a `StopRequestedError`. So do the senders that wait for that one's end, and a run that waits for delivery reports,
    within ten seconds. Once: one that begins later sends. Where there is no sender, nothing is to be done. Otherwise as
    `pause`.
    """
    return await _ordered(journal, name, Order.STOP)


async def _ordered(journal: str | os.PathLike[str], name: str | None, order: Order) -> CampaignStatus:
    store = store_at(journal, name)
    return await STORES.run(_order_all, store, order)


def _order_all(store: JournalStore, order: Order) -> CampaignStatus:
    """Give the order to the campaign, and to the SMS in its place: to hold them it takes that somebody sends them."""
    store.give_order(order)
    found = _read(store)
    beside = found.fallback
    if beside is None or (order is not Order.UNPAUSE and beside.activity in (Activity.IDLE, Activity.LOST)):
        return found
    store.fallback.give_order(order)
    return _read(store)


def _read(store: JournalStore) -> CampaignStatus:
    found, beside = _read_alone(store), store.fallback
    return evolve(found, fallback=_read_alone(beside)) if beside.exists() else found  # it is whole once it is there


def _read_alone(store: JournalStore) -> CampaignStatus:
    reader = store.open_reader()
    try:
        with translated_errors(store.shown):
            found = reader.standing()
            waiter = _waiter(found)
            return status_of(found, store.shown, reports_awaited=None if waiter is None else look(reader).awaited)
    finally:
        reader.close()


def _waiter(found: Standing) -> Waiter | None:
    """Who waits for delivery reports, where nobody sends, and nobody has died over it."""
    is_idle = not found.is_alive and found.sender is None and not found.counts[RecipientState.SENDING]
    return found.waiter if is_idle else None


def status_of(found: Standing, journal: str, *, reports_awaited: int | None = None) -> CampaignStatus:
    """The status that a `Standing` means. `reports_awaited`: where somebody waits for any, of how many recipients."""
    waiter = _waiter(found)
    activity, why = _activity(found) if waiter is None else _activity_of_waiter(found, reports_awaited or 0)
    sender, since = (found.sender, found.since) if waiter is None else (waiter.name, waiter.since)
    is_alive = found.is_alive and found.sender is not None
    calls, recipients = rates(found.ends, found.since if is_alive else None, found.now)
    left = found.counts[RecipientState.PENDING] + found.counts[RecipientState.SENDING]
    has_end = activity is Activity.SENDING and found.list_read and recipients > 0
    return CampaignStatus(
        activity=activity,
        why=why,
        sender=sender,
        sender_since=None if sender is None else _time(since),
        paused_at=_time(found.orders.paused),
        paused_by=None if found.orders.paused is None else found.orders.paused_by,
        counts=Counts(found.counts),
        list_read=found.list_read,
        calls=found.calls,
        calls_per_second=calls,
        recipients_per_second=recipients,
        seconds_left=left / recipients if has_end else None,
        credits_used=found.credits_used,
        started_at=_time(found.started),
        ended_at=_time(found.ended),
        last_error=found.error,
        last_error_at=_time(found.error_at),
        throttled=found.throttled,
        last_failures=tuple(found.failures),
        journal=journal,
        reports_awaited=reports_awaited,
        without_picture=found.without_picture,
    )


def _activity(found: Standing) -> tuple[Activity, str]:
    if found.is_alive:
        if found.sender is None:
            return Activity.WAITING, OPENING
        is_pausing = found.activity is Activity.PAUSED and found.counts[RecipientState.SENDING]
        return Activity.PAUSING if is_pausing else found.activity, found.why
    if found.sender is not None or found.counts[RecipientState.SENDING]:
        return Activity.LOST, "what it was sending is unknown when it is resumed"
    return Activity.IDLE, ""


def _activity_of_waiter(found: Standing, reports_awaited: int) -> tuple[Activity, str]:
    if found.orders.paused is not None:  # it looks before it sends anything
        return Activity.PAUSED, found.orders.why_paused
    of = counted(reports_awaited, "recipient")
    return Activity.WAITING, f"for the delivery reports of {of}; who does not get the MMS gets an SMS"


def rates(ends: Sequence[tuple[float, int]], since: float | None, now: float) -> tuple[float, float]:
    """Calls and recipients a second up to now; `ends` of calls, the latest first, of which those before `since` and
    those of long ago do not count."""
    if since is None:
        return 0.0, 0.0
    lately = [(at, recipients) for at, recipients in ends if at >= max(since, now - WINDOW)]
    if len(lately) < 2:
        return 0.0, 0.0
    took = max(1.0, now - lately[-1][0])
    return (len(lately) - 1) / took, sum(recipients for _, recipients in lately[:-1]) / took


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
