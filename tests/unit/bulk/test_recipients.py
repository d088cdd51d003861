"""Recipients from lists and CSV files: each once, with the line it stands in, and a reason where it is set aside."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import InvalidRequestError, errors
from mmsclient._api.phone_numbers import phone_key
from mmsclient._store.models import ListEntry, Message
from mmsclient._store.sqlite_journal import SQLiteJournal
from mmsclient._store.sqlite_opening import open_journal
from mmsclient.bulk import Exclusion, RecipientState, Row, read_csv
from mmsclient.bulk.outcome import Next, outcome_of_error
from mmsclient.bulk.recipients import check, check_all, chunks, phone_of
from mmsclient.bulk.recipients_csv import LONGEST_RECORD, PIECE

MESSAGE = Message("Hi", "", b"GIF89a")
MOBILES = st.integers(0, 30).map(lambda n: n + 61_400_000_000)
SPELLINGS = st.sampled_from(["+{}", "{}", " +{} ", "(+{})"])
NUMBERS = st.one_of(
    st.builds(lambda phone, spelling: spelling.format(phone), MOBILES, SPELLINGS),
    MOBILES.map(lambda phone: f"0{phone - 61 * 10**9:09}"),
    st.sampled_from(["", "abc", "12", "+0", "+614", "\ud800", "0" * 300]),
)


def journal() -> SQLiteJournal:
    return open_journal(None, MESSAGE)


@given(st.lists(NUMBERS, max_size=60), st.lists(MOBILES, max_size=5), st.integers(1, 7))
def test_every_row_is_counted_once_and_every_phone_sent_to_once(
    numbers: list[str], excluded: list[int], size: int
) -> None:
    book = journal()
    book.exclude(excluded, Exclusion.LISTED)
    rows = [Row(number, line) for line, number in enumerate(numbers, 1)]
    for start in range(0, len(rows), size):
        book.add(check_all(rows[start : start + size]))
    assert sum(book.counts.values()) == len(rows)
    assert book.reader.summary().counts == {state: book.counts[state] for state in RecipientState}
    taken: list[int] = []
    while batch := book.claim(size):
        assert len(batch.phones) <= size
        taken += batch.phones
    valid = [int(phone_key(number)) for number in numbers if phone_key(number).startswith("614") and len(number) > 9]
    assert taken == [phone for phone in dict.fromkeys(valid) if phone not in excluded]
    book.close()


@given(st.lists(NUMBERS, max_size=40))
def test_a_list_that_is_read_again_changes_nothing(numbers: list[str]) -> None:
    book = journal()
    entries = check_all(Row(number, line) for line, number in enumerate(numbers, 1))
    book.add(entries)
    first = book.reader.summary()
    book.begin_run(resend_unknown=False)
    book.add(entries)
    assert book.reader.summary() == first
    book.begin_run(resend_unknown=False)
    valid = [entry for entry in entries if entry.phone is not None]
    book.add(check_all(Row(entry.given, entry.line + 1) for entry in valid[:1]))  # a line was put in before it
    assert book.reader.summary().exclusions[Exclusion.DUPLICATE] == first.exclusions[Exclusion.DUPLICATE]
    book.close()


@pytest.mark.parametrize("number", [None, 61400000000, b"+61400000000", ["+61400000000"]])
def test_what_is_no_text_is_set_aside(number: Any) -> None:
    entry = check(Row(number, 3))
    assert (entry.phone, entry.line) == (None, 3)
    assert entry.given == repr(number)


async def in_chunks(source: Any, size: int = 2) -> list[list[Row]]:
    return [rows async for rows in chunks(source, size)]


async def test_sources_of_every_kind() -> None:
    async def later() -> AsyncIterator[str]:
        for text in "abc":
            yield text

    expected = [[Row("a", 1), Row("b", 2)], [Row("c", 3)]]
    for source in (["a", "b", "c"], iter("abc"), {"a": 1, "b": 2, "c": 3}, later(), [Row("a", 1), "b", Row("c", 3)]):
        assert await in_chunks(source) == expected
    assert await in_chunks("+61400000000") == [[Row("+61400000000", 1)]]
    assert await in_chunks([]) == []
    with pytest.raises(InvalidRequestError, match="recipients: expected phone numbers"):
        await in_chunks(7)


async def test_a_mapping_with_a_number_is_one_recipient() -> None:
    ann = {"To": "+61400000000", "name": "Ann"}
    assert await in_chunks(ann) == await in_chunks([ann]) == [[Row("+61400000000", 1)]]
    async for rows in chunks(ann):
        assert [row.fields for row in rows] == [{"to": "+61400000000", "name": "Ann"}]


@pytest.mark.parametrize("source", [b"+61400000000", bytearray(b"+61400000000"), memoryview(b"+61400000000")])
async def test_bytes_are_no_list(source: Any) -> None:
    with pytest.raises(InvalidRequestError, match="recipients: expected phone numbers"):
        await in_chunks(source)


@pytest.mark.parametrize(
    "fields",
    [{"to": "0400000000", "Code": "A", "code": "B"}, {"to": "0400000000", "TO ": "0400000001"}],
)
async def test_fields_of_one_name_are_told(fields: dict[str, str]) -> None:
    ((row,),) = await in_chunks([fields])
    entry = check(row)
    assert (entry.phone, entry.problem) == (
        None,
        "expected fields whose names differ in more than case and the space around them",
    )


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("value", [10**10_000, Unprintable()], ids=["a number", "an object"])
async def test_what_cannot_be_written_out_is_set_aside(value: Any) -> None:
    (rows,) = await in_chunks([value, {"to": value}])
    given = f"<unprintable {type(value).__name__} object>"
    assert [(entry.phone, entry.given) for entry in check_all(rows)] == [(None, given)] * 2


async def test_a_generator_is_read_no_further_than_asked_for() -> None:
    taken = []

    def endless() -> Iterator[str]:
        for n in range(10**9):
            taken.append(n)
            yield str(n)

    async for _ in chunks(endless(), 10):
        break
    assert taken == list(range(10))


# CSV ----------------------------------------------------------------------------------------------------------------


def listed(text: str | bytes, *arguments: Any, **options: Any) -> list[tuple[int, str]]:
    file: Any = io.BytesIO(text) if isinstance(text, bytes) else io.StringIO(text, newline="")
    return [(row.line, row.number) for row in read_csv(file, *arguments, **options)]


@pytest.mark.parametrize(
    ("encoding", "option"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("utf-16-le", "utf-16-le"),
        ("cp1252", "cp1252"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(encoding: str, option: str | None, end: str) -> None:
    text = end.join(["Name,Möbile", "Zoë,+61400000000", "", '"a', 'b",0400000001', ",", "x,2"])
    rows = listed(text.encode(encoding), "möbile", encoding=option)
    assert rows == [(2, "+61400000000"), (4, "0400000001"), (7, "2")]


def test_a_long_file_in_pieces(tmp_path: Path) -> None:
    """Lines and characters that lie across the borders of what is read at a time."""
    lines = ["Zoë,mobile", *(f'"é{"x" * (n % 97)}",04{n:08}' for n in range(5000))]
    path = tmp_path / "list.csv"
    path.write_bytes("\r\n".join(lines).encode())
    source = read_csv(path, "mobile")
    expected = [(n + 2, f"04{n:08}") for n in range(5000)]
    assert [(row.line, row.number) for row in source] == expected
    assert [(row.line, row.number) for row in source] == expected  # a path can be read again


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0400000000\n0400000001", [(1, "0400000000"), (2, "0400000001")]),
        ("Who to call\n0400000001\n", [(2, "0400000001")]),
        ("04 bad\n0400000001\n", [(1, "04 bad"), (2, "0400000001")]),
        ("id,Phone\n1,0400000001\n", [(2, "0400000001")]),
        ("id;mobile\n1;0400000001\n", [(2, "0400000001")]),
        ("id\tmobile\n1\t0400000001\n2\n", [(2, "0400000001"), (3, "")]),
    ],
)
def test_which_column(text: str, rows: list[tuple[int, str]]) -> None:
    assert listed(text) == rows


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"a,b\n1,2\n", {"column": "c"}, "column: expected one of the columns 'a', 'b'"),
        (b"a,a\n1,2\n", {"column": "a"}, "named once"),
        (b"a,b\n1,2\n", {}, "the name of one of the columns 'a', 'b'"),
        (b"mobile,phone\n1,2\n", {}, "the name of one of the columns"),
        ("phone\n0400000000\nZo\u00eb\n".encode("latin-1"), {}, "bytes eb in about line 3"),
        ("phone\n1\n".encode("utf-16-le"), {}, "a NUL in line 1"),
        (b'phone\n"0400000000\n0400000001\n', {}, "a quote that opens in line 2 is not closed as it should be"),
        (b'phone\n"0400000000\n0400000001\n"0400000002"\n', {}, "'a record of the lines 2 to 4'"),
        (b'"phone" ,name\n0400000000,Ann\n', {}, "a quote must open and close a whole cell"),
    ],
)
def test_files_that_cannot_be_read(content: bytes, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        listed(content, **options)
    assert said in str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_with_wrong_quotes_is_set_aside_with_a_reason_and_its_neighbours_are_read(end: str) -> None:
    lines = ["phone,name", "0400000001,Ann", '"Smith" ,x', '0400000002,"Bob"', '"04"00,x', '0400000003,"B', ""]
    rows = list(read_csv(io.StringIO(end.join(lines), newline="")))
    assert [(row.line, row.number) for row in rows if row.problem is None] == [(2, "0400000001"), (4, "0400000002")]
    aside = [(row.line, row.number) for row in rows if row.problem]
    assert aside == [(3, '"Smith" ,x'), (5, '"04"00,x'), (6, '0400000003,"B')]
    assert all("a quote must open and close a whole cell" in (check(row).problem or "") for row in rows if row.problem)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("lines", "last"),
    [
        (["mobile,name,size", '0400000001,"Ann,40', "0400000002,Bob,42", '0400000003,Cy,32"', "0400000004,Di,38"], 4),
        (["mobile,name", '0400000001,"Ann', "0400000002,Bob", '0400000003,TV 32"'], 4),
        (["mobile,name", '0400000001,"Ann', '0400000002,TV 32"'], 3),
        (["mobile,name", '0400000001,"Ann', "0400000002", '0400 000 003,TV 32"'], 4),
        (["name,mobile", '"Ann,0400000001', 'TV 32",0400000002'], 3),
        (["name,mobile,size", 'Ann,0400000001,"M', 'Bob,0400000002,L"'], 3),
        (["mobile", '"0400000001', "0400000002", '0400000003"'], 4),
    ],
)
def test_a_quote_left_open_that_is_closed_further_down_takes_no_rows_with_it(
    lines: list[str], last: int, end: str
) -> None:
    with pytest.raises(InvalidRequestError, match=rf"quote that opens in line 2 .* lines 2 to {last}'"):
        listed(end.join([*lines, ""]))


def test_a_header_takes_no_rows_with_it() -> None:
    with pytest.raises(InvalidRequestError, match="quote that opens in line 1 "):
        listed('mobile,"name\n0400000001,TV 32"\n0400000002,Bob\n')


@pytest.mark.parametrize(
    "text",
    [
        'mobile,note\n0400000001,"Call us:\n0400 000 009\nThanks, Ann"\n',
        'mobile,note\n0400000001,"Call us:\n0400000009"\n',
        'note,mobile\n"Ann\nSmith, 12 High St",0400000001\n',
        '"mobile\nphone",mobile\nx,0400000001\n',
        'mobile,note\n0400000001,"12, High St\n3000, Melbourne\n\n"\n',
    ],
)
def test_a_cell_may_have_lines(text: str) -> None:
    assert [number for _, number in listed(text)] == ["0400000001"]


@pytest.mark.parametrize(
    ("text", "aside"),
    [
        ("mobile,name,code\n0400000001,Ann,A17,,\n0400000002,Smith, Bob,B04\n0400000003\n", [(3, "0400000002")]),
        ("0400000001\n0400000002,0400000003\n0400000004,\n", [(2, "0400000002")]),
        ("name;mobile\nAnn;0400000001\nBob;0400000002;x\n;0400000003; \n", [(3, "0400000002")]),
        ("name,mobile\nAnn,0400000001\nSmith, Bob,0400000002\n", [(3, "Bob")]),
    ],
)
def test_a_line_with_more_cells_than_the_first_is_set_aside(text: str, aside: list[tuple[int, str]]) -> None:
    rows = list(read_csv(io.StringIO(text)))
    assert [(row.line, row.number) for row in rows if row.problem] == aside
    assert all("more cells than the first line" in (row.problem or "") for row in rows if row.problem)
    assert all(check(row).phone for row in rows if row.problem is None)


CELLS = st.text('ab04 ,;"\n\r\t', max_size=8)


@given(
    st.integers(0, 2),
    st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from([";", ","]),
)
def test_what_the_csv_module_writes_is_read_as_it_reads_it(
    place: int, cells: list[tuple[str, ...]], quoting: Literal[0, 1], delimiter: str
) -> None:
    header = ["a", "b", "c"]
    header[place] = "mobile"
    written = io.StringIO(newline="")
    writer = csv.writer(written, quoting=quoting, delimiter=delimiter)
    writer.writerow(header)
    for line, row in enumerate(cells):
        writer.writerow((*row[:place], f"0400000{line:03}", *row[place + 1 :]))
    read = list(read_csv(io.StringIO(written.getvalue(), newline="")))
    expected = list(csv.reader(io.StringIO(written.getvalue(), newline=""), delimiter=delimiter))[1:]
    assert [[(row.fields or {})[name] for name in header] for row in read] == expected
    assert [row.number for row in read] == [row[place] for row in expected]
    assert all(row.problem is None for row in read)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "this file is empty"),
        ("\ufeff", "this file is empty"),
        ("\n \n,,\n", "this file is empty"),
        ("phone\n", "this one has nothing below its header"),
        ("id,phone\n\n , \n", "this one has nothing below its header"),
    ],
)
def test_an_empty_file_is_an_error_that_names_it(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "customers.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=rf"{found}, got '.*customers.csv'"):
        list(read_csv(path))
    with path.open("rb") as file, pytest.raises(InvalidRequestError, match=rf"{found}, got '.*customers.csv'"):
        list(read_csv(file))
    with pytest.raises(InvalidRequestError, match=f"{found}, got 'an open file'"):
        listed(text)


class Counted(io.BytesIO):
    """Counts what is read of it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        self.taken += len(piece)
        return piece


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"0" * 16_000_000, 1),
        (b"phone\n0400000000\n" + b"0" * 16_000_000, 3),
        (b'phone\n"' + b"0400000000\n" * 1_000_000, 2),
        (b'phone,name\n"' + b'","\n' * 4_000_000, 2),
    ],
    ids=["one line", "a line further down", "an open quote", "many cells"],
)
def test_a_record_without_an_end_is_refused_by_its_line_and_not_read_on(content: bytes, line: int) -> None:
    file = Counted(content)
    said = f"records up to {LONGEST_RECORD} characters; .*, got 'a longer one that begins in line {line}'"
    with pytest.raises(InvalidRequestError, match=said):
        list(read_csv(file))
    assert file.taken <= LONGEST_RECORD + 3 * PIECE


