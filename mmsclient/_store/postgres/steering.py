"""What operators ask of a campaign's sender, in PostgreSQL: rows of their own, so that nobody waits for the lease."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal

import psycopg

from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.messages import without_picture
from mmsclient._store.steering import (
    FEW_FAILURES,
    LATELY,
    THROTTLED,
    WAIT_LOOK,
    Activity,
    FailedCall,
    Order,
    Orders,
    Standing,
    Waiter,
    sender_name,
    with_rejected,
)

__all__ = ["PostgresSteering", "PostgresWaitNotice", "give_order", "orders_in", "standing"]

CHANNEL = "mmsclient_steering"
LISTEN_AGAIN = 1.0
"""Seconds between the attempts to listen for notifications."""
WAITS = 3 * WAIT_LOOK
"""Seconds that a run which waits for delivery reports is shown without a sign of life."""

_ORDERS = """
SELECT extract(epoch FROM paused)::float8, coalesce(paused_by, ''), stops, coalesce(stopped_by, '')
FROM steering WHERE campaign = %s
"""
_NOTE = """
INSERT INTO activity VALUES (%s, %s, clock_timestamp(), %s, %s) ON CONFLICT (campaign) DO UPDATE
SET epoch = excluded.epoch, activity = excluded.activity, why = excluded.why,
    since = CASE WHEN activity.epoch = excluded.epoch THEN activity.since ELSE excluded.since END
WHERE activity.epoch <= excluded.epoch
"""
_ROW = "INSERT INTO steering (campaign) VALUES (%s) ON CONFLICT DO NOTHING"
_GIVE = {
    Order.PAUSE: (
        "UPDATE steering SET paused = clock_timestamp(), paused_by = %s WHERE campaign = %s AND paused IS NULL"
    ),
    Order.UNPAUSE: "UPDATE steering SET paused = NULL, paused_by = %s WHERE campaign = %s",
    Order.STOP: "UPDATE steering SET stops = stops + 1, stopped_by = %s WHERE campaign = %s",
}
_SENDER = """
SELECT extract(epoch FROM clock_timestamp())::float8, CASE WHEN until IS NOT NULL THEN sender END,
    coalesce(until > clock_timestamp(), false), extract(epoch FROM since)::float8, activity, why, list_read
FROM campaign JOIN lease ON lease.campaign = campaign.id
LEFT JOIN activity ON activity.campaign = campaign.id AND activity.epoch = lease.epoch WHERE campaign.id = %s
"""
# Among the senders that hold no campaign's lease; the id says of which campaign, and since when.
_WAIT = """
INSERT INTO sender (id, name, until)
SELECT 'reports:' || id || ':' || extract(epoch FROM clock_timestamp())::float8 || %s, %s,
    clock_timestamp() + make_interval(secs => %s)
FROM campaign WHERE name = %s
"""
_WAIT_ON = "UPDATE sender SET until = clock_timestamp() + make_interval(secs => %s) WHERE right(id, 25) = %s"
_WAIT_NO_MORE = "DELETE FROM sender WHERE right(id, 25) = %s"
_WAITER = """
SELECT name, split_part(id, ':', 3)::float8 FROM sender
WHERE starts_with(id, 'reports:' || %s || ':') AND until > clock_timestamp() ORDER BY 2 LIMIT 1
"""
_COUNTS = "SELECT state, count(*) FROM recipient WHERE campaign = %s GROUP BY state"
_CALLS = f"""
SELECT count(*), extract(epoch FROM min(started))::float8, extract(epoch FROM max(ended))::float8,
    count(*) FILTER (WHERE starts_with(error, '{THROTTLED}'))
