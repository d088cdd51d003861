"""Recipients from CSV files, with the lines they stand in."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import IO, Any, Final, NamedTuple

from mmsclient.bulk.fields import KNOWN_NAMES, CSVFields, places_of
from mmsclient.bulk.recipients import Row, check
from mmsclient.bulk.template import field_key
from mmsclient.bulk.written_numbers import Convert, as_written, national
from mmsclient.errors import SHOWN_VALUE, InvalidRequestError

PIECE = 64 * 1024
"""Bytes or characters read at a time."""

LONGEST_RECORD = 100_000
"""Characters of one record; a file with a longer one has a quote left open, or is no list."""

SHOWN_COLUMNS = 20
"""Columns that an error names."""

DELIMITERS = ",;\t|"

_LINE_END = re.compile(r"\r\n|\r|\n")

_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

Source = str | os.PathLike[str] | IO[str] | IO[bytes]


def read_csv(
    source: Source,
    column: str | None = None,
    *,
    region: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> CSVList:
    """The recipients in a CSV file, for `Campaign.send` or a loop of your own. Read as it is iterated, never at once.

    The columns of its header are the fields of a `Template`. Empty lines are skipped; a line whose quotes are wrong,
    or with more cells than the first one, is set aside with a reason, like one with a wrong number.

    Args:
        source: A path, or a file open for reading text or bytes (which can be read only once).
        column: Its header. Left out: the only column, or the one called number, phone, mobile, to, recipient or msisdn.
            A list of numbers alone needs no header.
        region: The country of national numbers, such as `NZ`, or `AU` where Excel has taken the first 0 away
            (`412345678`). Landlines, free and premium numbers are then set aside. Needs `phonenumbers`. Left out: E.164
            and Australian mobiles only.
        encoding: Left out, UTF-8, or UTF-16 or UTF-32 with a byte order mark.
        delimiter: Left out, the one of `,`, `;`, tab and `|` that the first line holds most of.

    Raises:
        InvalidRequestError: Here, a wrong region, encoding or delimiter. When it is read, a file that is missing or
            holds no recipient, a wrong column, bytes of another encoding, and, with the line, a quote that is left open
            (others' numbers stand in a cell) or more than 100 000 characters in one record.
        ConfigurationError: `phonenumbers` is not installed.
    """
    if encoding is not None:
        try:
            "".encode(encoding)  # not all codecs are of text
        except (LookupError, TypeError, ValueError):
            raise InvalidRequestError("encoding", encoding, "the name of an encoding, such as cp1252") from None
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
        raise InvalidRequestError("delimiter", delimiter, "one character")
    convert = as_written if region is None else national(region)
    return CSVList(source, column, convert, encoding, delimiter)


class CSVList:
    """The rows of a CSV file, in order: an iterable of `Row`. One of a path can be iterated again."""

    reads_files: Final = True

    def __init__(
        self, source: Source, column: str | None, convert: Convert, encoding: str | None, delimiter: str | None
    ) -> None:
        self._source = source
        self._column = column
        self._convert = convert
        self._encoding = encoding
        self._delimiter = delimiter
        self.header: tuple[str, ...] = ()
        """The names of its columns in lower case, once its first line was read; empty where it has no header."""

    def __iter__(self) -> Iterator[Row]:
        if not isinstance(self._source, str | os.PathLike):
            yield from self._rows(self._source)
            return
        try:
            file = open(self._source, "rb")  # noqa: SIM115 - closed below, and its opening has errors of its own
        except (OSError, ValueError) as error:
            raise _unreadable(self._source, error) from None
        with closing(file):
            try:
                yield from self._rows(file)
            except OSError as error:
                raise _unreadable(self._source, error) from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._source!r}>"

    def _rows(self, file: IO[Any]) -> Iterator[Row]:
        lines = _lines(file, self._encoding)
        start = next(lines, "").removeprefix("\ufeff")  # of a file that was opened as text
        delimiter = self._delimiter or max(DELIMITERS, key=start.count)
        records = _records(chain([start], lines), delimiter)
        first = next(records, None)
        is_empty = True
        for row in () if first is None else self._below(first, records, delimiter):
            is_empty = False
            yield row
        if is_empty:
            found = "this file is empty" if first is None else "this one has nothing below its header"
            raise InvalidRequestError("source", self._name(file), f"a CSV file with a recipient a line; {found}")

    def _below(self, first: Record, records: Iterator[Record], delimiter: str) -> Iterator[Row]:
        if isinstance(first.cells, str):
            raise InvalidRequestError("source", first.cells, f"a CSV file; {WRONG_QUOTES} (line {first.line})")
        place, header = _column(first.cells, self._column)
        self.header = tuple(map(field_key, first.cells)) if header else ()
        layout = Layout(place, places_of(first.cells) if header else {}, len(first.cells), delimiter)
        row = self._row(first, layout)
        if not header:
            yield row
        for record in records:
            yield self._row(record, layout)

    def _name(self, file: IO[Any]) -> str:
        path = self._source if isinstance(self._source, str | os.PathLike) else getattr(file, "name", None)
        return _end_of(path) if isinstance(path, str | os.PathLike) else "an open file"

    def _row(self, record: Record, layout: Layout) -> Row:
        if isinstance(record.cells, str):
            return Row(record.cells, record.line, WRONG_QUOTES)
        if record.last > record.line and any(map(self._is_number, layout.swallowed(record.cells))):
            raise _open_quote(record.line, record.last)
        written = record.cells[layout.place].strip() if layout.place < len(record.cells) else ""
        fields = CSVFields(layout.places, record.cells)
        if len(record.cells) > layout.width and any(cell.strip() for cell in record.cells[layout.width :]):
            return Row(written, record.line, MORE_CELLS, fields)
        if not written:
            return Row("", record.line, "there is no number in this line", fields)
        number, problem = self._convert(written)
        return Row(number, record.line, problem, fields)

    def _is_number(self, written: str) -> bool:
        number, problem = self._convert(written.strip())
        return check(Row(number, 0, problem)).phone is not None


class Layout(NamedTuple):
    """Where things stand in each record of a list."""

    place: int
    """Of the number."""
    places: Mapping[str, int]
    """Of the fields."""
    width: int
    """Cells of the first record; in a longer one all may have moved."""
    delimiter: str

    def swallowed(self, cells: Sequence[str]) -> Iterator[str]:
        """What stands within a cell where another record would have its number, had a quote been left open before it.

        A line of a text is a record only where it has a delimiter, unless records have one cell alone.
        """
        for column, cell in enumerate(cells):
            start, *others = _LINE_END.split(cell)
            if others and column < self.place:
                yield from start.split(self.delimiter)[self.place - column :][:1]
            for line in others:
                parts = line.split(self.delimiter)
                if len(parts) >= min(self.width, 2):
                    yield from parts[self.place :][:1]


def _unreadable(path: str | os.PathLike[str], error: OSError | ValueError) -> InvalidRequestError:
    reason = error.strerror if isinstance(error, OSError) else error
    return InvalidRequestError("source", _end_of(path), f"a file that can be read ({reason})")


def _end_of(path: str | os.PathLike[str]) -> str:
    """As much of `path` as an error shows, with the name of the file in it."""
    return os.fspath(path)[-SHOWN_VALUE:]


def _column(first: Sequence[str], column: str | None) -> tuple[int, bool]:
    """The place of the numbers in each line, and whether the first line is a header."""
    names = [cell.strip().lower() for cell in first]
    columns = ", ".join(map(repr, first[:SHOWN_COLUMNS])) + (", …" if len(first) > SHOWN_COLUMNS else "")
    if column is not None:
        if names.count(column.strip().lower()) == 1:
            return names.index(column.strip().lower()), True
        raise InvalidRequestError("column", column, f"one of the columns {columns}, named once")
    if len(names) == 1:
        return 0, not any(character.isdigit() for character in names[0])
    known = [place for place, name in enumerate(names) if name in KNOWN_NAMES]
    if len(known) != 1:
        raise InvalidRequestError("column", "none", f"the name of one of the columns {columns}")
    return known[0], True


WRONG_QUOTES = 'a quote must open and close a whole cell, as in "Smith, Ann",0400000000, and be doubled inside one'
MORE_CELLS = 'it has more cells than the first line; one that holds the delimiter needs quotes, as in "Smith, Ann"'


class Record(NamedTuple):
    """A record of a CSV file."""

    line: int
    """The line that it begins in."""
    last: int
    """The line that it ends in."""
    cells: Sequence[str] | str
    """The text of the line, where its quotes are wrong."""


class _Fed:
    """The lines of a file as the parser takes them; it holds those of the record under way."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.held: list[str] = []
        self._size = 0
        self.begin = 1

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.held.append(line)
            self._size += len(line)
            if self._size > LONGEST_RECORD:
                expected = f"a CSV file of records up to {LONGEST_RECORD} characters; is a quote left open?"
                raise InvalidRequestError("source", f"a longer one that begins in line {self.begin}", expected)
            yield line

    @property
    def last(self) -> int:
        """The line that the record under way has come to."""
        return self.begin + len(self.held) - 1

    def next_record(self) -> None:
        """What was held has been read."""
        self.begin += len(self.held)
        self.held.clear()
        self._size = 0


def _records(lines: Iterator[str], delimiter: str) -> Iterator[Record]:
    """The records that are not empty."""
    fed = _Fed(lines)
    reader = csv.reader(fed, delimiter=delimiter, strict=True)
    while True:
        cells: Sequence[str] | str | None
        try:
            cells = next(reader, None)
        except csv.Error:
            if len(fed.held) > 1:  # which of its lines are records of their own, nobody can tell
                raise _open_quote(fed.begin, fed.last) from None
            cells = fed.held[0].strip()
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield Record(fed.begin, fed.last, cells)
        fed.next_record()


def _open_quote(begin: int, last: int) -> InvalidRequestError:
    """A quote was left open, and what follows it may have become part of a cell."""
    expected = f"a CSV file; a quote that opens in line {begin} is not closed as it should be"
    return InvalidRequestError("source", f"a record of the lines {begin} to {last}", expected)


def _lines(file: IO[Any], encoding: str | None) -> Iterator[str]:
    """The lines of `file` with their ends, which quoted fields may hold. One that is too long comes in pieces."""
    rest = ""
    for piece in _texts(file, encoding):
        *whole, rest = _split(rest + piece)
        yield from whole
        if len(rest) > LONGEST_RECORD:
            yield rest
            rest = ""
    *whole, rest = _split(rest)
    yield from whole
    if rest:
        yield rest


def _split(text: str) -> list[str]:
    """The lines of `text`, last what does not end: also after a CR, which an LF may follow."""
    lines = list(io.StringIO(text, newline=""))
    if lines and lines[-1].endswith("\n"):
        lines.append("")
    return lines or [""]


def _texts(file: IO[Any], encoding: str | None) -> Iterator[str]:
    """What `file` holds, as text. Raises `InvalidRequestError` where it is in another encoding."""
    decoder: codecs.IncrementalDecoder | None = None
    lines = 0
    while True:
        piece = file.read(PIECE)
        if isinstance(piece, str):
            text = piece
        else:
            if decoder is None:
                encoding = encoding or _encoding(piece)
                decoder = codecs.getincrementaldecoder(encoding)()
            if not lines and piece.startswith(_ZIP):
                raise InvalidRequestError(
                    "source", "a spreadsheet", "a CSV file; save the spreadsheet as one, in UTF-8"
                )
            try:
                text = decoder.decode(piece, final=not piece)
            except UnicodeError as error:
                expected = f"text in {encoding}; save the file as UTF-8 or name its encoding, such as cp1252"
                raise InvalidRequestError("encoding", _flaw(error, lines), expected) from None
        if "\0" in text:
            expected = "text; name the encoding, such as utf-16-le, or save the file as UTF-8"
            raise InvalidRequestError("encoding", f"a NUL in line {lines + 1} or later", expected)
        lines += text.count("\n")
        if text:
            yield text
        if not piece:
            return


_ZIP = b"PK\x03\x04"
"""What a spreadsheet of today begins with."""


def _flaw(error: UnicodeError, lines: int) -> str:
    """What cannot be decoded, after so many lines."""
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    line = lines + error.object[: error.start].count(b"\n") + 1
    return f"bytes {error.object[error.start : error.end].hex()} in about line {line}"


def _encoding(start: bytes) -> str:
    return next((name for mark, name in _BOMS.items() if start.startswith(mark)), "utf-8")
