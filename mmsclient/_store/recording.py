"""Records delivery reports and replies into a campaign's journal, many in a transaction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Self

from mmsclient._store.errors import JournalError, JournalUnavailableError
from mmsclient._store.group_commit import GroupCommit
from mmsclient._store.heard import Heard, reply_heard, report_heard
from mmsclient._store.protocol import ReportRecorder as Connection
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.stores import JournalStore, store_at
from mmsclient.models import DeliveryReport, InboundMessage, Reply

__all__ = ["JournalRecorder", "ReportRecorder"]


class JournalRecorder:
    """Records what was heard into one journal, over one connection, which is opened when it is needed.

    Those that wait share a transaction, and each returns after its commit. Closed, it opens another connection when it
    is used again; dropped, it closes its own.
    """

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self._commits: GroupCommit[Heard, None] | None = None

    async def record(self, heard: Heard) -> None:
        """Note what was heard. Raises `JournalError`."""
        if self._commits is None:
            self._commits = GroupCommit(partial(_Connection, self._store))
        try:
            await self._commits.run(heard)
        except JournalError as error:  # all that share a transaction are given the same one
            raise type(error)(error.path, error.problem) from None

    async def aclose(self) -> None:
        """Commit what waits, and close the connection."""
        commits, self._commits = self._commits, None
        if commits is not None:
            await commits.aclose()


class _Connection:
    """A `Committer` of what was heard."""

    shared_failures = (JournalUnavailableError,)

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self._recorder: Connection | None = None

    def commit(self, heard: Sequence[Heard], /) -> list[None]:
        """Note all in one transaction."""
        if self._recorder is not None and not self._recorder.is_current:  # its file was replaced
            self.close()
        with translated_errors(self._store.shown):
            if self._recorder is None:
                self._recorder = self._store.open_recorder()
            self._recorder.record(heard)
        return [None] * len(heard)

    def close(self) -> None:
        """Close the connection."""
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()


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
        self._recorder = JournalRecorder(store_at(journal, name))

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
