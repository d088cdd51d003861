"""Phone numbers: which spellings the API takes, and which of them are the same phone (wire.md sections 1 and 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from mmsclient.errors import InvalidRequestError

MAX_RECIPIENTS = 1000
"""Recipients of one call (wire.md section 3, send-mms)."""

EXPECTED = "a number in E.164 (+61400000000) or an Australian mobile (0400000000, 61400000000)"

_FILLERS = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u205f\u3000()\[\]\-\u2010-\u2015\u2212]")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_AUSTRALIAN_MOBILE = re.compile(r"(?:\+?61|0)(4[0-9]{8})")
_AUSTRALIAN = re.compile(r"\+61(?!4|0)[0-9]{5,10}")
_NOT_DIGITS = re.compile(r"[^0-9]")


def normalise(number: str, argument: str = "to") -> str:
    """`number` as the API takes it: `+` and digits. Spaces, dashes and brackets are taken out; no country is guessed.

    Raises `InvalidRequestError`, naming `argument`, for anything that is not E.164 or a documented Australian form.
    """
    if not isinstance(number, str):
        raise InvalidRequestError(argument, number, f"{EXPECTED}, as a string")
    bare = _FILLERS.sub("", number)
    if mobile := _AUSTRALIAN_MOBILE.fullmatch(bare):
        return "+61" + mobile[1]
    if _E164.fullmatch(bare) and (not bare.startswith("+61") or _AUSTRALIAN.fullmatch(bare)):
        return bare
    raise InvalidRequestError(argument, number, EXPECTED)


def phone_key(number: str) -> str:
    """What two spellings of one phone have in common: its digits with the country's. Never fails."""
    try:
        return normalise(number)[1:]
    except InvalidRequestError:
        return _NOT_DIGITS.sub("", number)


@frozen
class Recipients:
    """Who a call goes to."""

    numbers: tuple[str, ...]
    """Each phone once, as it goes out."""
    duplicates: tuple[str, ...]
    """What was left out because the same phone stood earlier, as the caller wrote it."""


def recipients(to: str | Iterable[str]) -> Recipients:
    """The recipients of one call from `to`: one number or several.

    Raises `InvalidRequestError` for no number, more than 1000, or one that is not a phone number.
    """
    if not isinstance(to, str | Iterable):
        raise InvalidRequestError("to", to, "a phone number or several")
    numbers: dict[str, None] = {}
    duplicates: list[str] = []
    for position, number in enumerate([to] if isinstance(to, str) else to):
        phone = normalise(number, "to" if isinstance(to, str) else f"to[{position}]")
        if phone in numbers:
            duplicates.append(number)
        else:
            numbers[phone] = None
        if len(numbers) > MAX_RECIPIENTS:
            raise InvalidRequestError(
                "to", f"more than {MAX_RECIPIENTS}", f"at most {MAX_RECIPIENTS} recipients a call; split them"
            )
    if not numbers:
        raise InvalidRequestError("to", "no recipient", "at least one phone number")
    return Recipients(tuple(numbers), tuple(duplicates))
