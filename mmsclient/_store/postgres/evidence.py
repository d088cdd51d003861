"""Evidence about unknown recipients in PostgreSQL; `mmsclient._store.evidence` has the rules.

Reports and replies are the store's, whichever campaign they were recorded with, and a phone may be in several, and in
keyed sends and orders. So two conditions come on top: an id that the answer to another call named proves nothing, and
neither does one that another call to the same phone may have caused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from mmsclient._store.evidence import (
    DID_NOT_ARRIVE,
    HEARD_SINCE,
    NAMED,
    NAMED_BY_ANSWER,
    PROOF_WINDOW,
    PROVEN,
    RESENT,
    RunFigures,
    Silent,
    UnknownSummary,
    last_told,
    run_figures,
)
from mmsclient._store.heard import Gathered
from mmsclient._store.models import Exclusion, RecipientState
from mmsclient._store.postgres.answers import ANSWER_COUNTS, IS_ANSWER, named_by
from mmsclient._store.postgres.by_id import update
from mmsclient._store.postgres.database import Transaction, columns
from mmsclient._store.postgres.other_calls import (
    LAST_CALL,
    MAY_BE_OF_NO_CAMPAIGN,
    NAMED_OUTSIDE_CAMPAIGNS,
    STANDS_OUTSIDE_CAMPAIGNS,
)
from mmsclient._store.states import ANSWER, PROVE, RESEND

__all__ = [
    "EVIDENCE",
    "FORMER_CALLS",
    "lock",
    "news",
    "note",
    "note_answers",
    "reached_before",
    "resend",
    "settle_all",
    "settle_heard",
    "settle_some",
    "unknown_summary",
]

# A report or a reply may speak of a message that was heard of before its phone stood in a list.
_NEWS = f"""
SELECT news.phone, news.message_id, least(clock_timestamp(), to_timestamp(news.time), (
    SELECT min(reported) FROM delivery
    WHERE delivery.message_id = news.message_id AND delivery.phone IN (0, news.phone)
))::text, news.kind
FROM unnest(%s::bigint[], %s::text[], %s::float8[], %s::text[])
    WITH ORDINALITY AS news (phone, message_id, time, kind, place)
WHERE (
    (SELECT true FROM recipient WHERE recipient.phone = news.phone LIMIT 1) IS NOT NULL
    OR {STANDS_OUTSIDE_CAMPAIGNS.format(of="news")}
) AND (
    SELECT true FROM recipient
    WHERE recipient.phone = news.phone AND state = 'accepted' AND recipient.message_id = news.message_id LIMIT 1
) IS NULL AND NOT {NAMED_OUTSIDE_CAMPAIGNS.format(of="news")}
ORDER BY place
"""  # noqa: S608 - our own constants
_NOTE = f"""
INSERT INTO evidence (phone, message_id, heard, kind)
SELECT phone, message_id, heard::timestamptz, kind
FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[])
    WITH ORDINALITY AS news (phone, message_id, heard, kind, place) ORDER BY place
ON CONFLICT (phone, message_id) DO UPDATE SET
    heard = CASE WHEN {IS_ANSWER} THEN evidence.heard ELSE least(evidence.heard, excluded.heard) END,
    kind = coalesce(evidence.kind, excluded.kind)
