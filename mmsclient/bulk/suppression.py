"""Suppression lists: who must get no message, kept over campaigns."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Protocol, Self

from mmsclient._api.phone_numbers import normalise
from mmsclient._api.stop_words import STOP_WORDS, StopWords
from mmsclient._reading.listing import Listing
from mmsclient._store.stores import suppression_at
from mmsclient._store.suppression import Entry, SuppressionTables, Unread
from mmsclient._words import counted
from mmsclient.bulk.exclusions import OptOuts
from mmsclient.bulk.recipients import SHOWN, Recipients, check, chunks, phone_of
from mmsclient.bulk.suppression_models import (
    EARLIEST,
    LATEST,
    Suppression,
    SuppressionReport,
    SuppressionUpdate,
    UnreadableNumber,
)
from mmsclient.errors import InvalidRequestError, described, one_line
from mmsclient.models import InboundMessage, OptOut, Reply

__all__ = ["ListsOptOuts", "SuppressionList"]

log: logging.Logger = logging.getLogger(__name__)

PAGE = 1000
"""Entries that are read at a time."""


class ListsOptOuts(Protocol):
    """The part of `AsyncMMSClient` that a list is synchronised with."""

    def opt_outs(self) -> Listing[OptOut]:
        """The numbers that unsubscribed."""
        ...


class SuppressionList:
    """Numbers that get no message, with the reason and the date, kept over campaigns.

    ```python
    async with SuppressionList("stop.db") as suppression:
        await suppression.sync(mms)  # who opted out at the API
        async for reply in mms.take_replies():
            await suppression.record_reply(reply)  # who replied STOP
        await mms.campaign(text="Sale on now", image="sale.gif", suppress=suppression).send_all(numbers)
    ```

    Any number of campaigns, receivers and processes may use it at a time: on one machine the file, on several the
    database. What is added is on the disk when the method returns, and counts for every call that has not left. A phone
    that is added again keeps its first reason and date.

    The first that is added makes the list, and so does `create`. Where there is none, reading it is an error, and
    nothing is sent past it: a mistyped path must not let everybody through.

    Args:
        place: A file on a local disk, for its owner's eyes alone; or the URL of a PostgreSQL database
            (`postgresql://user@host/database`, extra `postgres`), which holds one list in each schema.
        words: Replies that ask for no more messages, each the whole of a reply; case, and space and punctuation around
            a word and between two, do not matter.

    Raises:
        InvalidRequestError: An argument is wrong.
        ConfigurationError: The URL cannot be read, or the extra `postgres` is not installed.
    """

    def __init__(self, place: str | os.PathLike[str], *, words: Iterable[str] = STOP_WORDS) -> None:
        self._words = StopWords(words)
        self._store = suppression_at(place)

    async def create(self) -> None:
        """Make the list if it is not there.

        Raises:
            SuppressionListError: As every method here: it cannot be made, read or written.
        """
        await self._store.write(lambda tables: None)

    # Who is in it -----------------------------------------------------------------------------------------------------

    async def add(self, number: str, reason: str = "by hand") -> bool:
        """Suppress a phone. False where it is suppressed already.

        Raises:
            InvalidRequestError: `number` cannot be read.
        """
        entry = Entry(phone_of(number, "number"), reason, time.time())
        return await self._store.write(lambda tables: tables.add([entry])) > 0

    async def add_all(self, numbers: Recipients, reason: str = "imported") -> SuppressionUpdate:
        """Suppress many: a list, a generator, or `read_csv(...)`. Those before an error of `numbers` are added.

        Numbers that cannot be read are kept in `report()`, and told of in a warning.
        """
        added, found, unreadable = 0, 0, []
        async for rows in chunks(numbers):
            entries = [check(row) for row in rows]
            phones = [entry.phone for entry in entries if entry.phone is not None]
            unread = [entry.given for entry in entries if entry.phone is None]
            added += await self._take([(phone, time.time()) for phone in phones], unread, reason)
            found += len(phones)
            unreadable += unread
        self._warn(unreadable)
        return SuppressionUpdate(added=added, known=found - added, unreadable=tuple(unreadable))

    async def add_entries(self, entries: Iterable[Suppression]) -> SuppressionUpdate:
        """Suppress what another list holds, with its reasons and dates.

        Raises:
            InvalidRequestError: A number cannot be read, or a date has no zone or is far off; some before it may
                be added.
        """
        added, found, rest = 0, 0, iter(entries)
        while page := list(islice(rest, PAGE)):
            taken = [Entry(phone_of(each.number, "number"), each.reason, _seconds(each)) for each in page]
            added += await self._store.write(lambda tables, taken=taken: tables.add(taken))  # type: ignore[misc]
            found += len(page)
        return SuppressionUpdate(added=added, known=found - added)

    async def remove(self, number: str) -> bool:
        """Suppress a phone no more, or forget a spelling that cannot be read. False where it is not in the list.

        One that the API lists as unsubscribed is added again by the next `sync`, and by a campaign.
        """
        try:
            phone = phone_of(number, "number")
        except InvalidRequestError:
            return await self._store.write(lambda tables: tables.forget_unread([_shown(number)])) > 0
        return await self._store.write(lambda tables: tables.remove([phone])) > 0

    async def record_reply(self, reply: InboundMessage | Reply) -> bool:
        """Suppress the sender of a reply that asks for no more messages. True where it asks for that.

        `CallbackReceiver.suppress_into` calls it with each inbound message.
        """
        word = self._words.found(reply.text)
        if not word:
            return False
        reason = f"replied {word}"
        try:
            await self._take([(phone_of(reply.sender), time.time())], [], reason)
        except InvalidRequestError:
            await self._take([], [reply.sender], reason)
            self._warn([reply.sender])
        return True

    async def sync(self, mms: ListsOptOuts) -> SuppressionUpdate:
        """Suppress all who have opted out at the API (api-notes.md section 3, get-optout).

        The API lists none unless "Opt-out for API" is active in the account. Numbers that cannot be read, and a list
        that ended early, are told of in a warning and in the result.

        Args:
            mms: The client, an `AsyncMMSClient`; its errors are raised as they are.
        """
        found = await OptOuts.read(mms.opt_outs())
        phones = [
            (phone, opt_out.created_at.timestamp() if opt_out.created_at else time.time())
            for phone, opt_out in found.phones
        ]
        added = await self._take(phones, found.unreadable, "opted out at the API")
        self._warn(found.unreadable)
        if found.ended_early:
            text = "suppression list %s: the API's opt-outs ended early, so some may be missing: %s"
            log.warning(text, self._store.shown, found.ended_early)
        return SuppressionUpdate(
            added=added,
            known=len(phones) - added,
            unreadable=tuple(found.unreadable),
            ended_early=found.ended_early,
        )

    async def _take(self, phones: Sequence[tuple[int, float]], unread: Sequence[str], reason: str) -> int:
        """Add phones, with the Unix time of each, and what cannot be read; how many phones are new."""
        entries = [Entry(phone, reason, added) for phone, added in phones]
        noted = [Unread(_shown(given), reason, time.time()) for given in unread]

        def add(tables: SuppressionTables) -> int:
            tables.note_unread(noted)
            return tables.add(entries)

        return await self._store.write(add)

    def _warn(self, unreadable: Sequence[str]) -> None:
        if unreadable:
            text = "suppression list %s: %s cannot be read, so those people may get a message; `report()` has them"
            log.warning(text, self._store.shown, counted(len(unreadable), "number"))

    # Reading it -------------------------------------------------------------------------------------------------------

    async def find(self, number: str) -> Suppression | None:
        """Why and since when a phone is suppressed; None where it is not.

        Raises:
            InvalidRequestError: `number` cannot be read.
        """
        phone = phone_of(number, "number")
        found = await self._store.read(lambda tables: tables.among([phone]))
        return Suppression.of(found[0]) if found else None

    async def among(self, numbers: Sequence[str]) -> dict[str, Suppression]:
        """Those of `numbers` that are suppressed, each as it stands there.

        Raises:
            InvalidRequestError: One cannot be read.
        """
        return await self._store.read(partial(_among, numbers))

    async def entries(self) -> AsyncGenerator[Suppression, None]:
        """All that are suppressed, by number; read a thousand at a time, as the list is then."""
        after = 0
        while page := await self._store.read(lambda tables, after=after: tables.page(after, PAGE)):  # type: ignore[misc]
            after = page[-1].phone
            for entry in page:
                yield Suppression.of(entry)

    async def report(self) -> SuppressionReport:
        """The list in figures, and what was to be suppressed and cannot be read."""
        reasons, unread = await self._store.read(lambda tables: (tables.reasons(), tables.unread()))
        return SuppressionReport(
            count=sum(reasons.values()), reasons=reasons, unreadable=tuple(map(UnreadableNumber.of, unread))
        )

    # Its life ---------------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Close the connection, after what is being written. Another is opened if this is used again."""
        await self._store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._store.shown}>"


def _seconds(entry: Suppression) -> float:
    if entry.added_at.tzinfo is None:
        raise InvalidRequestError("added_at", str(entry.added_at), "a time with its zone")
    seconds = entry.added_at.timestamp()
    if not EARLIEST <= seconds < LATEST:
        raise InvalidRequestError("added_at", str(entry.added_at), "a time in the years 1970 to 9998, in UTC")
    return seconds


def _shown(number: str) -> str:
    """A number that cannot be read, as the list keeps it."""
    return one_line(number if isinstance(number, str) else described(number), SHOWN)


def _among(numbers: Sequence[str], tables: SuppressionTables) -> dict[str, Suppression]:
    """In the list's thread, so that the event loop reads no numbers."""
    written = {int(normalise(number, "numbers")[1:]): number for number in numbers}
    return {written[entry.phone]: Suppression.of(entry) for entry in tables.among(list(written))}
