"""The leases of senders: who may send at present, on the database's clock.

A lease is a row, which a sender locks in each transaction in which it claims something, so that one whose lease is lost
can claim nothing. While it lives, a thread renews the lease, on a connection of its own. `CampaignLease` is that of one
epoch of a campaign; `senders` has the leases of senders that belong to no campaign.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from abc import ABC, abstractmethod

from attrs import frozen

from mmsclient._store.errors import JournalError, JournalUnavailableError
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.steering import sender_name
from mmsclient._threads import NoThreadError, started

__all__ = ["LEASE", "CampaignLease", "Lease", "Previous", "acquire", "release"]

log = logging.getLogger(__name__)

LEASE = 10.0
"""Seconds that a lease outlives its sender: another one takes over after that."""
MARGIN = 0.2
"""The share of them that the sender itself does not use: clocks differ, and a byte needs time to leave."""
HEARTBEATS = 5
"""Renewals within a lease."""

if sys.platform == "linux":

    def now() -> float:
        """Seconds on a clock that nobody sets, and that goes on while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
else:
    now = time.monotonic


@frozen
class Previous:
    """Who held a lease before."""

    sender: str | None
    is_lost: bool
    """It has not given the lease back: it died, or cannot reach the database."""


def acquire(transaction: Transaction, campaign: int, seconds: float) -> tuple[int, Previous] | str:
    """Begin an epoch, and return it; or the name of the sender that holds the lease."""
    sql = "SELECT epoch, sender, until IS NOT NULL, until > clock_timestamp() FROM lease WHERE campaign = %s FOR UPDATE"
    epoch, sender, is_held, is_valid = transaction.row_of_campaign(sql, (campaign,))
    if is_valid:
        return str(sender)
    sql = (
        "UPDATE lease SET epoch = %s, sender = %s, until = clock_timestamp() + make_interval(secs => %s)"
        " WHERE campaign = %s"
    )
    transaction.execute(sql, (epoch + 1, sender_name(), seconds, campaign))
    return epoch + 1, Previous(sender, bool(is_held))


def release(transaction: Transaction, campaign: int, epoch: int) -> None:
    """End an epoch in good order, if it is the present one."""
    sql = "UPDATE lease SET until = NULL WHERE campaign = %s AND epoch = %s"
    transaction.execute(sql, (campaign, epoch))


class Lease(ABC):
    """What a sender holds as long as it lives.

    Args:
        database: A connection for the renewals alone.
        asked_at: When the row was written, by `now()`.
        seconds: For how long it was.
    """

    def __init__(self, database: Database, *, asked_at: float, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._valid_until = 0.0
        self.extend(asked_at)
        self._stopped = threading.Event()
        self._is_lost = False
        try:
            self._thread = started(self._beat, "mmsclient-lease")
        except NoThreadError as error:
            self._end()
            raise JournalUnavailableError(database.path, f"its lease cannot be renewed: {error.problem}") from None

    @property
    def is_valid(self) -> bool:
        """This sender surely holds the lease. For any thread."""
        return not self._is_lost and now() < self._valid_until

    @property
    def is_lost(self) -> bool:
        """It was given back, or ended by another sender since its time had run out. For any thread."""
        return self._is_lost

    def fence(self, transaction: Transaction) -> bool:
        """Keep others from ending the lease until the end of the transaction; False where one has ended it already.

        As long as none has, the lease is this sender's, also where its time had run out.
        """
        if not self._renew(transaction, self._seconds):
            self._is_lost = True
            return False
        return True

    def extend(self, asked_at: float) -> None:
        """A `fence` that was begun at `asked_at`, by `now()`, was committed. For any thread."""
        self._valid_until = max(self._valid_until, asked_at + (1 - MARGIN) * self._seconds)

    def give_back(self) -> None:
        """End the lease, so that nobody has to wait until it has run out. Closes its connection."""
        self._stopped.set()
        self._thread.join()
        self._end()

    def _end(self) -> None:
        self._is_lost = True
        try:
            self._database.run(self._release)
        except JournalError as problem:
            log.warning("%s; another sender has to wait until the lease has run out", problem)
        finally:
            self._database.close()

    @abstractmethod
    def _renew(self, transaction: Transaction, seconds: float) -> bool:
        """Lock the row, and let it end so many seconds from now; False where it is this sender's no more."""

    @abstractmethod
    def _release(self, transaction: Transaction) -> None:
        """End it, if it is still this sender's."""

    def _beat(self) -> None:
        """Renew the lease until it is given back, or lost."""
        is_away = False
        while not self._stopped.wait(self._seconds / HEARTBEATS):
            asked_at = now()
            try:
                if not self._database.run(self.fence):
                    log.warning("%s: another sender has taken over, since the lease had run out", self._database.path)
                    return
                self.extend(asked_at)
                is_away = False
            except JournalUnavailableError as problem:
                if not is_away:
                    log.warning("%s; the lease is not renewed, and nothing starts once it has run out", problem)
                is_away = True
            except JournalError as problem:
                log.warning("%s; the lease is not renewed", problem)
                return


class CampaignLease(Lease):
    """One epoch of one sender of a campaign.

    Args:
        database: A connection for the renewals alone.
        campaign: Its id.
        epoch: As `acquire` returned it.
        asked_at: When `acquire` was called, by `now()`.
        seconds: As `acquire` was told.
    """

    def __init__(self, database: Database, campaign: int, epoch: int, *, asked_at: float, seconds: float) -> None:
        self.campaign = campaign
        self.epoch = epoch
        super().__init__(database, asked_at=asked_at, seconds=seconds)

    def late_ends(self, transaction: Transaction) -> int:
        """How many ends were recorded late, by senders of earlier epochs."""
        sql = "SELECT late_ends FROM lease WHERE campaign = %s"
        return int(transaction.row_of_campaign(sql, (self.campaign,))[0])

    def _renew(self, transaction: Transaction, seconds: float) -> bool:
        """Locks the row also where it is another sender's: what comes late waits for what that one is writing."""
        sql = (
            "UPDATE lease SET until = CASE WHEN epoch = %s THEN clock_timestamp() + make_interval(secs => %s)"
            " ELSE until END WHERE campaign = %s RETURNING epoch = %s"
        )
        found = transaction.row(sql, (self.epoch, seconds, self.campaign, self.epoch))
        return found is not None and bool(found[0])

    def _release(self, transaction: Transaction) -> None:
        release(transaction, self.campaign, self.epoch)
