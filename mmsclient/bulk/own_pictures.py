"""Pictures of their own: the function that makes them of the rows of a list, and the few that are kept."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from time import monotonic
from typing import Any, TypeGuard, TypeVar

from attrs import evolve, field, frozen

from mmsclient._api.checks import checked_line, checked_text
from mmsclient._api.media import Image
from mmsclient._reading.image_file import ImageSource, load
from mmsclient._store.models import ListEntry
from mmsclient._threads import NoThreadError, Threads
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.personal import reason_of
from mmsclient.bulk.recipients import Row
from mmsclient.bulk.template import field_key
from mmsclient.bulk.waiting import all_done
from mmsclient.errors import InvalidRequestError, described, one_line

__all__ = [
    "CampaignImage",
    "OwnPicture",
    "PictureColumn",
    "PictureFunction",
    "PictureMaker",
    "each_of",
    "is_picture_function",
]

log: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

PAUSE = 1.0
"""Seconds between two tries to start a thread."""

AT_ONCE = 4
"""Pictures that are made at a time."""
KEPT = 64
"""Pictures that are kept after they were made: of so many different ones, each is made once a row, and never again."""
SHOWN = 200
"""Characters of an error of the function that are kept."""

PictureFunction = Callable[[Mapping[str, Any]], ImageSource | Awaitable[ImageSource]]
"""Makes the picture of a row of its fields: returns what `AsyncMMSClient.send` takes as its image."""

TellPicture = Callable[[float, int, Exception | None], None]

CampaignImage = ImageSource | PictureFunction
"""A picture that everybody gets, or a function that makes each recipient's own."""


def is_picture_function(image: object) -> TypeGuard[PictureFunction]:
    """It is a function, and no open file."""
    return callable(image) and not hasattr(image, "read")


def _column(name: object) -> str:
    return field_key(checked_line("name", name))


@frozen
class PictureColumn:
    """Each recipient's picture is the file whose path stands in a column: `campaign(image=PictureColumn("file"), ...)`.

    A relative path is one from the folder in which the process runs when the list is read. The journal keeps the paths,
    and nothing else of the rows.

    Raises:
        InvalidRequestError: `name` is no name of a column.
    """

    name: str = field(converter=_column)
    """In lower case; in the list it may be written in any case."""

    def __call__(self, fields: Mapping[str, Any]) -> str:
        """The path of the picture."""
        path = fields.get(self.name)
        if not isinstance(path, str) or not path.strip():
            raise InvalidRequestError("image", path, f"the path of a file in the column {self.name}")
        return os.path.abspath(path.strip())


@frozen
class OwnPicture:
    """A picture that was made of a row."""

    data: bytes = field(repr=False)
    sha256: str


