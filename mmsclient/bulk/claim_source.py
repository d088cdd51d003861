"""Where a run takes its claims from: the journal, as long as nothing has to be made first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from attrs import evolve, frozen

from mmsclient._store.models import Claim, PersonalMessage
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.recorder import Recorder

__all__ = ["ClaimSource", "JournalSource", "Part"]

Part = Sequence[tuple[int, int]]
"""Recipients by id and phone."""


class ClaimSource(Protocol):
    """Whom a run may claim next."""

    @property
    def ready(self) -> int:
        """How many may be claimed at this moment; where none can, but some will, `Control.changed` is set then."""
        ...

    async def claim(self, most: int) -> Claim | None:
        """Claim those who come next, `most` of them at the most; None where there is none after all."""
        ...

    async def claim_part(self, message: PersonalMessage | None, part: Part) -> tuple[Claim | None, Part]:
        """Claim these, who get the same, out of turn; None where nobody of them is to be sent to any more.

        Returns also those of them who need a call of their own.
        """
        ...

    def cancel(self) -> Sequence[asyncio.Future[Any]]:
        """Make nothing more; what has to end yet."""
        ...


@frozen
class JournalSource:
    """All that the journal holds."""

    _thread: JournalThread
    _recorder: Recorder

    @property
    def ready(self) -> int:
        """How many may be claimed at this moment."""
        return self._thread.journal.ready

    async def claim(self, most: int) -> Claim | None:
        """Claim those who come next."""
        return await self._recorder.claim(lambda journal: journal.claim(most))

    async def claim_part(self, message: PersonalMessage | None, part: Part) -> tuple[Claim | None, Part]:
        """Claim these out of turn."""
        ids = [each for each, _ in part]
        claim = await self._recorder.claim(lambda journal: journal.claim_again(ids))
        return None if claim is None else evolve(claim, message=message), ()

    def cancel(self) -> Sequence[asyncio.Future[Any]]:
        """Nothing is being made."""
        return ()
