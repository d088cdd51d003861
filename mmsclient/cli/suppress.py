"""`mmsclient suppress`: who must get no message, kept over campaigns."""

from __future__ import annotations

import csv
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

from attrs import evolve
from cyclopts import App, Parameter

from mmsclient.bulk import CSVList, Row, Suppression, SuppressionList, SuppressionReport, SuppressionUpdate
from mmsclient.bulk.recipients_csv import MORE_CELLS
from mmsclient.cli.bulk import ListOptions
from mmsclient.cli.connection import DEFAULT, Connection, warnings_shown
from mmsclient.cli.output import Column, Form, local, show_stream, to_json
from mmsclient.cli.status import Status, UsageError, complain
from mmsclient.errors import InvalidRequestError

app: App = App(name="suppress", default_parameter=Parameter(negative=()))

EXPORTED = ("number", "reason", "added_at")
"""The columns of an export."""

BY_ITSELF = ListOptions()

JSONLines = Annotated[bool, Parameter(help="Print a JSON object a line for scripts.", show_default=False)]
OneJSON = Annotated[bool, Parameter(help="Print one JSON object for scripts.", show_default=False)]

COLUMNS: tuple[Column[Suppression], ...] = (
    Column("Number", lambda entry: entry.number, 16),
    Column("Since", lambda entry: str(entry.added_at), 25),
    Column("Reason", lambda entry: entry.reason),
)


@app.command
async def add(place: str, numbers: list[str], /, *, reason: str = "by hand") -> None:
    """Put numbers on a list, which is made if it is not there.

    Parameters
    ----------
    place
        File of the list, on a local disk, or the URL of a PostgreSQL database. Give a password in PGPASSWORD.
    numbers
        E.164 (+61400000000) or Australian mobiles ("0400 000 000").
    reason
        Why, for whoever asks later.
    """
    async with _opened(place) as suppression:
        for number in numbers:
            print("added" if await suppression.add(number, reason) else "known")


@app.command
async def remove(place: str, numbers: list[str], /) -> int:
    """Take numbers off a list. Exit status 1 if one of them is not on it.

    One that the API lists as unsubscribed comes back with the next `sync`, and with the next campaign.

    Parameters
    ----------
    place
        File of the list, or the URL of a PostgreSQL database.
    numbers
        As for `add`; or a spelling that cannot be read, as `list` shows it.
    """
    status = Status.DONE
    async with _opened(place) as suppression:
        await suppression.report()  # it is there
        for number in numbers:
            if await suppression.remove(number):
                print("removed")
            else:
                complain("it is not on the list")
                status = Status.FAILED
    return status


@app.command(name="import")
async def import_(
    place: str,
    file: Path,
    /,
    *,
    reason: str | None = None,
    listing: ListOptions = BY_ITSELF,
    json: OneJSON = False,
) -> int:
    """Put the numbers of a CSV file on a list, which is made if it is not there. Exit status 3 if some cannot be read.

    Parameters
    ----------
    place
        File of the list, or the URL of a PostgreSQL database.
    file
        CSV file with the numbers.
    reason
        Why, for whoever asks later. Left out: "imported"; what `export` printed keeps its reasons and dates.
    """
    rows = listing.read(file)
    found = rows if reason is not None or listing.column is not None else _list_in(file, rows)
    async with _opened(place) as suppression:
        if isinstance(found, list):
            update = await suppression.add_entries(found)
        else:
            update = await suppression.add_all(found, "imported" if reason is None else reason)
        return _show_update(update, Form.chosen(json))


@app.command
async def export(place: str, /) -> None:
    """Print a list as CSV: number, reason, added_at. `import` reads it.

    Parameters
    ----------
    place
        File of the list, or the URL of a PostgreSQL database.
    """
    async with _opened(place) as suppression:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(EXPORTED)
        async for entry in suppression.entries():
            writer.writerow((entry.number, entry.reason, entry.added_at.isoformat()))


@app.command
async def sync(place: str, /, *, connection: Connection = DEFAULT, json: OneJSON = False) -> int:
    """Put all who have opted out at the API on a list, which is made if it is not there.

    The API lists none unless "Opt-out for API" is active in the account (Settings, Inbound SMS settings). Exit status 3
    if some numbers cannot be read, or its list ended early.

    Parameters
    ----------
    place
        File of the list, or the URL of a PostgreSQL database.
    """
    async with connection.client() as mms, SuppressionList(place) as suppression:
        return _show_update(await suppression.sync(mms), Form.chosen(json))


@app.command(name="list")
async def list_(place: str, /, *, json: JSONLines = False) -> int:
    """Show who is on a list, and what was to be and cannot be read. Exit status 3 if there is any of that.

    Parameters
    ----------
    place
        File of the list, or the URL of a PostgreSQL database.
    """
    form = Form.chosen(json)
    async with _opened(place) as suppression:
        await show_stream(_in_local_times(suppression), COLUMNS, form)
        return _show_report(await suppression.report(), form)


async def _in_local_times(suppression: SuppressionList) -> AsyncGenerator[Suppression, None]:
    async with aclosing(suppression.entries()) as entries:
        async for entry in entries:
            yield evolve(entry, added_at=local(entry.added_at))


class _Begun:
    """A list of which the first row was read already."""

    reads_files = True

    def __init__(self, first: Row, rest: Iterator[Row]) -> None:
        self._first = first
        self._rest = rest

    def __iter__(self) -> Iterator[Row]:
        yield self._first
        yield from self._rest


def _list_in(file: Path, rows: CSVList) -> list[Suppression] | _Begun:
    """What `export` printed, or another list; read once, since a pipe cannot be read again.

    Raises `UsageError` where what was printed has been changed since.
    """
    iterator = iter(rows)
    try:
        first = next(iterator)
    except InvalidRequestError:
        if not _is_exported(rows):
            raise
        return []  # nobody was on the list
    begun = _Begun(first, iterator)
    return [_entry(file, place, row) for place, row in enumerate(begun, 2)] if _is_exported(rows) else begun


def _is_exported(rows: CSVList) -> bool:
    return sorted(rows.header) == sorted(EXPORTED)


def _entry(file: Path, place: int, row: Row) -> Suppression:
    number, why, added_at = (str((row.fields or {}).get(name, "")) for name in EXPORTED)
    with suppress(ValueError):
        entry = Suppression(number=number, reason=why, added_at=datetime.fromisoformat(added_at))
        if row.problem != MORE_CELLS:
            return entry
    raise UsageError(f"{file}: entry {place} is not as `export` printed it; give --reason for new ones")


@asynccontextmanager
async def _opened(place: str) -> AsyncIterator[SuppressionList]:
    with warnings_shown():
        async with SuppressionList(place) as suppression:
            yield suppression


def _show_update(update: SuppressionUpdate, form: Form) -> int:
    print(to_json(update) if form is Form.JSON else str(update))
    return Status.PARTLY_ACCEPTED if update.unreadable or update.ended_early else Status.DONE


def _show_report(report: SuppressionReport, form: Form) -> int:
    if form is not Form.JSON:
        print(report)
    for number in report.unreadable:
        if form is Form.JSON:
            print(to_json({"unreadable": evolve(number, added_at=local(number.added_at))}))
        else:
            complain(f"cannot be read: {number.given!r} ({number.reason})")
    return Status.PARTLY_ACCEPTED if report.unreadable else Status.DONE
