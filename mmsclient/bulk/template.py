"""Texts with fields that are filled in for each recipient. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal

from attrs import field, frozen

from mmsclient._api.checks import character_at, encoded
from mmsclient.errors import InvalidRequestError

__all__ = ["MessageText", "Template", "escaped", "field_key", "filled"]

_TOKEN = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<name>[^{}]*)\}|(?P<wrong>[{}])|(?P<literal>[^{}]+)")
_NAME = re.compile(r"[^\W\d]\w*(?:[ -]+\w+)*")

ONE_OF_A_NAME = "fields whose names differ in more than case and the space around them"
_EXPECTED = "fields as {first_name}: a name alone; {{ and }} for a brace"


@frozen
class Template:
    """A text of which each recipient gets its own: `Template("Hi {first_name}, your table is ready")`.

    A field is a name in braces and no more: no attributes, indices, conversions or formats. `{{` and `}}` stand for a
    brace. Case does not matter in names, nor does space around them. What is filled in is never read as a template.

    Raises:
        InvalidRequestError: `source` is no such text, or `defaults` name a field that it does not have.
    """

    source: str
    """The text, as it was given."""
    defaults: Mapping[str, str] = field(factory=dict, kw_only=True)
    """What stands for fields that a row leaves empty: `{"first_name": "there"}`."""
    _parts: tuple[tuple[str, str | None], ...] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_parts", tuple(_parsed(_checked("template", self.source))))
        object.__setattr__(self, "defaults", self._checked_defaults())

    @property
    def names(self) -> tuple[str, ...]:
        """Its fields, each once, in lower case."""
        return tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    @property
    def literal(self) -> str:
        """What stands in it beside the fields."""
        return "".join(literal for literal, _ in self._parts)

    def render(self, fields: Mapping[str, object]) -> str:
        """The text of a recipient with these fields: strings or whole numbers, whose names may be in any case.

        Raises:
            InvalidRequestError: A field has no value and no default, or it is neither text nor a number; or two have
                one name.
        """
        keyed = {field_key(name): value for name, value in fields.items()}
        if len(keyed) < len(fields):
            raise InvalidRequestError("fields", ", ".join(fields), ONE_OF_A_NAME)
        return filled(self, keyed)

    def parts(self) -> Iterator[tuple[str, str | None]]:
        """What it is made of: a literal, and the name of the field behind it or None."""
        yield from self._parts

    def _checked_defaults(self) -> dict[str, str]:
        if not isinstance(self.defaults, Mapping):
            raise InvalidRequestError("defaults", self.defaults, 'a mapping such as {"first_name": "there"}')
        defaults: dict[str, str] = {}
        for name, value in self.defaults.items():
            if not isinstance(name, str) or field_key(name) not in self.names:
                raise InvalidRequestError("defaults", name, f"fields of the template: {_listed(self.names)}")
            if field_key(name) in defaults:
                raise InvalidRequestError("defaults", name, ONE_OF_A_NAME)
            defaults[field_key(name)] = _checked(f"defaults, {name}", value)
        return defaults


MessageText = str | Template
"""A text that everybody gets, or one of which each recipient gets its own."""


def filled(template: Template, fields: Mapping[str, object]) -> str:
    """As `Template.render`, of fields whose names went through `field_key`."""
    text = []
    for literal, name in template.parts():
        text.append(literal)
        if name is not None:
            text.append(_value(fields.get(name), name) or _default(template, name))
    return "".join(text)


def escaped(text: str) -> str:
    """A plain text as it is written in a template."""
    return text.replace("{", "{{").replace("}", "}}")


def field_key(name: str) -> str:
    """What a field is known by: the name of a column, however it is written."""
    return name.strip().casefold()


def _value(value: object, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # more digits than Python writes out
            expected = f"a whole number of at most {sys.get_int_max_str_digits()} digits"
            raise InvalidRequestError(name, "a longer one", expected) from None
    raise InvalidRequestError(name, type(value).__name__, "a string or a whole number")


def _default(template: Template, name: str) -> str:
    if name not in template.defaults:
        raise InvalidRequestError(name, "nothing", "a value in its row, or a default")
    return template.defaults[name]


def _parsed(source: str) -> Iterator[tuple[str, str | None]]:
    literal = ""
    for token in _TOKEN.finditer(source):
        name = token["name"]
        if name is None and token["wrong"] is None:
            literal += token["literal"] or token["brace"][0]
            continue
        if name is None or not _NAME.fullmatch(name.strip()):
            raise InvalidRequestError("template", source[token.start() :], _EXPECTED)
        yield literal, field_key(name)
        literal = ""
    yield literal, None


def _checked(argument: str, text: object) -> str:
    """A text that can go out, and that every journal can hold."""
    if not isinstance(text, str):
        raise InvalidRequestError(argument, text, "a string")
    encoded(text, argument)
    if (nul := text.find("\0")) >= 0:
        raise InvalidRequestError(argument, character_at(text, nul), "text without NUL")
    return text


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"{{{name}}}" for name in names) or "it has none"
