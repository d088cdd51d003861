"""Opens and makes journals in PostgreSQL."""

from __future__ import annotations

import json
import logging
from contextlib import closing

from attrs import frozen

from mmsclient._store.errors import JournalBusyError, JournalError, JournalMismatchError
from mmsclient._store.evidence import Silent
from mmsclient._store.models import FALLBACK, Message, Owner
from mmsclient._store.ownership import objection_of, tell_of_another_key
from mmsclient._store.postgres import lease as leases
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.claims import end_dead_run, lose
from mmsclient._store.postgres.copying import copied
from mmsclient._store.postgres.database import AWAY, Database, Transaction
from mmsclient._store.postgres.journal import PostgresJournal
from mmsclient._store.postgres.lease import CampaignLease, Previous, acquire, release
from mmsclient._store.postgres.messages import PersonalQueue, PlainQueue, Queue
from mmsclient._store.postgres.migrations import check_version, migrate
from mmsclient._store.postgres.reader import OPT_OUT_LINE, PostgresReader
from mmsclient._store.postgres.recorder import PostgresRecorder
from mmsclient._store.postgres.steering import PostgresWaitNotice, give_order
from mmsclient._store.sqlite_journal import SQLiteJournal
from mmsclient._store.steering import Order
from mmsclient._words import counted

__all__ = ["PostgresStore"]

log = logging.getLogger(__name__)