class PictureMaker:
    """Makes the pictures of one campaign, and keeps a few of them, however many there are.

    Args:
        function: Of the campaign.
        fit: Each is made to fit.
        tell: Called with the seconds that a picture took, its bytes, and what went wrong, if anything did.
    """

    def __init__(self, function: PictureFunction, *, fit: bool, tell: TellPicture) -> None:
        self._tell = tell
        self._function = function
        self._fit = fit
        self._is_async = _is_async(function)
        self._threads = Threads()  # of its own: the function may do anything
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    @property
    def facts(self) -> Mapping[str, object]:
        """What a journal notes of how the pictures are made."""
        how = {"column": self._function.name} if isinstance(self._function, PictureColumn) else {"function": True}
        return {**how, "fit": self._fit}

    def kept(self, sha256: str) -> bytes | None:
        """The picture with this hash, if it is kept."""
        if sha256 in self._kept:
            self._kept.move_to_end(sha256)
        return self._kept.get(sha256)

    def check_names(self, rows: Sequence[Row]) -> None:
        """Raise `InvalidRequestError` for a column that none of `rows` has."""
        if isinstance(self._function, PictureColumn):
            known = {name: None for row in rows for name in row.fields or ()}
            if self._function.name not in known:
                found = ", ".join(known) or "this one has numbers alone"
                raise InvalidRequestError("image", self._function.name, f"a column that the list has: {found}")

    async def entries(
        self, thread: JournalThread, check: Callable[[Sequence[Row]], list[ListEntry]], rows: Sequence[Row]
    ) -> list[ListEntry]:
        """Rows, checked, each with what it gets or why it cannot get it. Of those who are known no picture is made."""
        reader = thread.journal.reader

        def checked() -> tuple[list[ListEntry], set[str]]:
            entries = check(rows)
            phones = [entry.phone for entry in entries if entry.message is not None and entry.phone is not None]
            return entries, {recipient.number for _, recipient in reader.recipients_of(phones)} if phones else set()

        entries, known = await thread.run(checked)
        pairs = list(zip(entries, rows, strict=True))
        return await each_of(pairs, lambda pair: self._entry(*pair, is_known=f"+{pair[0].phone}" in known))

    async def _entry(self, entry: ListEntry, row: Row, *, is_known: bool) -> ListEntry:
        if entry.message is None or is_known:
            return entry
        try:
            fields = self._fields(row)
            picture = await self.made(fields, entry.message.text)
        except InvalidRequestError as error:
            return evolve(entry, message=None, problem=reason_of(error))
        return evolve(entry, message=evolve(entry.message, picture=picture.sha256), fields=fields)

    def _fields(self, row: Row) -> str:
        """What is kept of a row to make its picture of, as JSON."""
        fields: Mapping[str, Any] = {"to": row.number} if row.fields is None else dict(row.fields)
        if isinstance(self._function, PictureColumn):
            fields = {self._function.name: self._function(fields)}
        return json.dumps({name: _storable(name, value) for name, value in fields.items()})

    async def made(self, fields: str, text: str) -> OwnPicture:
        """The picture of a row with these fields, which goes out with `text`.

        Raises:
            InvalidRequestError: The function failed, or returned what cannot be sent.
            ConfigurationError: It is to be made to fit, and Pillow is not installed.
        """
        began = monotonic()
        try:
            image = await self._loaded(fields)
            checked_text(text, image)
        except Exception as error:
            cause = error.__cause__
            self._tell(monotonic() - began, 0, cause if isinstance(cause, Exception) else error)
            raise
        self._tell(monotonic() - began, len(image.data), None)
        picture = OwnPicture(image.data, hashlib.sha256(image.data).hexdigest())
        self._kept[picture.sha256] = picture.data
        self._kept.move_to_end(picture.sha256)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return picture

    async def _loaded(self, fields: str) -> Image:
        source = await self._called(json.loads(fields))
        try:
            return await load(source, fit=self._fit, only_regular=True)
        finally:
            if hasattr(source, "read"):
                with suppress(Exception):
                    source.close()  # type: ignore[union-attr]

    async def _called(self, fields: Mapping[str, Any]) -> ImageSource:
        """What the function returns."""
        error: Exception | None = None
        try:
            made, error = (self._function(fields), None) if self._is_async else await self._in_thread(fields)
            if error is None:
                return await made if inspect.isawaitable(made) else made
        except Exception as raised:
            error = raised
        if isinstance(error, InvalidRequestError):
            raise error
        said = one_line(described(error, str), SHOWN)
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
        problem = f"a picture of its row; the function raised {said}"
        raise InvalidRequestError("image", type(error).__name__, problem) from error

    async def _in_thread(self, fields: Mapping[str, Any]) -> tuple[Any, Exception | None]:
        """As `_tried`, in a thread. Where none can be started it is waited for: the row is not to blame."""
        told = False
        while True:
            try:
                return await self._threads.run(self._tried, fields, abandon_on_cancel=True)
            except NoThreadError as error:
                if not told:
                    log.warning("a picture waits until its function can be called: %s", error.problem)
                told = True
                await asyncio.sleep(PAUSE)

    def _tried(self, fields: Mapping[str, Any]) -> tuple[Any, Exception | None]:
        try:
            return self._function(fields), None
        except Exception as error:  # a `StopIteration` could not be handed over otherwise
            return None, error


async def each_of(items: Sequence[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """Do `work` for each of `items`, a few at a time; the results in their order."""
    results: dict[int, R] = {}
    places = iter(range(len(items)))

    async def worker() -> None:
        for place in places:
            results[place] = await work(items[place])

    workers = [asyncio.ensure_future(worker()) for _ in range(min(AT_ONCE, len(items)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for each in workers:
            each.cancel()
        await all_done(*workers)
    return [results[place] for place in range(len(items))]


def _is_async(function: PictureFunction) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _storable(name: str, value: object) -> object:
    """A field of a row, as JSON can hold it."""
    if isinstance(value, Decimal):
        return str(value)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        kind = type(value).__name__
        raise InvalidRequestError(
            name, kind, f"what JSON can hold, since the journal keeps it; it is a {kind}"
        ) from None
    return value
