"""How claims and the ends of calls are written, within a transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias

from attrs import frozen

from mmsclient._store.evidence import PROVEN, RESENT
from mmsclient._store.models import Claim, Exclusion, Picked, RecipientResult
from mmsclient._store.models import RecipientState as State
from mmsclient._store.postgres.answers import unnamed
from mmsclient._store.postgres.by_id import runs_of, update
from mmsclient._store.postgres.database import Transaction, columns, storable
from mmsclient._store.postgres.evidence import FORMER_CALLS, note_answers, settle_all, settle_some
from mmsclient._store.postgres.listing import exclude_noted, exclude_some
from mmsclient._store.states import CLAIM, END, LATE, LOSE, RELEASE, REOPEN, SUPPRESS

__all__ = ["ClaimWriter", "Ended", "end_dead_run", "lose", "reopen"]

_DIED = "it was being sent when the process ended"

Ended: TypeAlias = tuple[int | None, Counter[State]]
"""Of how many recipients the end of a call is noted, None where an end had been noted before; and in which states those
were whom evidence settled then."""

_BEGIN_CALL = """
WITH next AS (UPDATE lease SET last_batch = last_batch + 1 WHERE campaign = %s RETURNING last_batch)
INSERT INTO batch (campaign, id, epoch, claim, recipients, started)
SELECT %s, last_batch, %s, %s, %s, clock_timestamp() FROM next RETURNING id
"""
_CLAIM = f"""
UPDATE recipient SET state = 'sending', batch = claimed.batch, reason = NULL, message_id = NULL
FROM unnest(%s::bigint[], %s::bigint[]) AS claimed (id, batch)
WHERE campaign = %s AND recipient.id BETWEEN %s AND %s AND recipient.id = claimed.id AND {CLAIM.guard}
"""  # noqa: S608
_AS_BEFORE = f"""
state = 'pending',
(batch, reason) = (SELECT max(former_call.batch), CASE WHEN count(*) > 0 THEN '{RESENT}' END {FORMER_CALLS})
"""
_UNDO = f"""
WITH undone AS (DELETE FROM batch WHERE campaign = %s AND epoch = %s AND claim = %s AND ended IS NULL RETURNING id)
UPDATE recipient SET {_AS_BEFORE} FROM undone
WHERE campaign = %s AND batch = undone.id AND {RELEASE.guard} RETURNING recipient.id
"""  # noqa: S608
_REOPEN = f"""
UPDATE recipient SET {_AS_BEFORE}, exclusion = NULL
WHERE campaign = %s AND {REOPEN.guard} AND exclusion = '{Exclusion.NO_MESSAGE}' AND NOT EXISTS (
    SELECT 1 FROM excluded WHERE excluded.campaign = recipient.campaign AND excluded.phone = recipient.phone
)
"""  # noqa: S608
_END_BATCH = """
UPDATE batch SET ended = clock_timestamp(), accepted = %s, credits = %s, error = %s
WHERE campaign = %s AND id = %s AND epoch = %s AND ended IS NULL
"""
_LOSE = f"UPDATE recipient SET state = 'unknown', reason = %s WHERE campaign = %s AND {LOSE.guard}"  # noqa: S608


# A recipient that was to be sent to again, and has not been since, stands in the call that left it unknown.
_IS_LATE = f"recipient.{LATE.guard} AND (recipient.state = 'unknown' OR recipient.reason = '{RESENT}')"


def _end(guard: str) -> str:
    return f"""
        UPDATE recipient SET state = ended.state, message_id = ended.message_id, reason = ended.reason
        FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) AS ended (id, state, message_id, reason)
        WHERE campaign = %s AND batch = %s AND recipient.id BETWEEN %s AND %s
            AND recipient.id = ended.id AND {guard} AND (recipient.state <> 'pending' OR ended.state <> 'unknown')
    """  # noqa: S608


def _release(guard: str) -> str:
    return f"""
        UPDATE recipient SET {_AS_BEFORE} FROM unnest(%s::bigint[]) AS released (id)
        WHERE campaign = %s AND batch = %s AND recipient.id BETWEEN %s AND %s
            AND recipient.id = released.id AND {guard}
    """  # noqa: S608


def _suppress(guard: str) -> str:
    return f"""
        UPDATE recipient SET state = 'excluded', batch = (SELECT max(former_call.batch) {FORMER_CALLS}),
            exclusion = suppressed.exclusion, reason = suppressed.reason
        FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS suppressed (id, exclusion, reason)
        WHERE campaign = %s AND batch = %s AND recipient.id BETWEEN %s AND %s
            AND recipient.id = suppressed.id AND {guard}
    """  # noqa: S608


_ENDS = {False: _end(f"recipient.{END.guard}"), True: _end(_IS_LATE)}
_RELEASES = {False: _release(f"recipient.{RELEASE.guard}"), True: _release(_IS_LATE)}
_SUPPRESSIONS = {False: _suppress(f"recipient.{SUPPRESS.guard}"), True: _suppress(_IS_LATE)}
_FORGET_CALL = """
DELETE FROM former_call USING unnest(%s::bigint[]) AS settled (id)
WHERE campaign = %s AND batch = %s AND recipient BETWEEN %s AND %s AND recipient = settled.id
"""
"""Of a call that was surely not carried out."""


def lose(transaction: Transaction, campaign: int) -> int:
    """What an earlier sender had claimed and not ended is `unknown`; how many those are."""
    return transaction.execute(_LOSE, (_DIED, campaign))


def reopen(transaction: Transaction, campaign: int) -> None:
    """Let those be sent to whose picture could not be made in an earlier run."""
    if transaction.row("SELECT template <> '' FROM campaign WHERE id = %s", (campaign,))[0]:
        transaction.execute(_REOPEN, (campaign,))


def end_dead_run(transaction: Transaction, campaign: int) -> int:
    """As `lose`, unless there is proof. How many recipients evidence settled."""
    lose(transaction, campaign)
    return settle_all(transaction, campaign)


@frozen
class ClaimWriter:
    """Writes for one epoch of one campaign. Numbers of batches are never given twice, so each is of one epoch."""

    campaign: int
    epoch: int

    def belong_to(self, transaction: Transaction, facts: Mapping[str, str | bytes]) -> None:
        """The campaign is for the owner of these `facts` alone."""
        sql = "UPDATE campaign SET base_url = %s, key_salt = %s, key_fingerprint = %s WHERE id = %s"
        transaction.execute(sql, (*facts.values(), self.campaign))

    def begin_run(self, transaction: Transaction) -> int:
        """Begin a run of the campaign; its number."""
        exclude_noted(transaction, self.campaign)  # who was unknown when it was excluded, and is to be sent to now
        sql = "UPDATE campaign SET runs = runs + 1 WHERE id = %s RETURNING runs"
        (run,) = transaction.row(sql, (self.campaign,))
        sql = (
            "INSERT INTO run (campaign, id, first_batch) SELECT campaign, %s, last_batch + 1 FROM lease"
            " WHERE campaign = %s"
        )
        transaction.execute(sql, (run, self.campaign))
        return int(run)

    def note_balance(self, transaction: Transaction, run: int, balance: Decimal, *, is_after: bool) -> None:
        """Note the account's balance before or after a run."""
        column = "balance_after" if is_after else "balance_before"
        sql = f"UPDATE run SET {column} = %s WHERE campaign = %s AND id = %s"  # noqa: S608
        transaction.execute(sql, (str(balance), self.campaign, run))

    def of_ids(self, transaction: Transaction, ids: Sequence[int]) -> Picked:
        """Those with these ids whom neither evidence has settled, nor the late answer to another sender's call."""
        sql = (
            "SELECT id, phone, state FROM recipient JOIN unnest(%s::bigint[]) AS wanted (id) USING (id)"  # noqa: S608
            f" WHERE campaign = %s AND id BETWEEN %s AND %s AND ({CLAIM.guard} OR reason IS DISTINCT FROM '{PROVEN}'"
            " AND (SELECT epoch FROM batch WHERE batch.campaign = recipient.campaign AND batch.id = recipient.batch)"
            " = %s) ORDER BY id"
        )
        runs = runs_of([(each,) for each in sorted(ids)])
        found = ((*columns(run, 1), self.campaign, run[0][0], run[-1][0], self.epoch) for run in runs)
        return Picked([row for values in found for row in transaction.rows(sql, values)])

    def begin_call(self, transaction: Transaction, ids: Sequence[int], claim: str) -> int | None:
        """Set all of `ids` to `sending` and return the batch; None where one of them cannot be."""
        campaign = self.campaign
        (batch,) = transaction.row(_BEGIN_CALL, (campaign, campaign, self.epoch, claim, len(ids)))
        claimed = update(transaction, _CLAIM, ((each, batch) for each in ids), 2, campaign)
        return int(batch) if claimed == len(ids) else None

    def undo(self, transaction: Transaction, claim: str) -> None:
        """Those of a claim whose commit nobody heard of are pending again: their call never left."""
        undone = transaction.rows(_UNDO, (self.campaign, self.epoch, claim, self.campaign))
        self._settle(transaction, [each for (each,) in undone])

    def end(
        self,
        transaction: Transaction,
        claim: Claim,
        results: Sequence[RecipientResult],
        told: tuple[int | None, Decimal | None, str | None],
        *,
        is_late: bool,
    ) -> Ended:
        """Note the end of a call, unless it has one already, and what became of its recipients.

        `told`: how many the API accepted, for how many credits, and what went wrong.
        """
        accepted, credits_used, error = told
        credit_text = None if credits_used is None else str(credits_used)
        values = (accepted, credit_text, storable(error), self.campaign, claim.batch, self.epoch)
        if transaction.execute(_END_BATCH, values) != 1:
            return None, Counter()
        rows = (
            (each, result.state.value, storable(result.message_id), storable(result.reason))
            for each, result in zip(claim.ids, results, strict=True)
        )
        ended = update(transaction, _ENDS[is_late], rows, 4, self.campaign, claim.batch)
        if is_late:
            exclude_some(transaction, self.campaign, claim.ids)
            self._note_late(transaction, ended + self._answer_former(transaction, claim, results))
            return ended, Counter()
        pairs = zip(claim.ids, results, strict=True)
        return ended, self._settle(transaction, [each for each, result in pairs if result.is_open])

    def release(self, transaction: Transaction, claim: Claim, *, is_late: bool) -> Ended:
        """Those of a call that never left are pending."""
        sql = "DELETE FROM batch WHERE campaign = %s AND id = %s AND epoch = %s AND ended IS NULL"
        if not transaction.execute(sql, (self.campaign, claim.batch, self.epoch)):
            return None, Counter()
        if is_late:
            self._forget_former(transaction, claim.batch, claim.ids)
        rows = ((each,) for each in claim.ids)
        released = update(transaction, _RELEASES[is_late], rows, 1, self.campaign, claim.batch)
        if is_late:
            exclude_some(transaction, self.campaign, claim.ids)
            self._note_late(transaction, released)
            return released, Counter()
        return released, self._settle(transaction, claim.ids)

    def _settle(self, transaction: Transaction, ids: Sequence[int]) -> Counter[State]:
        """Act on what proves more of those whom a call has left open. Late, they were unknown, and it was acted on."""
        return settle_some(transaction, self.campaign, ids) if ids else Counter()

    def suppress(
        self, transaction: Transaction, part: Claim, reasons: Mapping[int, str], why: Exclusion, *, is_late: bool
    ) -> Ended:
        """Those of a call that has not left are excluded."""
        if is_late:
            self._forget_former(transaction, part.batch, part.ids)
        rows = ((each, why, storable(reasons[phone])) for each, phone in zip(part.ids, part.phones, strict=True))
        suppressed = update(transaction, _SUPPRESSIONS[is_late], rows, 3, self.campaign, part.batch)
        if is_late:
            self._note_late(transaction, suppressed)
        if suppressed:
            key = (self.campaign, part.batch, self.epoch)
            sql = "UPDATE batch SET recipients = recipients - %s WHERE campaign = %s AND id = %s AND epoch = %s"
            transaction.execute(sql, (suppressed, *key))
            sql = "DELETE FROM batch WHERE campaign = %s AND id = %s AND epoch = %s AND recipients = 0"
            transaction.execute(sql, key)
        return suppressed or None, Counter() if is_late else self._settle(transaction, part.ids)

    def is_claimed_again(self, transaction: Transaction, claim: Claim) -> bool:
        """Somebody of a call stands in a later one."""
        sql = "SELECT 1 FROM recipient WHERE campaign = %s AND id = ANY(%s) AND batch > %s LIMIT 1"
        return bool(transaction.rows(sql, (self.campaign, list(claim.ids), claim.batch)))

    def _answer_former(self, transaction: Transaction, claim: Claim, results: Sequence[RecipientResult]) -> int:
        """Act on what the late answer says of those who were sent to again since; how many that made accepted."""
        named: list[tuple[int, int, str]] = []
        not_sent: list[int] = []
        without_id = unnamed(f"batch {claim.batch} of campaign {self.campaign}")
        for each, phone, result in zip(claim.ids, claim.phones, results, strict=True):
            if result.state is State.ACCEPTED:
                named.append((phone, each, storable(result.message_id) or without_id))
            elif result.state is not State.UNKNOWN:
                not_sent.append(each)
        self._forget_former(transaction, claim.batch, not_sent)
        if not named:
            return 0
        note_answers(transaction, self.campaign, claim.batch, named)
        return self._settle(transaction, [each for _, each, _ in named]).total()

    def _forget_former(self, transaction: Transaction, batch: int, ids: Iterable[int]) -> None:
        """This call was surely not carried out."""
        update(transaction, _FORGET_CALL, ((each,) for each in ids), 1, self.campaign, batch)

    def _note_late(self, transaction: Transaction, changed: int) -> None:
        """Let the present sender know that its counts are no longer true."""
        if changed:
            sql = "UPDATE lease SET late_ends = late_ends + 1 WHERE campaign = %s"
            transaction.execute(sql, (self.campaign,))
