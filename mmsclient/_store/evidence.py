"""What proves that a message of an unknown recipient went out, and what silence is worth. Rules that no engine changes.

**Proof.** A delivery report that names the recipient's phone, or a reply from it, under a message id that no answer
named for somebody else, which came after a call began that may have been carried out, and within `PROOF_WINDOW` of it:
the recipient's last call where it is unknown, and each one that had left it unknown before it was to be sent to again.
These former calls are kept, whatever becomes of later ones, and whoever is proven by one is not claimed again. Each
phone is in a journal once, so no other call of the journal can have caused it; another send of the same account to the
same phone at the same time can, if its reports go into this journal too. What tells that it is of the other kind, SMS
or MMS, proves nothing, and in a file neither does a reply that quotes another text.

**Names.** Whom an answer has accepted without naming the message gets the message id of what would prove it, so that
reports count: where no earlier call to it is in doubt, and nothing was heard under another id that may be the one.

**Silence.** Proves nothing by itself. It is acted on only when asked, only where `ENOUGH` of the recipients whom an
answer had named as accepted were reported on by their number, and only for recipients of whom nothing at all was heard.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

from attrs import frozen

from mmsclient._words import counted
from mmsclient.models import DeliveryStatus

__all__ = [
    "DID_NOT_ARRIVE",
    "ENOUGH",
    "HEARD_SINCE",
    "NAMED",
    "NAMED_BY_ANSWER",
    "PROOF_WINDOW",
    "PROVEN",
    "RESENT",
    "RunFigures",
    "Silent",
    "UnknownSummary",
    "last_told",
    "run_figures",
]

DID_NOT_ARRIVE = frozenset({DeliveryStatus.FAILED, DeliveryStatus.REJECTED, DeliveryStatus.EXPIRED})

PROOF_WINDOW = 3 * 86400.0
"""Seconds from the beginning of a call in which a first report or reply proves it."""
ENOUGH = Decimal("0.9")
"""The share of the accepted recipients that must have been reported on before silence means anything."""
HEARD_SINCE = 86400.0
"""Seconds before the beginning of a recipient's first call that may have been carried out, from which on anything that
is heard of a phone breaks its silence: the zone of a reply's time is not certain."""

PROVEN = "a delivery report or a reply proves that it was sent"
"""The reason of a recipient that evidence made `accepted`; one that an answer named has none, or another."""
NAMED = "a delivery report or a reply told the id of its message"
"""The reason of a recipient that an answer accepted without one."""
NAMED_BY_ANSWER = f"coalesce(named.reason, '') NOT IN ('{PROVEN}', '{NAMED}')"
"""In SQL, of a recipient `named` that has a message id."""
RESENT = "it is sent again, though it may have been sent before"
"""The reason of a recipient that was `unknown`, between the decision to send again and the call; also where that was
taken back before it left."""


@frozen
class Silent:
    """Send again only to those unknown recipients of whom nothing was heard."""

    after: float
    """Seconds since their call."""


def _is_enough(reported: int, accepted: int) -> bool:
    """So many of the accepted ones were reported on that silence means something; or there are none."""
    return reported >= ENOUGH * accepted


@frozen
class RunFigures:
    """One run of a campaign, as far as evidence goes."""

    first_batch: int
    unknown: int
    accepted: int
    """Named by an answer; those that evidence made so are reported on by nature, and not counted."""
    reported: int
    """Of these, reported on by their number."""
    credits_used: Decimal
    balance_before: Decimal | None
    balance_after: Decimal | None

    @property
    def is_reported(self) -> bool:
        """Enough of the accepted ones were reported on, or there are none."""
        return _is_enough(self.reported, self.accepted)


