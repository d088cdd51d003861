"""Phone numbers: which spellings the API takes, and which are the same phone (api-notes.md sections 1 and 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from mmsclient.errors import InvalidRequestError

MAX_RECIPIENTS = 1000
"""Recipients of one call (api-notes.md section 3, send-mms)."""

EXPECTED = "a number in E.164 (+61400000000) or an Australian mobile (0400000000, 61400000000)"
NO_TRUNK_ZERO = "E.164, without the 0 that is dialled inside the country: +447911123456, not +44 (0)7911 123456"
PLUS = "E.164, with + for the 00 or 0011 that is dialled from abroad"
NUMBER_ALONE = "a number alone: what stands behind it, such as .0, -1 or (2), would become its last digits"

FILLERS = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u205f\u3000()\[\]\-\u2010-\u2015\u2212]")
_MARK = r"[-\u2010-\u2015\u2212./~\r\n]"
_SPACE = r"[^\S\r\n]*"
TAIL: re.Pattern[str] = re.compile(
    rf"{_MARK}{_SPACE}\d\s*\Z|(?<!{_MARK}\d\d)(?<!{_MARK} \d\d ){_MARK}{_SPACE}\d\d\s*\Z"
    rf"|[(\[]{_SPACE}\d\d?{_SPACE}[)\]]?\s*\Z|\A[^.]*\.0+\s*\Z"
)
"""A number with digits behind it that are none of its own, such as `.0` of a spreadsheet, `- 1` or `(2)`.

Some countries write the end of a number in pairs, `345-67-89`; in none a single group is so short."""
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_AUSTRALIAN_MOBILE = re.compile(r"(?:(?:\+|00|0011)?61|0)(4[0-9]{8})")
_AUSTRALIAN = re.compile(r"\+61(?!4)[0-9]{5,10}")
_DIALLED_ABROAD = re.compile(r"(?:00|0011)[1-9][0-9]{6,14}")
_ZERO_IN_BRACKETS = re.compile(r"[0-9][^0-9]*[(\[]\s*0\s*[)\]]")
_TRUNK_ZERO = re.compile(
    r"\+(?:2[07]|3[1-3]|4[013469]|5[134578]|6[01346]|8[46]|9[0234589]|21[1238]|23[1-4]|24[39]|25[124-6]|26[0-5]|291"
    r"|35[358]|37[0347]|38[0-35-79]|42[13]|508|59[013-6]|686|85[056]|88[06]|96[1-467]|97[01267]|99[4-6])0"
)
"""Countries that put a 0 before a number inside the country, and in which no number itself begins with one."""
_NOT_DIGITS = re.compile(r"[^0-9]")


def normalise(number: str, argument: str = "to") -> str:
    """`number` as the API takes it: `+` and digits. Spaces, dashes and brackets are taken out; no country is guessed.

    Australian mobiles are also taken as they are dialled from abroad: `0061 400 000 000` and `0011 61 400 000 000`
    have no other meaning. Any other `00` and a `(0)` within a number are refused, since they depend on the country; so
    is one with `.0`, `-1` or `(2)` behind it, whose digits would become its last ones.

    Raises `InvalidRequestError`, naming `argument`, for anything that is not E.164 or a documented Australian form.
    """
    if not isinstance(number, str):
        raise InvalidRequestError(argument, number, f"{EXPECTED}, as a string")
    if mobile := _AUSTRALIAN_MOBILE.fullmatch(number):  # as nearly all are written
        return "+61" + mobile[1]
    bare = FILLERS.sub("", number)
    if _ZERO_IN_BRACKETS.search(number) or _TRUNK_ZERO.match(bare):
        raise InvalidRequestError(argument, number, NO_TRUNK_ZERO)
    if bare != number and TAIL.search(number):
        raise InvalidRequestError(argument, number, NUMBER_ALONE)
    if mobile := _AUSTRALIAN_MOBILE.fullmatch(bare):
        return "+61" + mobile[1]
    if _E164.fullmatch(bare) and (not bare.startswith("+61") or _AUSTRALIAN.fullmatch(bare)):
        return bare
    raise InvalidRequestError(argument, number, PLUS if _DIALLED_ABROAD.fullmatch(bare) else EXPECTED)


def phone_key(number: str) -> str:
    """What two spellings of one phone have in common: its digits with the country's. Never fails."""
    digits = number[1:]
    if number.startswith("+") and digits.isascii() and digits.isdigit():  # as nearly all are written
        return digits
    try:
        return normalise(number)[1:]
    except InvalidRequestError:
        return _NOT_DIGITS.sub("", number)


def e164(text: str) -> str:
    """A number of the API's, which may come without its plus, in E.164. What is no phone number comes back as it is."""
    try:
        return normalise(text)
    except InvalidRequestError:
        return f"+{text}" if _E164.fullmatch(f"+{text}") and len(text) >= _SHORTEST else text


def masked(number: str) -> str:
    """The last three characters of a number: who has the list knows whose it is, nobody else."""
    return f"***{number[-3:]}"


_SHORTEST = 9
"""Digits of a number without a plus that is read as an international one; shorter ones are short codes."""


@frozen(eq=False, repr=False)
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
