"""Evidence about unknown recipients in a journal in SQLite; `evidence` has the rules."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

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
from mmsclient._store.models import Exclusion, RecipientState
from mmsclient._store.sqlite_database import Database
from mmsclient._store.sqlite_rows import in_parts
from mmsclient._store.states import PROVE, RESEND

__all__ = ["KIND_OF_UNNAMED", "note", "reached_before", "resend", "settle", "settle_all", "unknown_summary"]

# A report or a reply may speak of a message that was heard of before its phone stood in the list.
# INSERT is the first word: Python counts the rows of no other statement.
_NOTE = """
INSERT INTO evidence (phone, message_id, heard) WITH news (phone, message_id, time) AS (VALUES {rows})
SELECT news.phone, news.message_id, min(time, ifnull(
    (SELECT min(reported) FROM delivery
    WHERE delivery.message_id = news.message_id AND delivery.phone IN (0, news.phone)), time
))
FROM news CROSS JOIN recipient ON recipient.phone = news.phone
WHERE NOT (recipient.state = 'accepted' AND recipient.message_id IS news.message_id)
ON CONFLICT DO UPDATE SET heard = min(heard, excluded.heard)
"""
_NOTE_KIND = """
INSERT OR IGNORE INTO evidence_kind WITH news (phone, message_id, kind) AS (VALUES {rows})
SELECT news.* FROM news JOIN evidence USING (phone, message_id)
"""

_MAY_BE_OF_CALL = f"""
heard BETWEEN call.started AND call.started + {PROOF_WINDOW}
AND NOT EXISTS (
    SELECT 1 FROM evidence_kind AS told WHERE told.phone = evidence.phone AND told.message_id = evidence.message_id
    AND told.kind <> ifnull((SELECT value FROM meta WHERE key = 'kind'), 'mms')
)
AND NOT EXISTS (
    SELECT 1 FROM recipient AS named WHERE named.message_id = evidence.message_id
    AND named.id <> recipient.id AND {NAMED_BY_ANSWER}
)
"""  # noqa: S608 - our own constants
_IS_UNNAMED = """
(recipient.state = 'accepted' AND recipient.message_id IS NULL
    AND NOT EXISTS (SELECT 1 FROM former_call WHERE former_call.recipient = recipient.id))
"""
_PROVEN = f"""
SELECT recipient.id, recipient.state, evidence.message_id, call.id FROM evidence
CROSS JOIN recipient ON recipient.phone = evidence.phone CROSS JOIN batch AS call ON call.id IN (
    SELECT recipient.batch WHERE recipient.state = 'unknown' OR recipient.reason IS '{RESENT}' OR {_IS_UNNAMED}
    UNION ALL SELECT former_call.batch FROM former_call WHERE former_call.recipient = recipient.id
)
WHERE ({PROVE.guard} OR {_IS_UNNAMED}) AND {_MAY_BE_OF_CALL}
"""  # noqa: S608 - our own constants
_PROVEN_OF = f"{_PROVEN} AND evidence.phone IN (VALUES {{rows}})"
_IN_ORDER = "ORDER BY heard, call.id DESC"
# Who was to get nothing any more gets no SMS either.
_PROVE = f"""
UPDATE recipient SET state = 'accepted', message_id = ?, batch = ?, reason = '{PROVEN}',
    exclusion = nullif(exclusion, '{Exclusion.NO_MESSAGE}')
WHERE id = ? AND {PROVE.guard}
"""  # noqa: S608
_NAME = f"""
UPDATE recipient SET message_id = ?, reason = '{NAMED}' WHERE id = ? AND state = 'accepted' AND message_id IS NULL
"""  # noqa: S608

# Such as a sender of a version before 4.sql, on a file of this one, left it.
_KEEP_FORMER = f"""
INSERT OR IGNORE INTO former_call SELECT id, batch FROM recipient
WHERE state = 'pending' AND reason = '{RESENT}' AND batch IS NOT NULL
"""  # noqa: S608
_KEEP_CALL = f"""
INSERT INTO former_call SELECT recipient.id, recipient.batch FROM recipient JOIN batch ON batch.id = recipient.batch
WHERE {RESEND.guard}
"""  # noqa: S608
_RESEND = f"""
UPDATE recipient SET state = 'pending', message_id = NULL, reason = '{RESENT}' WHERE {RESEND.guard}
AND (id, batch) IN (SELECT recipient, batch FROM former_call)
"""  # noqa: S608
_HEARD_OF = f"""
EXISTS (
    SELECT 1 FROM evidence WHERE evidence.phone = recipient.phone AND heard >= ifnull((
        SELECT min(former.started) FROM former_call JOIN batch AS former ON former.id = former_call.batch
        WHERE former_call.recipient = recipient.id
    ), batch.started) - {HEARD_SINCE}
)
"""  # noqa: S608
_IS_SILENT = f"""
recipient.batch >= ? AND recipient.batch < ifnull(?, recipient.batch + 1) AND started <= ? AND NOT {_HEARD_OF}
"""

_REACHED_BEFORE = f"""
SELECT recipient.phone, ifnull((
    SELECT CASE WHEN final THEN status ELSE '' END FROM delivery
    WHERE delivery.message_id = evidence.message_id AND delivery.phone IN (0, evidence.phone)
    ORDER BY final DESC, delivery.phone DESC LIMIT 1
), '') AS final_status FROM recipient
CROSS JOIN former_call ON former_call.recipient = recipient.id CROSS JOIN batch AS call ON call.id = former_call.batch
CROSS JOIN evidence ON evidence.phone = recipient.phone
WHERE recipient.phone IN (VALUES {{rows}}) AND evidence.message_id IS NOT recipient.message_id
AND {_MAY_BE_OF_CALL} AND final_status NOT IN ({", ".join(f"'{status}'" for status in sorted(DID_NOT_ARRIVE))})
"""  # noqa: S608

KIND_OF_UNNAMED = f"""
SELECT ifnull((SELECT value FROM meta WHERE key = 'kind'), 'mms')
FROM recipient CROSS JOIN batch AS call ON call.id IN (
    SELECT recipient.batch
    WHERE recipient.state IN ('sending', 'unknown') OR recipient.state = 'accepted' AND recipient.message_id IS NULL
    UNION ALL SELECT former_call.batch FROM former_call WHERE former_call.recipient = recipient.id
)
WHERE recipient.phone = ? AND ? BETWEEN call.started AND call.started + {PROOF_WINDOW} LIMIT 1
"""  # noqa: S608
"""The kind of the journal's messages, where one to this phone may be heard of at this time whose id no answer told."""

