"""What becomes of the rows of a list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmsclient._store.listing import phones_of, sort_out
from mmsclient._store.models import Exclusion, ListEntry

PHONES = st.integers(1, 5)
ROWS = st.lists(st.tuples(st.none() | PHONES, st.sampled_from([None, "a problem"])), max_size=12)
RUN = 3


def entries(rows: list[tuple[int | None, str | None]]) -> list[ListEntry]:
    return [
        ListEntry(line, str(phone), phone, problem if phone else "no number")
        for line, (phone, problem) in enumerate(rows, 1)
    ]


@given(ROWS, st.dictionaries(PHONES, st.integers(1, RUN - 1)))
def test_each_row_goes_to_one_place_and_each_phone_is_taken_in_once(
    rows: list[tuple[int | None, str | None]], runs: dict[int, int]
) -> None:
    given_rows = entries(rows)
    found = sort_out(given_rows, [(phone, 100, run, -phone) for phone, run in runs.items()], RUN)
    lines = [entry.line for entry in found.new] + [line for _, line in found.again] + [row[0] for row in found.rejected]
    assert sorted(lines) == [entry.line for entry in given_rows]
    phones = [entry.phone for entry in found.new] + [-each for each, _ in found.again]
    assert len(set(phones)) == len(phones)
    assert {phone for phone in phones if phone in runs} == runs.keys() & set(phones_of(given_rows))
    assert all(entry.problem is None and entry.phone not in runs for entry in found.new)
    assert all(row[2] is not Exclusion.DUPLICATE or row[3] is not None for row in found.rejected)


@given(ROWS)
def test_the_same_rows_again_change_nothing(rows: list[tuple[int | None, str | None]]) -> None:
    given_rows = entries(rows)
    first = sort_out(given_rows, [], RUN)
    known = [(entry.phone or 0, entry.line, RUN, place) for place, entry in enumerate(first.new)]
    again = sort_out(given_rows, known, RUN)
    assert (again.new, again.again) == ([], [])
    assert set(first.rejected) <= set(again.rejected)