def test_a_record_may_be_as_long_as_the_limit() -> None:
    text = "phone,note\n" + "\n".join(f'0400000000,"{"x" * (LONGEST_RECORD - 14)}"' for _ in range(3)) + "\n"
    assert listed(text) == [(line, "0400000000") for line in (2, 3, 4)]
    long_lines = "phone,note\n" + f'0400000000,"{"x" * 60}\n{"y" * (LONGEST_RECORD - 75)}"\n' * 2
    assert listed(long_lines) == [(2, "0400000000"), (4, "0400000000")]


def test_a_header_of_many_columns_is_not_told_whole() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        listed(",".join(f"column {number}" for number in range(5_000)))
    assert len(caught.value.expected) < 500


def test_a_missing_file() -> None:
    with pytest.raises(InvalidRequestError, match="No such file"):
        list(read_csv("/nonexistent.csv"))


def test_utf_16_without_a_mark_is_told() -> None:
    with pytest.raises(InvalidRequestError, match="encoding: expected text in utf-16;"):
        list(read_csv(io.BytesIO(b"mobile\n+61400000000\n"), encoding="utf-16"))


def test_a_spreadsheet_is_no_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "list.xlsx"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(InvalidRequestError, match="save the spreadsheet as one"):
        list(read_csv(path))


