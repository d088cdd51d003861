"""`mmsclient bulk`: campaigns in a terminal, in a pipe and in a script."""

from __future__ import annotations

import asyncio
import csv
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
from cyclopts import App, Group, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from mmsclient import AsyncMMSClient, MMSError
from mmsclient.bulk import (
    Batch,
    Campaign,
    CSVList,
    JournalError,
    Progress,
    RecipientState,
    Report,
    Sending,
    read_csv,
    read_report,
)
from mmsclient.bulk.campaign import CampaignOptions
from mmsclient.bulk.journal import Message, Reader
from mmsclient.cli.connection import DEFAULT, Connection
from mmsclient.cli.output import Form, facts_table, printable, to_json
from mmsclient.cli.status import Status, UsageError, complain
from mmsclient.numbers import MAX_RECIPIENTS

ASK_ABOVE = 100
"""Recipients above which `--yes`, or a yes, is needed."""

app = App(
    name="bulk",
    help="Campaigns: one message to any number of recipients, none of them twice, also after a crash.",
    default_parameter=Parameter(negative=()),
)

OneJSON = Annotated[bool, Parameter(help="Print one JSON object for scripts.", show_default=False)]


@Parameter(name="*", group=Group("List"))
@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How a CSV file is read."""

    column: str | None = None
    """Header of the column with the numbers. Left out: the only one, or the one called number, phone, mobile, to,
    recipient or msisdn."""
    region: str | None = None
    """Country of national numbers, such as AU. Left out: E.164 and Australian mobiles only."""
    encoding: str | None = None
    """Of the file. Left out: UTF-8, or UTF-16 with a byte order mark."""

    def read(self, path: Path) -> CSVList:
        return read_csv(path, self.column, region=self.region, encoding=self.encoding)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SendOptions:
    """How a campaign is sent."""

    batch_size: int = MAX_RECIPIENTS
    """Recipients a call, up to 1000."""
    exclude_opt_outs: bool = False
    """Ask the API who has unsubscribed, and leave them out."""
    resend_unknown: bool = False
    """Send also to those of whom an earlier run does not know whether they got it. Some get it twice."""
    dry_run: Annotated[bool, Parameter(show_default=False)] = False
    """Say what would be sent, and send nothing."""
    yes: Annotated[
        bool, Parameter(help=f"Do not ask, however many there are (above {ASK_ABOVE}).", show_default=False)
    ] = False
    json: Annotated[bool, Parameter(show_default=False)] = False
    """Print a JSON object a line for scripts."""

    def of_campaign(self, exclude: CSVList | None = None) -> CampaignOptions:
        """Those of `AsyncMMSClient.campaign`."""
        return {
            "exclude": () if exclude is None else exclude,
            "batch_size": self.batch_size,
            "exclude_opt_outs": self.exclude_opt_outs,
            "resend_unknown": self.resend_unknown,
        }


@app.command
async def send(
    recipients: Path,
    *,
    text: str,
    image: Path,
    journal: Path,
    subject: str | None = None,
    exclude: Path | None = None,
    listing: ListOptions = ListOptions(),
    options: SendOptions = SendOptions(),
    connection: Connection = DEFAULT,
) -> int:
    """Send a picture and a text to everybody in a CSV file. Costs credits.

    A journal that is there already is resumed: nobody in it gets the message twice. Ctrl-C and SIGTERM wait for the
    calls under way; once more ends it at once.

    Parameters
    ----------
    recipients
        CSV file with the numbers.
    text
        At most 1000 characters.
    image
        PNG, GIF or JPEG file; at most 380 000 bytes with the text.
    journal
        File that remembers what became of each recipient; made if it is not there. On a local disk.
    subject
        One line of at most 40 characters.
    exclude
        CSV file with numbers that get nothing, read as the other one is.
    """
    async with connection.client() as mms:
        campaign = mms.campaign(
            text=text,
            image=image,
            subject=subject,
            journal=journal,
            **options.of_campaign(None if exclude is None else listing.read(exclude)),
        )
        return await _send(mms, campaign, listing.read(recipients), options)


@app.command
async def resume(
    journal: Path,
    recipients: Path | None = None,
    *,
    listing: ListOptions = ListOptions(),
    options: SendOptions = SendOptions(),
    connection: Connection = DEFAULT,
) -> int:
    """Send to those whom a campaign has not come to, with the message that its journal holds. Costs credits.

    Parameters
    ----------
    journal
        File of the campaign.
    recipients
        CSV file with the numbers; needed only where it was not read to its end.
    """
    message = await anyio.to_thread.run_sync(_message_of, str(journal))
    async with connection.client() as mms:
        campaign = mms.campaign(
            text=message.text,
            image=message.image,
            subject=message.subject or None,
            journal=journal,
            **options.of_campaign(),
        )
        return await _send(mms, campaign, None if recipients is None else listing.read(recipients), options)


@app.command
async def report(
    journal: Path,
    *,
    json: OneJSON = False,
    as_csv: Annotated[
        bool, Parameter(name="--csv", help="Print every recipient as a line of CSV.", show_default=False)
    ] = False,
    state: RecipientState | None = None,
) -> int:
    """Show what became of a campaign, also while it is being sent. Calls no API.

    Parameters
    ----------
    journal
        File of the campaign.
    state
        With --csv: only the recipients in this state.
    """
    if json and as_csv:
        raise UsageError("--json and --csv: choose one")
    found = await read_report(journal)
    if as_csv:
        await _print_csv(found, state)
    else:
        _show_report(found, Form.chosen(json))
    return Status.DONE


# Sending ------------------------------------------------------------------------------------------------------------


async def _send(
    mms: AsyncMMSClient,
    campaign: Campaign,
    recipients: CSVList | None,
    options: SendOptions,
) -> int:
    form = Form.chosen(options.json)
    if options.dry_run or not options.yes:
        planned = await campaign.dry_run(recipients)
        if options.dry_run:
            await _show_plan(mms, planned, options.batch_size, form)
            return Status.DONE
        if not _agreed(_to_send(planned), options.batch_size):
            complain("nothing was sent")
            return Status.FAILED
    sending = campaign.send(recipients)
    failure: MMSError | None = None
    calls = 0
    with _draining(sending) as signals, _screen(form) as screen:
        try:
            async for batch in sending:
                calls += 1
                screen.show(batch)
        except MMSError as error:
            failure = error
    try:
        ended = await campaign.report()
    except JournalError:
        raise failure or RuntimeError("a campaign without a journal") from None
    status = _status(ended)
    if failure is not None:
        if not calls and not ended.counts[RecipientState.SENDING]:
            raise failure
        complain(str(failure))
        status = status or Status.PARTLY_ACCEPTED
    _show_report(ended, form)
    return 128 + signals[0] if signals else status


def _status(ended: Report) -> Status:
    """The exit status that tells a script how it went. What was excluded, was so on purpose."""
    counts = ended.counts
    if counts[RecipientState.UNKNOWN] or counts[RecipientState.SENDING]:  # what could not be recorded is `sending`
        return Status.OUTCOME_UNKNOWN
    missed = counts[RecipientState.REFUSED] + _to_send(ended)
    if not missed:
        return Status.DONE
    return Status.PARTLY_ACCEPTED if counts[RecipientState.ACCEPTED] else Status.FAILED


def _to_send(found: Report) -> int:
    return found.counts[RecipientState.PENDING] + found.counts[RecipientState.FAILED]


def _agreed(count: int, batch_size: int) -> bool:
    """The person at the terminal agrees, or the number is small."""
    if count <= ASK_ABOVE:
        return True
    question = f"Send to {count} recipients in {-(-count // batch_size)} calls?"
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        raise UsageError(f"{question} There is no terminal to ask on: give --yes")
    return Console().input(f"{question} \\[y/N] ").strip().lower() in ("y", "yes")


def _message_of(journal: str) -> Message:
    reader = Reader.open(journal)
    try:
        return reader.message()
    finally:
        reader.close()


@contextmanager
def _draining(sending: Sending) -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM stops `sending` in good order, and is answered; the next ends the process."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    came: list[int] = []

    def release() -> None:
        for number in numbers:
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)

    def note(number: int) -> None:
        came.append(number)
        release()
        complain("stopping: waiting for the calls under way; once more ends it at once")
        sending.stop()

    for number in numbers:
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.add_signal_handler(number, note, number)
    try:
        yield came
    finally:
        release()


# What it prints -----------------------------------------------------------------------------------------------------


class _Lines:
    """A line for each call."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def show(self, batch: Batch) -> None:
        if self._form is Form.JSON:
            print(to_json({"event": "batch", **_facts_of_batch(batch)}), flush=True)
        else:
            print(printable(f"{_in_words(batch)}; {_rate(batch.progress)}"), flush=True)


