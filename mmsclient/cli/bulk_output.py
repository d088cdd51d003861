"""What `mmsclient bulk` prints: what would be sent, and what became of everybody."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

from attrs import asdict, evolve, frozen

from mmsclient._words import counted
from mmsclient.bulk import (
    BudgetReachedError,
    CampaignStatus,
    CampaignStoppedError,
    Exclusion,
    Preflight,
    Recipient,
    RecipientState,
    Reconciliation,
    Report,
    UnknownRecipients,
)
from mmsclient.cli.fallback import fallback_facts
from mmsclient.cli.kinds import balance_name, unit_of
from mmsclient.cli.output import WORTH_A_WORD, Form, duration, local_if_any, show_facts, to_json
from mmsclient.cli.status import Status, UsageError
from mmsclient.cli.words import HasWords, path_word, quoted, words_of
from mmsclient.errors import MMSError

SAME_AGAIN = "give the same command again: neither its list nor whom it excludes is in the journal yet"

FEW = 5
"""Invalid lines that are shown."""


def to_send(found: Report) -> int:
    """Recipients that a run would send to."""
    return found.counts[RecipientState.PENDING] + found.counts[RecipientState.FAILED] + found.without_picture


def is_open(found: Report) -> bool:
    """A run would send to somebody, or may, since the list was not read to its end."""
    return to_send(found) > 0 or not found.list_read


def calls_in_words(planned: Preflight) -> str:
    """The calls that a run takes; and how long that is, where it is worth a word."""
    is_worth_it = planned.seconds is not None and planned.seconds >= WORTH_A_WORD
    took = f" (at least {duration(planned.seconds or 0)})" if is_worth_it else ""
    return f"{counted(planned.calls, 'call')}{took}"


@frozen
class Commands:
    """Commands that go on from here, as they are told."""

    journal: tuple[str, ...]
    """The arguments that lead to the journal."""
    recipients: tuple[str, ...]
    """Those that lead to the list."""
    options: tuple[str, ...] = ()
    """Those that a run must have again."""
    verb: str = "resume"
    """Of the command that goes on."""
    is_with_sms: bool = False
    """It sends SMS to those whose MMS did not arrive."""

    @classmethod
    def of(
        cls,
        journal: str,
        name: str | None,
        recipients: Sequence[str] = (),
        options: Iterable[HasWords] = (),
        *,
        verb: str = "resume",
        is_with_sms: bool = False,
    ) -> Self:
        """What is told of how to go on. A URL may hold a password, and is not told."""
        words = [path_word(journal)] if name is None else ["URL", *words_of({"--name": name})]
        again = (word for each in options for word in each.in_words())
        return cls(tuple(words), tuple(recipients) or ("LIST",), tuple(again), verb, is_with_sms)

    def resume(self, is_list_read: bool) -> str:
        """Sends what is left; it needs the list where that was not read to its end."""
        recipients = () if is_list_read or self.verb != "resume" else self.recipients
        return quoted(["mmsclient", "bulk", self.verb, *self.journal, *recipients, *self.options])

    @property
    def waits_for_reports(self) -> bool:
        """The run is over when nobody is left of whom a delivery report may come."""
        return self.is_with_sms and self.verb != "fallback"

    @property
    def nothing_left(self) -> str:
        """What is told where nobody was left to send to."""
        return "No SMS is left to send." if self.verb == "fallback" else "Nothing is left to send."

    def untested(self) -> Self:
        """The same without a test, for which it takes a number that no line may hold."""
        if "--test" not in self.options:
            return self
        at = self.options.index("--test")
        return evolve(self, options=self.options[:at] + self.options[at + 2 :])

    def parts(self, report: Report) -> list[Report]:
        """What these send of a campaign: its messages, the SMS to those whose MMS did not arrive, or both."""
        sms = [report.fallback] if self.is_with_sms and report.fallback is not None else []
        return sms if self.verb == "fallback" else [report, *sms]

    def to_go_on(self, report: Report, failure: MMSError | None, *, has_begun: bool) -> tuple[str, str]:
        """What is told where somebody is left, and the command: a limit that was reached is to be raised.

        Unless the run `has_begun`, the journal lacks its list and whom it excludes, and only the same command has them.
        """
        is_over_budget = isinstance(failure, CampaignStoppedError) and isinstance(failure.error, BudgetReachedError)
        if not has_begun:
            return f"to go on{', with a higher limit' * is_over_budget}: {SAME_AGAIN}", ""
        if not isinstance(failure, CampaignStoppedError) or not is_over_budget:
            return "to go on:", self.resume(report.list_read)
        limits = [option for option in ("--fallback-max-credits", "--max-credits") if option in self.options]
        option = limits[0] if failure.report.kind != report.kind else limits[-1]
        words = list(self.options)
        words[words.index(option) + 1] = "CREDITS"
        return "to go on, with a higher limit:", evolve(self, options=tuple(words)).resume(report.list_read)

    def excluded(self) -> str:
        """Prints who was excluded."""
        return quoted(["mmsclient", "bulk", "report", *self.journal, "--csv", "--state", "excluded"])


# Who is set aside ---------------------------------------------------------------------------------------------------


async def invalid_in(found: Report, most: int | None = FEW) -> list[Recipient]:
    """The rows of the list to which nothing can be sent, at most so many."""
    count = _unsendable(found)
    most = count if most is None else min(most, count)
    invalid: list[Recipient] = []
    if most:
        async for recipient in found.recipients(RecipientState.EXCLUDED):
            if recipient.exclusion in UNSENDABLE:
                invalid.append(recipient)
                if len(invalid) == most:
                    break
    return invalid


def without_picture(found: Report, invalid: Sequence[Recipient]) -> str:
    """What is told of those who have no picture by now. `invalid`: the first rows that cannot be sent to."""
    reasons = [f"; line {each.line}: {each.reason}" for each in invalid if each.exclusion is Exclusion.NO_MESSAGE]
    count = counted(found.without_picture, "recipient")
    return f"there is no picture any more for {count}, who got nothing{''.join(reasons[:1])}"


def gone_pictures(found: Report | CampaignStatus) -> dict[str, str]:
    """How many have no picture by now; nothing where all have one."""
    return {"Picture gone": f"{found.without_picture}; the next run tries again"} if found.without_picture else {}


UNSENDABLE = (Exclusion.INVALID, Exclusion.NO_MESSAGE)


def _unsendable(found: Report) -> int:
    return sum(found.exclusions[each] for each in UNSENDABLE)


def _exclusions(found: Report) -> dict[str, str]:
    return {f"Excluded, {why}": str(count) for why, count in found.exclusions.items() if count}


def _invalid_lines(found: Report, invalid: list[Recipient], all_of_them: str) -> dict[str, str]:
    """A fact for each of the first invalid lines, and how to get all."""
    lines = {f"Line {each.line}": f"{each.number!r}: {each.reason}" for each in invalid}
    if _unsendable(found) > len(invalid):
        lines["All invalid lines"] = all_of_them
    return lines


# Before it is sent --------------------------------------------------------------------------------------------------


def plan_facts(planned: Preflight, invalid: list[Recipient]) -> dict[str, str]:
    """What would be sent."""
    count, report = planned.recipients, planned.report
    done = report.total - count - report.counts[RecipientState.EXCLUDED]
    calls = counted(planned.calls, "call")
    notes = {f"Note {number}": note for number, note in enumerate(planned.notes, 1)}
    return {
        "To be sent": f"{counted(count, 'recipient')} in {calls}" if count else "nothing: nobody is left to send to",
        **({"Test numbers first": str(planned.tests)} if planned.tests else {}),
        **({} if planned.seconds is None else {"Takes": f"{duration(planned.seconds)} at the least"}),
        **({"In the journal already": counted(done, "recipient")} if done else {}),
        **_messages(report),
        **_exclusions(report),
        "Credits needed": f"{planned.credits_needed}, at {planned.credits_per_message} {unit_of(planned.kind)}",
        balance_name(planned.kind): balance_in_words(planned.credits_available),
        **({} if planned.credits_left is None else {"Left of --max-credits": str(planned.credits_left)}),
        "Server": planned.server,
        "Cost": f"the API documents no price; its examples show 1 credit {unit_of(planned.kind)}",
        **({"Warning": planned.warning} if planned.warning else {}),
        **notes,
        **_invalid_lines(report, invalid, "mmsclient bulk send ... --dry-run --json"),
    }


def _messages(planned: Report) -> dict[str, str]:
    """What a template makes, and of whom: the first few."""
    plan = planned.plan
    if plan is None or not plan.samples:
        return {}
    subjects = {f"Subject to {each.number}": each.subject for each in plan.samples if each.subject}
    return {
        "Different messages": str(plan.messages),
        **subjects,
        **{f"Text to {each.number}": each.text.replace("\r\n", "\n") for each in plan.samples},
    }


def plan_document(planned: Preflight, invalid: list[Recipient]) -> str:
    """The same for scripts."""
    plan = planned.report.plan
    assert plan is not None  # noqa: S101
    facts = {
        "event": "dry_run",
        "to_send": planned.recipients,
        "tests": planned.tests,
        "calls": planned.calls,
        "seconds": None if planned.seconds is None else round(planned.seconds, 1),
        "messages": plan.messages,
        "samples": [asdict(sample) for sample in plan.samples],
        "credits_per_message": planned.credits_per_message,
        "credits_needed": planned.credits_needed,
        "kind": planned.kind,
        f"{planned.kind}_balance": planned.credits_available,
        "credits_left": planned.credits_left,
        "server": planned.server,
        "warning": planned.warning,
        "notes": planned.notes,
        "counts": planned.report.counts,
        "exclusions": planned.report.exclusions,
        "invalid": [{"line": each.line, "number": each.number, "reason": each.reason} for each in invalid],
    }
    return to_json(facts)


def balance_in_words(balance: Decimal | None) -> str:
    """Such as `100.00 credits`."""
    return "unknown" if balance is None else counted(balance, "credit")


# What became of it --------------------------------------------------------------------------------------------------


def show_report(found: Report, form: Form, invalid: list[Recipient], commands: Commands, **more: object) -> None:
    """A campaign in figures. `more`: further facts for scripts."""
    if form is Form.JSON:
        print(to_json({"event": "report", **_report_document(found), **more}))
        return
    facts = {
        **({"Kind": "SMS"} if found.kind == "sms" else {}),
        "Recipients": f"{found.total}" if found.list_read else f"{found.total}, and the list was not read to its end",
        **{state.capitalize(): str(count) for state, count in found.counts.items() if count},
        **_exclusions(found),
        **gone_pictures(found),
        "Calls": str(found.calls),
        "Credits used": str(found.credits_used),
    }
    if found.deliveries:
        facts |= {f"Reported {status}": str(count) for status, count in found.deliveries.items()}
        facts["Reported nothing final"] = str(found.open)
    if found.delivery_seconds is not None:
        facts["Delivered within"] = f"{found.delivery_seconds:.1f} s (median)"
    facts |= unknown_facts(found.unknown)
    facts |= fallback_facts(found)
    if found.started_at is not None and found.ended_at is not None:
        facts["Sent"] = f"{local_if_any(found.started_at)} to {local_if_any(found.ended_at)}"
        facts["Took"] = duration((found.ended_at - found.started_at).total_seconds())
    show_facts(facts | _invalid_lines(found, invalid, commands.excluded()), form)


def _report_document(found: Report) -> dict[str, Any]:
    facts = {name: getattr(found, name) for name in _REPORTED}
    times = {name: local_if_any(facts[name]) for name in ("started_at", "ended_at")}
    fallback = None if found.fallback is None else _report_document(found.fallback)
    return {
        "total": found.total,
        **facts,
        **times,
        "unknown": _document_of(found.unknown),
        **({} if found.kind == "sms" else {"fallback": fallback}),
    }


def unknown_facts(unknown: UnknownRecipients) -> dict[str, str]:
    """What is known of those whose outcome no answer told; nothing where there are none."""
    facts: dict[str, str] = {}
    if unknown.proven:
        facts["Accepted by evidence"] = str(unknown.proven)
    if unknown.count:
        if unknown.since is not None:
            facts["Unknown since"] = str(local_if_any(unknown.since))
        facts["Unknown, heard of"] = f"{unknown.heard_of}, which proves nothing"
        if unknown.reported_share is not None:
            of = counted(unknown.accepted, "recipient")
            facts["Reports of their runs"] = f"{unknown.reported_share:.1%} of {of} accepted by an answer"
        facts["Sending to the silent"] = unknown.objection or SILENT
    if unknown.unaccounted_credits is not None:
        facts["Credits no answer names"] = f"{unknown.unaccounted_credits} (a hint: other sends count too)"
    return facts


SILENT = "mmsclient bulk resume --resend-unknown silent"
"""What can be done about those of whom nothing was heard."""


def show_reconciliation(done: Reconciliation, form: Form) -> None:
    """What evidence settled, and what remains."""
    unknown = done.report.unknown
    if form is Form.JSON:
        unknown_document = _document_of(unknown)
        print(to_json({"event": "reconciliation", "settled": done.settled, "unknown": unknown_document}))
        return
    facts = {"Settled now": str(done.settled), "Still unknown": str(unknown.count)}
    show_facts(facts | unknown_facts(unknown), form)


def _document_of(unknown: UnknownRecipients) -> dict[str, Any]:
    since = None if unknown.since is None else local_if_any(unknown.since)
    return {**asdict(unknown), "since": since, "reported_share": unknown.reported_share}


_REPORTED = (
    "kind",
    "counts",
    "exclusions",
    "without_picture",
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


async def print_csv(found: Report, state: RecipientState | None) -> None:
    """A line for each recipient, or for each in `state`."""
    columns = ("number", "state", "line", "message_id", "exclusion", "reason", "batch", "delivery")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow((*columns, "reported_at"))
    async for recipient in found.recipients(state):
        writer.writerow((*(getattr(recipient, column) for column in columns), local_if_any(recipient.reported_at)))


def _is_page_or_empty(path: Path) -> bool:
    start = b"<!DOCTYPE html>"
    with path.open("rb") as file:
        return file.read(len(start)) in (start, b"")


def write_page(page: str, path: Path) -> Status:
    """Put a page in its file, which is for its owner's eyes alone.

    It takes the place of one that is there, whoever may read or write that. Raises `UsageError` where it cannot be
    written, or holds what is no page.

    A journal or a list that is named by mistake is left as it is: who got the message stands nowhere else.
    """
    content = page.encode(errors="xmlcharrefreplace")
    try:
        if path.is_file() and not _is_page_or_empty(path):
            raise UsageError(f"--html: {path} holds something else than a page; it was left as it is")
        if (path.exists() and not path.is_file()) or path.is_relative_to("/dev"):  # a pipe, or where stdout goes
            path.write_bytes(content)
            return Status.DONE
        real = Path(os.path.realpath(path))
        with NamedTemporaryFile(dir=real.parent, prefix=f".{real.name}-", delete=False) as draft:  # private
            try:
                draft.write(content)
                draft.close()
                os.replace(draft.name, real)
            except BaseException:
                Path(draft.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UsageError(f"--html: {error.strerror}: {path}") from None
    return Status.DONE