@pytest.mark.parametrize(
    "options", [{"encoding": "klingon"}, {"encoding": "base64"}, {"delimiter": ",,"}, {"region": "XX"}, {"region": 7}]
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(options))):
        read_csv("list.csv", **options)


def told(number: str, **options: Any) -> ListEntry:
    """What a list with `number` in it makes of it."""
    (row,) = read_csv(io.StringIO(f'phone\n"{number}"\n'), **options)
    return check(row)


def test_national_numbers() -> None:
    text = "phone\n021 345 678\n+61 400 000 000\n12\nnone\n"
    rows = list(read_csv(io.StringIO(text), region="nz"))
    assert [row.number for row in rows] == ["+6421345678", "+61400000000", "12", "none"]
    assert [row.problem is None for row in rows] == [True, True, False, False]
    assert "NZ" in (check(rows[2]).problem or "")


@pytest.mark.parametrize(
    "written",
    [
        *("412345678", "0412345678", "0412 345 678", "0412.345.678", "61412345678", "+61412345678", "(04) 1234-5678"),
        *("0061412345678", "00 61 412 345 678", "0011 61 412 345 678", "001161412345678", "+61 (0)412 345 678"),
        *("\uff10\uff14\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18", "(+61) 412 345 678"),
    ],
)
def test_what_spreadsheets_make_of_a_number_is_read_with_its_region(written: str) -> None:
    assert told(written, region="AU").phone == 61412345678


