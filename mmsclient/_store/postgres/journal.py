"""The journal that a sender writes, in PostgreSQL.

Each method is one transaction, which locks the sender's lease first. Where the database is away, a method waits for it
and tries again; so each bears that an earlier attempt of its own was committed, though nobody heard of it.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import TypeAlias, TypeVar

from mmsclient._store.errors import JournalBusyError, JournalError, JournalUnavailableError
from mmsclient._store.evidence import Silent
from mmsclient._store.models import Claim, Exclusion, ListEntry, Owner, Picked, RecipientResult, Selection, Summary
from mmsclient._store.models import RecipientState as State
from mmsclient._store.postgres import evidence
from mmsclient._store.postgres.claims import ClaimWriter, Ended, end_dead_run, reopen
from mmsclient._store.postgres.database import Database, Transaction
from mmsclient._store.postgres.lease import CampaignLease, now
from mmsclient._store.postgres.listing import ListWriter
from mmsclient._store.postgres.messages import Queue
from mmsclient._store.postgres.reader import PostgresReader
from mmsclient._store.postgres.recorder import PostgresRecorder
from mmsclient._store.postgres.steering import PostgresSteering
from mmsclient._store.states import END

__all__ = ["PostgresJournal"]

log = logging.getLogger(__name__)

T = TypeVar("T")

Choose: TypeAlias = Callable[[Transaction], Picked]

CHANGED = "another program changed it during the campaign; nothing more is sent"
TAKEN_OVER = "another sender has taken it over, since this one's lease had run out; nothing more is sent here"


class PostgresJournal:
    """The journal of one campaign, for one epoch of one sender. Not for several threads at once.

    Args:
        database: A connection for the journal alone.
        lease: The sender's, begun in the same campaign.
        queue: In which order its recipients are claimed.
        resend_unknown: Those whose outcome is unknown become pending, or those of whom nothing was heard.
    """

    def __init__(
        self, database: Database, lease: CampaignLease, queue: Queue, *, resend_unknown: bool | Silent
    ) -> None:
        self._database = database
        self._lease, self._campaign = lease, lease.campaign
        self.reader = PostgresReader(database, lease.campaign)
        self.recorder = PostgresRecorder(database)
        self.steering = PostgresSteering(database, lease.campaign, lease.epoch)
        self.counts: Counter[State] = Counter()
        self.credits_used, self.list_read, self.ready = Decimal(0), False, 0
        self._queue, self._last = queue, (0, 0)  # how far it was claimed: nobody is claimed twice in one run
        self._late_ends = 0  # that are in `counts`
        self._claims = ClaimWriter(lease.campaign, lease.epoch)
        self._doubtful_claim: str | None = None  # it may have been committed, and its call never left
        self._doubtful_ends: set[int] = set()  # of batches: they may have been committed
        self._is_closed = False
        self.begin_run(resend_unknown=resend_unknown)

    @property
    def path(self) -> str:
        """Host, database and campaign."""
        return self._database.path

    @property
    def may_send(self) -> bool:
        """This sender surely holds its lease, so that a call may leave now. For any thread."""
        return self._lease.is_valid

    def begin_run(self, *, resend_unknown: bool | Silent) -> None:
        """Begin a new run.

        What an earlier one was sending is `unknown`, unless there is proof, and what it left pending or failed is sent.
        """

        def work(transaction: Transaction) -> tuple[int, str]:
            reopen(transaction, self._campaign)  # before evidence of those is acted on
            end_dead_run(transaction, self._campaign)
            objection = evidence.resend(transaction, self._campaign, resend_unknown)
            run = self._claims.begin_run(transaction)
            self._fence(transaction)  # again: this may have taken longer than a lease
            return run, objection

        self._last = (0, 0)
        self._run, objection = self._write(work)
        self._list = ListWriter(self._campaign, self._run)
        self.count()
        self._late_ends_before = self._late_ends
        if objection:
            log.warning("journal %s: sending again to silent unknown recipients: %s", self.path, objection)

    def note_balance(self, balance: Decimal, *, is_after: bool) -> None:
        """Note the account's balance before the first or after the last call of the run."""
        self._write(partial(self._claims.note_balance, run=self._run, balance=balance, is_after=is_after))

    def belong_to(self, owner: Owner) -> None:
        """From now on the journal is for `owner` alone."""
        self._write(partial(self._claims.belong_to, facts=owner.facts()))

    def close(self) -> None:
        """Close the journal and let others send. May be called again."""
        if self._is_closed:
            return
        self._is_closed = True
        self._database.patience = 0
        try:
            if (doubtful := self._doubtful_claim) is not None:
                self._database.run(lambda transaction: self._claims.undo(transaction, doubtful))
        except JournalError as problem:
            log.warning("%s; a call that never left may be told as unknown", problem)
        finally:
            self._lease.give_back()
            self._database.close()

    # The list ---------------------------------------------------------------------------------------------------------

    def exclude(self, phones: Iterable[int], why: Exclusion) -> None:
        """Never send to `phones`, in this run or a later one."""
        self._write(partial(self._list.exclude, phones=list(phones), why=why))
        self.count()

    def begin_list(self) -> None:
        """Note that a list is about to be read."""
        self._write(self._list.begin)
        self.list_read = False

    def end_list(self) -> None:
        """Note that the list was read to its end.

        One that is shorter than what was read of a list cut short is not that list.
        """
        if self._list.is_whole:
            self._write(self._list.end)
            self.list_read = True

    def add(self, entries: Iterable[ListEntry]) -> None:
        """Take in rows of the list. A phone that is known from an earlier run keeps its state."""
        rows = list(entries)
        new, excluded, rejected, is_repeated = self._write(
            lambda transaction: (*self._list.add(transaction, rows), transaction.is_repeated)
        )
        self._list.added(len(rows))
        if is_repeated:
            self.count()
            return
        self.counts[State.PENDING] += new - excluded
        self.counts[State.EXCLUDED] += excluded + rejected
        self.ready += new - excluded

    def add_unlisted(self, entries: Sequence[ListEntry]) -> None:
        """Take in recipients that stand in no list, in no run. One that is known stays as it is."""
        self._write(partial(self._list.add_unlisted, entries=entries))
        self.count()

    # Sending ----------------------------------------------------------------------------------------------------------

    def claim(self, limit: int, selection: Selection | None = None) -> Claim | None:
        """Set the next recipients to `sending`, at most `limit`, and return them; None if there are none at present.

        They are chosen and claimed in one transaction. When this returns, it is on the server's disk.
        """
        expected = min(limit, self.ready)
        batch, picked = self._claim(lambda each: self._queue.next(each, self._last, limit, selection), expected, (0, 0))
        self._last = max([self._last, *picked.positions])
        return Claim(batch, picked.ids, picked.phones, picked.message) if picked.rows else None

    def claim_again(self, ids: Sequence[int]) -> Claim | None:
        """Set these recipients, which are surely not sent, to `sending` in a call of their own. See `SenderJournal`."""
        batch, picked = self._claim(lambda each: self._claims.of_ids(each, ids), len(ids), self._last)
        return Claim(batch, picked.ids, picked.phones) if picked.rows else None

    def _claim(self, choose: Choose, expected: int, passed: tuple[int, int]) -> tuple[int, Picked]:
        """Claim those whom `choose` returns: `expected` by our own counts, and up to `passed`, none that was ready."""
        was_in_doubt = self._doubtful_claim is not None
        self._doubtful_claim = claim = self._doubtful_claim or secrets.token_hex(8)

        def work(transaction: Transaction) -> tuple[int, Picked, bool, float]:
            asked_at = now()
            self._fence(transaction)
            is_in_doubt = was_in_doubt or transaction.is_repeated
            if is_in_doubt:
                self._claims.undo(transaction, claim)
            picked = choose(transaction)
            batch = self._claims.begin_call(transaction, picked.ids, claim) if picked.rows else 0
            if batch is None:
                raise JournalError(self.path, CHANGED)
            return batch, picked, not is_in_doubt and self._lease.late_ends(transaction) == self._late_ends, asked_at

        batch, picked, is_as_counted, asked_at = self._database.run(work)
        self._lease.extend(asked_at)
        if (len(picked.rows) == expected or picked.is_of_one_group) and is_as_counted:
            self.counts.subtract(picked.states)
            self.counts[State.SENDING] += len(picked.rows)
            self.ready -= sum(position > passed for position in picked.positions)
        else:  # something was taken away, or has come late
            self.count()
        self._doubtful_claim = None
        return batch, picked

    def finish(
        self,
        claim: Claim,
        results: Sequence[RecipientResult],
        *,
        accepted: int | None,
        credits_used: Decimal | None,
        error: str | None,
    ) -> None:
        """Record what became of a call and of each of its recipients, and act on what proves more.

        Raises:
            JournalBusyError: Another sender has taken over, and those whom it did not leave `unknown` are its own.
        """
        if not {result.state for result in results} <= END.targets:
            raise ValueError(f"a call leaves its recipients {', '.join(sorted(END.targets))}")
        end = partial(self._claims.end, claim=claim, results=results, told=(accepted, credits_used, error))
        self._end(claim, [result.state for result in results], end)
        self.credits_used += credits_used or 0

    def release(self, claim: Claim) -> None:
        """Undo a claim: the call never left."""
        self._end(claim, [State.PENDING] * len(claim.ids), partial(self._claims.release, claim=claim))

    def suppress(self, claim: Claim, reasons: Mapping[int, str], why: Exclusion = Exclusion.SUPPRESSED) -> None:
        """Exclude some of a claim whose call has not left: by their phones, which are in it, the reasons."""
        part = claim.only(reasons)
        suppress = partial(self._claims.suppress, part=part, reasons=reasons, why=why)
        self._end(part, [State.EXCLUDED] * len(part.ids), suppress)

    def _end(self, claim: Claim, states: Sequence[State], end: Callable[..., Ended]) -> None:
        """Record by `end` the end of a call, which leaves its recipients in these states."""
        was_in_doubt = claim.batch in self._doubtful_ends
        self._doubtful_ends.add(claim.batch)
        proven: Counter[State] = Counter()

        def work(transaction: Transaction) -> int:
            is_late = not self._lease.fence(transaction)
            nonlocal proven
            ended, found = end(transaction, is_late=is_late)
            is_in_doubt = ended is None and (was_in_doubt or transaction.is_repeated)
            if is_in_doubt and not (is_late and self._claims.is_claimed_again(transaction, claim)):
                return len(claim.ids)  # an attempt before this one was committed
            if (ended or 0) != len(claim.ids) and not is_late:
                raise JournalError(self.path, CHANGED)
            proven = found
            return ended or 0

        try:
            ended = self._database.run(work)
        except JournalUnavailableError:
            raise
        except JournalError:
            self._doubtful_ends.discard(claim.batch)
            raise
        self._doubtful_ends.discard(claim.batch)
        if ended != len(claim.ids):
            raise JournalBusyError(self.path, TAKEN_OVER)
        self.counts.update(Counter(states) - proven)
        self.counts.update({State.SENDING: -len(states), State.ACCEPTED: proven.total()})

    def _write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction, if nobody has taken over."""

        def fenced(transaction: Transaction) -> T:
            self._fence(transaction)
            return work(transaction)

        return self._database.run(fenced)

    def _fence(self, transaction: Transaction) -> None:
        if not self._lease.fence(transaction):
            raise JournalBusyError(self.path, TAKEN_OVER)

    def reopened(self) -> bool:
        """See `SenderJournal`."""
        if self._database.run(self._lease.late_ends, reads=True) != self._late_ends:
            self.count()  # walks through the whole campaign
        return self._late_ends > self._late_ends_before

    def count(self) -> None:
        """Count anew what there is."""

        def work(transaction: Transaction) -> tuple[Summary, int, int]:
            ready = self._queue.ready(transaction, self._last)
            return self.reader.summary_in(transaction), ready, self._lease.late_ends(transaction)

        summary, self.ready, self._late_ends = self._database.run(work, reads=True)
        self.counts = Counter(summary.counts)
        self.credits_used, self.list_read = summary.credits_used, summary.list_read
