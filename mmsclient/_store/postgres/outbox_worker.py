"""A worker of the outbox in PostgreSQL: claims under a lease, ends, and what dead workers have left."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Collection, Mapping, Sequence

import psycopg
from attrs import evolve

from mmsclient._store.errors import JournalError
from mmsclient._store.models import Owner
from mmsclient._store.outbox import MOST_COUNTED, Candidate, OrderEnd, OutboxClaim, OutboxDue, OutboxState, chosen
from mmsclient._store.outbox_evidence import replaces_proof
from mmsclient._store.outbox_resends import died, end_again, told_of_each
from mmsclient._store.postgres import outbox_evidence, retention
from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import Database, Transaction, columns, storable
from mmsclient._store.postgres.lease import now
from mmsclient._store.postgres.outbox_ends import end_orders
from mmsclient._store.postgres.outbox_owner import belong_to
from mmsclient._store.postgres.senders import SenderLease, dead_among
from mmsclient.errors import one_line

__all__ = ["PostgresOutboxWorker", "forget", "lose_dead"]

log = logging.getLogger(__name__)

_FIRST = """
SELECT message FROM outbox WHERE state = 'waiting' AND due <= statement_timestamp()
ORDER BY due, id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_EQUAL = """
SELECT id, key, (
    SELECT array_agg(phone ORDER BY position) FROM outbox_recipient AS r
    WHERE r.outbox = o.id AND (r.state IS NULL OR r.state = 'unknown')
), attempts, together, doubted IS NOT NULL
FROM outbox AS o WHERE state = 'waiting' AND message = %s AND due <= statement_timestamp()
ORDER BY due, id LIMIT 1000 FOR UPDATE SKIP LOCKED
"""
# Evidence may have come between the beginning of that statement and its lock.
_STILL_OPEN = """
SELECT outbox, phone FROM outbox_recipient WHERE outbox = ANY(%s) AND (state IS NULL OR state = 'unknown')
"""
_CLAIM = """
UPDATE outbox SET state = 'sending', sender = %s, claim = %s, claimed = clock_timestamp(), attempts = attempts + 1
WHERE id = ANY(%s)
"""
_MESSAGE = """
SELECT text, subject, data FROM outbox JOIN outbox_picture ON sha256 = picture WHERE id = %s
"""
# A claim whose commit was in doubt, and whose call never began.
_UNDO = """
UPDATE outbox SET state = 'waiting', attempts = attempts - 1, sender = NULL, claim = NULL, ended = NULL, number = NULL
WHERE claim = %s AND state IN ('sending', 'unknown')
"""
# One that an operator has sent again keeps its claim until it is claimed again, and has no sender.
_LOCK = """
SELECT id, coalesce(claim = %s, false), state, proven, doubted IS NOT NULL,
    state IN ('waiting', 'cancelled') AND sender IS NULL, result
FROM outbox WHERE id = ANY(%s) ORDER BY id FOR UPDATE
"""
_TAKE_BACK = "UPDATE outbox SET doubted = nullif(doubted, claimed) WHERE id = ANY(%s)"
_WAIT = """
UPDATE outbox SET state = 'waiting', due = clock_timestamp() + make_interval(secs => given.delay),
    together = given.together, ended = NULL, number = NULL, result = given.result, proven = false
FROM unnest(%s::bigint[], %s::float8[], %s::integer[], %s::text[]) AS given (id, delay, together, result)
WHERE outbox.id = given.id
"""
_RECIPIENTS = """
UPDATE outbox_recipient SET state = given.state, message_id = given.message_id, proven = false
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::boolean[])
    AS given (outbox, phone, state, message_id, keeps)
WHERE outbox_recipient.outbox = given.outbox AND outbox_recipient.phone = given.phone
    AND NOT (outbox_recipient.proven AND given.keeps)
"""
_ACCEPTED = "SELECT DISTINCT outbox FROM outbox_recipient WHERE outbox = ANY(%s) AND state = 'accepted'"
_DUE = """
SELECT count(*), extract(epoch FROM clock_timestamp() - min(greatest(put, not_before))), (
    SELECT count(*) FROM (SELECT FROM outbox WHERE state = 'unknown' LIMIT %s) AS of_it
) FROM (
    SELECT put, not_before FROM outbox WHERE state = 'waiting' ORDER BY due, id LIMIT %s
) AS first WHERE not_before IS NULL OR not_before <= clock_timestamp()
"""
_OTHERS = "SELECT DISTINCT sender FROM outbox WHERE state = 'sending' AND sender <> %s"
_LEFT = "SELECT id, sender, result FROM outbox WHERE state = 'sending' AND sender = ANY(%s) ORDER BY id FOR UPDATE"
_OLD = "DELETE FROM outbox WHERE ended < clock_timestamp() - make_interval(secs => %s)"
_UNUSED = """
DELETE FROM outbox_picture WHERE NOT EXISTS (
    SELECT FROM outbox WHERE picture = sha256
    AND (state IN ('waiting', 'sending', 'unknown') OR proven OR state = 'cancelled' AND doubted IS NOT NULL)
)
"""


