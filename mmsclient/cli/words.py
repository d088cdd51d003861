"""Options as the words of a command that a person may paste."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["words_of"]


def words_of(options: Mapping[str, object]) -> list[str]:
    """Each option by its name: with its value, alone where that is True, not at all where it is None or False."""
    words: list[str] = []
    for name, value in options.items():
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words += [name, f"{value:.12g}" if isinstance(value, float) else str(value)]
    return words
