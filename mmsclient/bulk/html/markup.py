"""HTML from text that strangers may have written."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from mmsclient._api.phone_numbers import EXPECTED, FILLERS, NO_TRUNK_ZERO, masked

__all__ = ["Markup", "bare", "element", "escaped", "facts", "joined", "table"]

_OWN_WORDS = "|".join(map(re.escape, (EXPECTED, NO_TRUNK_ZERO)))
_SPELLED = rf"(?<![0-9])(?:\+|(?=0|61|4))(?:[0-9]{FILLERS.pattern}{{0,2}}){{7,}}[0-9]"
"""A number as people write it, `0400 000 000`; a date begins otherwise."""
_NUMBER = re.compile(rf"{_OWN_WORDS}|({_SPELLED}|\+?[0-9]{{7,}})")


@frozen
class Markup:
    """HTML. Anything else that comes into an element is text, and escaped."""

    text: str


Content = str | int | Markup


def escaped(content: Content) -> str:
    """`content` as HTML: no text becomes an element, an entity or a character that HTML forbids."""
    if isinstance(content, Markup):
        return content.text
    text = f"{content:,}" if isinstance(content, int) else content
    return html.escape("".join(each if each.isprintable() or each == "\n" else " " for each in text))


def bare(text: str) -> str:
    """`text` with phone numbers masked, and whatever else consists of so many digits; our own examples stay."""
    return _NUMBER.sub(lambda found: masked(FILLERS.sub("", found[1])) if found[1] else found[0], text)


def element(tag: str, *contents: Content, **attributes: str | float) -> Markup:
    """An element. `class_` is its class; `_` in a name of an attribute is `-`."""
    given = (f' {name.rstrip("_").replace("_", "-")}="{escaped(str(value))}"' for name, value in attributes.items())
    return Markup(f"<{tag}{''.join(given)}>{''.join(map(escaped, contents))}</{tag}>")


def joined(contents: Iterable[Content]) -> Markup:
    """One after the other."""
    return Markup("\n".join(map(escaped, contents)))


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Content]], *, last: str = "") -> Markup:
    """A table; numbers stand at the right, and the first cell of a row heads it. `last`: the class of the last row."""
    lines = [list(row) for row in rows]
    body = [
        element(
            "tr",
            element("th", line[0], scope="row"),
            *(
                element("td", cell, class_="number") if isinstance(cell, int) else element("td", cell)
                for cell in line[1:]
            ),
            **({"class_": last} if last and line is lines[-1] else {}),
        )
        for line in lines
    ]
    are_numbers = [bool(lines) and isinstance(cell, int) for cell in (lines[0] if lines else heads)]
    head = [
        element("th", name, scope="col", **({"class_": "number"} if is_number else {}))
        for name, is_number in zip(heads, are_numbers, strict=True)
    ]
    named = [element("caption", caption)] if caption else []
    whole = element("table", *named, element("thead", element("tr", *head)), element("tbody", joined(body)))
    return element("div", whole, class_="wide")


def facts(found: Mapping[str, Content], class_: str) -> Markup:
    """Names and values."""
    pairs = (element("div", element("dt", name), element("dd", value)) for name, value in found.items())
    return element("dl", joined(pairs), class_=class_)
