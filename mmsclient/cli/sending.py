"""A campaign in a terminal, in a pipe and in a script: prints as its calls end, and drains on every way out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import aclosing
from functools import partial

from attrs import define

from mmsclient import MMSError
from mmsclient.bulk import (
    Campaign,
    CampaignStoppedError,
    JournalBusyError,
    JournalError,
    JournalMismatchError,
    Recipients,
    RecipientState,
    Report,
    Sending,
    StopRequestedError,
)
from mmsclient.cli import stdio
from mmsclient.cli.bulk_output import SAME_AGAIN, Commands, invalid_in, is_open, show_report, without_picture
from mmsclient.cli.output import Form
from mmsclient.cli.safeguards import Approval
from mmsclient.cli.screens import Screen
from mmsclient.cli.signals import told_of_signals
from mmsclient.cli.status import Status, complain, complain_last, of_error, output_lost

TICK = 0.25
"""Seconds between two looks at how far the campaign is, and how large the terminal."""


class Printing:
    """Runs what prints, and lets the event loop go on. Over with the first error, or once nobody reads any more."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.is_over: bool = False
        """Nothing is printed any more."""
        self._is_hurried = False
        self._limits: set[asyncio.Timeout] = set()  # of what is being printed, or waits for its turn

    async def do(self, job: Callable[..., object], *arguments: object) -> bool:
        """Whether `job` has run."""
        if self.is_over:
            return False
        try:
            async with asyncio.timeout(stdio.GRACE if self._is_hurried else None) as limit:
                self._limits.add(limit)
                try:
                    await asyncio.wrap_future(stdio.STDOUT.submit(partial(job, *arguments)))
                finally:
                    self._limits.discard(limit)
        except TimeoutError:
            self.is_over = True
        except Exception as error:
            self.error, self.is_over = error, True
        return not self.is_over

    def hurry(self) -> None:
        """From now on the reader has `GRACE` seconds to take what is printed."""
        self._is_hurried = True
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time() + stdio.GRACE)


@define
class Run:
    """What came of a sending."""

    calls: int = 0
    failure: MMSError | None = None
    signal: int | None = None
    has_begun: bool = True
    """What it was given is in the journal, as far as it was read."""

    @property
    def was_told_to_stop(self) -> bool:
        """Another process asked for the end, which is no failure."""
        failure = self.failure.error if isinstance(self.failure, CampaignStoppedError) else self.failure
        return isinstance(failure, StopRequestedError)


async def send(
    campaign: Campaign,
    recipients: Recipients | None,
    form: Form,
    commands: Commands,
    approval: Approval | None = None,
    *,
    begun: Sending | None = None,
) -> Status | None:
    """Send and print; the exit status. None: the test messages were sent, and `approval` is waited for.

    Args:
        campaign: What is sent.
        recipients: To whom.
        form: Of what is printed.
        commands: What is told of how to go on.
        approval: Of the test messages, where a person gives it.
        begun: What is sent of the campaign, where that is not all.
    """
    sending = begun or campaign.send(recipients)
    printing = Printing()
    run = Run()

    def stop(number: int) -> None:
        sending.stop()
        printing.hurry()
        run.signal = number
        complain("stopping: waiting for the calls under way; once more ends it at once")

    def last_words() -> None:
        said = "ended at once: what is under way becomes unknown; to go on:"
        if recipients is not None and not sending.has_begun:
            complain_last(f"{said} {SAME_AGAIN}")
            return
        progress = sending.progress
        is_list_known = recipients is None if progress is None else progress.list_read
        complain_last(said, commands.resume(is_list_known))

    with told_of_signals(stop, last_words):
        await _print_batches(sending, printing, Screen.of(form), run)
        run.has_begun = recipients is None or sending.has_begun
        if approval is not None and approval.asked_about and run.signal is None and printing.error is None:
            return None
        status = await _sum_up(campaign, printing, run, form, commands)
    return _as_printed(printing, status)


def _as_printed(printing: Printing, status: Status) -> Status:
    if printing.error is None:
        return status
    if not isinstance(printing.error, OSError):
        raise printing.error
    lost = output_lost(printing.error)
    return status or lost


async def not_begun(
    campaign: Campaign, recipients: Recipients | None, form: Form, commands: Commands, failure: MMSError
) -> Status:
    """Say how a campaign stands whose run failed before it began; the exit status. Raises `failure` where none was."""
    printing, run = Printing(), Run(failure=failure, has_begun=recipients is None)
    return _as_printed(printing, await _sum_up(campaign, printing, run, form, commands))