_UNKNOWN = f"""
SELECT count(*), min(started), total({_HEARD_OF}) FROM recipient
LEFT JOIN batch ON batch.id = recipient.batch WHERE state = 'unknown'
"""  # noqa: S608
_BY_BATCH = f"""
SELECT recipient.batch, total(state = 'unknown'), total(state = 'accepted'), total(state = 'accepted' AND EXISTS (
    SELECT 1 FROM delivery
    WHERE delivery.message_id = recipient.message_id AND delivery.phone = recipient.phone
)) FROM recipient WHERE batch IS NOT NULL AND reason IS NOT '{PROVEN}' GROUP BY recipient.batch
"""  # noqa: S608


def note(database: Database, heard: Sequence[tuple[int, str, float, str | None]]) -> int:
    """Remember of which messages to which phones something was heard, and when; how many of these may say anything.

    The last of each: the kind of the message, None where that was not told.
    """
    noted = database.execute_rows(_NOTE, [each[:3] for each in heard])
    kinds = [(phone, message_id, kind) for phone, message_id, _, kind in heard if kind is not None]
    database.execute_rows(_NOTE_KIND, kinds)
    return noted


def settle(database: Database, phones: Iterable[int]) -> Counter[RecipientState]:
    """Make those of `phones` accepted for whom there is proof; how many there were in which state.

    Those that are accepted without a message id get the one that was heard of.
    """
    parts = in_parts(f"{_PROVEN_OF} {_IN_ORDER}", [(phone,) for phone in phones])
    return _prove(database, [row for part in parts for row in database.rows(*part)])


def settle_all(database: Database) -> int:
    """As `settle`, of all recipients; how many that made accepted."""
    database.execute(_KEEP_FORMER)
    return _prove(database, database.rows(f"{_PROVEN} {_IN_ORDER}")).total()


def _prove(database: Database, rows: Iterable[tuple[int, str, str, int]]) -> Counter[RecipientState]:
    found: dict[int, tuple[str, str, int]] = {}
    names: dict[int, set[str]] = {}
    for each, state, message_id, batch in rows:
        if state == RecipientState.ACCEPTED:
            names.setdefault(each, set()).add(message_id)
        else:
            found.setdefault(each, (state, message_id, batch))
    proofs = [(message_id, batch, each) for each, (_, message_id, batch) in found.items()]
    database.execute_many(_PROVE, proofs)
    database.execute_many(_NAME, [(*ids, each) for each, ids in names.items() if len(ids) == 1])
    return Counter(RecipientState(state) for state, _, _ in found.values())


def resend(database: Database, unknown: bool | Silent) -> str:
    """Let all unknown recipients be sent to again, or none, or those of whom nothing was heard.

    Returns why not all of these are, "" where they are, or where it was not asked for.
    """
    if unknown is True:
        database.execute(_KEEP_CALL)
        database.execute(_RESEND)
    return _resend_silent(database, unknown) if isinstance(unknown, Silent) else ""


def _resend_silent(database: Database, silent: Silent) -> str:
    summary = unknown_summary(database)
    began_before = time.time() - silent.after
    for first, following in summary.silent_runs:
        database.execute(f"{_KEEP_CALL} AND {_IS_SILENT}", (first, following, began_before))
    database.execute(_RESEND)
    return summary.objection


def reached_before(database: Database, phones: Iterable[int]) -> dict[int, str]:
    """See `JournalReader.reached_before`."""
    parts = in_parts(_REACHED_BEFORE, [(phone,) for phone in phones])
    return last_told(row for part in parts for row in database.rows(*part))


def unknown_summary(database: Database) -> UnknownSummary:
    """What is known of those whose outcome no answer told. Walks through all recipients if there are any."""
    ((count, since, heard_of),) = database.rows(_UNKNOWN)
    ((proven,),) = database.rows("SELECT count(*) FROM recipient WHERE state = 'accepted' AND reason = ?", (PROVEN,))
    has_balances = database.rows("SELECT 1 FROM run WHERE balance_before IS NOT NULL LIMIT 1")
    runs = _runs(database) if count or has_balances else []
    return UnknownSummary(count, since, int(heard_of), proven, runs)


def _runs(database: Database) -> list[RunFigures]:
    found = database.rows("SELECT first_batch, balance_before, balance_after FROM run ORDER BY id")
    credit_texts = database.rows("SELECT id, credits FROM batch WHERE credits <> ''")
    return run_figures(found, database.rows(_BY_BATCH), credit_texts)
