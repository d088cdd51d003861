"""What comes before the first call of a campaign: its message, its journal, its exclusions and its list."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from attrs import evolve

from mmsclient._reading import image_file
from mmsclient._reading.image_file import ImageSource
from mmsclient._store.models import Exclusion, ListEntry, Message, Owner
from mmsclient._store.stores import FileStore, JournalStore
from mmsclient.bulk.arrivals import Arrivals
from mmsclient.bulk.capacity import rate_of
from mmsclient.bulk.claim_source import ClaimSource, JournalSource
from mmsclient.bulk.control import Control
from mmsclient.bulk.errors import JournalBusyError, JournalError
from mmsclient.bulk.exclusions import ExcludedPhones, check_opt_outs, opted_out_phones
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.kinds import balance_of, sms_message
from mmsclient.bulk.options import Options
from mmsclient.bulk.own_pictures import PictureMaker, is_picture_function
from mmsclient.bulk.personal import NO_IMAGE, Renderer, message_of, with_line
from mmsclient.bulk.picture_prefetch import PicturePrefetcher
from mmsclient.bulk.plan import Plan, plan_of
from mmsclient.bulk.recipients import Recipients, Row, check_all, chunks
from mmsclient.bulk.recorder import Recorder
from mmsclient.bulk.schedule import Schedule
from mmsclient.bulk.sender import Sender
from mmsclient.errors import InvalidRequestError, MMSError, in_words
from mmsclient.models import Account
from mmsclient.observe.campaigns import RunObserver

__all__ = ["Preparation"]

log: logging.Logger = logging.getLogger(__name__)

BALANCE_TIMEOUT = 10.0
"""Seconds that the balance may take, which is only a hint."""
LOOK_AGAIN = 1.0
"""Seconds between the attempts to open a journal that another sender has."""


class Preparation:
    """Prepares the runs of one campaign, and keeps what they share: message, exclusions, a journal in memory."""

    def __init__(self, client: Sender, options: Options, arrivals: Arrivals | None = None) -> None:
        self.client = client
        self.options = options
        self.arrivals = arrivals
        """Of SMS in place of an MMS: tells who needs none any more."""
        self.memory: JournalThread | None = None
        """The journal of a campaign without a file, once it has begun."""
        self.renderer: Renderer | None = None
        """Makes everybody's own message, once the campaign's is known; None where all get the same."""
        self.pictures: PictureMaker | None = None
        """Makes everybody's own picture, once the message is known; None where all get the same."""
        self._observer: RunObserver | None = None
        self._message: Message | None = None
        self._excluded = ExcludedPhones(options.exclude)

    def begin_run(self) -> RunObserver:
        """What tells the observers of a run that begins."""
        self._observer = RunObserver(self.client.emit, self.options.shown_name)
        return self._observer

    def _tell_picture(self, seconds: float, size: int, error: Exception | None) -> None:
        if self._observer is not None:
            self._observer.picture_made(seconds, size, error)

    async def message(self) -> Message:
        """What is sent. The image is read once."""
        if self._message is None:
            options = self.options
            text = with_line(options.text, options.opt_out_line)
            if options.kind == "sms":
                self._message, self.renderer = sms_message(options)
            elif is_picture_function(options.image):
                self.pictures = PictureMaker(options.image, fit=options.fit, tell=self._tell_picture)
                self._message, self.renderer = message_of(text, options.subject, NO_IMAGE, self.pictures.facts)
            else:
                image = await image_file.load(cast(ImageSource, options.image), fit=options.fit)
                self._message, self.renderer = message_of(text, options.subject, image)
            if options.kind == "mms" and options.opt_out_line is not None:
                self._message = evolve(self._message, opt_out_line=options.opt_out_line)
        return self._message

    async def open_journal(self) -> JournalThread:
        """The journal, at the beginning of a run."""
        message, owner, resend = await self.message(), self._owner(), self.options.resend
        if (memory := self.memory) is not None:
            await memory.run(lambda: memory.journal.begin_run(resend_unknown=resend))
            return memory
        store = self._store
        opened = await JournalThread.open(lambda: store.open(message, owner, resend_unknown=resend), store.shown)
        if self.options.store is None:
            self.memory = opened
        return opened

    async def open_when_free(self, pause: Callable[[float], Awaitable[bool]]) -> JournalThread | None:
        """As `open_journal`; where another sender has the journal, and it is one to wait for, once that has ended.

        `exclude=` is read before, so that no new journal is left where that cannot be.

        None where `pause`, which waits for so many seconds, returns False: the run is to stop.
        """
        await self.excluded()
        is_told = False
        while True:
            try:
                return await self.open_journal()
            except JournalBusyError as busy:
                if not self._store.waits:
                    raise
                if not is_told:
                    log.warning("%s; this one waits, and takes over when that one ends", busy)
                    is_told = True
            if not await pause(LOOK_AGAIN):
                return None

    async def open_copy(self) -> JournalThread:
        """A copy of the journal, to be thrown away."""
        message, owner, resend = await self.message(), self._owner(), self.options.resend
        store = self._store
        return await JournalThread.open(lambda: store.open_copy(message, owner, resend_unknown=resend), store.shown)

    @property
    def _store(self) -> JournalStore:
        return self.options.store or FileStore(None)

    def _owner(self) -> Owner:
        return Owner(self.client.base_url, self.client.key_fingerprint, self.options.new_key)

    async def exclude(self, thread: JournalThread, *, is_dry: bool = False) -> None:
        """Note who gets nothing. Where there is a suppression list, the API's opt-outs go there, unless `is_dry`."""
        journal = thread.journal
        if excluded := await self.excluded():
            await thread.run(lambda: journal.exclude(excluded, Exclusion.LISTED))
        options, suppression = self.options, self.options.suppression
        if suppression is not None:
            await suppression.report()  # it is there: else nothing is sent
        if not options.asks_opt_outs:
            return
        if suppression is not None and not is_dry:
            update = await suppression.sync(self.client)
            unreadable = update.unreadable if options.exclude_opt_outs else ()  # it has warned of them
            check_opt_outs(update.ended_early, unreadable, may_be_partial=options.partial_opt_outs)
        else:
            may_be_partial = options.partial_opt_outs or not options.exclude_opt_outs
            phones = await opted_out_phones(self.client.opt_outs(), may_be_partial=may_be_partial)
            await thread.run(lambda: journal.exclude(phones, Exclusion.OPTED_OUT))

    async def excluded(self) -> list[int]:
        """The phones of `exclude=`. As `ExcludedPhones.read`."""
        return await self._excluded.read()

    async def add_tests(self, thread: JournalThread) -> list[int]:
        """Take in the numbers of `test=` that stand in no list, each with what it gets; the phones of all of them.

        Raises:
            InvalidRequestError: Of a template, somebody's text cannot be made.
        """
        rows, journal = self.options.test, thread.journal
        entries = await self.entries(thread, rows)
        phones = [entry.phone for entry in entries if entry.phone is not None]
        if not phones:
            return []
        await thread.run(lambda: journal.add_unlisted([entry for entry in entries if entry.problem is None]))
        known = {recipient.number for _, recipient in await thread.run(lambda: journal.reader.recipients_of(phones))}
        for entry in entries:
            if entry.problem is not None and f"+{entry.phone}" not in known:
                raise InvalidRequestError("test", entry.given, f"the fields of its message beside it: {entry.problem}")
        return phones

    async def plan(self, thread: JournalThread, tests: int = 0) -> Plan:
        """What a run would do, once the list is read to its end. `tests`: those of `test=` that are sent to first."""
        batch_size, per_minute = Schedule(self.options).batch_size, self.options.recipients_per_minute
        rate = rate_of(self.client)
        return await thread.run(lambda: plan_of(thread.journal, batch_size, rate, per_minute, tests))

    async def tell_plan(self, thread: JournalThread) -> None:
        """Log what this run is going to do, where each recipient has a message of its own."""
        if self.renderer is not None:
            log.info("campaign %s: %s", self.options.shown_name or "in memory", await self.plan(thread))

    async def read_list(
        self, thread: JournalThread, recipients: Recipients | None, on_chunk: Callable[[], object]
    ) -> None:
        """As the function of that name."""
        await read_list(thread, recipients, self, on_chunk)

    def check_names(self, rows: Sequence[Row]) -> None:
        """Raise `InvalidRequestError` for a field that none of `rows` has, of a text or of the pictures."""
        if self.renderer is not None:
            self.renderer.check_names(rows)
        if self.pictures is not None:
            self.pictures.check_names(rows)

    async def entries(self, thread: JournalThread, rows: Sequence[Row]) -> list[ListEntry]:
        """Rows, checked, each with what it gets or why it cannot get it."""
        check = check_all if self.renderer is None else self.renderer.entries
        if self.pictures is None:
            return await thread.run(lambda: check(rows))
        return await self.pictures.entries(thread, check, rows)

    def claim_source(
        self, thread: JournalThread, recorder: Recorder, control: Control, is_list_read: Callable[[], bool]
    ) -> ClaimSource:
        """Whom a run may claim next."""
        if self.pictures is None:
            return JournalSource(thread, recorder)
        size = Schedule(self.options).batch_size
        return PicturePrefetcher(self.pictures, thread, recorder, control, is_list_read=is_list_read, size=size)

    async def note_balance(self, thread: JournalThread, *, is_after: bool) -> None:
        """Ask for the account's balance, if that was asked for, and note it. What goes wrong is only logged."""
        if not self.options.check_balance:
            return
        try:
            async with asyncio.timeout(BALANCE_TIMEOUT):
                account = await self.client.account()
            await self.note(thread, account, is_after=is_after)
        except MMSError as error:
            log.warning("the balance was not noted: %s", in_words(error))
        except TimeoutError:
            log.warning("the balance was not noted: the account call took longer than %g s", BALANCE_TIMEOUT)

    async def note(self, thread: JournalThread, account: Account, *, is_after: bool) -> None:
        """Note the balance of the account, if that was asked for and is known."""
        if self.options.check_balance and (balance := balance_of(account, self.options.kind)) is not None:
            await thread.run(lambda: thread.journal.note_balance(balance, is_after=is_after))

    async def end_run(self, thread: JournalThread | None, observer: RunObserver | None = None) -> None:
        """Close what is for one run: a journal that is not in memory, and a suppression list that was made here."""
        if observer is not None and self._observer is observer:  # and not that of a run beside a preflight
            self._observer = None
        try:
            if thread is not None and self.options.store is not None:
                await thread.close()
        finally:
            if self.options.suppression is not None and self.options.owns_suppression:
                await self.options.suppression.aclose()

    async def forget(self) -> None:
        """Close a journal in memory."""
        if self.memory is not None:
            await self.memory.close()
            self.memory = None


async def read_list(
    thread: JournalThread, recipients: Recipients | None, preparation: Preparation, on_chunk: Callable[[], object]
) -> None:
    """Take the whole list into the journal; `on_chunk` is called after each chunk.

    Raises `JournalError` where there is no list, and the journal does not hold all of one; and `InvalidRequestError`,
    before anybody is taken in, where no row of the first chunk has a field of the template or the pictures.
    """
    journal = thread.journal
    if recipients is None:
        if not journal.list_read:
            raise JournalError(
                journal.path, "its list was not read to its end: give the list again; nobody gets it twice"
            )
        return
    has_begun = False
    async for rows in chunks(recipients):
        if not has_begun:  # not before it could be read at all
            preparation.check_names(rows)
            await thread.run(journal.begin_list)
            has_begun = True
        entries = await preparation.entries(thread, rows)
        await thread.run(lambda entries=entries: journal.add(entries))  # type: ignore[misc]
        on_chunk()
    if not has_begun:
        await thread.run(journal.begin_list)
    await thread.run(journal.end_list)
