"""A campaign's course by a journal in PostgreSQL, which counts: no row of a recipient is read here."""

from __future__ import annotations

from mmsclient._store.figures import (
    FEW,
    LAST_SPAN,
    LONG_BREAK,
    Course,
    Figures,
    counted_reports,
    grain_of,
    reason_count,
    set_aside,
    unknown_call,
)
from mmsclient._store.postgres.database import Transaction
from mmsclient._store.steering import THROTTLED

__all__ = ["figures"]

_COURSE = f"""
SELECT extract(epoch FROM min(started))::float8, extract(epoch FROM max(ended))::float8,
    coalesce(sum(gap) FILTER (WHERE gap <= {LONG_BREAK}), 0)::float8,
    least({LONG_BREAK}, greatest(0, coalesce(extract(epoch FROM max(ended) - max(started)), 0)))::float8,
    count(error), count(*) FILTER (WHERE starts_with(error, '{THROTTLED}')),
    (SELECT count(*) FROM run WHERE campaign = %s)
FROM (
    SELECT started, ended, error, extract(epoch FROM started - lag(started) OVER (ORDER BY started)) AS gap
    FROM batch WHERE campaign = %s
) AS calls
"""  # noqa: S608
_ACCEPTED = """
SELECT floor(greatest(0, extract(epoch FROM ended) - %s) / %s)::int8 AS span, sum(accepted)::int8 FROM batch
WHERE campaign = %s AND ended IS NOT NULL AND accepted > 0 GROUP BY span
"""
_REASONS = f"""
SELECT state, exclusion, reason, count(*) AS number FROM recipient
WHERE campaign = %s AND state IN ('refused', 'failed', 'unknown', 'excluded') GROUP BY state, exclusion, reason
UNION ALL SELECT 'excluded', exclusion, reason, count(*) FROM aside WHERE campaign = %s GROUP BY exclusion, reason
ORDER BY number DESC, state, exclusion, reason LIMIT {FEW}
"""  # noqa: S608
_SET_ASIDE = f"""
SELECT line, exclusion, reason FROM aside WHERE campaign = %s AND exclusion <> 'duplicate'
UNION ALL SELECT line, exclusion, reason FROM recipient
WHERE campaign = %s AND state = 'excluded' AND exclusion = 'no message' ORDER BY line LIMIT {FEW}
"""  # noqa: S608
_UNKNOWN = f"""
SELECT batch, extract(epoch FROM started)::float8, recipients, state, error FROM (
    SELECT batch, state, count(*) AS recipients FROM recipient
    WHERE campaign = %s AND state IN ('sending', 'unknown') GROUP BY batch, state
) AS open CROSS JOIN LATERAL (
    SELECT started, error FROM batch WHERE campaign = %s AND id = open.batch LIMIT 1
) AS called ORDER BY batch LIMIT {FEW}
"""  # noqa: S608


def figures(transaction: Transaction, campaign: int, recipient_status: str) -> Figures:
    """What became of a campaign. `recipient_status`: a query of each recipient with what was reported of it."""
    reports = f"""
    SELECT least({LAST_SPAN}, floor(greatest(0, extract(epoch FROM reported) - %s) / %s)::int8) AS span, status,
        count(*)
    FROM {recipient_status} WHERE status IS NOT NULL GROUP BY span, status
    """  # noqa: S608
    started, ended, between, last, failed, throttled, runs = transaction.row(_COURSE, (campaign, campaign))
    grain = grain_of(started, ended)
    values = (started or 0.0, grain, campaign)
    return Figures(
        course=Course(started, ended, between + last, failed, throttled, runs),
        grain=grain,
        accepted=dict(transaction.rows(_ACCEPTED, values)),
        reports=counted_reports(transaction.rows(reports, values)),
        reasons=tuple(map(reason_count, transaction.rows(_REASONS, (campaign, campaign)))),
        rejected=tuple(map(set_aside, transaction.rows(_SET_ASIDE, (campaign, campaign)))),
        unknown=tuple(map(unknown_call, transaction.rows(_UNKNOWN, (campaign, campaign)))),
    )