class _Screen:
    """A bar, and a line for each call that went wrong."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def show(self, batch: Batch) -> None:
        progress = batch.progress
        counts = progress.counts
        total = sum(counts.values()) - counts[RecipientState.EXCLUDED]
        done = total - counts[RecipientState.PENDING] - counts[RecipientState.SENDING]
        self._bar.update(
            self._task, completed=done, total=total if progress.list_read else None, description=_rate(progress)
        )
        if batch.error is not None or batch.refused != ():
            self._bar.console.print(printable(_in_words(batch)), style="yellow", markup=False, highlight=False)


def _screen(form: Form) -> AbstractContextManager[_Lines | _Screen]:
    if form is not Form.TABLE:
        return nullcontext(_Lines(form))
    return _bar()


@contextmanager
def _bar() -> Iterator[_Screen]:
    with Bar(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False)) as bar:
        yield _Screen(bar)


def _in_words(batch: Batch) -> str:
    said = f"call {batch.number}: {batch.accepted} of {len(batch.recipients)} accepted"
    return said if batch.error is None else f"{said}: {batch.error}"


def _rate(progress: Progress) -> str:
    left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
    return f"{progress.calls_per_second:.1f} calls/s, {progress.credits_used} credits{left}"


def _facts_of_batch(batch: Batch) -> dict[str, Any]:
    progress = batch.progress
    return {
        "number": batch.number,
        "recipients": len(batch.recipients),
        "accepted": batch.accepted,
        "refused": batch.refused,
        "error": None if batch.error is None else str(batch.error),
        "counts": progress.counts,
        "calls_per_second": round(progress.calls_per_second, 3),
        "credits_used": progress.credits_used,
        "seconds_left": None if progress.seconds_left is None else round(progress.seconds_left, 1),
    }


async def _show_plan(mms: AsyncMMSClient, planned: Report, batch_size: int, form: Form) -> None:
    """What would be sent. The price of a message is not documented (wire.md section 3): the balance is."""
    account = await mms.account()
    count = _to_send(planned)
    if form is Form.JSON:
        facts = {"to_send": count, "calls": -(-count // batch_size), "mms_balance": account.mms_balance}
        print(to_json({"event": "dry_run", **facts, "counts": planned.counts, "exclusions": planned.exclusions}))
        return
    done = planned.total - count - planned.counts[RecipientState.EXCLUDED]
    _show_facts(
        {
            "To be sent": f"{count} recipients in {-(-count // batch_size)} calls",
            **({"In the journal already": f"{done} recipients"} if done else {}),
            **{f"Excluded, {why}": str(number) for why, number in planned.exclusions.items() if number},
            "MMS balance": "unknown" if account.mms_balance is None else f"{account.mms_balance} credits",
            "Cost": "the API documents no price; its examples show 1 credit a message",
        },
        form,
    )


def _show_report(found: Report, form: Form) -> None:
    if form is Form.JSON:
        facts = {name: getattr(found, name) for name in _REPORTED}
        print(to_json({"event": "report", "total": found.total, **facts}))
        return
    facts = {
        "Recipients": f"{found.total}" if found.list_read else f"{found.total}, and the list was not read to its end",
        **{state.capitalize(): str(count) for state, count in found.counts.items() if count},
        **{f"Excluded, {why}": str(count) for why, count in found.exclusions.items() if count},
        "Calls": str(found.calls),
        "Credits used": str(found.credits_used),
    }
    if found.deliveries:
        facts |= {f"Reported {status}": str(count) for status, count in found.deliveries.items()}
        facts["Reported nothing final"] = str(found.open)
    if found.delivery_seconds is not None:
        facts["Delivered within"] = f"{found.delivery_seconds:.1f} s (median)"
    if found.started_at is not None and found.ended_at is not None:
        facts["Sent"] = f"{found.started_at:%Y-%m-%d %H:%M:%S} to {found.ended_at:%Y-%m-%d %H:%M:%S} UTC"
    _show_facts(facts, form)


_REPORTED = (
    "counts",
    "exclusions",
    "list_read",
    "calls",
    "credits_used",
    "started_at",
    "ended_at",
    "deliveries",
    "open",
    "delivery_seconds",
    "journal",
)


def _show_facts(facts: dict[str, str], form: Form) -> None:
    if form is Form.TABLE:
        Console().print(facts_table(facts))
    else:
        print("\n".join(f"{name}: {printable(value)}" for name, value in facts.items()))


async def _print_csv(found: Report, state: RecipientState | None) -> None:
    columns = ("number", "state", "line", "message_id", "exclusion", "reason", "batch", "delivery", "reported_at")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    async for recipient in found.recipients(state):
        writer.writerow([getattr(recipient, column) for column in columns])
