"""How the list of a campaign is taken into a journal in SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmsclient._store.models import Exclusion, ListEntry
from mmsclient._store.sqlite_database import Database
from mmsclient._store.sqlite_messages import assign
from mmsclient._store.states import EXCLUDE

__all__ = ["ListWriter"]

_EXCLUDE = (
    "UPDATE recipient SET state = 'excluded', reason = NULL,"  # noqa: S608
    " exclusion = (SELECT exclusion FROM excluded WHERE excluded.phone = recipient.phone)"
    f" WHERE id > ? AND {EXCLUDE.guard} AND phone IN (SELECT phone FROM excluded)"
)


class ListWriter:
    """Takes in the list of one run. Each method is a transaction."""

    def __init__(self, database: Database, run: int) -> None:
        self._database = database
        self._run = run
        self._rows = 0  # of the list that is being read
        self._rows_before = 0  # that were read of an earlier list, which was not read to its end

    def exclude(self, phones: Iterable[int], why: Exclusion) -> None:
        """Never send to `phones`."""
        with self._database.transaction():
            rows = ((phone, why) for phone in phones)
            self._database.execute_many("INSERT OR IGNORE INTO excluded VALUES (?, ?)", rows)
            self._database.execute(_EXCLUDE, (0,))

    def begin(self) -> None:
        """A list is about to be read."""
        with self._database.transaction():
            self._database.set_meta("list_read", 0)
        self._rows, self._rows_before = 0, self._database.meta("rows_of_cut_list") or 0

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
        rejected: list[tuple[int, str, Exclusion, str | None]] = []
        new, rows = 0, 0
        with self._database.transaction():
            ((last,),) = self._database.rows("SELECT ifnull(max(id), 0) FROM recipient")
            for entry in entries:
                rows += 1
                if entry.problem is None and self._insert(entry, self._run):
                    new += 1
                elif entry.phone is None or not self._found_again(entry.phone, entry.line):
                    rejected.append(self._rejected(entry))
            excluded = self._database.execute(_EXCLUDE, (last,)).rowcount
            set_aside = self._database.execute_many("INSERT OR IGNORE INTO aside VALUES (?, ?, ?, ?)", rejected)
            self._database.set_meta("rows_of_cut_list", max(self._rows_before, self._rows + rows))
        self._rows += rows
        return new, excluded, max(0, set_aside)

    def add_unlisted(self, entries: Sequence[ListEntry]) -> None:
        """Take in recipients that stand in no list; one that is known stays as it is."""
        with self._database.transaction():
            for entry in entries:
                self._insert(entry, 0)
            self._database.execute(_EXCLUDE, (0,))

    def _insert(self, entry: ListEntry, run: int) -> bool:
        """Take in a recipient; False for one that is known."""
        sql = "INSERT OR IGNORE INTO recipient (phone, state, line, run) VALUES (?, 'pending', ?, ?)"
        is_new = self._database.execute(sql, (entry.phone, entry.line, run)).rowcount == 1
        if is_new and entry.phone is not None and entry.message is not None:
            assign(self._database, entry.phone, entry.message, entry.fields)
        return is_new

    def _found_again(self, phone: int, line: int) -> bool:
        """The phone is known, from an earlier run and not from this list."""
        sql = "UPDATE recipient SET line = ?, run = ? WHERE phone = ? AND run <> ?"
        return self._database.execute(sql, (line, self._run, phone, self._run)).rowcount == 1

    def _rejected(self, entry: ListEntry) -> tuple[int, str, Exclusion, str | None]:
        if entry.problem is not None:
            return entry.line, entry.given, entry.exclusion, entry.problem
        ((line,),) = self._database.rows("SELECT line FROM recipient WHERE phone = ?", (entry.phone,))
        return entry.line, entry.given, Exclusion.DUPLICATE, f"the same phone as in line {line}"
