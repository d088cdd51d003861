"""Campaigns: one message to any number of recipients."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import Protocol, Self, Unpack

from mmsclient._store.group_recorder import GroupRecorder
from mmsclient._store.heard import Heard, reply_heard, report_heard
from mmsclient._store.stores import FileStore
from mmsclient.bulk.arrivals import Arrivals
from mmsclient.bulk.errors import JournalError
from mmsclient.bulk.fallback import Fallback, FallbackRun, StartSMS
from mmsclient.bulk.models import Batch, Progress
from mmsclient.bulk.options import CampaignOptions, Options
from mmsclient.bulk.own_pictures import CampaignImage
from mmsclient.bulk.preflight import Preflight, look_ahead, outlook
from mmsclient.bulk.preparation import Preparation
from mmsclient.bulk.recipients import Recipients
from mmsclient.bulk.report import Report, report_from, report_of, with_fallback
from mmsclient.bulk.runner import Runner
from mmsclient.bulk.sender import Sender
from mmsclient.bulk.template import MessageText
from mmsclient.errors import ConfigurationError
from mmsclient.models import DeliveryReport, InboundMessage, Reply

__all__ = ["Campaign", "Sending"]


class Campaign:
    """One message to any number of recipients. Made by `AsyncMMSClient.campaign`.

    ```python
    campaign = mms.campaign(text="Sale on now", image="sale.gif", journal="spring.db")
    async for batch in campaign.send(read_csv("customers.csv", "mobile")):
        print(batch.accepted, batch.refused, batch.error)
    print(await campaign.report())
    ```

    **Never twice.** A call's recipients are recorded as `sending`, on the disk, before it can leave. What a journal
    holds as accepted, refused, unknown or excluded is not sent again, whatever list comes.

    Args:
        mms: The client.
        text: As for `AsyncMMSClient.send`; or a `Template`, of which each recipient gets its own
            ([a message for each](personal-messages.md)). Then the list is read to its end before the first call.
        image: As for `AsyncMMSClient.send`; it is read once. Or a function, async or not, that makes each recipient's
            own of the fields of its row ([a picture for each](own-pictures.md)), or a `PictureColumn`. Then the list is
            read to its end before the first call. None for an SMS, and only for that.
        subject: As for `AsyncMMSClient.send`, or a `Template`. Not of an SMS.
        journal: A file that remembers each recipient; it is made if it is not there, and resumed if it is. On a local
            disk. Or the URL of a PostgreSQL database (`postgresql://user@host/database`, extra `postgres`), for senders
            on several machines: one sends, the others wait and take over when it dies. Left out: in memory, for as long
            as this object lives.

    Keyword Args:
        name (str | None): What the campaign is called in the database; only there, and needed there.
        kind (Literal["mms", "sms"]): What it sends. With "sms" a text alone ([SMS campaigns](sms-campaigns.md)), and
            credits are counted by its parts.
        sender (str | None): Of an SMS, as for `AsyncMMSClient.send_sms`; so `source` and `custom_string`.
        source (str | None): Of an SMS.
        custom_string (str | None): Of an SMS.
        fallback (Literal["sms"] | SMSFallback | None): Those whose MMS ends Failed, Rejected or Expired by its delivery
            report get its text as an SMS, once ([when an MMS does not arrive](sms-fallback.md)). Needs a journal, and a
            receiver that records into it.
        fit (bool): Make the picture fit first, as for `AsyncMMSClient.send`. The journal holds the one that fits.
        batch_size (int): Recipients a call, up to 1000.
        exclude (Recipients): Numbers that get nothing, in any form that `send` takes. One that cannot be read is an
            error.
        exclude_opt_outs (bool | None): Ask the API first who has unsubscribed, and leave them out. If its list ends
            early or a number in it cannot be read, nothing is sent (`OptOutsIncompleteError`), unless
            `partial_opt_outs` is set. Left out: where `suppress` is given, and then a number that cannot be read is
            told of and kept in the list's report.
        partial_opt_outs (bool): A part of the opt-outs is enough.
        suppress (SuppressionList | str | os.PathLike[str] | None): Numbers that get nothing: a list, its file, or the
            URL of the database that it is in ([suppression](suppression.md)). It is asked when a call is about to
            leave, so one that is added meanwhile counts. The API's opt-outs are added to it first.
        opt_out_line (str | None): Such as `Reply STOP to opt out`: a line below the text, unless that holds it.
        window (Window | None): Hours in which calls may start ([good hours](good-hours.md)); it waits for them.
        start_at (datetime | None): With a time zone: no call starts before it.
        recipients_per_minute (int | None): At most so many, spread evenly: calls become as small as that needs.
        resend_unknown (bool | Literal["silent"]): Send also to those of whom an earlier run does not know whether they
            got it. With True, some get it twice. With "silent", only to those of whom no report and no reply came for
            `silent_after` since their call, and only where nine tenths of the accepted ones were reported on; else to
            nobody, and `Report.unknown.objection` and the log say why.
        silent_after (timedelta | float): A timedelta or seconds, a day if left out.
        check_account (bool): Ask for the account right before the first call of each run, one call more: a wrong host
            or APPKEY, a redirect and a portal's page end the campaign there, with nobody `unknown`. True if left out.
        check_balance (bool): Note the account's balance before the first and after the last call of each run, for the
            hint `Report.unknown.unaccounted_credits`. One more call; where it fails, nothing else does.
        require_credit (bool): Read the whole list first, and send to nobody where the balance is less than they cost,
            or not told (`BalanceTooLowError`). Left out, a log line warns.
        max_credits (Decimal | float | None): What all runs of the campaign together may cost. It stops before the call
            that would pass this (`BudgetReachedError`); those who are unknown, or whose call is under way, count.
        credits_per_message (Decimal | float): What a message, or a part of an SMS, is taken to cost as long as no
            answer tells more; 1 if left out. The API documents no price.
        test (str | Iterable[str | Mapping[str, object]]): Numbers that are sent to first; with a template, mappings as
            in the list. Everybody else waits until their delivery reports were recorded; where one fails or is missing,
            nobody else is sent to (`DeliveryTestError`).
        test_timeout (timedelta | float): How long these reports are waited for, ten minutes if left out.
        approve_test (Callable[[Sequence[Recipient]], Awaitable[bool]] | None): Asked in place of waiting for reports,
            once the test messages were accepted: an async function.
        slow_start (int): Calls that must be answered well, one after the other, before there are several under way; 1
            if left out, 0 for three at once from the beginning.
        max_concurrency (int): Calls under way at the most, 64 if left out. So many batches are at stake where a server
            falls silent.
        new_key (bool): The journal was sent with by another APPKEY of the same account, which was changed since.
        stop_after (int): Calls in a row that fail, that nobody accepted, or whose outcome is unknown, after which the
            campaign stops. With a template the first thirty recipients in a row that are refused do not count. Until a
            first call was answered, one that times out is enough, unless this is larger than the default.
        max_attempts (int): How often a call is tried that was throttled or never left.
        timeout (float | None): Seconds of a call from its first byte to the end of its answer.
        on_progress (Callable[[Progress], object] | None): Called with a `Progress` after each call; quick, since it
            runs in the event loop.

    Raises:
        InvalidRequestError: An option is wrong.
    """

    def __init__(
        self,
        mms: Sender,
        *,
        text: MessageText,
        image: CampaignImage | None = None,
        subject: MessageText | None = None,
        journal: str | os.PathLike[str] | None = None,
        **options: Unpack[CampaignOptions],
    ) -> None:
        self._options = Options(text=text, image=image, subject=subject, journal=journal, **options)
        self._preparation = Preparation(mms, self._options)
        self._runner: Runner | None = None
        store, fallback = self._options.store, self._options.fallback
        self._recorder = None if store is None else GroupRecorder(store)
        self._fallback = None if fallback is None else Fallback(self._preparation, fallback, self._for_sms)
        self._fallback_run: FallbackRun | None = None
        self._client = mms

    def _for_sms(self, *, text: MessageText, options: CampaignOptions, arrivals: Arrivals) -> StartSMS:
        """What sends the SMS of the fallback."""
        journal, store = self._options.journal, self._options.store
        if isinstance(store, FileStore):
            journal = store.fallback.path
        preparation = Preparation(self._client, Options(text=text, journal=journal, **options), arrivals)
        return lambda recipients: Sending(lambda: Runner(self, preparation, recipients))

    def _start_fallback(self, fallback: Fallback, *, waits: bool) -> FallbackRun:
        stops = self._runner.steering.stops if waits and self._runner is not None else None
        self._fallback_run = FallbackRun(fallback, waits=waits, stops=stops)
        return self._fallback_run

    def send(self, recipients: Recipients | None = None) -> Sending:
        """Send to `recipients`, and to those that an earlier run left pending or failed; iterate over the result.

        Calls on the wire are waited for and recorded before anything is raised.

        Args:
            recipients: Numbers as `AsyncMMSClient.send` takes them, or mappings that hold one and the fields of a
                template (`Recipients`): a list, a generator, an async generator, or `read_csv(...)`; read ahead, a
                thousand at a time. A wrong number or a second one is set aside. The list of the earlier run may come
                again: who stands in the journal gets nothing twice. None: only those who stand in the journal already.

        Raises:
            CampaignStoppedError: When iterated: a wrong host, out of credit, key or permission refused, too many
                failures in a row, `max_credits` reached, a test message that did not arrive.
            JournalError: When iterated: the journal cannot be used.
            InvalidRequestError: When iterated: the text, the image or an exclusion is wrong. Whatever `recipients` and
                `on_progress` raise is raised as it is.
        """
        fallback = self._fallback
        after = None if fallback is None else partial(self._start_fallback, fallback, waits=True)
        return Sending(lambda: self._start(recipients), after)

    def send_fallback(self) -> Sending:
        """Send an SMS to those whose MMS did not arrive, by the reports that have come by now; iterate over the result.

        It waits for no reports, and sends nothing else. Raises what `send` raises, when iterated.

        Raises:
            ConfigurationError: The campaign has no `fallback`.
        """
        if (fallback := self._fallback) is None:
            raise ConfigurationError("fallback: this campaign has none; give it one: campaign(fallback='sms')")
        return Sending(partial(self._start_fallback, fallback, waits=False))

    def _start(self, recipients: Recipients | None) -> Runner:
        if self._runner is not None and not self._runner.is_over:
            raise ConfigurationError("this campaign is being sent already; wait for that, or `await campaign.aclose()`")
        self._runner = Runner(self, self._preparation, recipients)
        return self._runner

    async def send_all(self, recipients: Recipients | None = None) -> Report:
        """`send` to the end, and return the report. Raises what that raises."""
        async for _ in self.send(recipients):
            pass
        return await self.report()

    async def dry_run(self, recipients: Recipients | None = None) -> Report:
        """The report of what `send` would begin with: `pending` and `failed` are those that it would send to.

        Its `plan` says in how many calls, and what the first of them would get of a template.

        Sends nothing and writes no journal. A generator is used up by it. `recipients()` of it gives the excluded ones.
        """
        return (await outlook(self._preparation, recipients)).report

    async def preflight(self, recipients: Recipients | None = None) -> Preflight:
        """What `send` would begin with: recipients, calls, time and credits. As `dry_run`, and asks for the account.

        Raises:
            MMSError: What would end the campaign before its first call: a wrong host or APPKEY, a message that cannot
                be sent, a journal of another one, opt-outs that are not complete.
        """
        return await look_ahead(self._preparation, recipients)

    async def report(self) -> Report:
        """Every recipient so far. Waits for a `send` that was left early to end.

        Raises:
            JournalError: There is no journal yet.
        """
        runner = self._runner
        if runner is not None and runner.is_stopping:
            await runner.ended()
        if runner is not None and (report := await runner.report()) is not None:
            store = self._options.store
            return report if store is None else await with_fallback(report, store)
        if self._options.store is not None:
            return await report_of(self._options.store)
        memory = self._preparation.memory or await self._preparation.open_journal()
        return await memory.run(lambda: report_from(memory.journal.reader, None))

    async def record(self, report: DeliveryReport) -> None:
        """Note a delivery report in the journal, for `report()`; or let `CallbackReceiver.record_into` do it.

        Any number of times, in any order, while the campaign sends or after it, in this process or another. One that
        proves that an unknown recipient's message went out makes it `accepted`; reports of other messages are kept and
        count for nothing.

        Raises:
            JournalError: There is no journal yet.
        """
        await self._record(report_heard(report))

    async def record_reply(self, reply: InboundMessage | Reply) -> None:
        """Note a reply in the journal: it proves as a delivery report does. Otherwise as `record`.

        One that does not say which message it replies to counts for nothing.
        """
        if heard := reply_heard(reply):
            await self._record(heard)

    async def _record(self, heard: Heard) -> None:
        memory = self._preparation.memory
        if self._recorder is not None:
            await self._recorder.record(heard)
        elif memory is not None:
            await memory.run(lambda: memory.journal.recorder.record([heard]))
        else:
            raise JournalError("in memory", "nothing was sent yet")

    async def drain(self) -> None:
        """Start nothing new, and wait until the calls under way are recorded."""
        if self._runner is not None:
            self._runner.stop()
            await self._runner.drained()
        if self._fallback_run is not None:
            self._fallback_run.stop()
            await self._fallback_run.drained()

    async def aclose(self) -> None:
        """End a `send` that was left early, as its own `aclose` does, and forget a journal in memory."""
        await self.drain()
        await self._preparation.forget()
        if self._recorder is not None:
            await self._recorder.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


class Run(Protocol):
    """What a `Sending` hands out the results of."""

    @property
    def is_stopping(self) -> bool: ...
    @property
    def has_begun(self) -> bool: ...
    async def next(self) -> Batch: ...
    def progress(self) -> Progress | None: ...
    def stop(self) -> None: ...
    def abandon(self) -> None: ...
    async def drained(self) -> None: ...


class Sending(AsyncIterator[Batch]):
    """The results of a campaign's calls, as they complete. Sends while it is iterated; iterate it once.

    Left early (`break`, an exception, a cancellation), it drains: nothing new starts, the calls that have not left are
    taken back, and those that have end, within their timeout, and are recorded. A cancelled `async for` waits for
    that; after a `break` `Campaign.report()`, `Campaign.aclose()` or `aclose()` here do.
    """

    def __init__(self, start: Callable[[], Run], after: Callable[[], Run] | None = None) -> None:
        self._start = start
        self._after = after
        self._runner: Run | None = None
        self._stopped = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        if self._runner is None:
            if self._stopped:
                raise StopAsyncIteration
            self._runner = self._start()
        try:
            return await self._next(self._runner)
        except asyncio.CancelledError:
            self._runner.stop()
            await self._runner.drained()
            raise

    @property
    def progress(self) -> Progress | None:
        """How far the campaign is at this moment; None before its journal is open, and when the run is over."""
        return None if self._runner is None else self._runner.progress()

    @property
    def has_begun(self) -> bool:
        """Who is excluded is in the journal, and its list is being read into it, or was: `resume` goes on from there.

        Before, `resume` would go on with an earlier run's list and exclusions.
        """
        return self._runner is not None and self._runner.has_begun

    async def _next(self, run: Run) -> Batch:
        after, self._after = self._after, None  # an error ends all of it
        try:
            batch = await run.next()
            self._after = after
        except StopAsyncIteration:
            if after is None or self._stopped or run.is_stopping:
                raise
            self._runner = after()
            return await self._runner.next()
        return batch

    def stop(self) -> None:
        """Start nothing new. The iteration goes on with the calls under way, and then ends.

        So a program is ended in good order by a service manager, a container or `kill`:

        ```python
        sending = campaign.send(read_csv("list.csv"))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sending.stop)
        async for batch in sending:
            print(batch)
        print(await campaign.report())
        ```
        """
        self._stopped = True
        if self._runner is not None:
            self._runner.stop()

    async def aclose(self) -> None:
        """Start nothing new, and wait until the calls under way are recorded."""
        self.stop()
        if self._runner is not None:
            await self._runner.drained()

    def __del__(self) -> None:
        if self._runner is not None:
            self._runner.abandon()
