"""Records what was heard into a store, many in a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from mmsclient._store.errors import JournalError, JournalUnavailableError
from mmsclient._store.group_commit import GroupCommit
from mmsclient._store.heard import Heard
from mmsclient._store.protocol import ReportRecorder
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._threads import NoThreadError

__all__ = ["GroupRecorder", "Recordable"]


class Recordable(Protocol):
    """A store that what was heard is recorded into."""

    @property
    def shown(self) -> str:
        """As errors name it: without a password."""
        ...

    def open_recorder(self) -> ReportRecorder:
        """Open a connection for it."""
        ...


class GroupRecorder:
    """Records what was heard into one store, over one connection, which is opened when it is needed.

    Those that wait share a transaction, and each returns after its commit. Closed, it opens another connection when it
    is used again; dropped, it closes its own.
    """

    def __init__(self, store: Recordable) -> None:
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
        except NoThreadError as error:
            raise JournalUnavailableError(self._store.shown, error.problem) from None

    async def aclose(self) -> None:
        """Commit what waits, and close the connection."""
        commits, self._commits = self._commits, None
        if commits is not None:
            await commits.aclose()


class _Connection:
    """A `Committer` of what was heard."""

    shared_failures = (JournalUnavailableError,)

    def __init__(self, store: Recordable) -> None:
        self._store = store
        self._recorder: ReportRecorder | None = None

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
