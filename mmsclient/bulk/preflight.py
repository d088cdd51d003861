"""What a campaign would begin with: whom it would send to, in how many calls, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import urlsplit

from attrs import evolve, frozen

from mmsclient._api.types import Kind
from mmsclient._store.models import Exclusion, RecipientState
from mmsclient._store.spending import CallCost
from mmsclient._words import counted
from mmsclient.bulk.budget import Budget
from mmsclient.bulk.fallback_settings import spent_by_fallback
from mmsclient.bulk.kinds import balance_of
from mmsclient.bulk.launch import is_harmless
from mmsclient.bulk.options import Options
from mmsclient.bulk.plan import Plan
from mmsclient.bulk.preparation import Preparation
from mmsclient.bulk.recipients import Recipients
from mmsclient.bulk.report import Report, report_from
from mmsclient.bulk.schedule import Schedule
from mmsclient.bulk.screening import exclude_suppressed
from mmsclient.bulk.weights import Weights
from mmsclient.errors import MMSError
from mmsclient.models import Account

__all__ = ["Outlook", "Preflight", "look_ahead", "outlook"]


@frozen(kw_only=True)
class Preflight:
    """What a campaign would begin with, as it was when it was asked for."""

    recipients: int
    """Those that would be sent to, the test numbers included."""
    tests: int
    """Of these, numbers of `test=`, which go first."""
    calls: int
    """Calls that they take, if each is answered well."""
    seconds: float | None
    """That these take at the least, at the cap and with `recipients_per_minute`; None where nothing names a rate.
    Closed hours are not in it."""
    kind: Kind
    """`mms` or `sms`."""
    credits_per_message: Decimal
    """What a message is taken to cost; of SMS, a part of one."""
    credits_needed: Decimal
    """What the recipients cost at that price."""
    credits_available: Decimal | None
    """The account's balance for messages of its kind; None where the API does not tell."""
    credits_left: Decimal | None
    """What `max_credits` leaves after earlier runs; None without it."""
    server: str
    """The host that is called, with its port unless that is the usual one."""
    warning: str | None
    """That the balance is too small, None where it does not seem so."""
    notes: tuple[str, ...]
    """What else there is to know before it begins, a sentence each."""
    report: Report
    """As of `Campaign.dry_run`: the counts, the excluded ones in `recipients()`, what a template makes in `plan`."""

    def __str__(self) -> str:
        has = "" if self.credits_available is None else f" of {self.credits_available}"
        took = "" if self.seconds is None else f", {self.seconds:.0f} s at the least"
        facts = (
            f"{counted(self.recipients, 'recipient')} in {counted(self.calls, 'call')}{took};"
            f" {self.credits_needed}{has} credits"
        )
        return "; ".join([facts, *([self.warning] if self.warning else []), *self.notes])


@frozen
class Outlook:
    """What the journal of a campaign would hold before its first call."""

    report: Report
    plan: Plan
    costs: tuple[CallCost, ...]
    """Of the calls of earlier runs."""
    tests: int
    """Test numbers that would be sent to."""
    weights: Weights
    weight: Decimal
    """Of all messages together."""


async def outlook(preparation: Preparation, recipients: Recipients | None) -> Outlook:
    """Do in a copy of the journal all that comes before the first call."""
    copy = await preparation.open_copy()
    journal = copy.journal
    try:
        await preparation.exclude(copy, is_dry=True)
        await preparation.read_list(copy, recipients, lambda: None)
        phones = await preparation.add_tests(copy)
        await exclude_suppressed(copy, preparation.options.suppression)
        report = await copy.run(lambda: report_from(journal.reader, None, RecipientState.EXCLUDED))
        costs = await copy.run(journal.reader.call_costs)
        tests = await copy.run(lambda: journal.reader.recipients_of(phones)) if phones else []
        to_send = (RecipientState.PENDING, RecipientState.FAILED)
        count = sum(recipient.state in to_send for _, recipient in tests)
        plan = await preparation.plan(copy, count)
        weights = Weights(preparation.options)
        weight = plan.recipients * weights.heaviest
        if not weights.are_equal:
            weight = await copy.run(lambda: weights.ahead(journal.reader))
        return Outlook(evolve(report, plan=plan), plan, tuple(costs), count, weights, weight)
    finally:
        await preparation.end_run(None)
        await copy.close()


async def look_ahead(preparation: Preparation, recipients: Recipients | None) -> Preflight:
    """Ask for the account, and compare it with what is planned. Raises what would end the campaign."""
    client, options = preparation.client, preparation.options
    await preparation.message()
    account: Account | None = None
    problem: MMSError | None = None
    try:
        account = await client.account()
    except MMSError as error:
        if not is_harmless(error):
            raise
        problem = error
    seen = await outlook(preparation, recipients)
    budget = Budget(options.max_credits, options.credits_per_message, seen.weights)
    budget.add(seen.costs)
    budget.spend(await spent_by_fallback(options))
    needed = seen.weight * budget.price
    balance = None if account is None else balance_of(account, options.kind)
    return Preflight(
        recipients=seen.plan.recipients,
        tests=seen.tests,
        calls=seen.plan.calls,
        kind=options.kind,
        seconds=seen.plan.seconds,
        credits_per_message=budget.price,
        credits_needed=needed,
        credits_available=balance,
        credits_left=budget.left,
        server=urlsplit(client.base_url).netloc,
        warning=_warning(seen, balance, budget),
        notes=(*_hours(Schedule(options)), *_notes(seen, budget, needed, options, problem)),
        report=seen.report,
    )


def _hours(schedule: Schedule) -> Iterator[str]:
    if not schedule.is_open() and schedule.opens_at is not None:
        yield f"it is outside its hours, and begins at {schedule.opens_at.isoformat(' ', 'seconds')}"


def _warning(seen: Outlook, balance: Decimal | None, budget: Budget) -> str | None:
    needed = budget.price * seen.weight
    if balance is None or balance >= (needed if budget.left is None else min(needed, budget.left)):
        return None
    has, who = counted(balance, "credit"), counted(seen.plan.recipients, "recipient")
    each = f"{counted(budget.dearest, 'credit')} each" if seen.weights.are_equal else counted(needed, "credit")
    return f"{has} for {who}: at {each} it stops before the end"


def _notes(seen: Outlook, budget: Budget, needed: Decimal, options: Options, problem: MMSError | None) -> Iterator[str]:
    report = seen.report
    if any(cost.price is not None for cost in seen.costs):
        what = "a message" if options.kind == "mms" else "a part of a message"
        yield f"an answer has told that {what} costs {counted(budget.price, 'credit')}"
    if budget.left is not None and budget.left < needed:
        fit = counted(int(budget.left // budget.dearest), "recipient")
        yield f"max_credits leaves {counted(budget.left, 'credit')}: it stops after about {fit}"
    if problem is not None:
        yield f"the account was not told: {problem}"
    if options.exclude_opt_outs is None and options.suppression is None:
        yield "nobody asks who has unsubscribed (exclude_opt_outs, suppress)"
    if invalid := report.exclusions[Exclusion.INVALID]:
        yield f"{counted(invalid, 'row')} of the list cannot be read as a phone number"
    if unknown := report.counts[RecipientState.UNKNOWN]:
        yield f"{counted(unknown, 'recipient')} of earlier runs may have got it, and are not sent to again"