"""  # noqa: S608

_NOTE_ANSWERS = f"""
INSERT INTO evidence (phone, message_id, heard, kind)
SELECT phone, answered.message_id, started, kind
FROM unnest(%s::bigint[], %s::text[]) WITH ORDINALITY AS answered (id, message_id, place) CROSS JOIN LATERAL (
    SELECT phone, state, batch, recipient.message_id FROM recipient WHERE campaign = %s AND id = answered.id LIMIT 1
) AS recipient CROSS JOIN (
    SELECT batch.id, started, kind FROM batch JOIN campaign ON campaign.id = batch.campaign
    WHERE batch.campaign = %s AND batch.id = %s
) AS call
WHERE NOT (state = 'accepted' AND batch = call.id AND coalesce(recipient.message_id = answered.message_id, true))
ORDER BY place
{ANSWER_COUNTS}
"""  # noqa: S608

FORMER_CALLS = (
    "FROM former_call WHERE former_call.campaign = recipient.campaign AND former_call.recipient = recipient.id"
)

_IS_OF_ITS_KIND = """
(evidence.kind IS NULL OR evidence.kind = (SELECT kind FROM campaign WHERE campaign.id = recipient.campaign LIMIT 1))
"""

# Rows are looked up one by one, by subqueries that cannot become joins, and by indexes that `+ 0` leaves alone: new
# tables, and those with a new campaign, have statistics that know nothing of it, and might lead to all rows each time.

# A sender of a version before 009, on tables of this one, keeps no former calls: such a recipient stands in its own.
_STANDS_IN_DOUBT = f"(recipient.state = 'unknown' OR recipient.reason IS NOT DISTINCT FROM '{RESENT}')"
_KEEP_FORMER = f"""
INSERT INTO former_call SELECT campaign, id, batch FROM recipient
WHERE campaign = %s AND state = 'pending' AND reason = '{RESENT}' AND batch IS NOT NULL ON CONFLICT DO NOTHING
"""  # noqa: S608

_MAY_BE_PROVEN = f"""
recipient.{ANSWER.guard} AND ({_STANDS_IN_DOUBT} OR (SELECT true {FORMER_CALLS} LIMIT 1))
"""

_IS_UNNAMED = f"""
(recipient.state = 'accepted' AND recipient.message_id IS NULL AND (SELECT true {FORMER_CALLS} LIMIT 1) IS NULL)
"""
_IS_OPEN = f"({_MAY_BE_PROVEN} OR {_IS_UNNAMED})"

_NAMED_OUTSIDE = NAMED_OUTSIDE_CAMPAIGNS.format(of="evidence")
_NAMED_ELSEWHERE = f"""
({_NAMED_OUTSIDE} OR (
    SELECT true FROM recipient AS named WHERE named.phone = recipient.phone AND named.campaign <> recipient.campaign
    AND named.state = 'accepted' AND named.message_id = evidence.message_id AND {NAMED_BY_ANSWER}
    LIMIT 1
) IS NOT NULL)
"""  # noqa: S608 - our own constants
_NAMED_FOR_ANOTHER = f"""
({_NAMED_OUTSIDE} OR (
    SELECT true FROM recipient AS named WHERE named.message_id = evidence.message_id
    AND (named.campaign, named.id) <> (recipient.campaign, recipient.id)
    AND {NAMED_BY_ANSWER} LIMIT 1
) IS NOT NULL)
"""  # noqa: S608
_MAY_BE_ANOTHERS = f"""
({MAY_BE_OF_NO_CAMPAIGN} OR EXISTS (
    SELECT 1 FROM recipient AS other
    WHERE other.phone = recipient.phone AND other.campaign <> recipient.campaign AND (
        SELECT heard <= call.started + make_interval(secs => {PROOF_WINDOW}) AND (
            other.resent
            OR heard >= call.started AND (
                other.state IN ('sending', 'unknown')
                OR other.state = 'accepted' AND (other.message_id IS NULL OR other.message_id = evidence.message_id)
            )
        )
        FROM batch AS call WHERE call.campaign = other.campaign AND call.id = {LAST_CALL.format(of="other")}
    )
))
"""  # noqa: S608

# What was found is written by a statement of its own, which looks at no other rows.
_PROOFS = f"""
SELECT DISTINCT ON (recipient.campaign, recipient.id)
    recipient.campaign, recipient.id, recipient.state, evidence.message_id, own.call,
    CASE WHEN recipient.state = 'unknown' THEN recipient.batch END,
    count(*) OVER (PARTITION BY recipient.campaign, recipient.id)