class PostgresOutboxWorker:
    """An `OutboxWorkerStore`, on connections of its own. Begins another lease where one is lost.

    Args:
        address: Of the database, which has its tables.
        owner: For whom it sends.
    """

    def __init__(self, address: Address, owner: Owner) -> None:
        self._address, self._owner = address, owner
        self._database = Database(address)
        self._doubtful_claim: str | None = None  # it may have been committed, and its call never left
        self._doubtful_deaths: dict[int, str] = {}  # orders and their senders: that these are dead may be committed
        try:
            self._lease = self._begin()
        except BaseException:
            self._database.close()
            raise

    def _begin(self) -> SenderLease:
        """A lease, if the outbox is this owner's, also by now."""
        lease = SenderLease.acquire(Database(self._address))
        try:
            self._database.run(lambda transaction: belong_to(transaction, self._address.shown, self._owner, lease.id))
        except BaseException:
            lease.give_back()
            raise
        return lease

    @property
    def may_send(self) -> bool:
        """See `OutboxWorkerStore.may_send`."""
        return self._lease.is_valid

    def claim(self) -> OutboxClaim | None:
        """See `OutboxWorkerStore.claim`."""
        if self._lease.is_lost:
            log.warning("outbox %s: the lease was lost; this worker goes on with another one", self._address.shown)
            self._lease.give_back()
            self._lease = self._begin()
        in_doubt = self._doubtful_claim
        self._doubtful_claim = claim = in_doubt or secrets.token_hex(12)

        def work(transaction: Transaction) -> tuple[OutboxClaim | None, float]:
            asked_at = now()
            if in_doubt is not None or transaction.is_repeated:
                transaction.execute(_UNDO, (claim,))
            if not self._lease.fence(transaction):
                return None, asked_at
            return self._next(transaction, claim), asked_at

        claimed, asked_at = self._database.run(work)
        if not self._lease.is_lost:
            self._lease.extend(asked_at)
        self._doubtful_claim = None
        return claimed

    def finish(self, claim: OutboxClaim, ends: Sequence[OrderEnd]) -> int:
        """See `OutboxWorkerStore.finish`."""
        orders = {order.id: (order, end) for order, end in zip(claim.orders, ends, strict=True)}

        def work(transaction: Transaction) -> int:
            done = 0
            mine: list[tuple[Candidate, OrderEnd]] = []
            resent: list[int] = []  # and not claimed since
            former: list[tuple[Candidate, OrderEnd]] = []
            doubted: dict[int, str | None] = {}  # and what their results were
            rows = transaction.rows(_LOCK, (claim.id, list(orders)))
            for id_, is_last, state, is_proven, is_doubted, is_resent, result in rows:
                _, end = of_it = orders[id_]
                if not is_last or (is_resent and not end.takes_back(OutboxState(state))):
                    former.append(of_it)
                    continue
                done += 1
                if is_resent:
                    resent.append(id_)
                is_open = is_resent or state in (OutboxState.SENDING, OutboxState.UNKNOWN)
                if is_open or (is_proven and replaces_proof(end, is_doubted=is_doubted)):
                    mine.append(of_it)
                    doubted |= {id_: result} if is_doubted else {}
            if resent:
                transaction.execute(_TAKE_BACK, (resent,))
            _end(transaction, mine, doubted)
            outbox_evidence.note_answers(transaction, former)
            outbox_evidence.settle(transaction, [order.id for order, _ in (*mine, *former)])
            return done

        return self._database.run(work)

    def due(self) -> OutboxDue:
        """See `OutboxWorkerStore.due`."""
        count, oldest, unknown = self._database.run(
            lambda transaction: transaction.row(_DUE, (MOST_COUNTED, MOST_COUNTED)), reads=True
        )
        return OutboxDue(int(count), max(0.0, float(oldest or 0.0)), int(unknown))

    def lose_dead(self) -> int:
        """See `OutboxWorkerStore.lose_dead`."""

        in_doubt = self._doubtful_deaths

        def work(transaction: Transaction) -> int:
            left = lose_dead(transaction, self._lease.id)
            gone = dead_among(transaction, set(in_doubt.values())) if in_doubt else ()
            lost = left | {id_: sender for id_, sender in in_doubt.items() if sender in gone}
            in_doubt.update(left)
            outbox_evidence.settle(transaction, list(left))
            return len(lost)

        lost = self._database.run(work)
        in_doubt.clear()
        return lost

    def settle(self) -> int:
        """See `OutboxWorkerStore.settle`."""
        return self._database.run(outbox_evidence.settle_all)

    def purge(self, keep: float | None = None) -> None:
        """See `OutboxWorkerStore.purge`."""

        def work(transaction: Transaction) -> None:
            seconds = retention.kept_for(transaction, "outbox") if keep is None else keep
            forget(transaction, seconds)

        self._database.run(work)

    def close(self) -> None:
        """See `OutboxWorkerStore.close`."""
        try:
            if (doubtful := self._doubtful_claim) is not None:
                self._database.run(lambda transaction: transaction.execute(_UNDO, (doubtful,)))
        except JournalError as problem:
            log.warning("%s; what never left may be told as unknown", problem)
        finally:
            self._lease.give_back()
            self._database.close()

    def _next(self, transaction: Transaction, claim: str) -> OutboxClaim | None:
        first = transaction.row(_FIRST)
        if first is None:
            return None
        found = transaction.rows(_EQUAL, first)
        taken = chosen([Candidate(i, key, tuple(phones), *rest) for i, key, phones, *rest, _ in found])
        taken = _still_open(transaction, taken, {i for i, *_, is_doubted in found if is_doubted})
        transaction.execute(_CLAIM, (self._lease.id, claim, [each.id for each in taken]))
        if (message := transaction.row(_MESSAGE, (taken[0].id,))) is None:
            problem = f"the picture of {one_line(taken[0].key, 200)!r} is gone; put the same order again, or cancel it"
            raise JournalError(self._address.shown, problem)
        text, subject, picture = message
        return OutboxClaim(claim, text, subject, bytes(picture), tuple(taken))