@pytest.mark.parametrize("written", ["412345678", "412 345 678", "0212345678", "(02) 1234-5678", "02134567"])
def test_a_national_number_without_a_region_gets_a_hint_at_it(written: str) -> None:
    problem = told(written).problem or ""
    assert "E.164" in problem
    assert 'needs region= (--region), such as region="AU"' in problem


@pytest.mark.parametrize("written", ["12", "none", "0412 345 678 x12", "0412 345 678 ext. 2", "0412345678#2"])
@pytest.mark.parametrize("region", ["AU", "GB"])
def test_a_reason_is_in_our_words(written: str, region: str) -> None:
    assert told(written, region=region).problem == f"no phone number of {region}, and none in E.164"


@pytest.mark.parametrize(
    "written", ["call 0412345678", "0412345678, 0412345679", "0412345678/0412345679", "04 1234 HELP", "*0412345678"]
)
def test_what_holds_more_than_a_number_is_set_aside(written: str) -> None:
    for options in ({}, {"region": "AU"}):
        assert told(written, **options).phone is None


@pytest.mark.parametrize(
    ("written", "region"),
    [
        *((f"21123456{tail}", "NZ") for tail in (".0", ".00", " (2)", "(12)", " - 1", "-23", ".1", "/2", " ~ 1")),
        *((f"0064 21 123 456{tail}", "NZ") for tail in (".0", " (2)", "-1")),
        *(("+64 21 123 456" + tail, "NZ") for tail in (".0", " (2)", "-1", "\n1")),
        *(("1701234567.0", "DE"), ("401234567.0", "FI"), ("6641234567.0", "AT"), ("81234567890.0", "ID")),
        *(("412345678.0", "AU"), ("0412345678.0", "AU"), ("\uff10\uff12\uff11 123 45-\uff16", "NZ")),
    ],
)
def test_digits_behind_a_number_do_not_make_it_another_phone(written: str, region: str) -> None:
    for options in ({}, {"region": region}):
        entry = told(written, **options)
        assert (entry.phone, entry.given) == (None, errors.one_line(written, 60))
    assert "a number alone" in (told(written, region=region).problem or "")


