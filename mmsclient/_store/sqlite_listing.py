"""How the list of a campaign is taken into a journal in SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmsclient._store.listing import EarlierRows, Rejected, phones_of, sort_out
from mmsclient._store.models import Exclusion, ListEntry
from mmsclient._store.models import RecipientState as State
from mmsclient._store.sqlite_database import Database
from mmsclient._store.sqlite_messages import assign
from mmsclient._store.sqlite_rows import in_parts
from mmsclient._store.states import EXCLUDE

__all__ = ["ListWriter", "exclude_noted"]

_EXCLUDE = (
    "UPDATE recipient SET state = 'excluded', reason = NULL,"  # noqa: S608
    " exclusion = (SELECT exclusion FROM excluded WHERE excluded.phone = recipient.phone)"
    f" WHERE id > ? AND {EXCLUDE.guard} AND phone IN (SELECT phone FROM excluded)"
)


def exclude_noted(database: Database) -> None:
    """Exclude whom an earlier run was told never to send to, and who would be sent to since."""
    database.execute(_EXCLUDE, (0,))


class ListWriter:
    """Takes in the list of one run. Each method is a transaction."""

    def __init__(self, database: Database, run: int) -> None:
        self._database = database
        self._run = run
        self._rows = 0  # of the list that is being read
        self._rows_before = 0  # that were read of an earlier list, which was not read to its end
        self._earlier = EarlierRows()

    def exclude(self, phones: Iterable[int], why: Exclusion) -> None:
        """Never send to `phones`."""
        with self._database.transaction():
            rows = ((phone, why) for phone in phones)
            self._database.execute_many("INSERT OR IGNORE INTO excluded VALUES (?, ?)", rows)
            exclude_noted(self._database)

    def begin(self) -> None:
        """A list is about to be read."""
        with self._database.transaction():
            self._database.set_meta("list_read", 0)
        self._rows, self._rows_before = 0, self._database.meta("rows_of_cut_list") or 0
        self._earlier = EarlierRows.of(self._database.rows("SELECT number, line FROM aside"))

    def end(self) -> bool:
        """The list was read to its end; False where fewer rows were read than of a list that was cut short."""
        if self._rows < self._rows_before:
            return False
        with self._database.transaction():
            self._database.set_meta("list_read", 1)
            self._database.set_meta("rows_of_cut_list", 0)
        return True

    def add(self, entries: Iterable[ListEntry]) -> tuple[int, int, int]:
        """Take in rows: how many recipients are new, how many of them are excluded, and how many rows are set aside."""
        rows = list(entries)
        with self._database.transaction():
            found = sort_out(rows, self._known(rows), self._run)
            ((last,),) = self._database.rows("SELECT ifnull(max(id), 0) FROM recipient")
            self._insert(found.new, self._run)
            excluded = self._database.execute(_EXCLUDE, (last,)).rowcount
            again = ((line, self._run, each) for each, line in found.again)
            self._database.execute_many("UPDATE recipient SET line = ?, run = ? WHERE id = ?", again)
            set_aside = self._set_aside(found.rejected)
            self._database.set_meta("rows_of_cut_list", max(self._rows_before, self._rows + len(rows)))
        self._rows += len(rows)
        self._earlier.written()
        return len(found.new), excluded, set_aside

    def _set_aside(self, rejected: Sequence[Rejected]) -> int:
        """How many rows are new."""
        moved, new = self._earlier.among(rejected)
        sql = "UPDATE OR IGNORE aside SET line = ?, exclusion = ?, reason = ? WHERE line = ? AND number = ?"
        found = ((line, why, reason, before, number) for before, (line, number, why, reason) in moved)
        self._database.execute_many(sql, found)
        return self._database.execute_rows("INSERT OR IGNORE INTO aside VALUES {rows}", new)

    def add_unlisted(self, entries: Sequence[ListEntry]) -> None:
        """Take in recipients that stand in no list; one that is known stays as it is."""
        with self._database.transaction():
            self._insert(sort_out(entries, self._known(entries), 0).new, 0)
            exclude_noted(self._database)

    def _known(self, entries: Iterable[ListEntry]) -> list[tuple[int, int, int, int]]:
        """Phone, line, run and id of those that the journal has."""
        sql = "SELECT phone, line, run, id FROM recipient WHERE phone IN (VALUES {rows})"
        parts = in_parts(sql, [(phone,) for phone in phones_of(entries)])
        return [row for part in parts for row in self._database.rows(*part)]

    def _insert(self, entries: Sequence[ListEntry], run: int) -> None:
        """Take in new recipients."""
        sql = "INSERT INTO recipient (phone, state, line, run) VALUES {rows}"
        self._database.execute_rows(sql, [(entry.phone, State.PENDING, entry.line, run) for entry in entries])
        for entry in entries:
            if entry.phone is not None and entry.message is not None:
                assign(self._database, entry.phone, entry.message, entry.fields)