@frozen
class UnknownSummary:
    """What is known of those whose outcome no answer told."""

    count: int = 0
    """Still unknown."""
    since: float | None = None
    """Unix seconds at which the first call of these began."""
    heard_of: int = 0
    """Of these, something was heard that proves nothing."""
    proven: int = 0
    """Accepted by evidence."""
    runs: Sequence[RunFigures] = ()
    """In order; empty where nobody is unknown and no balance was noted."""

    @property
    def accepted(self) -> int:
        """Named as accepted by the answers of those runs that left somebody unknown."""
        return sum(run.accepted for run in self.runs if run.unknown)

    @property
    def reported(self) -> int:
        """Of these, reported on by their number."""
        return sum(run.reported for run in self.runs if run.unknown)

    @property
    def _in_all_runs(self) -> tuple[int, int]:
        """Named as accepted by an answer; and of these, reported on by their number."""
        return sum(run.accepted for run in self.runs), sum(run.reported for run in self.runs)

    @property
    def unaccounted_credits(self) -> Decimal | None:
        """Credits that left the balance during the runs and that no answer names. None where it is not known.

        A run that died has no balance at its end: the next one's at its beginning stands in. One in which the balance
        rose is left out.
        """
        found: list[Decimal] = []
        for number, run in enumerate(self.runs):
            after = run.balance_after
            if after is None and number + 1 < len(self.runs):
                after = self.runs[number + 1].balance_before
            if run.balance_before is not None and after is not None and after <= run.balance_before:
                found.append(run.balance_before - after - run.credits_used)
        return sum(found, Decimal(0)) if found else None

    @property
    def objection(self) -> str:
        """Why silence means nothing in this journal, or in some of its runs; "" where it does in all."""
        if not self.count:
            return ""
        accepted, reported = self._in_all_runs
        if not accepted:
            return "not done: nobody was accepted by an answer, so nothing tells whether reports come at all"
        if not _is_enough(reported, accepted):
            return (
                f"not done: {reported} of {counted(accepted, 'accepted recipient')} were reported on by number;"
                f" silence means nothing below {ENOUGH:.0%}"
            )
        if left_alone := sum(run.unknown for run in self.runs if not run.is_reported):
            return (
                f"not done for {left_alone} of them:"
                " too few of the accepted recipients of their runs were reported on by number"
            )
        return ""

    @property
    def silent_runs(self) -> tuple[tuple[int, int | None], ...]:
        """The runs with unknown recipients where silence means something: first batch, and the next run's."""
        accepted, reported = self._in_all_runs
        if not accepted or not _is_enough(reported, accepted):
            return ()
        ends: list[int | None] = [*(run.first_batch for run in self.runs[1:]), None]
        runs = zip(self.runs, ends, strict=True)
        return tuple((run.first_batch, end) for run, end in runs if run.unknown and run.is_reported)


def run_figures(
    runs: Iterable[tuple[int, str | None, str | None]],
    recipients: Iterable[tuple[int, float, float, float]],
    credit_texts: Iterable[tuple[int, str]],
) -> list[RunFigures]:
    """The runs of a campaign in figures, in order.

    Args:
        runs: The first batch of each, in order, and the balance before and after it.
        recipients: Of each batch, how many are unknown, accepted by an answer, and reported on of these.
        credit_texts: What a batch cost, where that is known.
    """
    found = list(runs)
    if not found or found[0][0] > 1:  # what came before runs were noted
        found.insert(0, (1, None, None))
    firsts = [first for first, _, _ in found]
    figures: list[Counter[str]] = [Counter() for _ in found]
    for batch, unknown, accepted, reported in recipients:
        run = figures[bisect_right(firsts, batch) - 1]
        run.update(unknown=int(unknown), accepted=int(accepted), reported=int(reported))
    credits_used = [Decimal(0)] * len(found)
    for batch, text in credit_texts:
        credits_used[bisect_right(firsts, batch) - 1] += Decimal(text)
    return [
        RunFigures(
            first_batch=first,
            unknown=run["unknown"],
            accepted=run["accepted"],
            reported=run["reported"],
            credits_used=used,
            balance_before=None if before is None else Decimal(before),
            balance_after=None if after is None else Decimal(after),
        )
        for (first, before, after), run, used in zip(found, figures, credits_used, strict=True)
    ]


def last_told(rows: Iterable[tuple[int, str]]) -> dict[int, str]:
    """The final status for each phone, "" where it has none: of phones and statuses, several of some."""
    found: dict[int, str] = {}
    for phone, status in rows:
        found[phone] = max(found.get(phone, ""), status)
    return found
