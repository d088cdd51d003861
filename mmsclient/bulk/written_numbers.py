"""Phone numbers as lists hold them: in E.164, as they are dialled in a country, or as a spreadsheet has left them."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from mmsclient._api.phone_numbers import NUMBER_ALONE, TAIL, normalise
from mmsclient._extras import needed
from mmsclient.errors import InvalidRequestError

__all__ = ["Convert", "as_written", "national"]

Convert = Callable[[str], tuple[str, str | None]]
"""A number as written to a number and why it is none."""


def as_written(number: str) -> tuple[str, str | None]:
    """Leaves a number as it is; only says more where it is a wrong one."""
    if problem := _changed(number):
        return number, problem
    if _NATIONAL.fullmatch(number):
        try:
            normalise(number)
        except InvalidRequestError as error:
            hint = 'a number as it is dialled inside a country needs region= (--region), such as region="AU"'
            return number, f"expected {error.expected}; {hint}"
    return number, None


def national(region: str) -> Convert:
    """Reads numbers as they are dialled in `region`."""
    with needed("cli", "region="):
        import phonenumbers  # noqa: PLC0415 - an extra
    country = region.upper() if isinstance(region, str) else region
    if country not in phonenumbers.SUPPORTED_REGIONS:
        raise InvalidRequestError("region", region, "the two letters of a country, such as AU")
    kinds = phonenumbers.PhoneNumberType
    no_mobile = {
        kinds.FIXED_LINE: "a landline",
        kinds.TOLL_FREE: "a free number",
        kinds.PREMIUM_RATE: "a premium number",
        kinds.SHARED_COST: "a shared cost number",
        kinds.PAGER: "a pager",
        kinds.UAN: "a company's number",
        kinds.VOICEMAIL: "a voice mailbox",
    }

    def convert(number: str) -> tuple[str, str | None]:
        if problem := _changed(number):
            return number, problem
        if _FROM_ABROAD.match(number):  # in Australia itself 0061 is no number, and means the same
            with suppress(InvalidRequestError):
                return normalise(number), None
        try:
            parsed = phonenumbers.parse(number, country) if _DIALLED.fullmatch(number) else None
        except phonenumbers.NumberParseException:
            parsed = None
        if parsed is None or parsed.extension or not phonenumbers.is_valid_number(parsed):
            return number, f"no phone number of {country}, and none in E.164"
        kind = no_mobile.get(phonenumbers.number_type(parsed))
        if kind is not None:
            return number, f"{kind}, which takes no MMS"
        return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164), None

    return convert


def _changed(number: str) -> str | None:
    """Why a number is not as it was: somebody, or a spreadsheet, has taken something off it or put something to it."""
    if _EXPONENT.fullmatch(number):
        return SHORTENED
    return f"expected {NUMBER_ALONE}" if TAIL.search(number) and _DIALLED.fullmatch(number) else None


SHORTENED = "a spreadsheet has shortened this number: format its column as text, and fill it again"

_NATIONAL = re.compile(r"(?!04)[0-9 ()./-]+")
_EXPONENT = re.compile(r"[0-9][0-9.,]*[eE]\+?[0-9]+")
_FROM_ABROAD = re.compile(r"[ (]*00")
_DIALLED = re.compile(r"[(\[]?[+\uff0b]?[\d\s()\[\]./~\-\u2010-\u2015\u2212]+")
"""A number and nothing else: no letters, no extension, no second number."""
