"""Who gets nothing: the numbers of `exclude=`, and those who have unsubscribed."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Self

from attrs import frozen

from mmsclient._reading.listing import Listing
from mmsclient.bulk.errors import OptOutsIncompleteError
from mmsclient.bulk.recipients import Recipients, Row, chunks, phone_of
from mmsclient.errors import InvalidRequestError
from mmsclient.models import OptOut

__all__ = ["ExcludedPhones", "OptOuts", "check_opt_outs", "opted_out_phones"]

log: logging.Logger = logging.getLogger(__name__)


class ExcludedPhones:
    """The phones in `exclude=`, which are read once: a generator gives its numbers once."""

    def __init__(self, source: Recipients) -> None:
        self._source = source
        self._phones: list[int] | None = None
        self._was_begun = False
        self._reading = asyncio.Lock()  # a preflight may look while a run begins

    async def read(self) -> list[int]:
        """The phones.

        Raises:
            InvalidRequestError: A number cannot be read; or the source has been used up, so that it would tell only a
                part of them, or nobody.
        """
        async with self._reading:
            if self._phones is None:
                if _gives_once(self._source) and (self._was_begun or _has_ended(self._source)):
                    raise InvalidRequestError("exclude", self._source, "a new one, since this one is used up")
                self._was_begun = True
                self._phones = [_excluded(row) async for rows in chunks(self._source) for row in rows]
            return self._phones


def _gives_once(source: object) -> bool:
    return isinstance(source, Iterator | AsyncIterator)


def _has_ended(source: object) -> bool:
    """It is a generator that has given all it had."""
    return getattr(source, "gi_frame", source) is None or getattr(source, "ag_frame", source) is None


@frozen
class OptOuts:
    """Who has unsubscribed at the API, as far as its list could be read."""

    phones: Sequence[tuple[int, OptOut]]
    unreadable: Sequence[str]
    """Numbers in a spelling that cannot be compared with one."""
    ended_early: str
    """Why the list ended before its end, "" where it did not."""

    @classmethod
    async def read(cls, listing: Listing[OptOut]) -> Self:
        """Read the whole list."""
        phones: list[tuple[int, OptOut]] = []
        unreadable: list[str] = []
        async for opt_out in listing:
            if (phone := _phone(opt_out)) is None:
                unreadable.append(opt_out.number)
            else:
                phones.append((phone, opt_out))
        return cls(phones, unreadable, listing.ended_early)


def check_opt_outs(ended_early: str, unreadable: Sequence[str], *, may_be_partial: bool) -> None:
    """Raise `OptOutsIncompleteError` where opt-outs may be missing, or warn where that may be."""
    problems = [f"the list ended early: {ended_early}"] if ended_early else []
    if unreadable:
        shown = ", ".join(ascii(number)[:40] for number in unreadable[:3])
        problems.append(f"{len(unreadable)} of its numbers cannot be read ({shown})")
    if problems and not may_be_partial:
        raise OptOutsIncompleteError(" and ".join(problems))
    for problem in problems:
        log.warning("opt-outs: %s; those people may get the message", problem)


async def opted_out_phones(listing: Listing[OptOut], *, may_be_partial: bool) -> list[int]:
    """The phones that have unsubscribed. Raises `OptOutsIncompleteError` where some may be missing."""
    found = await OptOuts.read(listing)
    check_opt_outs(found.ended_early, found.unreadable, may_be_partial=may_be_partial)
    return [phone for phone, _ in found.phones]


def _excluded(row: Row) -> int:
    """A number to be left out. One that cannot be read might be one that must not be sent to."""
    if row.problem is not None:
        raise InvalidRequestError(f"exclude, line {row.line}", row.number, f"a phone number ({row.problem})")
    return phone_of(row.number, f"exclude, line {row.line}")


def _phone(opt_out: OptOut) -> int | None:
    """The phone of an opt-out; None for a spelling that may stand for a recipient and cannot be compared with one.

    Nine digits may be a mobile without its zero as well as a number without its plus.
    """
    if _NINE_DIGITS.fullmatch(str(opt_out.raw.get("number", "")).strip()):
        return None
    try:
        return phone_of(opt_out.number)
    except InvalidRequestError:
        return None


_NINE_DIGITS = re.compile(r"[1-9][0-9]{8}")
