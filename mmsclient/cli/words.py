"""Options as the words of a command that a person may paste, and by the names that they have there."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Protocol

from mmsclient.errors import InvalidRequestError

__all__ = ["HasWords", "named_as_given", "path_word", "quoted", "words_of"]

_NAMED = (
    "batch_size",
    "column",
    "credits_per_message",
    "custom_string",
    "days",
    "encoding",
    "max_concurrency",
    "opt_out_line",
    "region",
    "resend_unknown",
    "silent_after",
    "slow_start",
    "test",
    "test_timeout",
    "zone",
)
"""Arguments that come from one option alone, of the same name. Those of other names come from several: `sender` of an
SMS or of a fallback, `source` of an SMS or the file of a list."""
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _NAMED} | {"recipients_per_minute": "--per-minute"}


def named_as_given(error: Exception) -> str:
    """`error` in words, with the option in place of the argument that it was taken for."""
    if not isinstance(error, InvalidRequestError) or error.argument not in _OPTIONS:
        return str(error)
    return f"{_OPTIONS[error.argument]}{str(error).removeprefix(error.argument)}"


def words_of(options: Mapping[str, object]) -> list[str]:
    """Each option by its name: with its value, alone where that is True, not at all where it is None or False."""
    words: list[str] = []
    for name, value in options.items():
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            word = f"{value:.12g}" if isinstance(value, float) else str(value)
            words += [f"{name}={word}"] if word.startswith("-") else [name, word]
    return words


class HasWords(Protocol):
    """Options of a command."""

    def in_words(self) -> list[str]:
        """As arguments of a command that goes on."""
        ...


def path_word(path: str) -> str:
    """`path` as a word that is no option."""
    return f"./{path}" if path.startswith("-") else path


def quoted(words: Iterable[str]) -> str:
    """`words` as a line for bash and zsh, which read the same again, whatever they hold."""
    return " ".join(shlex.quote(word) if all(map(_is_plain, word)) else _escaped(word) for word in words)


def _is_plain(character: str) -> bool:
    """A terminal shows it as it is, and so can stderr."""
    try:
        character.encode(getattr(sys.stderr, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return character.isprintable()


def _escaped(word: str) -> str:
    return f"$'{''.join(map(_escape, word))}'"


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if _is_plain(character) else "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


_ESCAPES = {"\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