FROM ({{open}} AND {_IS_OPEN} OFFSET 0) AS recipient CROSS JOIN LATERAL (
    SELECT recipient.batch AS call WHERE {_STANDS_IN_DOUBT} OR {_IS_UNNAMED}
    UNION ALL SELECT former_call.batch {FORMER_CALLS}
) AS own CROSS JOIN LATERAL (
    SELECT started FROM batch WHERE batch.campaign = recipient.campaign AND batch.id = own.call LIMIT 1
) AS called CROSS JOIN LATERAL (
    SELECT message_id, phone, heard, kind FROM evidence WHERE evidence.phone = recipient.phone OFFSET 0
) AS evidence
WHERE {_IS_OF_ITS_KIND} AND heard BETWEEN started AND started + make_interval(secs => {PROOF_WINDOW})
AND NOT {_NAMED_FOR_ANOTHER}
AND (heard = started OR (recipient.{PROVE.guard} OR {_IS_UNNAMED}) AND NOT {_MAY_BE_ANOTHERS})
ORDER BY recipient.campaign, recipient.id, heard, own.call DESC
"""  # noqa: S608
_PROOFS_OF_ALL = _PROOFS.format(open="SELECT recipient.* FROM recipient WHERE recipient.campaign = %s")
_PROOFS_OF_SOME = _PROOFS.format(
    open="SELECT recipient.* FROM recipient WHERE recipient.campaign = %s AND recipient.id BETWEEN %s AND %s"
    " AND recipient.id = ANY(%s)"
)
_OF_PHONES = """
SELECT recipient.* FROM unnest(%s::bigint[]) AS asked (phone) CROSS JOIN LATERAL (
    SELECT * FROM recipient WHERE recipient.phone = asked.phone OFFSET 0
) AS recipient WHERE true
"""
_PROOFS_OF_PHONES = _PROOFS.format(open=_OF_PHONES)
# Who was to get nothing any more gets no SMS either.
_PROVE = f"""
UPDATE recipient SET state = 'accepted', message_id = proof.message_id, batch = proof.call, reason = '{PROVEN}',
    exclusion = nullif(exclusion, '{Exclusion.NO_MESSAGE}')
FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) AS proof (id, message_id, call)
WHERE campaign = %s AND recipient.id BETWEEN %s AND %s AND recipient.id = proof.id AND {_MAY_BE_PROVEN}
"""  # noqa: S608
_NAME = f"""
UPDATE recipient SET message_id = heard.message_id, reason = '{NAMED}'
FROM unnest(%s::bigint[], %s::text[]) AS heard (id, message_id)
WHERE campaign = %s AND recipient.id BETWEEN %s AND %s AND recipient.id = heard.id
    AND recipient.state = 'accepted' AND recipient.message_id IS NULL
"""  # noqa: S608
AT_ONCE = 100
"""Proofs that are written at a time: at worst, each is compared with each."""
# Where a former call is proven, the last one stays unknown, and what is heard next may be of that.
_KEEP_LAST = """
INSERT INTO former_call SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[]) ON CONFLICT DO NOTHING
"""
# Whoever writes a journal holds its lease: the end of a call that is being recorded is waited for.
_LOCK = f"""
SELECT 1 FROM lease WHERE campaign IN (
    SELECT recipient.campaign FROM ({_OF_PHONES} AND (recipient.state = 'sending' OR {_IS_OPEN})) AS recipient
) ORDER BY campaign FOR UPDATE
"""  # noqa: S608

_RESEND = f"""
WITH again AS (
    UPDATE recipient SET state = 'pending', message_id = NULL, reason = '{RESENT}', resent = true
    WHERE recipient.campaign = %s AND recipient.{RESEND.guard} {{condition}}
    RETURNING recipient.campaign, recipient.id, recipient.batch
) INSERT INTO former_call SELECT * FROM again
"""  # noqa: S608
_RESEND_ALL = _RESEND.format(condition="")
_HEARD_OF = f"""
EXISTS (
    SELECT 1 FROM evidence WHERE evidence.phone = recipient.phone
    AND heard >= coalesce((
        SELECT min(former.started) FROM former_call
        JOIN batch AS former ON former.campaign = former_call.campaign AND former.id = former_call.batch
        WHERE former_call.campaign = recipient.campaign AND former_call.recipient = recipient.id
    ), batch.started) - make_interval(secs => {HEARD_SINCE}) AND NOT {_NAMED_ELSEWHERE}
)
"""  # noqa: S608
_RESEND_SILENT = _RESEND.format(
    condition=f"""
    AND recipient.batch >= %s AND (%s::bigint IS NULL OR recipient.batch < %s) AND (
        SELECT started <= clock_timestamp() - make_interval(secs => %s) AND NOT {_HEARD_OF}
        FROM batch WHERE batch.campaign = recipient.campaign AND batch.id = recipient.batch
    )
    """  # noqa: S608
)

_REACHED_BEFORE = f"""
SELECT recipient.phone, reported.final_status FROM unnest(%s::bigint[]) AS asked (phone) CROSS JOIN LATERAL (
    SELECT * FROM recipient WHERE recipient.phone = asked.phone AND recipient.campaign + 0 = %s LIMIT 1
) AS recipient CROSS JOIN LATERAL (
    SELECT former_call.batch {FORMER_CALLS} OFFSET 0
) AS former CROSS JOIN LATERAL (
    SELECT started FROM batch WHERE batch.campaign = recipient.campaign AND batch.id = former.batch LIMIT 1
) AS called CROSS JOIN LATERAL (
    SELECT message_id, phone, heard, kind FROM evidence WHERE evidence.phone = recipient.phone OFFSET 0
) AS evidence CROSS JOIN LATERAL (
    SELECT coalesce((
        SELECT CASE WHEN final THEN status ELSE '' END FROM delivery
        WHERE delivery.message_id = evidence.message_id AND delivery.phone IN (0, evidence.phone)
        ORDER BY final DESC, delivery.phone DESC LIMIT 1
    ), '') AS final_status
) AS reported
WHERE evidence.message_id IS DISTINCT FROM recipient.message_id
AND heard BETWEEN started AND started + make_interval(secs => {PROOF_WINDOW})
AND {_IS_OF_ITS_KIND} AND NOT {_NAMED_FOR_ANOTHER}
AND final_status NOT IN ({", ".join(f"'{status}'" for status in sorted(DID_NOT_ARRIVE))})
"""  # noqa: S608

_UNKNOWN = f"""
SELECT count(*), extract(epoch FROM min(started))::float8, count(*) FILTER (WHERE {_HEARD_OF}) FROM recipient
LEFT JOIN batch ON batch.campaign = recipient.campaign AND batch.id = recipient.batch
WHERE recipient.campaign = %s AND state = 'unknown'
"""  # noqa: S608
_BY_BATCH = f"""
SELECT batch, count(*) FILTER (WHERE state = 'unknown'), count(*) FILTER (WHERE state = 'accepted'),
count(*) FILTER (WHERE state = 'accepted' AND EXISTS (
    SELECT 1 FROM delivery WHERE delivery.message_id = recipient.message_id AND delivery.phone = recipient.phone
)) FROM recipient WHERE campaign = %s AND batch IS NOT NULL AND reason IS DISTINCT FROM '{PROVEN}' GROUP BY batch
"""  # noqa: S608

EVIDENCE = f"""
SELECT evidence.phone, evidence.message_id,
    CASE WHEN {_MAY_BE_ANOTHERS} THEN 'infinity' ELSE extract(epoch FROM heard)::float8 END