def _still_open(transaction: Transaction, taken: Sequence[Candidate], doubted: Collection[int]) -> list[Candidate]:
    """Those that were sent again, all locked by now, without the recipients of whom something is known meanwhile."""
    ids = [each.id for each in taken if each.id in doubted]
    still_open = set(transaction.rows(_STILL_OPEN, (ids,))) if ids else set()
    return [
        evolve(each, phones=tuple(phone for phone in each.phones if (each.id, phone) in still_open))
        if each.id in doubted
        else each
        for each in taken
    ]


def lose_dead(transaction: Transaction, but: str = "") -> dict[int, str]:
    """What dead workers were sending is unknown; the ids of these orders, and who sent them. `but`: who lives."""
    others = [row[0] for row in transaction.rows(_OTHERS, (but,))]
    dead = dead_among(transaction, others) if others else []
    left = transaction.rows(_LEFT, (dead,)) if dead else []
    if left:
        end_orders(transaction, [(id_, OutboxState.UNKNOWN, died(result)) for id_, _, result in left])
    return {id_: sender for id_, sender, _ in left}


def forget(transaction: Transaction, keep: float | None) -> int:
    """Forget what ended so many seconds ago, and pictures that are not needed; how many orders that were.

    None forgets no order.
    Pictures only where nobody is just putting an order: who does holds a lock on their table until that is committed.
    """
    forgotten = 0 if keep is None else transaction.execute(_OLD, (keep,))
    transaction.script("SAVEPOINT pictures; SET LOCAL lock_timeout = 100")
    try:
        transaction.script("LOCK TABLE outbox_picture IN SHARE ROW EXCLUSIVE MODE")
    except psycopg.errors.LockNotAvailable:
        transaction.script("ROLLBACK TO SAVEPOINT pictures")
    else:
        transaction.execute(_UNUSED)
    return forgotten


def _end(
    transaction: Transaction, mine: Sequence[tuple[Candidate, OrderEnd]], doubted: Mapping[int, str | None]
) -> None:
    recipients = [
        (order.id, phone, state, storable(message_id), keeps)
        for order, end in mine
        for phone, (state, message_id, keeps) in zip(
            order.phones, told_of_each(end, is_doubted=order.id in doubted), strict=True
        )
    ]
    transaction.execute(_RECIPIENTS, columns(recipients, 5))
    if doubted:
        accepted = {row[0] for row in transaction.rows(_ACCEPTED, (list(doubted),))}
        mine = [
            (order, end_again(doubted[order.id], end, is_accepted=order.id in accepted))
            if order.id in doubted
            else (order, end)
            for order, end in mine
        ]
    texts = [json.dumps(dict(end.result)) for _, end in mine]
    waiting = [
        (order.id, end.delay, end.together, text)
        for (order, end), text in zip(mine, texts, strict=True)
        if end.state is OutboxState.WAITING
    ]
    if waiting:
        transaction.execute(_WAIT, columns(waiting, 4))
    over = [
        (order.id, end.state, text)
        for (order, end), text in zip(mine, texts, strict=True)
        if end.state is not OutboxState.WAITING
    ]
    end_orders(transaction, over)
