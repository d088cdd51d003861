"""The messages of `test=`: they go before all others, which wait until these have arrived."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from mmsclient._store.evidence import NAMED, PROVEN
from mmsclient._store.models import Claim, PersonalMessage, Recipient
from mmsclient._store.models import RecipientState as State
from mmsclient._words import counted
from mmsclient.bulk.batches import BatchSender, RunParts
from mmsclient.bulk.claim_source import Part
from mmsclient.bulk.control import Stop
from mmsclient.bulk.errors import DeliveryTestError, DeliveryTestFlaw
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.models import DeliveryStatus

__all__ = ["Approve", "Trial"]

log: logging.Logger = logging.getLogger(__name__)

FIRST_LOOK = 0.05
"""Seconds until the second look for the reports; each pause is twice the one before."""
LONGEST_PAUSE = 1.0
"""Seconds between two looks, at most: reports may be recorded by another process."""

Approve = Callable[[Sequence[Recipient]], Awaitable[bool]]
"""Asked whether the test messages are as they should be."""


class Trial:
    """Sends the test messages of a run, as far as they were not sent before, and waits until they have arrived."""

    def __init__(self, thread: JournalThread, parts: RunParts, phones: Sequence[int]) -> None:
        self._thread = thread
        self._parts = parts
        self._phones = phones

    async def run(self, sender: BatchSender) -> bool:
        """True when everybody else may get the message, or the run was stopped; False where its hours are over."""
        control, journal = self._parts.control, self._thread.journal
        try:
            await self._send(sender)
        finally:
            await self._thread.run(journal.count)  # they were claimed before those who stand before them
        if not control.is_stopping and await self._open_rows() and not self._parts.schedule.is_open():
            return False
        if not control.is_stopping and (flaw := await self._flaw()) is not None and not control.is_stopping:
            recipients = tuple(recipient for _, recipient in await self._rows())
            control.fail(Stop(DeliveryTestError(flaw, recipients), "before anybody else"))
        return True

    async def _rows(self) -> list[tuple[int, Recipient]]:
        return await self._thread.run(lambda: self._thread.journal.reader.recipients_of(self._phones))

    async def _open_rows(self) -> list[tuple[int, Recipient]]:
        return [row for row in await self._rows() if row[1].state in (State.PENDING, State.FAILED)]

    async def _has_turn(self) -> bool:
        """Wait until the next call may start; False where the hours are over, or the run is to stop."""
        schedule = self._parts.schedule
        return await schedule.wait_for_turn(self._parts.control) and schedule.is_open()

    async def _send(self, sender: BatchSender) -> None:
        messages = await self._thread.run(lambda: self._thread.journal.reader.messages_of(self._phones))
        groups: dict[PersonalMessage | None, list[tuple[int, int]]] = {}
        for each, recipient in await self._open_rows():
            phone = int(recipient.number[1:])
            groups.setdefault(messages.get(phone), []).append((each, phone))
        size = self._parts.schedule.batch_size
        for message, rows in groups.items():
            left = rows
            while left:
                if not await self._has_turn() or (rest := await self._send_part(sender, message, left[:size])) is None:
                    return
                left = [*rest, *left[size:]]

    async def _send_part(self, sender: BatchSender, message: PersonalMessage | None, rows: Part) -> Part | None:
        """Send to some who get the same; those left who have another picture. None where that would cost too much."""
        budget = self._parts.budget
        if budget.size(len(rows), others_under_way=False) < len(rows):
            self._parts.control.fail(budget.stop())
            return None
        rest: Part = ()

        async def take() -> Claim | None:
            nonlocal rest
            claim, rest = await self._parts.source.claim_part(message, rows)
            return claim

        claim = await self._parts.schedule.begin(take)
        if claim is not None:  # else evidence has proven meanwhile that they were sent to, or they have no picture
            budget.reserve(claim)
            self._parts.capacity.begin_batch(claim.batch)
            await sender.send(claim)
        return rest

    async def _flaw(self) -> DeliveryTestFlaw | None:
        """Why nobody else may get the message; None where they may, and where the run is to stop."""
        options, control = self._parts.options, self._parts.control
        loop = asyncio.get_running_loop()
        give_up_at, pause = loop.time() + options.test_timeout, FIRST_LOOK
        is_told = False
        while True:
            if control.hold_reason:
                held_at = loop.time()
                if not await control.wait_while_held():
                    return None
                give_up_at += loop.time() - held_at
            recipients = [recipient for _, recipient in await self._rows()]
            if flaw := next((flaw for recipient in recipients if (flaw := _flaw_of(recipient))), None):
                return flaw
            if options.approve_test is not None:
                asking = partial(_asked, options.approve_test, recipients)
                return DeliveryTestFlaw.NOT_APPROVED if await control.unless_stopped(asking()) is False else None
            if all(map(_has_arrived, recipients)):
                return None
            if loop.time() >= give_up_at:
                return DeliveryTestFlaw.NO_REPORT
            if not is_told:
                text = "%s sent to: waiting up to %g s for the delivery reports before anybody else is"
                log.info(text, counted(len(recipients), "test number"), options.test_timeout)
                is_told = True
            if not await control.pause(min(pause, max(0.0, give_up_at - loop.time()))):
                return None
            pause = min(2 * pause, LONGEST_PAUSE)


async def _asked(approve: Approve, recipients: Sequence[Recipient]) -> bool:
    return bool(await approve(recipients))


def _flaw_of(recipient: Recipient) -> DeliveryTestFlaw | None:
    """Why the test message to somebody did not arrive and will not."""
    if recipient.state not in (State.ACCEPTED, State.UNKNOWN):
        return DeliveryTestFlaw.NOT_ACCEPTED
    if recipient.delivery is not None and recipient.delivery.is_final and not _has_arrived(recipient):
        return DeliveryTestFlaw.NOT_DELIVERED
    return None


def _has_arrived(recipient: Recipient) -> bool:
    """It was reported as delivered; or a reply told of it, without which nobody would know its id."""
    is_proven_by_reply = recipient.reason in (PROVEN, NAMED) and recipient.delivery is None
    return recipient.delivery is DeliveryStatus.DELIVERED or is_proven_by_reply
