"""Whom a run may claim next, where each has a picture of its own: it is made a few calls ahead of the call.

When the list was read, each picture was made once, and its hash noted: by it equal ones share a call. Now the first of
a call makes it again, unless it is kept; the hash tells that it is the picture of the others, too. If it is another
one, those go together who are found to have that, one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from mmsclient._store.models import Claim, Exclusion, OwnRow, PersonalMessage, Picked, Selection
from mmsclient.bulk.claim_source import Part
from mmsclient.bulk.control import Control
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.own_pictures import OwnPicture, PictureMaker, each_of
from mmsclient.bulk.personal import reason_of
from mmsclient.bulk.recorder import Recorder
from mmsclient.bulk.waiting import is_ending
from mmsclient.errors import InvalidRequestError

__all__ = ["PicturePrefetcher"]

log: logging.Logger = logging.getLogger(__name__)

AHEAD = 8
"""Calls whose picture is made ahead."""
PAGE = 50
"""Rows that are read at a time where each makes its picture."""


@frozen
class PreparedBatch:
    """Recipients of one call, with their picture, or with why they have none."""

    selection: Selection
    image: bytes | None = field(default=None, repr=False)
    reasons: Mapping[int, str] = field(factory=dict, repr=False)
    """By phone."""

    def after(self, last: int) -> PreparedBatch | None:
        """Those whose id is beyond `last`."""
        ids = tuple(each for each in self.selection.ids if each > last)
        return evolve(self, selection=evolve(self.selection, ids=ids)) if ids else None


class PicturePrefetcher:
    """Makes the pictures of the next calls of a run. What goes wrong ends the run by its `Control`.

    Args:
        pictures: Makes them.
        thread: The journal, which has each recipient's hash.
        recorder: Of the run.
        control: Of the run.
        is_list_read: Whether the list was read to its end. Nothing is made before.
        size: Recipients of a call.
    """

    def __init__(
        self,
        pictures: PictureMaker,
        thread: JournalThread,
        recorder: Recorder,
        control: Control,
        *,
        is_list_read: Callable[[], bool],
        size: int,
    ) -> None:
        self._pictures = pictures
        self._thread = thread
        self._recorder = recorder
        self._control = control
        self._is_list_read = is_list_read
        self._size = size
        self._prepared: deque[PreparedBatch] = deque()
        self._unmade: deque[Picked] = deque()  # what comes after them
        self._last = (0, 0)  # how far the journal was looked at
        self._is_at_end = False
        self._filling: asyncio.Task[None] | None = None
        self._told: set[bool] = set()

    @property
    def ready(self) -> int:
        """How many may be claimed at this moment: those of the next call, once their picture is made."""
        if self._filling is None and self._needs_more():
            self._filling = asyncio.get_running_loop().create_task(self._fill())
        return len(self._prepared[0].selection.ids) if self._prepared else 0

    async def claim(self, most: int) -> Claim | None:
        """Claim those of the next call, `most` of them at the most. None where they are set aside, or gone."""
        prepared = self._prepared.popleft()
        claim = await self._claimed(prepared, most)
        if claim is not None and (rest := prepared.after(claim.ids[-1])) is not None:
            self._prepared.appendleft(rest)
        return claim

    async def claim_part(self, message: PersonalMessage | None, part: Part) -> tuple[Claim | None, Part]:
        """Claim the first of these, out of turn, and return the others, who have another picture."""
        prepared, rest = await self._prepare(Picked([(each, phone, "") for each, phone in part], 0, message))
        claim = await self._claimed(prepared, len(part))
        return claim, [] if rest is None else [(each, phone) for each, phone, _ in rest.rows]

    def cancel(self) -> Sequence[asyncio.Future[Any]]:
        """Make nothing more."""
        if self._filling is None:
            return ()
        self._filling.cancel()
        return (self._filling,)

    async def _claimed(self, prepared: PreparedBatch, most: int) -> Claim | None:
        size = len(prepared.selection.ids) if prepared.image is None else most
        claim = await self._recorder.claim(lambda journal: journal.claim(size, prepared.selection))
        if claim is None or prepared.image is not None:
            return None if claim is None else evolve(claim, image=prepared.image)
        reasons = {phone: prepared.reasons[phone] for phone in claim.phones}
        await self._recorder.suppress(claim, reasons, Exclusion.NO_MESSAGE)
        return None

    # Ahead ------------------------------------------------------------------------------------------------------------

    def _needs_more(self) -> bool:
        if not self._is_list_read() or self._control.is_stopping or (self._is_at_end and self._prepared):
            return False
        made = sum(len(prepared.selection.ids) for prepared in self._prepared)
        return len(self._prepared) < AHEAD and self._thread.journal.ready > made

    async def _fill(self) -> None:
        try:
            picked = await self._next(AHEAD - len(self._prepared))
            for place, (prepared, rest) in enumerate(await each_of(picked, self._prepare)):
                self._prepared.append(prepared)
                if rest is not None:  # in the order of the journal, which counts by it
                    self._unmade.extendleft(reversed([rest, *picked[place + 1 :]]))
                    break
        except asyncio.CancelledError as error:
            if is_ending():
                raise
            self._control.fail(error)  # of something that the function awaited
        except Exception as error:
            self._control.fail(error)
        finally:
            self._filling = None
            self._control.changed.set()

    async def _next(self, most: int) -> list[Picked]:
        """Those of the next calls."""
        journal = self._thread.journal
        if self._is_at_end and not self._prepared and not self._unmade:
            await self._thread.run(journal.count)
            if not journal.ready:
                return []
            self._last, self._is_at_end = (0, 0), False  # they are claimed again in a new run
        while len(self._unmade) < most and not self._is_at_end:
            picked = await self._thread.run(lambda: journal.reader.upcoming(self._last, self._size))
            self._is_at_end = not picked.rows
            if picked.rows:
                self._last = picked.positions[-1]
                self._unmade.append(picked)
        return [self._unmade.popleft() for _ in range(min(most, len(self._unmade)))]

    async def _prepare(self, picked: Picked) -> tuple[PreparedBatch, Picked | None]:
        """The first of `picked` who have a picture in common, or have none; and those who come after them."""
        assert picked.message is not None  # noqa: S101
        message, group, ids = picked.message, picked.group, picked.ids
        if (kept := self._pictures.kept(message.picture)) is not None:
            return PreparedBatch(Selection(ids, message, group), kept), None
        found: OwnPicture | None = None
        reasons: dict[int, str] = {}
        resent, place = 0, 0
        async for phone, row in self._own_rows(picked):
            made = await self._made(row, message.text)
            if isinstance(made, OwnPicture) and made.sha256 == message.picture and not place:
                return PreparedBatch(Selection(ids, message, group), made.data), None
            if place and (reasons if isinstance(made, OwnPicture) else found is not None):
                break
            if isinstance(made, OwnPicture):
                if found is not None and made.sha256 != found.sha256:
                    break
                found = made
            else:
                reasons[phone] = made
            resent += row.is_resent
            place += 1
        rest = evolve(picked, rows=picked.rows[place:]) if place < len(ids) else None
        if found is None:
            return PreparedBatch(Selection(ids[:place], message, group), reasons=reasons), rest
        self._tell(is_resent=resent > 0)
        return PreparedBatch(Selection(ids[:place], evolve(message, picture=found.sha256), group), found.data), rest

    async def _made(self, row: OwnRow, text: str) -> OwnPicture | str:
        """The picture, or why there is none."""
        try:
            return await self._pictures.made(row.fields, text)
        except InvalidRequestError as error:
            return reason_of(error)

    async def _own_rows(self, picked: Picked) -> AsyncIterator[tuple[int, OwnRow]]:
        """The phone and the fields of each: mostly no more than the first is asked for."""
        start, size = 0, 1
        while rows := picked.rows[start : start + size]:
            ids = [each for each, _, _ in rows]
            found = await self._thread.run(lambda ids=ids: self._thread.journal.reader.own_rows(ids))  # type: ignore[misc]
            for each, phone, _ in rows:
                yield phone, found[each]
            start, size = start + size, PAGE

    def _tell(self, *, is_resent: bool) -> None:
        """Say, once, that pictures are others than when the list was read."""
        if is_resent in self._told:
            return
        self._told.add(is_resent)
        path = self._thread.journal.path or "in memory"
        if is_resent:
            log.warning("campaign %s: some who may have got a picture before are sent another one now", path)
        else:
            log.warning("campaign %s: some pictures are others than when the list was read; the new ones go out", path)
