"""Records delivery reports and replies into a campaign's journal, many in a transaction."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from mmsclient._store.group_recorder import GroupRecorder
from mmsclient._store.heard import reply_heard, report_heard
from mmsclient._store.stores import store_at
from mmsclient.models import DeliveryReport, InboundMessage, Reply

__all__ = ["ReportRecorder"]


class ReportRecorder:
    """Records delivery reports and replies into the journal of a campaign, without a client or a campaign at hand.

    ```python
    async with ReportRecorder("spring.db") as recorder:
        for event in parse_callbacks(body):
            if isinstance(event, DeliveryReport):
                await recorder.record(event)
    ```

    Those that come at the same time share a transaction, and each call returns after the commit that holds its own. One
    connection is opened, when it is needed. A receiver takes it, or the journal itself, in
    `CallbackReceiver.record_into`.

    Args:
        journal: The file of a campaign, or the URL of a PostgreSQL database.
        name: What the campaign is called in the database.

    Raises:
        InvalidRequestError: The two do not fit each other.
        ConfigurationError: The URL cannot be read, or the extra `postgres` is not installed.
    """

    def __init__(self, journal: str | os.PathLike[str], name: str | None = None) -> None:
        self._recorder = GroupRecorder(store_at(journal, name))

    async def record(self, report: DeliveryReport) -> None:
        """Note a delivery report, and what it proves; on the disk when this returns.

        Any number of times, in any order, while a campaign sends or after it.

        Raises:
            JournalError: There is no such journal yet, or it cannot be written.
        """
        await self._recorder.record(report_heard(report))

    async def record_reply(self, reply: InboundMessage | Reply) -> None:
        """Note a reply: it proves as a delivery report does. Otherwise as `record`.

        One that does not say which message it replies to counts for nothing.
        """
        if heard := reply_heard(reply):
            await self._recorder.record(heard)

    async def aclose(self) -> None:
        """Close the connection, after what is being recorded. Another is opened if this is used again."""
        await self._recorder.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()
