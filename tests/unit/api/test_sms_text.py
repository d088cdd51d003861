"""How an SMS is counted: the vendor's own figures, the alphabet of the standard, and what holds of any text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import InvalidRequestError
from mmsclient.sms import Alphabet, parts


@pytest.mark.parametrize(
    ("text", "alphabet", "count", "fits"),
    [
        ("x" * 160, "GSM", 1, True),
        ("x" * 161, "GSM", 2, True),
        ("x" * 306, "GSM", 2, True),
        ("x" * 307, "GSM", 3, True),
        ("x" * 918, "GSM", 6, True),
        ("x" * 919, "GSM", 7, False),
        ("ж" * 70, "Unicode", 1, True),
        ("ж" * 71, "Unicode", 2, True),
        ("ж" * 134, "Unicode", 2, True),
        ("ж" * 135, "Unicode", 3, True),
        ("ж" * 402, "Unicode", 6, True),
        ("ж" * 403, "Unicode", 7, False),
        ("", "GSM", 0, True),
    ],
)
def test_the_figures_of_the_vendors_pages(text: str, alphabet: str, count: int, fits: bool) -> None:
    found = parts(text)
    assert (found.alphabet, found.count, found.fits, found.length) == (alphabet, count, fits, len(text))
    assert found.credits == count


@pytest.mark.parametrize("character", "|^{}€[~]\\")
def test_what_counts_two_by_the_vendors_pages(character: str) -> None:
    found = parts(character * 80)
    assert (found.alphabet, found.length, found.count, found.left) == (Alphabet.GSM, 160, 1, 0)
    assert parts(character * 81).count == 2


def test_what_counts_two_is_not_divided() -> None:
    assert parts("x" * 152 + "€" + "x" * 152).count == 3
    assert parts("x" * 152 + "x€" + "x" * 151).count == 2
    assert parts("\N{GRINNING FACE}" * 67).count == 3  # a part holds 33 and no half
    assert parts("\N{GRINNING FACE}" * 35).count == 1


def test_which_characters_make_it_unicode() -> None:
    assert parts("Où ça? Ça ira…").unicode_because == ("ç", "…")  # its capital is in the alphabet
    assert parts("¿Qué? ÄÖÜß ΔΩ @£$ Ç\r\n\f").alphabet is Alphabet.GSM
    for national in "ÀÊÕşğıÁáâãőűțшम\t`“…\xa0":
        assert parts(national).unicode_because == (national,)
    assert parts("Hello 😀").length == 8


def test_an_alphanumeric_sender_costs_a_third_more() -> None:
    assert parts("x" * 161, sender="SHOP").credits == Decimal("2.67")
    assert parts("x" * 459, sender="Shop 24").credits == 4
    for number in (None, "61400000000", "+61400000000", "2424"):
        assert parts("x" * 161, sender=number).credits == 2


@pytest.mark.parametrize("text", [None, b"x", 7, "half: \ud83d"])
def test_what_is_no_text(text: Any) -> None:
    with pytest.raises(InvalidRequestError, match="text"):
        parts(text)


def test_where_half_of_a_character_stands_is_told_and_not_the_text() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parts("a secret\ud83d")
    assert str(caught.value) == "text: expected text without lone surrogates, got 'U+D83D as character 9'"


@pytest.mark.parametrize("sender", ["", " ", "twelve chars", "1" * 17, 61400000000])
def test_a_sender_that_no_text_can_have(sender: Any) -> None:
    with pytest.raises(InvalidRequestError, match="sender: expected a number of at most 16 digits"):
        parts("x", sender=sender)


@given(st.text(st.sampled_from("ab{€\n") | st.characters(exclude_categories=["Cs"]), max_size=500))
def test_of_any_text(text: str) -> None:
    found = parts(text)
    assert (found.alphabet is Alphabet.UNICODE) == bool(found.unicode_because)
    assert set(found.unicode_because) <= set(text)
    if found.alphabet is Alphabet.UNICODE:
        assert found.length == len(text.encode("utf-16-be")) // 2
    room = found.alphabet.alone if found.count <= 1 else found.alphabet.each
    assert found.length + found.left <= max(found.count, 1) * room
    assert found.length + found.left >= max(found.count, 1) * (room - 1) + 1  # nothing is wasted but a half of two
    more = parts(text + "x" * found.left)
    assert (more.count, more.left) == (found.count or more.count, 0)
