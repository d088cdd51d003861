"""Waiting until it is known what became of each message of a send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Protocol

from mmsclient._api.checks import check_seconds
from mmsclient._api.phone_numbers import phone_key
from mmsclient._transport.retry import PASSING, backoff
from mmsclient.errors import InvalidRequestError, MMSError
from mmsclient.models import DeliveryReport, DeliveryStatus, MessageStatus, SentBatch, SentMessage

FIRST_PAUSE = 1.0
"""Seconds between the first two rounds of asking."""

GROWTH = 1.5
"""What the pause grows by with every round."""

LONGEST_PAUSE = 60.0
"""Seconds: what it grows to."""

AT_ONCE = 16
"""Messages asked for at a time: about what the cap lets through in a second."""

Statuses = Mapping[str, DeliveryStatus | None]


class Waits(Protocol):
    """A receiver of callbacks."""

    async def wait_for(
        self, message_id: str, *, recipient: str | None = ..., timeout: float = ...
    ) -> DeliveryReport: ...


async def hear(sent: SentBatch, receiver: Waits, timeout: float) -> Statuses:
    """The final status of each message as `receiver` is told it."""
    statuses: dict[str, DeliveryStatus | None] = {message.to: None for message in sent.messages}

    async def wait(message: SentMessage) -> None:
        with suppress(TimeoutError):
            recipient = message.to if phone_key(message.to) else None
            report = await receiver.wait_for(message.id, recipient=recipient, timeout=timeout)
            statuses[message.to] = report.status

    await _all(wait(message) for message in sent.messages if message.id.strip())
    return statuses


async def ask(
    sent: SentBatch, message: Callable[[str], Coroutine[Any, Any, MessageStatus | None]], timeout: float
) -> Statuses:
    """The final status of each message, asked for in rounds until all are known."""
    statuses: dict[str, DeliveryStatus | None] = {each.to: None for each in sent.messages}
    poll = _Poll(message, statuses)
    try:
        async with asyncio.timeout(timeout):
            await poll.run({each.to: each.id for each in sent.messages if each.id.strip()})
    except TimeoutError:
        if poll.error is not None and not poll.answers:
            raise poll.error from None
    return statuses


class _Poll:
    """Asks for messages, `AT_ONCE` at a time."""

    def __init__(
        self,
        message: Callable[[str], Coroutine[Any, Any, MessageStatus | None]],
        statuses: dict[str, DeliveryStatus | None],
    ) -> None:
        self._message = message
        self._statuses = statuses
        self.answers = 0
        self.error: MMSError | None = None

    async def run(self, ids: Mapping[str, str]) -> None:
        """Ask in rounds until the status of each of `ids`, by its recipient, is final."""
        for number in count(1):
            left = [to for to in ids if not _is_final(self._statuses[to])]
            if not left:
                return
            rest = iter(left)

            async def ask_on(rest: Any = rest) -> None:
                for to in rest:
                    await self._ask(to, ids[to])

            await _all(ask_on() for _ in range(min(AT_ONCE, len(left))))
            if any(not _is_final(self._statuses[to]) for to in left):
                await asyncio.sleep(backoff(number, first=FIRST_PAUSE, longest=LONGEST_PAUSE, growth=GROWTH))

    async def _ask(self, to: str, message_id: str) -> None:
        try:
            found = await self._message(message_id)
        except PASSING as error:
            self.error = error
            return
        self.answers += 1
        if found is not None:
            several = (found, *found.others)
            ours = [each for each in several if phone_key(each.to) == phone_key(to)]
            self._statuses[to] = (ours or several)[0].status


async def _all(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them to their end, or to the first error, which is raised as it is."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _is_final(status: DeliveryStatus | None) -> bool:
    return status is not None and status.is_final


def checked(sent: SentBatch, timeout: float) -> None:
    """Raises `InvalidRequestError` unless both can be used."""
    if not isinstance(sent, SentBatch):
        raise InvalidRequestError("sent", sent, "what `send` returned")
    check_seconds("timeout", timeout, error=InvalidRequestError)
