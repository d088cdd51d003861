"""What an operator does with a store: forget what is old."""

from __future__ import annotations

from attrs import frozen

from mmsclient._store.models import FALLBACK
from mmsclient._store.postgres import keyed_sends
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.other_calls import STANDS_OUTSIDE_CAMPAIGNS
from mmsclient._store.postgres.outbox_worker import forget

__all__ = ["Purged", "purge"]

DAY = 86400.0
"""Seconds."""

_OLD_CAMPAIGNS = """
SELECT id FROM campaign JOIN lease ON lease.campaign = campaign.id
WHERE greatest(
    created, until, (SELECT max(greatest(started, ended)) FROM batch WHERE batch.campaign = campaign.id)
) < clock_timestamp() - make_interval(days => %s)
ORDER BY id FOR UPDATE OF lease SKIP LOCKED
"""
# The SMS of a campaign are kept as long as that is: else those who got one would get another.
_FORGET = f"""
DELETE FROM campaign WHERE id = ANY(%s) AND NOT EXISTS (
    SELECT 1 FROM campaign AS first WHERE campaign.name = first.name || '{FALLBACK}' AND first.id <> ALL(%s)
) RETURNING name
"""  # noqa: S608 - our own constant
# Of a campaign that is kept, also under another id than its answer named: who was reached by a former call.
_OLD_REPORTS = """
DELETE FROM delivery WHERE reported < clock_timestamp() - make_interval(days => %s)
AND NOT EXISTS (SELECT 1 FROM recipient WHERE recipient.message_id = delivery.message_id)
AND NOT EXISTS (SELECT 1 FROM recipient WHERE recipient.phone = delivery.phone)
"""
# As long as a phone stands in a call, what was heard of it may prove that, or keep it from being sent to again.
_OLD_EVIDENCE = f"""
DELETE FROM evidence WHERE heard < clock_timestamp() - make_interval(days => %s)
AND NOT EXISTS (SELECT 1 FROM recipient WHERE recipient.phone = evidence.phone)
AND NOT {STANDS_OUTSIDE_CAMPAIGNS.format(of="evidence")}
"""  # noqa: S608 - our own constant


@frozen
class Purged:
    """What was forgotten."""

    campaigns: tuple[str, ...]
    """Their names."""
    reports: int
    """Delivery reports."""
    keys: int
    """Of single sends."""
    orders: int
    """Orders of the outbox."""


def purge(database: Database, days: int) -> Purged:
    """Forget campaigns in which nothing was sent for so many days, and reports, keyed sends and orders that are older.

    Whoever starts a campaign of such a name again, sends to everybody again, and so does whoever sends with such a key.
    What dead senders were sending is unknown from this moment, and kept so many days from it.
    """

    def work(transaction: Transaction) -> Purged:
        old = [each for (each,) in transaction.rows(_OLD_CAMPAIGNS, (days,))]
        campaigns = sorted(name for (name,) in transaction.rows(_FORGET, (old, old)))
        reports = transaction.execute(_OLD_REPORTS, (days,))
        keyed_sends.lose_dead(transaction)
        keys = keyed_sends.forget_old(transaction, days * DAY)
        orders = forget(transaction, days * DAY)
        transaction.execute(_OLD_EVIDENCE, (days,))
        return Purged(tuple(campaigns), reports, keys, orders)

    return database.run(work)