@frozen
class PostgresStore:
    """Where the journal of one campaign is: a database, and a name in it."""

    address: Address
    name: str
    waits: bool = True
    """A sender that finds another one waits for its end."""

    @property
    def shown(self) -> str:
        """Host, database and campaign, for errors and logs."""
        return f"{self.address.shown} ({self.name})"

    @property
    def fallback(self) -> PostgresStore:
        """Under another name, beside this one."""
        return PostgresStore(self.address, f"{self.name}{FALLBACK}")

    def exists(self) -> bool:
        """There is such a campaign."""
        with closing(self._database()) as database:
            return self._campaign(database) is not None

    def note_fallback(self) -> None:
        """Nothing is to be noted: both are in one database."""

    def check_fallback(self) -> None:
        """It cannot be elsewhere."""

    def open(
        self, message: Message, owner: Owner | None = None, *, resend_unknown: bool | Silent = False
    ) -> PostgresJournal:
        """Open the journal to send with, or make it, and the tables where they are missing.

        Raises:
            JournalBusyError: Another sender holds the campaign.
            JournalMismatchError: It belongs to another message or owner.
            JournalError: The database cannot be used.
        """
        database = self._database()
        try:
            migrate(database)
            campaign = _found_or_made(database, self.name, message)
            reader = PostgresReader(database, campaign)
            self._check_same(reader, message, owner)
            lease = self._acquire(database, campaign)
        except BaseException:
            database.close()
            raise
        queue: Queue = PersonalQueue(campaign) if message.template else PlainQueue(campaign)
        try:
            self._check_same(reader, message, owner)  # again: the last sender may have sent since
            journal = PostgresJournal(database, lease, queue, resend_unknown=resend_unknown)
            if message.opt_out_line:
                _note_opt_out_line(database, campaign, message.opt_out_line)
            if owner is not None:
                tell_of_another_key(reader, owner)
                journal.belong_to(owner)
        except BaseException:
            lease.give_back()
            database.close()
            raise
        database.patience = AWAY
        return journal

    def open_copy(
        self, message: Message, owner: Owner | None = None, *, resend_unknown: bool | Silent
    ) -> SQLiteJournal:
        """What `open` would open, as a temporary copy in a file of SQLite: the journal itself is only read."""
        database = self._database()
        try:
            campaign = self._campaign(database)
            if campaign is not None:
                self._check_same(PostgresReader(database, campaign), message, owner)
            return copied(database, campaign, message, resend_unknown=resend_unknown)
        finally:
            database.close()

    def give_order(self, order: Order) -> None:
        """Note an order for the sender. Raises `JournalError` where there is no such campaign."""
        database, campaign = self._existing()
        with closing(database):
            give_order(database, campaign, order)

    def wait_notice(self) -> PostgresWaitNotice:
        """As `PostgresWaitNotice`."""
        return PostgresWaitNotice(self._database(), self.name)

    def open_reader(self) -> PostgresReader:
        """Open the journal for reading. Raises `JournalError` where there is none."""
        database, campaign = self._existing()
        return PostgresReader(database, campaign)

    def open_lasting_reader(self) -> PostgresReader:
        """As `open_reader`: a connection that is lost is made anew."""
        return self.open_reader()

    def open_recorder(self) -> PostgresRecorder:
        """Open the journal for delivery reports. Raises `JournalError` where there is none."""
        database, _ = self._existing()
        return PostgresRecorder(database)

    def settle(self) -> int:
        """Act on what is known of those whose call a dead sender left; how many recipients that settled. Sends nothing.

        Raises:
            JournalBusyError: A campaign is sending with it, and acts on evidence as it comes.
            JournalError: There is no such campaign, or the database cannot be used.
        """
        database, campaign = self._existing()

        def work(transaction: Transaction) -> int | str:
            begun = acquire(transaction, campaign, leases.LEASE)
            if isinstance(begun, str):
                return begun
            settled = end_dead_run(transaction, campaign)
            release(transaction, campaign, begun[0])
            return settled

        try:
            settled = database.run(work)
        finally:
            database.close()
        if isinstance(settled, str):
            raise self._busy(settled)
        return settled

    def _busy(self, sender: str) -> JournalBusyError:
        return JournalBusyError(self.shown, f"another sender has it ({sender})")

    def _database(self) -> Database:
        return Database(self.address, self.shown)

    def _campaign(self, database: Database) -> int | None:
        return database.run(lambda transaction: _find(transaction, self.name)) if check_version(database) else None

    def _existing(self) -> tuple[Database, int]:
        database = self._database()
        try:
            campaign = self._campaign(database)
        except BaseException:
            database.close()
            raise
        if campaign is None:
            database.close()
            raise JournalError(self.shown, "there is no such campaign")
        return database, campaign

    def _check_same(self, reader: PostgresReader, message: Message, owner: Owner | None) -> None:
        objection = message.objection(reader.parts(), another="another name")
        if not objection and owner is not None:
            objection = objection_of(reader, owner)
        if objection:
            raise JournalMismatchError(self.shown, objection)

    def _acquire(self, database: Database, campaign: int) -> CampaignLease:
        """Begin an epoch; what the last sender has left `sending` is unknown from that moment."""

        def work(transaction: Transaction) -> tuple[int, Previous, int] | str:
            begun = acquire(transaction, campaign, seconds)
            return begun if isinstance(begun, str) else (*begun, lose(transaction, campaign))

        seconds, asked_at = leases.LEASE, leases.now()
        begun = database.run(work)
        if isinstance(begun, str):
            raise self._busy(begun)
        epoch, previous, lost = begun
        if previous.is_lost:
            log.warning(
                "journal %s: its sender is gone (%s), and this one takes over; %s of it left open",
                self.shown,
                previous.sender,
                counted(lost, "recipient"),
            )
        return CampaignLease(self._database(), campaign, epoch, asked_at=asked_at, seconds=seconds)


def _find(transaction: Transaction, name: str) -> int | None:
    found = transaction.row("SELECT id FROM campaign WHERE name = %s", (name,))
    return None if found is None else int(found[0])


def _note_opt_out_line(database: Database, campaign: int, line: str) -> None:
    sql = "UPDATE campaign SET sms = %s WHERE id = %s AND kind = 'mms'"
    database.run(lambda transaction: transaction.execute(sql, (json.dumps({OPT_OUT_LINE: line}), campaign)))


def _found_or_made(database: Database, name: str, message: Message) -> int:
    def work(transaction: Transaction) -> int:
        campaign = _find(transaction, name)
        if campaign is not None:
            return campaign
        sql = (
            "INSERT INTO campaign (name, text, subject, image, image_sha256, template, kind, sms)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING"
        )
        parts = (message.text, message.subject, message.image, message.image_sha256, message.template)
        transaction.execute(sql, (name, *parts, message.kind, message.sms))
        campaign = _find(transaction, name)
        assert campaign is not None  # noqa: S101
        transaction.execute("INSERT INTO lease (campaign) VALUES (%s) ON CONFLICT DO NOTHING", (campaign,))
        return campaign

    return database.run(work)
