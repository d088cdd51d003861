"""Recipients from lists and CSV files: each once, with the line it stands in, and a reason where it is set aside."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsclient import InvalidRequestError, errors
from mmsclient.bulk import Exclusion, RecipientState, Row, read_csv
from mmsclient.bulk.journal import Journal, Message
from mmsclient.bulk.plan import check, check_all, chunks
from mmsclient.bulk.verdict import Next, of_error
from mmsclient.numbers import phone_key

MESSAGE = Message("Hi", "", b"GIF89a")
MOBILES = st.integers(0, 30).map(lambda n: n + 61_400_000_000)
SPELLINGS = st.sampled_from(["+{}", "{}", " +{} ", "(+{})"])
NUMBERS = st.one_of(
    st.builds(lambda phone, spelling: spelling.format(phone), MOBILES, SPELLINGS),
    MOBILES.map(lambda phone: f"0{phone - 61 * 10**9:09}"),
    st.sampled_from(["", "abc", "12", "+0", "+614", "\ud800", "0" * 300]),
)


def journal() -> Journal:
    return Journal.for_campaign(None, MESSAGE)


@settings(deadline=None)
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
    assert book.sums().counts == {state: book.counts[state] for state in RecipientState}
    taken: list[int] = []
    while batch := book.take(size):
        assert len(batch.phones) <= size
        taken += batch.phones
    valid = [int(phone_key(number)) for number in numbers if phone_key(number).startswith("614") and len(number) > 9]
    assert taken == [phone for phone in dict.fromkeys(valid) if phone not in excluded]
    book.close()


@settings(deadline=None)
@given(st.lists(NUMBERS, max_size=40))
def test_a_list_that_is_read_again_changes_nothing(numbers: list[str]) -> None:
    book = journal()
    entries = check_all(Row(number, line) for line, number in enumerate(numbers, 1))
    book.add(entries)
    first = book.sums()
    book.begin_run(resend_unknown=False)
    book.add(entries)
    assert book.sums() == first
    book.begin_run(resend_unknown=False)
    valid = [entry for entry in entries if entry.phone is not None]
    book.add(check_all(Row(entry.given, entry.line + 1) for entry in valid[:1]))  # a line was put in before it
    assert book.sums().exclusions[Exclusion.DUPLICATE] == first.exclusions[Exclusion.DUPLICATE]
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
        ("", []),
        ("\n\n", []),
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
        (b'phone\n"0400000000\n0400000001\n', {}, "the record that begins in line 2 is none"),
        (b'phone\n"04"00\n', {}, "line 2"),
    ],
)
def test_files_that_cannot_be_read(content: bytes, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        listed(content, **options)
    assert said in str(caught.value)


def test_a_missing_file() -> None:
    with pytest.raises(InvalidRequestError, match="No such file"):
        list(read_csv("/nonexistent.csv"))


@pytest.mark.parametrize("options", [{"encoding": "klingon"}, {"delimiter": ",,"}, {"region": "XX"}, {"region": 7}])
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(options))):
        read_csv("list.csv", **options)


def test_national_numbers() -> None:
    text = "phone\n021 345 678\n+61 400 000 000\n12\nnone\n"
    rows = list(read_csv(io.StringIO(text), region="nz"))
    assert [row.number for row in rows] == ["+6421345678", "+61400000000", "12", "none"]
    assert [row.problem is None for row in rows] == [True, True, False, False]
    assert "NZ" in (check(rows[2]).problem or "")


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
    verdict = of_error((61400000000, 61400000001), error, may_split=True)
    assert [mark.state for mark in verdict.marks] == [state, state]
    assert [mark.reason for mark in verdict.marks] == [str(error)] * 2
    assert verdict.next is then
    assert verdict.accepted == 0


@pytest.mark.parametrize(("count", "may_split", "state"), [(2, False, "failed"), (1, True, "refused")])
def test_what_cannot_be_split(count: int, may_split: bool, state: str) -> None:
    error = refusal(errors.FieldInvalidError, "FIELD_INVALID")
    verdict = of_error(tuple(range(61400000000, 61400000000 + count)), error, may_split=may_split)
    assert ({mark.state for mark in verdict.marks}, verdict.next) == ({state}, Next.GO_ON)
