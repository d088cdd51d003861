"""`mmsclient bulk`: campaigns in a terminal, in a pipe and in a script."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from mmsclient import MMSError, bulk
from mmsclient._api.phone_numbers import MAX_RECIPIENTS
from mmsclient._store.stores import is_url
from mmsclient._words import counted
from mmsclient.bulk import Campaign, CampaignOptions, CSVList, Preflight, read_csv, read_report
from mmsclient.cli import reporting, sending, steering
from mmsclient.cli.asking import answer, is_on_terminal
from mmsclient.cli.bulk_output import (
    Commands,
    balance_in_words,
    calls_in_words,
    invalid_in,
    plan_document,
    plan_facts,
)
from mmsclient.cli.connection import DEFAULT, Connection
from mmsclient.cli.fallback import AS_THE_MMS, NO_FALLBACK, FallbackMessage, FallbackOptions
from mmsclient.cli.good_hours import AT_ONCE, HoursOptions
from mmsclient.cli.kinds import AS_MMS, KindOptions
from mmsclient.cli.output import Form, show_facts
from mmsclient.cli.picture import is_missing, picture_of
from mmsclient.cli.safeguards import UNLIMITED, UNSAID, Approval, Limits, SafeguardOptions
from mmsclient.cli.status import Status, UsageError, complain
from mmsclient.cli.templates import NO_TEMPLATE, TemplateOptions
from mmsclient.cli.whole import WHOLE
from mmsclient.cli.words import path_word, words_of

ASK_ABOVE = 100
"""Recipients above which `--yes`, or a yes, is needed."""

YES = ("y", "yes")

NOTHING = "nothing was sent"

app: App = App(name="bulk", default_parameter=Parameter(negative=()))


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

    def words_of(self, path: Path | None) -> list[str]:
        """A list as arguments of the command."""
        options = {"--column": self.column, "--region": self.region, "--encoding": self.encoding}
        return [] if path is None else [path_word(str(path)), *words_of(options)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run goes."""

    name: str | None = None
    """What the campaign is called in a PostgreSQL database."""
    batch_size: Annotated[int, WHOLE] = MAX_RECIPIENTS
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
    new_key: Annotated[bool, Parameter(show_default=False)] = False
    """The account has another APPKEY by now than the one that the campaign was sent with."""
    check_balance: bool = False
    """Note the balance before and after: a hint at what became of unknown recipients. One call more."""
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
            "new_key": self.new_key,
            "check_balance": self.check_balance,
        }

    def in_words(self) -> list[str]:
        """Those that a run must have again, as arguments of the command. A URL may hold a password."""
        return words_of(
            {
                "--suppress": "URL" if self.suppress is not None and is_url(self.suppress) else self.suppress,
                "--exclude-opt-outs": self.exclude_opt_outs,
                "--no-opt-outs": self.exclude_opt_outs is False,
                "--batch-size": None if self.batch_size == MAX_RECIPIENTS else self.batch_size,
            }
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SendOptions(RunOptions):
    """How a campaign is sent."""

    dry_run: Annotated[bool, Parameter(show_default=False)] = False
    """Say what would be sent, and send nothing."""
    yes: Annotated[
        bool, Parameter(help=f"Do not ask, however many there are (above {ASK_ABOVE}).", show_default=False)
    ] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FallbackRunOptions(RunOptions):
    """How the SMS in place of MMS are sent by themselves."""

    yes: Annotated[bool, Parameter(show=False)] = False
    """Nobody is asked; a script may say so."""


@app.command
async def send(
    recipients: Path,
    *,
    text: str,
    image: Path | None = None,
    image_column: str | None = None,
    journal: str,
    subject: str | None = None,
    filling: TemplateOptions = NO_TEMPLATE,
    opt_out_line: str | None = None,
    exclude: Path | None = None,
    fit: Annotated[bool, Parameter(show_default=False)] = False,
    kind: KindOptions = AS_MMS,
    fallback: FallbackOptions = NO_FALLBACK,
    listing: ListOptions = ListOptions(),
    options: SendOptions = SendOptions(),
    hours: HoursOptions = AT_ONCE,
    safeguards: SafeguardOptions = UNSAID,
    connection: Connection = DEFAULT,
) -> int:
    """Send a picture and a text, or an SMS, to everybody in a CSV file. Costs credits.

    A journal that is there already is resumed: nobody in it gets the message twice. Ctrl-C and SIGTERM wait for the
    calls under way; once more ends it at once.

    Parameters
    ----------
    recipients
        CSV file with the numbers.
    text
        At most 1000 characters, of an SMS six parts. With --template, those of each recipient.
    image
        PNG, GIF or JPEG file; at most 380 000 bytes with the text. Needed, unless --kind is sms.
    image_column
        In place of --image: header of the column with the path of each recipient's own picture.
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
    if image_column is not None and kind.kind == "sms":
        raise UsageError("--image-column: nothing that --kind sms has")
    approval, form = safeguards.approval(is_agreed=options.yes), Form.chosen(options.json)
    excluded = None if exclude is None else listing.read(exclude)
    again, sms = (fallback, options, hours, safeguards, connection), fallback.is_asked
    commands = Commands.of(journal, options.name, listing.words_of(recipients), again, is_with_sms=sms)
    if image is not None and is_missing(image):
        raise await _without_picture(image, journal, options.name, commands if exclude is None else None)
    async with connection.client() as mms:
        text_of_all, subject_of_all = filling.texts(text, subject)
        asked: CampaignOptions = {
            **kind.of_campaign(),
            **fallback.of_campaign(),
            **options.of_campaign(excluded, opt_out_line),
            "fit": fit,
            **hours.of_campaign(form),
            **safeguards.with_test(approval),
        }
        campaign = mms.campaign(
            text=text_of_all,
            image=image if kind.kind == "sms" else await picture_of(image, image_column, fit=fit, form=form),
            subject=subject_of_all,
            journal=journal,
            **asked,
        )
        rows = listing.read(recipients)
        await fallback.check(journal, options.name)
        return await _send(campaign, rows, options, commands, form, safeguards=safeguards, approval=approval)


@app.command
async def resume(
    journal: str,
    recipients: Path | None = None,
    *,
    fallback: FallbackOptions = NO_FALLBACK,
    listing: ListOptions = ListOptions(),
    options: SendOptions = SendOptions(),
    hours: HoursOptions = AT_ONCE,
    safeguards: SafeguardOptions = UNSAID,
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
    approval, form = safeguards.approval(is_agreed=options.yes), Form.chosen(options.json)
    async with connection.client() as mms:
        asked: CampaignOptions = {
            **fallback.of_campaign(),
            **options.of_campaign(),
            **hours.of_campaign(form),
            **safeguards.with_test(approval),
        }
        campaign = await bulk.resume(mms, journal, **asked)
        rows = None if recipients is None else listing.read(recipients)
        await fallback.check(journal, options.name)
        again, sms = (fallback, options, hours, safeguards, connection), fallback.is_asked
        commands = Commands.of(journal, options.name, listing.words_of(recipients), again, is_with_sms=sms)
        return await _send(campaign, rows, options, commands, form, safeguards=safeguards, approval=approval)


@app.command(name="fallback")
async def send_fallback(
    journal: str,
    *,
    fallback: FallbackMessage = AS_THE_MMS,
    options: FallbackRunOptions = FallbackRunOptions(),
    hours: HoursOptions = AT_ONCE,
    limits: Limits = UNLIMITED,
    connection: Connection = DEFAULT,
) -> int:
    """Send an SMS to those whose MMS did not arrive, by the delivery reports that have come by now. Costs credits.

    Whoever got one gets no other. Nothing else is sent, and no report is waited for.

    Parameters
    ----------
    journal
        File of the campaign, or the URL of a PostgreSQL database.
    """
    form = Form.chosen(options.json)
    async with connection.client() as mms:
        asked: CampaignOptions = {
            **options.of_campaign(),
            **hours.of_campaign(form),
            **limits.of_campaign(),
            "fallback": fallback.given(),
        }
        campaign = await bulk.resume(mms, journal, **asked)
        again = (fallback, options, hours, limits, connection)
        commands = Commands.of(journal, options.name, (), again, verb="fallback", is_with_sms=True)
        return await sending.send(campaign, None, form, commands, begun=campaign.send_fallback()) or Status.DONE


app.command(reporting.report)
app.command(reporting.reconcile)
app.command(steering.status)
app.command(steering.pause)
app.command(steering.continue_, name="continue")
app.command(steering.stop)


# Sending ------------------------------------------------------------------------------------------------------------


async def _without_picture(image: Path, journal: str, name: str | None, commands: Commands | None) -> UsageError:
    """What is told where there is no such picture. A journal that is there holds it, and `commands` go on from that."""
    said = f"--image: there is no such file: {image}"
    try:
        await read_report(journal, name)
    except MMSError:
        return UsageError(said)
    if commands is None:
        return UsageError(f"{said}; the journal holds the picture, but not whom --exclude names")
    return UsageError(f"{said}; but the journal holds the picture; to go on:", commands.resume(is_list_read=False))


async def _send(
    campaign: Campaign,
    recipients: CSVList | None,
    options: SendOptions,
    commands: Commands,
    form: Form,
    *,
    safeguards: SafeguardOptions,
    approval: Approval | None,
) -> int:
    others = 0
    if options.dry_run or not options.yes:
        with _told_of_an_early_end():
            try:
                planned = await campaign.preflight(recipients)
            except MMSError as error:
                if options.dry_run:
                    raise
                return await sending.not_begun(campaign, recipients, form, commands, error)
            others = planned.recipients - planned.tests
            if options.dry_run:
                await _show_plan(planned, form)
                return Status.DONE
            is_agreed = planned.recipients <= ASK_ABOVE or await _agreed(planned)
        if not is_agreed:
            return await sending.not_wanted(campaign, commands)
    if safeguards.test and approval is None:
        complain(safeguards.waiting())
    status = await sending.send(campaign, recipients, form, commands, approval)
    if status is not None or approval is None:
        return Status.DONE if status is None else status
    try:
        approval.is_given = answer(approval.question(others)) in YES
    finally:  # Ctrl-C too
        if not approval.is_given:
            is_list_known = recipients is None and (await campaign.report()).list_read  # else it may be another list
            resume = commands.untested().resume(is_list_known)
            complain("nobody else was sent to; to go on all the same:", resume)
    if not approval.is_given:
        return Status.STOPPED
    return await sending.send(campaign, recipients, form, commands) or Status.DONE


@contextmanager
def _told_of_an_early_end() -> Iterator[None]:
    """Where Ctrl-C ends the command within, that is said: nothing has been sent."""
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        complain(NOTHING)
        raise


async def _show_plan(planned: Preflight, form: Form) -> None:
    if form is Form.JSON:
        print(plan_document(planned, await invalid_in(planned.report, None)))
    else:
        show_facts(plan_facts(planned, await invalid_in(planned.report)), form)


async def _agreed(planned: Preflight) -> bool:
    """The person at the terminal agrees."""
    what = f"Send to {counted(planned.recipients, 'recipient')} in {calls_in_words(planned)}"
    if not is_on_terminal():
        raise UsageError(f"{what}? There is no terminal to ask on: give --yes")
    await _show_plan(planned, Form.TABLE)
    balance = balance_in_words(planned.credits_available)
    return answer(f"{what} at {planned.server}, with a balance of {balance}? [y/N] ") in YES