FROM batch WHERE campaign = %s
"""  # noqa: S608
_FAILURES = f"""
SELECT id, recipients, accepted, error FROM batch
WHERE campaign = %s AND ended IS NOT NULL AND (error IS NOT NULL OR accepted < recipients)
ORDER BY id DESC LIMIT {FEW_FAILURES}
"""  # noqa: S608
_ENDS = f"""
SELECT extract(epoch FROM ended)::float8, CASE WHEN error IS NULL THEN recipients ELSE 0 END FROM batch
WHERE campaign = %s AND ended IS NOT NULL ORDER BY id DESC LIMIT {LATELY}
"""  # noqa: S608
_ERROR = """
SELECT error, extract(epoch FROM ended)::float8 FROM batch
WHERE campaign = %s AND error IS NOT NULL ORDER BY id DESC LIMIT 1
"""


class PostgresSteering:
    """The sender's side, for one epoch. See `SenderSteering`."""

    look_every = 2.0
    """In case that no notification comes: a pooler in between may swallow them."""

    def __init__(self, database: Database, campaign: int, epoch: int) -> None:
        self._database = database
        self._campaign = campaign
        self._epoch = epoch

    def orders(self) -> Orders:
        """What was asked for so far."""
        return self._database.run(lambda transaction: orders_in(transaction, self._campaign), reads=True)

    def begin(self) -> None:
        """Note who sends from now on: the lease says that, and this since when."""
        self.note(Activity.SENDING, "")

    def note(self, activity: Activity, why: str) -> None:
        """Note what the sender is doing."""
        values = (self._campaign, self._epoch, activity, why)
        self._database.run(lambda transaction: transaction.execute(_NOTE, values))

    def end(self) -> None:
        """The end of the lease says so."""

    async def listen(self, on_news: Callable[[], object]) -> None:
        """Call `on_news` when there may be an order, until it is cancelled."""
        while True:
            with suppress(psycopg.Error):  # also an event loop that cannot watch a connection
                await self._listen(on_news)
            await asyncio.sleep(LISTEN_AGAIN)

    async def _listen(self, on_news: Callable[[], object]) -> None:
        address = self._database.address
        async with await psycopg.AsyncConnection.connect(
            **address.conninfo, autocommit=True, prepare_threshold=None
        ) as listener:
            await listener.execute(f"LISTEN {CHANNEL}".encode())
            on_news()
            async for notice in listener.notifies():
                if notice.payload == _payload(address.schema, self._campaign):
                    on_news()


class PostgresWaitNotice:
    """In a database: a row that runs out. Of several, the one that began first is shown. See `WaitNotice`.

    Args:
        database: A connection of its own.
        name: Of the campaign.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._end = f":{secrets.token_hex(12)}"  # of the row's id

    def renew(self) -> None:
        """Put the row, or let it run out later."""

        def work(transaction: Transaction) -> None:
            if not transaction.execute(_WAIT_ON, (WAITS, self._end)):
                transaction.execute(_WAIT, (self._end, sender_name(), WAITS, self._name))

        self._database.run(work)

    def end(self) -> None:
        """Take the row away. Closes the connection."""
        try:
            self._database.run(lambda transaction: transaction.execute(_WAIT_NO_MORE, (self._end,)))
        finally:
            self._database.close()


def _payload(schema: str, campaign: int) -> str:
    return f"{schema}:{campaign}"


def orders_in(transaction: Transaction, campaign: int) -> Orders:
    """What was asked for so far."""
    found = transaction.row(_ORDERS, (campaign,))
    return Orders() if found is None else Orders(*found)


def give_order(database: Database, campaign: int, order: Order) -> None:
    """Note an order, and tell the sender."""

    def work(transaction: Transaction) -> None:
        transaction.execute(_ROW, (campaign,))
        transaction.execute(_GIVE[order], (sender_name(), campaign))
        transaction.row("SELECT pg_notify(%s, %s)", (CHANNEL, _payload(database.address.schema, campaign)))

    database.run(work)


def standing(transaction: Transaction, campaign: int) -> Standing:
    """How a campaign stands. Walks through all recipients."""
    now, sender, is_alive, since, activity, why, list_read = transaction.row_of_campaign(_SENDER, (campaign,))
    (rejected,) = transaction.row("SELECT count(*) FROM aside WHERE campaign = %s", (campaign,))
    calls, started, ended, throttled = transaction.row(_CALLS, (campaign,))
    credit_texts = transaction.rows("SELECT credits FROM batch WHERE campaign = %s AND credits <> ''", (campaign,))
    error, error_at = transaction.row(_ERROR, (campaign,)) or (None, None)
    waiter = transaction.row(_WAITER, (campaign,))
    return Standing(
        now=now,
        orders=orders_in(transaction, campaign),
        sender=sender,
        is_alive=is_alive,
        since=since,
        activity=Activity(activity or Activity.SENDING),
        why=why or "",
        waiter=None if waiter is None else Waiter(*waiter),
        counts=with_rejected(transaction.rows(_COUNTS, (campaign,)), rejected),
        without_picture=without_picture(transaction, campaign),
        list_read=list_read,
        calls=calls,
        credits_used=sum((Decimal(text) for (text,) in credit_texts), Decimal(0)),
        started=started,
        ended=ended,
        ends=transaction.rows(_ENDS, (campaign,)),
        error=error,
        error_at=error_at,
        throttled=throttled,
        failures=[FailedCall(*row) for row in transaction.rows(_FAILURES, (campaign,))],
    )