FROM evidence JOIN recipient ON recipient.phone = evidence.phone
WHERE recipient.campaign = %s AND NOT {_NAMED_ELSEWHERE}
"""  # noqa: S608
"""A campaign's evidence for a copy of it alone: phone, message id, when (never, where it may be another's)."""


def news(transaction: Transaction, heard: Gathered) -> list[tuple[int, str, str, str | None]]:
    """What of `heard` may say anything: phone, message id, when, and the kind of message, if that is known."""
    phones, ids = columns(heard.notes, 2)
    kinds = [heard.kinds.get(note) for note in heard.notes]
    return transaction.rows(_NEWS, (phones, ids, list(heard.notes.values()), kinds))


def note(transaction: Transaction, news: Sequence[tuple[int, str, str, str | None]]) -> None:
    """Remember these `news`."""
    transaction.execute(_NOTE, columns(news, 4))


def note_answers(transaction: Transaction, campaign: int, batch: int, named: Sequence[tuple[int, int, str]]) -> None:
    """Remember that the answer to a call named messages, which came after its recipients were to be sent to again.

    `named`: the phones and the ids of recipients, and the ids of their messages, or what stands for these.
    """
    _, *of_each = columns(sorted(named, key=itemgetter(0, 2)), 3)  # in the order of `note`
    transaction.execute(_NOTE_ANSWERS, (*of_each, campaign, campaign, batch))


def lock(transaction: Transaction, phones: Sequence[int]) -> bool:
    """Keep others from writing the journals that evidence of these phones may change; whether there are any.

    Whoever notes evidence has locked these before, as an end has that comes late and is noted as evidence. An end that
    is being recorded at this moment is waited for: of the two, the later one sees what the other wrote. What is heard
    was noted to be so before, so a call that begins from now on cannot have caused it.
    """
    return bool(transaction.rows(_LOCK, (list(phones),)))


def settle_heard(transaction: Transaction, phones: Sequence[int]) -> None:
    """As `settle_some`, the recipients of these phones, in whichever campaign. All are locked."""
    _prove(transaction, _PROOFS_OF_PHONES, (list(phones),))


def settle_some(transaction: Transaction, campaign: int, ids: Sequence[int]) -> Counter[RecipientState]:
    """Make those of `ids`, of which there is one, accepted for whom there is proof; how many there were in which state.

    Where a call has left them open. Those that are accepted without a message id get the one that was heard of.
    """
    return _prove(transaction, _PROOFS_OF_SOME, (campaign, min(ids), max(ids), list(ids)))


def settle_all(transaction: Transaction, campaign: int) -> int:
    """As `settle_some`, all recipients; how many that made accepted."""
    transaction.execute(_KEEP_FORMER, (campaign,))
    return _prove(transaction, _PROOFS_OF_ALL, (campaign,)).total()


def _prove(transaction: Transaction, proofs: str, values: Sequence[object]) -> Counter[RecipientState]:
    """Act on the `proofs` that are found; how many recipients there were in which state."""
    rows = transaction.rows(proofs, values)
    _name(transaction, [row for row in rows if row[2] == RecipientState.ACCEPTED])
    found = [row for row in rows if row[2] != RecipientState.ACCEPTED]
    for campaign, each_row in groupby(found, itemgetter(0)):
        of_it = list(each_row)
        proven = [(each, named_by(message_id), call) for _, each, _, message_id, call, *_ in of_it]
        for first in range(0, len(proven), AT_ONCE):
            update(transaction, _PROVE, proven[first : first + AT_ONCE], 3, campaign)
        last = [(each, last) for _, each, _, _, call, last, _ in of_it if last not in (None, call)]
        if last:
            transaction.execute(_KEEP_LAST, (campaign, *columns(last, 2)))
    return Counter(RecipientState(state) for _, _, state, *_ in found)


def _name(transaction: Transaction, found: Sequence[tuple[int, int, str, str, int, int | None, int]]) -> None:
    """Let those of whom one message was heard have its id."""
    for campaign, rows in groupby(found, itemgetter(0)):
        named = [(each, named_by(message_id)) for _, each, _, message_id, *_, ids in rows if ids == 1]
        for first in range(0, len(named), AT_ONCE):
            update(transaction, _NAME, named[first : first + AT_ONCE], 2, campaign)


def resend(transaction: Transaction, campaign: int, unknown: bool | Silent) -> str:
    """Let all unknown recipients be sent to again, or none, or those of whom nothing was heard.

    Returns why not all of these are, "" where they are, or where it was not asked for.
    """
    if unknown is True:
        transaction.execute(_RESEND_ALL, (campaign,))
    return _resend_silent(transaction, campaign, unknown) if isinstance(unknown, Silent) else ""


def _resend_silent(transaction: Transaction, campaign: int, silent: Silent) -> str:
    summary = unknown_summary(transaction, campaign)
    for first, following in summary.silent_runs:
        transaction.execute(_RESEND_SILENT, (campaign, first, following, following, silent.after))
    return summary.objection


def reached_before(transaction: Transaction, campaign: int, phones: Sequence[int]) -> dict[int, str]:
    """See `JournalReader.reached_before`."""
    return last_told(transaction.rows(_REACHED_BEFORE, (list(phones), campaign)))


def unknown_summary(transaction: Transaction, campaign: int) -> UnknownSummary:
    """What is known of those whose outcome no answer told. Walks through all recipients if there are any."""
    count, since, heard_of = transaction.row(_UNKNOWN, (campaign,))
    sql = "SELECT count(*) FROM recipient WHERE campaign = %s AND state = 'accepted' AND reason = %s"
    (proven,) = transaction.row(sql, (campaign, PROVEN))
    sql = "SELECT 1 FROM run WHERE campaign = %s AND balance_before IS NOT NULL LIMIT 1"
    runs = _runs(transaction, campaign) if count or transaction.rows(sql, (campaign,)) else []
    return UnknownSummary(count, since, heard_of, proven, runs)


def _runs(transaction: Transaction, campaign: int) -> list[RunFigures]:
    sql = "SELECT first_batch, balance_before, balance_after FROM run WHERE campaign = %s ORDER BY id"
    found = transaction.rows(sql, (campaign,))
    sql = "SELECT id, credits FROM batch WHERE campaign = %s AND credits <> ''"
    return run_figures(found, transaction.rows(_BY_BATCH, (campaign,)), transaction.rows(sql, (campaign,)))
