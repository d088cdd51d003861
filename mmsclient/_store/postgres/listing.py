"""How the list of a campaign is taken in, within a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmsclient._store.listing import EarlierRows, Rejected, phones_of, sort_out
from mmsclient._store.models import Exclusion, ListEntry
from mmsclient._store.postgres.by_id import update
from mmsclient._store.postgres.database import Transaction, columns, storable
from mmsclient._store.postgres.messages import insert
from mmsclient._store.states import EXCLUDE

__all__ = ["ListWriter", "exclude_noted", "exclude_some"]

# New tables, and those with a new campaign, have statistics that know nothing of it. So what is looked up one by one
# cannot become a join, and of two indexes the one that would walk through the campaign is kept out by `+ 0`.

_OF_EXCLUDED = "(SELECT exclusion FROM excluded WHERE campaign = recipient.campaign AND phone = recipient.phone)"
_EXCLUDE = f"""
UPDATE recipient SET state = 'excluded', reason = NULL, exclusion = {_OF_EXCLUDED}
WHERE campaign = %s AND {EXCLUDE.guard} AND {_OF_EXCLUDED} IS NOT NULL
"""  # noqa: S608
_EXCLUDE_NOTED = f"{_EXCLUDE} AND EXISTS (SELECT 1 FROM excluded WHERE campaign = %s)"  # noqa: S608
_EXCLUDE_SOME = f"""
UPDATE recipient SET state = 'excluded', reason = NULL, exclusion = {_OF_EXCLUDED}
FROM unnest(%s::bigint[]) AS ended (id)
WHERE campaign = %s AND recipient.id BETWEEN %s AND %s AND recipient.id = ended.id
    AND {EXCLUDE.guard} AND {_OF_EXCLUDED} IS NOT NULL
"""  # noqa: S608
_KNOWN = """
SELECT listed.phone, known.line, known.run, known.id FROM unnest(%s::bigint[]) AS listed (phone)
CROSS JOIN LATERAL (
    SELECT * FROM recipient WHERE recipient.phone = listed.phone AND campaign + 0 = %s LIMIT 1
) AS known
"""
_FOUND_AGAIN = """
UPDATE recipient SET line = found.line, run = %s FROM unnest(%s::bigint[], %s::bigint[]) AS found (id, line)
WHERE campaign = %s AND recipient.id BETWEEN %s AND %s AND recipient.id = found.id
"""
_ASIDE = """
INSERT INTO aside (campaign, line, number, exclusion, reason)
SELECT %s, * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) ON CONFLICT DO NOTHING
"""
_MOVED = """
UPDATE aside SET line = moved.line, exclusion = moved.exclusion, reason = moved.reason
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[])
    AS moved (before, line, number, exclusion, reason)
WHERE campaign = %s AND aside.line = moved.before AND aside.number = moved.number
"""


def exclude_noted(transaction: Transaction, campaign: int) -> None:
    """Exclude whom an earlier run was told never to send to, and who would be sent to since."""
    transaction.execute(_EXCLUDE_NOTED, (campaign, campaign))


def exclude_some(transaction: Transaction, campaign: int, ids: Iterable[int]) -> None:
    """The same of those with these ids."""
    update(transaction, _EXCLUDE_SOME, ((each,) for each in ids), 1, campaign)


class ListWriter:
    """Takes in the list of one run of a campaign. Each method may be called again for the same rows."""

    def __init__(self, campaign: int, run: int) -> None:
        self._campaign = campaign
        self._run = run
        self._rows = 0  # of the list that is being read
        self._rows_before = 0  # that were read of an earlier list, which was not read to its end
        self._earlier = EarlierRows()

    @property
    def is_whole(self) -> bool:
        """As many rows were read as of a list that was cut short."""
        return self._rows >= self._rows_before

    def exclude(self, transaction: Transaction, phones: Iterable[int], why: Exclusion) -> None:
        """Never send to `phones`."""
        sql = "INSERT INTO excluded SELECT %s, unnest(%s::bigint[]), %s ON CONFLICT DO NOTHING"
        transaction.execute(sql, (self._campaign, list(phones), why))
        transaction.execute(_EXCLUDE, (self._campaign,))

    def begin(self, transaction: Transaction) -> None:
        """A list is about to be read."""
        sql = "UPDATE campaign SET list_read = false WHERE id = %s RETURNING rows_of_cut_list"
        (self._rows_before,) = transaction.row(sql, (self._campaign,))
        self._rows = 0
        sql = "SELECT number, line FROM aside WHERE campaign = %s"
        self._earlier = EarlierRows.of(transaction.rows(sql, (self._campaign,)))

    def end(self, transaction: Transaction) -> None:
        """The list was read to its end."""
        sql = "UPDATE campaign SET list_read = true, rows_of_cut_list = 0 WHERE id = %s"
        transaction.execute(sql, (self._campaign,))

    def add(self, transaction: Transaction, entries: Sequence[ListEntry]) -> tuple[int, int, int]:
        """Take in rows: how many recipients are new, how many of them are excluded, and how many rows are set aside."""
        campaign, run = self._campaign, self._run
        found = sort_out(entries, transaction.rows(_KNOWN, (phones_of(entries), campaign)), run)
        excluded = insert(transaction, campaign, run, found.new) if found.new else 0
        if found.again:
            ids, lines = columns(found.again, 2)
            transaction.execute(_FOUND_AGAIN, (run, ids, lines, campaign, min(ids), max(ids)))
        set_aside = self._set_aside(transaction, found.rejected) if found.rejected else 0
        rows = max(self._rows_before, self._rows + len(entries))
        transaction.execute("UPDATE campaign SET rows_of_cut_list = %s WHERE id = %s", (rows, campaign))
        return len(found.new), excluded, set_aside

    def _set_aside(self, transaction: Transaction, rejected: Sequence[Rejected]) -> int:
        """How many rows are new."""
        rows = [(line, str(storable(given)), why, storable(reason)) for line, given, why, reason in rejected]
        moved, new = self._earlier.among(rows)
        if moved:
            found = [(before, *row) for before, row in moved]
            transaction.execute(_MOVED, (*columns(found, 5), self._campaign))
        return transaction.execute(_ASIDE, (self._campaign, *columns(new, 4))) if new else 0

    def add_unlisted(self, transaction: Transaction, entries: Sequence[ListEntry]) -> None:
        """Take in recipients that stand in no list; one that is known stays as it is."""
        known = transaction.rows(_KNOWN, (phones_of(entries), self._campaign))
        if new := sort_out(entries, known, 0).new:
            insert(transaction, self._campaign, 0, new)

    def added(self, rows: int) -> None:
        """So many rows were committed."""
        self._rows += rows
        self._earlier.written()
