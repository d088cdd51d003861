"""Recipients from CSV files, with the lines they stand in."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import IO, Any, Final

from mmsclient.bulk.plan import Row
from mmsclient.errors import InvalidRequestError

PIECE = 64 * 1024
"""Bytes or characters read at a time."""

KNOWN_COLUMNS = frozenset({"number", "phone", "mobile", "to", "recipient", "msisdn"})
"""Where no column is named, the one that is called like this."""

DELIMITERS = ",;\t|"

_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

Source = str | os.PathLike[str] | IO[str] | IO[bytes]
Convert = Callable[[str], tuple[str, str | None]]
"""A number as written to a number and why it is none."""


def read_csv(
    source: Source,
    column: str | None = None,
    *,
    region: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> CSVList:
    """The recipients in a CSV file, for `Campaign.send` or a loop of your own. Read as it is iterated, never at once.

    - `source`: a path, or a file open for reading text or bytes (which can be read only once).
    - `column`: its header. Left out: the only column, or the one called number, phone, mobile, to, recipient or
      msisdn. A list of numbers alone needs no header.
    - `region`: the country of national numbers, such as `NZ`. Needs `phonenumbers`. Left out: E.164 and Australian
      mobiles only.
    - `encoding`: left out, UTF-8, or UTF-16 or UTF-32 with a byte order mark.
    - `delimiter`: left out, the one of `,`, `;`, tab and `|` that the first line holds most of.

    Empty lines are skipped. Raises `InvalidRequestError` here for a wrong region or encoding, and when it is read for
    a missing file, a wrong column, bytes of another encoding or a quote that is never closed, with the line;
    `ModuleNotFoundError` where `phonenumbers` is not installed.
    """
    if encoding is not None:
        try:
            codecs.lookup(encoding)
        except (LookupError, TypeError):
            raise InvalidRequestError("encoding", encoding, "the name of an encoding, such as cp1252") from None
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
        raise InvalidRequestError("delimiter", delimiter, "one character")
    convert = _as_written if region is None else _national(region)
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

    def __iter__(self) -> Iterator[Row]:
        if not isinstance(self._source, str | os.PathLike):
            yield from self._rows(self._source)
            return
        try:
            file = open(self._source, "rb")  # noqa: SIM115 - closed below, and its opening has errors of its own
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InvalidRequestError(
                "source", os.fspath(self._source), f"a file that can be read ({reason})"
            ) from None
        with closing(file):
            yield from self._rows(file)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._source!r}>"

    def _rows(self, file: IO[Any]) -> Iterator[Row]:
        records = _records(_lines(file, self._encoding), self._delimiter)
        first = next(records, None)
        if first is None:
            return
        place, header = _column(first[1], self._column)
        if not header:
            yield self._row(*first, place)
        for line, cells in records:
            yield self._row(line, cells, place)

    def _row(self, line: int, cells: Sequence[str], place: int) -> Row:
        written = cells[place].strip() if place < len(cells) else ""
        if not written:
            return Row("", line, "there is no number in this line")
        number, problem = self._convert(written)
        return Row(number, line, problem)


def _column(first: Sequence[str], column: str | None) -> tuple[int, bool]:
    """The place of the numbers in each line, and whether the first line is a header."""
    names = [cell.strip().lower() for cell in first]
    if column is not None:
        if names.count(column.strip().lower()) == 1:
            return names.index(column.strip().lower()), True
        wanted = f"one of the columns {', '.join(map(repr, first))}"
        raise InvalidRequestError("column", column, f"{wanted}, named once")
    if len(names) == 1:
        return 0, not any(character.isdigit() for character in names[0])
    known = [place for place, name in enumerate(names) if name in KNOWN_COLUMNS]
    if len(known) != 1:
        raise InvalidRequestError("column", "none", f"the name of one of the columns {', '.join(map(repr, first))}")
    return known[0], True


def _records(lines: Iterator[str], delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty, each with the line that it begins in."""
    start = next(lines, None)
    if start is None:
        return
    if delimiter is None:
        delimiter = max(DELIMITERS, key=start.count)

    def all_lines() -> Iterator[str]:
        yield start
        yield from lines

    reader = csv.reader(all_lines(), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            expected = f"a CSV file; the record that begins in line {line} is none"
            raise InvalidRequestError("source", str(error), expected) from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def _lines(file: IO[Any], encoding: str | None) -> Iterator[str]:
    """The lines of `file` with their ends, which quoted fields may hold."""
    rest = ""
    for piece in _texts(file, encoding):
        *whole, rest = _split(rest + piece)
        yield from whole
    yield from _split(rest)[:-1]
    if last := _split(rest)[-1]:
        yield last


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
            try:
                text = decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                line = lines + error.object[: error.start].count(b"\n") + 1
                found = f"bytes {error.object[error.start : error.end].hex()} in about line {line}"
                expected = f"text in {encoding}; save the file as UTF-8 or name its encoding, such as cp1252"
                raise InvalidRequestError("encoding", found, expected) from None
        if "\0" in text:
            expected = "text; name the encoding, such as utf-16-le, or save the file as UTF-8"
            raise InvalidRequestError("encoding", f"a NUL in line {lines + 1} or later", expected)
        lines += text.count("\n")
        if text:
            yield text
        if not piece:
            return


def _encoding(start: bytes) -> str:
    return next((name for mark, name in _BOMS.items() if start.startswith(mark)), "utf-8")


def _as_written(number: str) -> tuple[str, str | None]:
    return number, None


def _national(region: str) -> Convert:
    """Reads numbers as they are dialled in `region`."""
    try:
        import phonenumbers  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "region= needs phonenumbers: pip install 'mmsclient[cli]'", name="phonenumbers"
        ) from None
    country = region.upper() if isinstance(region, str) else region
    if country not in phonenumbers.SUPPORTED_REGIONS:
        raise InvalidRequestError("region", region, "the two letters of a country, such as AU")

    def convert(number: str) -> tuple[str, str | None]:
        try:
            parsed = phonenumbers.parse(number, country)
        except phonenumbers.NumberParseException as error:
            return number, f"no phone number of {country} ({error})"
        if not phonenumbers.is_valid_number(parsed):
            return number, f"no phone number of {country}"
        return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164), None

    return convert
