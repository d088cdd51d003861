"""Keeps out of a call that is about to leave who is suppressed, and who needs no SMS any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

from mmsclient._api.phone_numbers import MAX_RECIPIENTS
from mmsclient._store.models import Claim, number_of
from mmsclient._store.protocol import SenderJournal
from mmsclient._transport.session import Recall
from mmsclient.bulk.arrivals import Arrivals
from mmsclient.bulk.control import Control
from mmsclient.bulk.errors import SuppressionListError, SuppressionListUnavailableError
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.recorder import Recorder
from mmsclient.bulk.suppression import SuppressionList
from mmsclient.bulk.suppression_models import Suppression
from mmsclient.bulk.waiting import all_done

__all__ = ["Screening", "exclude_suppressed"]

AWAY = 60.0
"""Seconds that a list is waited for which cannot be used for the moment."""
LOOK_AGAIN = 0.5
"""Seconds between the attempts to read it."""
ASK_AGAIN = 1.0
"""Seconds between two looks at the list while a call waits for its turn."""

STOPPED = "a recipient was suppressed before it left"


async def exclude_suppressed(copy: JournalThread, suppression: SuppressionList | None) -> None:
    """Exclude all who are suppressed in the copy of a journal, whose recipients are claimed for it."""
    while suppression is not None and (claim := await copy.run(lambda: copy.journal.claim(MAX_RECIPIENTS))):
        reasons = _reasons(claim, await suppression.among(claim.numbers))
        await copy.run(partial(_suppress_and_release, copy.journal, claim, reasons))


def _suppress_and_release(journal: SenderJournal, claim: Claim, reasons: Mapping[int, str]) -> None:
    if reasons:
        journal.suppress(claim, reasons)
    if rest := _rest(claim, reasons):
        journal.release(rest)


def _reasons(claim: Claim, found: Mapping[str, Suppression]) -> dict[int, str]:
    """Why those of `claim` that were found are suppressed, by phone."""
    return {phone: str(found[number]) for phone in claim.phones if (number := number_of(phone)) in found}


def _rest(claim: Claim, reasons: Mapping[int, str]) -> Claim | None:
    """The others of `claim`, None where there are none."""
    rest = claim.only(set(claim.phones) - reasons.keys())
    return rest if rest.ids else None


class Screening:
    """Asks a suppression list, if there is one, before each call of a run, and again while that waits.

    Of SMS in place of an MMS, asks the journal of that once, before each call.
    """

    def __init__(
        self, suppression: SuppressionList | None, arrivals: Arrivals | None, recorder: Recorder, control: Control
    ) -> None:
        self._list = suppression
        self._arrivals = arrivals
        self._recorder = recorder
        self._control = control
        self._taken_back: set[int] = set()  # batches

    async def passed(self, claim: Claim) -> Claim | None:
        """Those of `claim` who may be sent to; the others are recorded as excluded. None: nobody is left.

        Raises:
            SuppressionListError: The list cannot be used. Nobody of `claim` was sent to, and all are pending again.
            JournalError: The same of the journal of the MMS.
        """
        rest = claim if self._list is None else await self._not_suppressed(self._list, claim)
        return rest if rest is None or self._arrivals is None else await self._in_need(self._arrivals, rest)

    async def _in_need(self, arrivals: Arrivals, claim: Claim) -> Claim | None:
        """Those of `claim` who get an SMS for all the first journal says. Who may get it yet is pending again."""
        try:
            found = await arrivals.among(claim.phones)
        except BaseException:
            await self._recorder.release(claim)
            raise
        rest: Claim | None = claim
        for why, reasons in found.excluded.items():
            if rest is not None and reasons:
                await self._recorder.suppress(rest, reasons, why)
                rest = _rest(rest, reasons)
        if rest is None or not found.awaited:
            return rest
        await self._recorder.release(rest)
        ids = rest.only(set(rest.phones) - found.awaited).ids
        return await self._recorder.claim(lambda journal: journal.claim_again(ids)) if ids else None

    async def _not_suppressed(self, suppression: SuppressionList, claim: Claim) -> Claim | None:
        try:
            found = await self._suppressed(suppression, claim)
        except BaseException:
            await self._recorder.release(claim)
            raise
        if found is None:  # the run is to stop
            await self._recorder.release(claim)
            return None
        if not (reasons := _reasons(claim, found)):
            return claim
        await self._recorder.suppress(claim, reasons)
        return _rest(claim, reasons)

    @asynccontextmanager
    async def watched(self, claim: Claim, recall: Recall) -> AsyncIterator[None]:
        """Within, the call of `claim` is taken back if it has not left when somebody of it is suppressed."""
        if self._list is None:
            yield
            return
        watching = asyncio.get_running_loop().create_task(self._watch(self._list, claim, recall))
        try:
            yield
        finally:
            watching.cancel()
            await all_done(watching)

    def took_back(self, claim: Claim) -> bool:
        """A call of `claim` was taken back; told once."""
        was_taken_back = claim.batch in self._taken_back
        self._taken_back.discard(claim.batch)
        return was_taken_back

    async def _watch(self, suppression: SuppressionList, claim: Claim, recall: Recall) -> None:
        while True:
            await asyncio.sleep(ASK_AGAIN)
            with suppress(SuppressionListError):  # the next call stops the run, unless it has passed by then
                if await suppression.among(claim.numbers):
                    self._taken_back.add(claim.batch)
                    recall.all(STOPPED)
                    return

    async def _suppressed(self, suppression: SuppressionList, claim: Claim) -> dict[str, Suppression] | None:
        """Those of `claim` that are in the list; None where the run is stopped while that is away."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + AWAY
        while True:
            try:
                return await suppression.among(claim.numbers)
            except SuppressionListUnavailableError:
                if loop.time() > give_up_at:
                    raise
            if not await self._control.pause(LOOK_AGAIN):
                return None
