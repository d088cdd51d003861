"""A campaign's course by a journal in SQLite, which counts: no row of a recipient is read here."""

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
from mmsclient._store.sqlite_database import Database
from mmsclient._store.steering import THROTTLED

__all__ = ["figures"]

_COURSE = f"""
SELECT min(started), max(ended), total(CASE WHEN gap <= {LONG_BREAK} THEN gap END),
    min({LONG_BREAK}, max(0.0, ifnull(max(ended) - max(started), 0.0))),
    count(error), count(*) FILTER (WHERE error LIKE '{THROTTLED}%'), (SELECT count(*) FROM run)
FROM (SELECT started, ended, error, started - lag(started) OVER (ORDER BY started) AS gap FROM batch)
"""  # noqa: S608
_ACCEPTED = """
SELECT CAST(max(0, ended - :start) / :grain AS INTEGER) AS span, sum(accepted) FROM batch
WHERE ended IS NOT NULL AND accepted > 0 GROUP BY span
"""
_REASONS = f"""
SELECT state, exclusion, reason, count(*) AS number FROM recipient
WHERE state IN ('refused', 'failed', 'unknown', 'excluded') GROUP BY state, exclusion, reason
UNION ALL SELECT 'excluded', exclusion, reason, count(*) FROM aside GROUP BY exclusion, reason
ORDER BY number DESC, state, exclusion, reason LIMIT {FEW}
"""  # noqa: S608
_SET_ASIDE = f"""
SELECT line, exclusion, reason FROM aside WHERE exclusion <> 'duplicate'
UNION ALL SELECT line, exclusion, reason FROM recipient WHERE state = 'excluded' AND exclusion = 'no message'
ORDER BY line LIMIT {FEW}
"""  # noqa: S608
_UNKNOWN = f"""
SELECT batch.id, started, count(*), state, error FROM recipient JOIN batch ON batch.id = recipient.batch
WHERE state IN ('sending', 'unknown') GROUP BY batch.id, state ORDER BY batch.id LIMIT {FEW}
"""  # noqa: S608


def figures(database: Database, recipient_status: str) -> Figures:
    """What became of a campaign. `recipient_status`: a query of each recipient with what was reported of it."""
    reports = f"""
    SELECT min({LAST_SPAN}, CAST(max(0, reported - :start) / :grain AS INTEGER)) AS span, status, count(*)
    FROM {recipient_status} WHERE status IS NOT NULL GROUP BY span, status
    """  # noqa: S608
    with database.snapshot():
        ((started, ended, between, last, failed, throttled, runs),) = database.rows(_COURSE)
        grain = grain_of(started, ended)
        values = {"start": started or 0.0, "grain": grain}
        return Figures(
            course=Course(started, ended, between + last, failed, throttled, runs),
            grain=grain,
            accepted=dict(database.execute(_ACCEPTED, values)),
            reports=counted_reports(database.execute(reports, values)),
            reasons=tuple(map(reason_count, database.execute(_REASONS))),
            rejected=tuple(map(set_aside, database.execute(_SET_ASIDE))),
            unknown=tuple(map(unknown_call, database.execute(_UNKNOWN))),
        )