async def not_wanted(campaign: Campaign, commands: Commands) -> Status:
    """Say that a campaign is not sent now, and return the exit status that tells how it stands."""
    try:
        parts = commands.parts(await campaign.report())
    except JournalError:  # it is a new one
        parts = []
    if not _have_sent(parts):
        complain("nothing was sent")
        return Status.FAILED
    complain("nothing more was sent")
    return of_campaign(*parts)


async def _print_batches(sending: Sending, printing: Printing, screen: Screen, run: Run) -> None:
    await printing.do(screen.start)
    ticking = asyncio.create_task(_tick(sending, printing, screen))
    try:
        async with aclosing(sending):
            async for batch in sending:
                run.calls += 1
                if not await printing.do(screen.show, batch):
                    sending.stop()
    except MMSError as error:
        run.failure = error
    finally:
        ticking.cancel()
        await asyncio.wait([ticking])
        await printing.do(screen.stop)


async def _tick(sending: Sending, printing: Printing, screen: Screen) -> None:
    while True:
        await asyncio.sleep(TICK)
        await printing.do(screen.tick, sending.progress)


async def _sum_up(campaign: Campaign, printing: Printing, run: Run, form: Form, commands: Commands) -> Status:
    """Say how it ended; the exit status. Raises the error of a run that was wrong, or before which nothing was sent."""
    if isinstance(run.failure, JournalBusyError | JournalMismatchError) and not run.calls:
        raise run.failure
    is_hindered = not (run.signal is None and run.failure is None and printing.error is None)
    try:
        ended = await campaign.report()
        may_lack_sms = commands.is_with_sms and is_hindered
        is_cut_short = may_lack_sms and await ended.is_fallback_due(later=commands.waits_for_reports)
    except JournalError as error:
        return _without_a_report(run, error)
    parts = commands.parts(ended)
    if run.failure is not None:
        is_wrong = of_error(run.failure) is Status.WRONG_USAGE
        if not run.calls and (is_wrong or not (run.was_told_to_stop or _have_sent(parts))):
            raise run.failure
        complain(str(run.failure))
    is_complete = run.has_begun and not is_cut_short and not any(map(is_open, parts))
    invalid = await invalid_in(ended)
    if ended.without_picture:
        complain(without_picture(ended, invalid))
    if not is_complete:
        complain(*commands.to_go_on(ended, run.failure, has_begun=run.has_begun))
    if is_complete and not run.calls and form is not Form.JSON:
        await printing.do(print, commands.nothing_left)
    await printing.do(partial(show_report, ended, form, invalid, commands, calls_of_this_run=run.calls))
    if run.signal is not None and not is_complete:
        return Status.of_signal(run.signal)
    status = of_campaign(*parts)
    if is_cut_short and status is not Status.OUTCOME_UNKNOWN:
        return Status.STOPPED
    return Status.STOPPED if not run.has_begun and status in (Status.DONE, Status.PARTLY_ACCEPTED) else status


def _have_sent(parts: Iterable[Report]) -> bool:
    """Somebody got a message, or may have, or was refused one."""
    done = (RecipientState.ACCEPTED, RecipientState.REFUSED, RecipientState.UNKNOWN, RecipientState.SENDING)
    return any(part.counts[state] for part in parts for state in done)


def _without_a_report(run: Run, error: JournalError) -> Status:
    if not run.calls and run.failure is None and run.signal is not None:
        complain("nothing was sent")
        return Status.of_signal(run.signal)
    failure = run.failure or error
    if not run.calls:
        raise failure
    complain(str(failure))
    return Status.OUTCOME_UNKNOWN


def of_campaign(*parts: Report) -> Status:
    """The exit status that tells a script how a campaign stands. What was excluded, was so on purpose."""
    counts = Counter[RecipientState]()
    for part in parts:
        counts.update(part.counts)
    any_accepted = counts[RecipientState.ACCEPTED] > 0
    if counts[RecipientState.UNKNOWN] or counts[RecipientState.SENDING]:  # what could not be recorded is `sending`
        return Status.OUTCOME_UNKNOWN
    if any(is_open(part) for part in parts):
        return Status.STOPPED if any_accepted else Status.FAILED
    if counts[RecipientState.REFUSED]:
        return Status.PARTLY_ACCEPTED if any_accepted else Status.FAILED
    return Status.DONE
