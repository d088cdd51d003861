"""`mmsclient bulk`: campaigns in a terminal, in a pipe and in a script."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from cyclopts import App, Group, Parameter

from mmsclient import AsyncMMSClient, bulk
from mmsclient._api.phone_numbers import MAX_RECIPIENTS
from mmsclient._store.stores import is_url
from mmsclient._words import counted
from mmsclient.bulk import Campaign, CampaignOptions, CSVList, RecipientState, Report, read_csv, read_report
from mmsclient.cli import sending, steering
from mmsclient.cli.bulk_output import (
    Commands,
    balance_in_words,
    calls_in_words,
    invalid_in,
    plan_document,
    plan_facts,
    print_csv,
    show_facts,
    show_reconciliation,
    show_report,
    to_send,
)
from mmsclient.cli.connection import DEFAULT, Connection
from mmsclient.cli.good_hours import AT_ONCE, HoursOptions
from mmsclient.cli.output import Form
from mmsclient.cli.picture import fitted
from mmsclient.cli.status import Status, UsageError, complain
from mmsclient.cli.templates import NO_TEMPLATE, TemplateOptions

ASK_ABOVE = 100
"""Recipients above which `--yes`, or a yes, is needed."""

app: App = App(name="bulk", default_parameter=Parameter(negative=()))

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

    def in_words(self) -> list[str]:
        """As arguments of the command."""
        options = {"--column": self.column, "--region": self.region, "--encoding": self.encoding}
        return [word for name, value in options.items() if value is not None for word in (name, value)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SendOptions:
    """How a campaign is sent."""

    name: str | None = None
    """What the campaign is called in a PostgreSQL database."""
    batch_size: int = MAX_RECIPIENTS
    """Recipients a call, up to 1000."""
    suppress: str | None = None
    """Suppression list: a file, or the URL of a PostgreSQL database. Who is on it, or comes on it before a call leaves,
    gets nothing. The API's opt-outs are put on it first."""
    exclude_opt_outs: Annotated[bool | None, Parameter(negative="--no-opt-outs", show_default=False)] = None
    """Ask the API who has unsubscribed, and leave them out. Left out: only with --suppress."""
    resend_unknown: bool | Literal["silent"] = False
    """Send also to those of whom an earlier run does not know whether they got it. Without a word after it, some get it
    twice. `silent`: only to those of whom no report and no reply came, where nine tenths of the others were reported
    on."""
    silent_after: float = 86400.0
    """Seconds without a report or a reply that `--resend-unknown silent` asks for."""
    check_balance: bool = False
    """Ask for the balance before and after: a hint at what became of unknown recipients. Two calls more."""
    dry_run: Annotated[bool, Parameter(show_default=False)] = False
    """Say what would be sent, and send nothing."""
    yes: Annotated[
        bool, Parameter(help=f"Do not ask, however many there are (above {ASK_ABOVE}).", show_default=False)
    ] = False
    json: Annotated[bool, Parameter(show_default=False)] = False
    """Print a JSON object a line for scripts."""

    def of_campaign(self, exclude: CSVList | None = None, opt_out_line: str | None = None) -> CampaignOptions:
        """Those of `AsyncMMSClient.campaign`."""
        return {
            "exclude": () if exclude is None else exclude,
            "name": self.name,
            "batch_size": self.batch_size,
            "suppress": self.suppress,
            "opt_out_line": opt_out_line,
            "exclude_opt_outs": self.exclude_opt_outs,
            "resend_unknown": self.resend_unknown,
            "silent_after": self.silent_after,
            "check_balance": self.check_balance,
        }

    def in_words(self) -> list[str]:
        """Those that a run must have again, as arguments of the command. A URL may hold a password."""
        return [] if self.suppress is None else ["--suppress", "URL" if is_url(self.suppress) else self.suppress]


