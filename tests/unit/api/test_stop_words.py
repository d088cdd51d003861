"""Which texts ask for no more messages."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient._api.stop_words import STOP_WORDS, StopWords, asks_to_stop
from mmsclient.errors import InvalidRequestError
from tests.support.fuzzing import cases


def has_words(text: str) -> bool:
    """There is a letter or a digit in it, in whatever form: `\u3200` is `(\u1100)`."""
    return bool(re.search(r"[^\W_]", unicodedata.normalize("NFKC", text)))


around = st.text(st.characters(categories=["P", "Z", "S", "Cc"]), max_size=4).filter(lambda text: not has_words(text))
"""Space and punctuation."""


@st.composite
def spelt(draw: st.DrawFn) -> str:
    """A stop word in any case, with whatever may stand around it."""
    word = draw(st.sampled_from(sorted(STOP_WORDS)))
    cased = "".join(draw(st.sampled_from([letter.upper(), letter.lower()])) for letter in word)
    return draw(around) + cased.replace(" ", draw(around) + " ") + draw(around)


@cases(80)
@given(spelt())
def test_a_word_alone_asks_to_stop_however_it_is_written(text: str) -> None:
    letters = "".join(re.findall(r"[A-Za-z]+", text))
    assert asks_to_stop(text)
    assert StopWords().found(text).replace(" ", "") == letters.upper()


@cases(80)
@given(spelt(), st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8), st.booleans())
def test_a_word_among_others_does_not(text: str, other: str, before: bool) -> None:
    sentence = f"{other} {text}" if before else f"{text} {other}"
    bare = " ".join(re.findall(r"[A-Za-z0-9]+", sentence)).upper()
    assert asks_to_stop(sentence) == (bare in STOP_WORDS)


@cases(80)
@given(st.text(max_size=30))
def test_any_text_is_judged(text: str) -> None:
    word = StopWords().found(text)
    assert word == "" or word in STOP_WORDS
    assert asks_to_stop(text) == bool(word)


def test_words_of_your_own() -> None:
    words = StopWords(["Arrêt", "nope!"])
    assert words.found(unicodedata.normalize("NFD", " ARRÊT. ")) == "ARRÊT"
    assert words.found("(Nope)") == "NOPE"
    assert words.found("STOP") == ""


@pytest.mark.parametrize("words", ["STOP", [], [""], ["STOP", "!?"], [7]])
def test_words_that_are_none(words: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^words: expected"):
        StopWords(words)
