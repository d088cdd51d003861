"""Templates: what is one, and what it makes of fields, against `str.format`."""

from __future__ import annotations

import pickle
from decimal import Decimal
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import InvalidRequestError
from mmsclient.bulk import Template
from mmsclient.bulk.personal import with_line
from tests.support.fuzzing import cases

NAMES = ("first_name", "code", "größe")
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8).filter(str.strip)


def by_the_standard_library(source: str) -> str | None:
    """What a template makes of `source`, each field of its own name in capitals; None where it is none."""
    text = ""
    try:
        for literal, name, form, conversion in Formatter().parse(source):
            text += literal
            if name is not None:
                first, *others = name.strip().split(" ")
                if (
                    form
                    or conversion
                    or not first.isidentifier()
                    or not all(f"_{each}".isidentifier() for each in others)
                ):
                    return None
                text += name.strip().upper()
    except ValueError:
        return None
    return text


@cases(400)
@given(st.lists(st.sampled_from([*"{}ab .[]0\n", "!r", ":3", *NAMES, "{code}", "{{", "}}"]), max_size=8).map("".join))
def test_a_template_is_a_format_string_of_names_alone(source: str) -> None:
    try:
        template = Template(source)
    except InvalidRequestError:
        assert by_the_standard_library(source) is None
    else:
        assert template.render({name: name.upper() for name in template.names}) == by_the_standard_library(source)


@cases(200)
@given(parts=st.lists(st.tuples(VALUES, st.sampled_from(NAMES)), max_size=4), values=st.tuples(VALUES, VALUES, VALUES))
def test_everything_beside_the_fields_stays_and_what_is_filled_in_is_no_template(
    parts: list[tuple[str, str]], values: tuple[str, str, str]
) -> None:
    fields = dict(zip(NAMES, values, strict=True))
    source = "".join(literal.replace("{", "{{").replace("}", "}}") + f"{{{name}}}" for literal, name in parts)
    rendered = Template(source).render(fields)
    assert rendered == "".join(literal + fields[name].strip() for literal, name in parts)


@pytest.mark.parametrize(
    "source",
    ["{", "}", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>3}", "{a", "{a{b}}", "{a}}", "{ }", "{-}", "{a\n}b}"],
)
def test_a_field_is_a_name_and_no_more(source: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"template: expected fields as \{first_name\}: a name alone"):
        Template(source)


def test_names_are_found_however_they_are_written() -> None:
    template = Template("{First Name}, { post-code }-{first name}", defaults={"FIRST NAME ": "you"})
    assert template.names == ("first name", "post-code")
    assert template.render({" first name": "Ann", "Post-Code": 3000}) == "Ann, 3000-Ann"
    assert template.render({"post-code": Decimal("3.50")}) == "you, 3.50-you"
    assert template.render({"first name": "  ", "post-code": " x "}) == "you, x-you"
    assert pickle.loads(pickle.dumps(template)) == template  # noqa: S301


@pytest.mark.parametrize("value", [None, "", " \t", ...])
def test_a_field_without_a_value_needs_a_default(value: Any) -> None:
    fields = {} if value is ... else {"name": value}
    with pytest.raises(InvalidRequestError, match="name: expected a value in its row, or a default"):
        Template("Hi {name}").render(fields)
    assert Template("Hi {name}!", defaults={"name": ""}).render(fields) == "Hi !"


@pytest.mark.parametrize("value", [True, 0.1, b"Ann", ["Ann"], object()])
def test_a_value_is_text_or_a_whole_number(value: object) -> None:
    with pytest.raises(InvalidRequestError, match="name: expected a string or a whole number"):
        Template("Hi {name}").render({"name": value})


def test_a_number_of_too_many_digits_is_told() -> None:
    with pytest.raises(InvalidRequestError, match=r"code: expected a whole number of at most [0-9]+ digits, got"):
        Template("Hi {code}").render({"code": 10**10_000})


def test_two_values_of_one_name_are_refused() -> None:
    said = "expected fields whose names differ in more than case"
    with pytest.raises(InvalidRequestError, match=f"fields: {said}"):
        Template("Hi {code}").render({"Code": "A", "code": "B"})
    with pytest.raises(InvalidRequestError, match=f"defaults: {said}"):
        Template("Hi {code}", defaults={"Code": "A", " code": "B"})


@pytest.mark.parametrize(
    ("source", "line", "whole"),
    [
        ("Dear {opt out} now", "opt out", "Dear {opt out} now\nopt out"),
        ("opt{name} out", "opt out", "opt{name} out\nopt out"),
        ("{name}, OPT OUT by {code}", " opt out", "{name}, OPT OUT by {code}"),
        ("{name}: Reply {{stop}}", "Reply {STOP}", "{name}: Reply {{stop}}"),
        ("{name}\n", "Reply {STOP}", "{name}\nReply {{STOP}}"),
        ("{name}", None, "{name}"),
    ],
)
def test_the_name_of_a_field_is_no_opt_out_line(source: str, line: str | None, whole: str) -> None:
    assert with_line(Template(source), line) == Template(whole)


@pytest.mark.parametrize(
    ("source", "defaults", "argument"),
    [
        (None, {}, "template"),
        ("a secret\0", {}, "template"),
        ("a secret\ud800", {}, "template"),
        ("{a}", {"b": "x"}, "defaults"),
        ("{a}", {1: "x"}, "defaults"),
        ("{a}", {"a": 1}, "defaults, a"),
        ("{a}", {"a": "\ud800"}, "defaults, a"),
        ("{a}", "a=b", "defaults"),
    ],
)
def test_what_cannot_be_sent_or_kept_is_refused(source: Any, defaults: Any, argument: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        Template(source, defaults=defaults)
    assert refused.value.argument == argument
    assert "secret" not in str(refused.value)
