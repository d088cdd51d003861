"""Whether a text from a phone asks for no more messages. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from mmsclient.errors import InvalidRequestError

__all__ = ["STOP_WORDS", "StopWords", "asks_to_stop"]

STOP_WORDS: frozenset[str] = frozenset(
    {"STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "END", "CANCEL", "QUIT", "OPTOUT", "OPT OUT"}
)
"""Texts that ask for no more messages, each the whole of what was written."""

_WORDS = re.compile(r"[^\W_]+")


class StopWords:
    """Recognises texts that are one of `words` and nothing else.

    Case does not matter, nor do space and punctuation around a word or between two: `« Opt-out! »` is `OPT OUT`.

    Raises:
        InvalidRequestError: There is no word, or one is without a letter or digit.
    """

    def __init__(self, words: Iterable[str] = STOP_WORDS) -> None:
        if isinstance(words, str):
            raise InvalidRequestError("words", words, 'a list of words, such as ["STOP", "END"]')
        self._words: dict[str, str] = {}
        for word in words:
            if not isinstance(word, str) or not (bare := _bare(word)):
                raise InvalidRequestError("words", word, "words with a letter or digit in each")
            self._words[bare] = bare.upper()
        if not self._words:
            raise InvalidRequestError("words", "none", "at least one word")

    def found(self, text: str) -> str:
        """The word that `text` is, in capitals; "" where it is none."""
        return self._words.get(_bare(text), "")


def _bare(text: str) -> str:
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


_DEFAULT = StopWords()


def asks_to_stop(text: str) -> bool:
    """`text` is one of `STOP_WORDS`."""
    return bool(_DEFAULT.found(text))