@pytest.mark.parametrize(
    ("written", "region", "phone"),
    [
        ("06.12.34.50.00", "FR", 33612345000),
        ("06-12-34-56-78", "FR", 33612345678),
        ("8 (912) 345-67-89", "RU", 79123456789),
        ("021.123.000", "NZ", 6421123000),
        ("0171/1234567", "DE", 491711234567),
    ],
)
def test_a_number_may_end_in_pairs_or_zeros(written: str, region: str, phone: int) -> None:
    assert told(written, region=region).phone == phone


@pytest.mark.parametrize("options", [{}, {"region": "AU"}])
@pytest.mark.parametrize("written", ["6.14E+10", "6.14123E+10", "4.12e8", "6,14E+10"])
def test_a_number_that_a_spreadsheet_has_shortened_says_what_to_do(written: str, options: dict[str, Any]) -> None:
    assert "format its column as text" in (told(written, **options).problem or "")


@pytest.mark.parametrize(
    ("written", "region", "kind"),
    [
        ("02 9999 9999", "AU", "a landline"),
        ("+61 2 9999 9999", "AU", "a landline"),
        ("020 7946 0018", "GB", "a landline"),
        ("+44 20 7946 0018", "AU", "a landline"),
        ("1800 356 937", "AU", "a free number"),
        ("1300 356 937", "AU", "a shared cost number"),
        ("1900 654 321", "AU", "a premium number"),
    ],
)
def test_a_landline_is_set_aside_where_a_region_is_given(written: str, region: str, kind: str) -> None:
    entry = told(written, region=region)
    assert (entry.phone, entry.problem) == (None, f"{kind}, which takes no MMS")