@app.command
async def send(
    recipients: Path,
    *,
    text: str,
    image: Path,
    journal: str,
    subject: str | None = None,
    filling: TemplateOptions = NO_TEMPLATE,
    opt_out_line: str | None = None,
    exclude: Path | None = None,
    fit: Annotated[bool, Parameter(show_default=False)] = False,
    listing: ListOptions = ListOptions(),
    options: SendOptions = SendOptions(),
    hours: HoursOptions = AT_ONCE,
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
        At most 1000 characters. With --template, those of each recipient.
    image
        PNG, GIF or JPEG file; at most 380 000 bytes with the text.
    journal
        File that remembers what became of each recipient; made if it is not there. On a local disk. Or the URL of a
        PostgreSQL database, for senders on several machines.
    subject
        One line of at most 40 characters.
    opt_out_line
        Such as "Reply STOP to opt out": a line below the text, unless that holds it.
    exclude
        CSV file with numbers that get nothing, read as the other one is.
    fit
        Make the picture fit first: any photograph, scaled down and without its metadata. Needs the extra images.
    """
    async with connection.client() as mms:
        text_of_all, subject_of_all = filling.texts(text, subject)
        campaign = mms.campaign(
            text=text_of_all,
            image=await fitted(image, Form.chosen(options.json)) if fit else image,
            subject=subject_of_all,
            journal=journal,
            **options.of_campaign(None if exclude is None else listing.read(exclude), opt_out_line)
            | hours.of_campaign(Form.chosen(options.json)),
        )
        commands = _commands(journal, options.name, recipients, listing, [*options.in_words(), *hours.in_words()])
        return await _send(mms, campaign, listing.read(recipients), options, commands)


@app.command
async def resume(
    journal: str,
    recipients: Path | None = None,
    *,
    listing: ListOptions = ListOptions(),
    options: SendOptions = SendOptions(),
    hours: HoursOptions = AT_ONCE,
    connection: Connection = DEFAULT,
) -> int:
    """Send to those whom a campaign has not come to, with the message that its journal holds. Costs credits.

    Parameters
    ----------
    journal
        File of the campaign, or the URL of a PostgreSQL database.
    recipients
        CSV file with the numbers; needed only where it was not read to its end.
    """
    async with connection.client() as mms:
        chosen = options.of_campaign() | hours.of_campaign(Form.chosen(options.json))
        campaign = await bulk.resume(mms, journal, **chosen)
        rows = None if recipients is None else listing.read(recipients)
        commands = _commands(journal, options.name, recipients, listing, [*options.in_words(), *hours.in_words()])
        return await _send(mms, campaign, rows, options, commands)


@app.command
async def report(
    journal: str,
    *,
    name: str | None = None,
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
        File of the campaign, or the URL of a PostgreSQL database.
    name
        What the campaign is called in the database.
    state
        With --csv: only the recipients in this state.
    """
    if json and as_csv:
        raise UsageError("--json and --csv: choose one")
    if state is not None and not as_csv:
        raise UsageError("--state chooses among the lines of --csv: give that too")
    found = await read_report(journal, name)
    if as_csv:
        await print_csv(found, state)
    else:
        show_report(found, Form.chosen(json), await invalid_in(found), _commands(journal, name, None, ListOptions()))
    return Status.DONE


@app.command
async def reconcile(journal: str, *, name: str | None = None, json: OneJSON = False) -> int:
    """Settle those of whom no answer tells whether they got it, by the reports and replies that came. Calls no API.

    Parameters
    ----------
    journal
        File of the campaign, which is not being sent, or the URL of a PostgreSQL database.
    name
        What the campaign is called in the database.
    """
    done = await bulk.reconcile(journal, name)
    show_reconciliation(done, Form.chosen(json))
    return Status.OUTCOME_UNKNOWN if done.report.unknown.count else Status.DONE


app.command(steering.status)
app.command(steering.pause)
app.command(steering.continue_, name="continue")
app.command(steering.stop)


def _commands(
    journal: str, name: str | None, recipients: Path | None, listing: ListOptions, options: Sequence[str] = ()
) -> Commands:
    """What is told of how to go on. A URL may hold a password, and is not told."""
    words = (journal,) if name is None else ("URL", "--name", name)
    return Commands(
        words,
        ("LIST",) if recipients is None else (str(recipients), *listing.in_words()),
        tuple(options),
    )


# Sending ------------------------------------------------------------------------------------------------------------


async def _send(
    mms: AsyncMMSClient,
    campaign: Campaign,
    recipients: CSVList | None,
    options: SendOptions,
    commands: Commands,
) -> int:
    form = Form.chosen(options.json)
    if options.dry_run or not options.yes:
        planned = await campaign.dry_run(recipients)
        if options.dry_run:
            await _show_plan(mms, planned, form)
            return Status.DONE
        if to_send(planned) > ASK_ABOVE and not await _agreed(mms, planned):
            complain("nothing was sent")
            return Status.FAILED
    return await sending.send(campaign, recipients, form, commands)


async def _show_plan(mms: AsyncMMSClient, planned: Report, form: Form) -> None:
    account = await mms.account()
    host = urlsplit(mms.base_url).netloc
    if form is Form.JSON:
        print(plan_document(planned, account, host, await invalid_in(planned, None)))
    else:
        show_facts(plan_facts(planned, account, host, await invalid_in(planned)), form)


async def _agreed(mms: AsyncMMSClient, planned: Report) -> bool:
    """The person at the terminal agrees."""
    count = to_send(planned)
    what = f"Send to {counted(count, 'recipient')} in {calls_in_words(planned)}"
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(f"{what}? There is no terminal to ask on: give --yes")
    account = await mms.account()
    host = urlsplit(mms.base_url).netloc
    show_facts(plan_facts(planned, account, host, await invalid_in(planned)), Form.TABLE)
    return _answer(f"{what} at {host}, with a balance of {balance_in_words(account)}? [y/N] ") in ("y", "yes")


def _answer(question: str) -> str:
    """What the person says; nothing at the end of the input. Ctrl-C ends the command at once."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the loop's would wait for Enter
    try:
        return input(question).strip().lower()
    except EOFError:
        print()
        return ""
    except KeyboardInterrupt:
        print()
        raise
    finally:
        signal.signal(signal.SIGINT, before)