def test_a_number_that_may_be_a_mobile_is_sent_to() -> None:
    assert told("(202) 456-1111", region="US").phone == 12024561111


def test_the_mobiles_of_every_region_are_read_in_each_of_their_spellings() -> None:
    """As written there, as written abroad, as E.164: one phone."""
    formats = phonenumbers.PhoneNumberFormat
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        if example is None:
            continue
        e164 = phonenumbers.format_number(example, formats.E164)
        spellings = [phonenumbers.format_number(example, form) for form in (formats.NATIONAL, formats.INTERNATIONAL)]
        phones = {told(text, region=region).phone for text in (e164, *spellings)}
        assert phones == {int(e164[1:])}, region
        assert phone_of(e164) == phone_of(spellings[1].replace(".", " ")) == int(e164[1:])


# Verdicts -----------------------------------------------------------------------------------------------------------


def refusal(cls: type[errors.APIError], code: str, description: str = "no") -> errors.APIError:
    return cls(description, call="send-mms", http_status=400, code=code)


@pytest.mark.parametrize(
    ("error", "state", "then"),
    [
        (errors.NotSentError("x", call="send-mms"), "failed", Next.TRY_AGAIN),
        (errors.LimiterUnavailableError("x"), "failed", Next.TRY_AGAIN),
        (refusal(errors.RateLimitError, "OVER_LIMIT"), "failed", Next.TRY_AGAIN),
        (errors.OutcomeUnknownError("x", call="send-mms"), "unknown", Next.GO_ON),
        (errors.ConfigurationError("x"), "pending", Next.STOP),
        (errors.InvalidRequestError("to", "x", "y"), "pending", Next.STOP),
        (refusal(errors.AuthenticationError, "AUTH_FAILED"), "pending", Next.STOP),
        (refusal(errors.PermissionDeniedError, "NO_ACCESS"), "pending", Next.STOP),
        (refusal(errors.InsufficientCreditError, "FIELD_INVALID", "credit"), "pending", Next.STOP),
        (refusal(errors.UnknownCallError, "NOT_IMPLEMENTED"), "pending", Next.STOP),
        (refusal(errors.FieldInvalidError, "FIELD_UNSAFE"), "pending", Next.STOP),
        (refusal(errors.FieldInvalidError, "FIELD_INVALID", "The field mms_file is wrong"), "pending", Next.STOP),
        (refusal(errors.FieldInvalidError, "FIELD_INVALID", "The field numbers is wrong"), "pending", Next.SPLIT),
        (refusal(errors.RecipientsError, "RECIPIENTS_ERROR"), "refused", Next.GO_ON),
        (refusal(errors.ConflictError, "KEY_EXISTS"), "refused", Next.GO_ON),
        (refusal(errors.APIError, "REQUEST_FAILED"), "refused", Next.GO_ON),
        (errors.TransportError("x", call="send-mms"), "unknown", Next.STOP),
        (errors.MMSError("x"), "unknown", Next.STOP),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_an_error_means_for_its_recipients(error: errors.MMSError, state: str, then: Next) -> None:
    outcome = outcome_of_error((61400000000, 61400000001), error, may_split=True)
    assert [result.state for result in outcome.results] == [state, state]
    assert [result.reason for result in outcome.results] == [str(error)] * 2
    assert outcome.next is then
    assert outcome.accepted == 0


@pytest.mark.parametrize(("count", "may_split", "state"), [(2, False, "failed"), (1, True, "refused")])
def test_what_cannot_be_split(count: int, may_split: bool, state: str) -> None:
    error = refusal(errors.FieldInvalidError, "FIELD_INVALID")
    outcome = outcome_of_error(tuple(range(61400000000, 61400000000 + count)), error, may_split=may_split)
    assert ({result.state for result in outcome.results}, outcome.next) == ({state}, Next.GO_ON)
