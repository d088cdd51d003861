"""A suppression list as its engines keep it: who gets no message, and what was to be suppressed and cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from attrs import frozen

from mmsclient._store.errors import (
    JournalError,
    JournalUnavailableError,
    SuppressionListError,
    SuppressionListUnavailableError,
)
from mmsclient._store.group_commit import Committer, GroupCommit
from mmsclient._threads import NoThreadError

__all__ = ["MISSING", "Entry", "Request", "SuppressionCommitter", "SuppressionStore", "SuppressionTables", "Unread"]

T = TypeVar("T")

MISSING = (
    "there is no suppression list; `mmsclient suppress add`, `import` or `sync` makes one, and so does"
    " SuppressionList.create(). Is this its right place?"
)


@frozen
class Entry:
    """A phone that gets no message."""

    phone: int
    """The digits of the number in E.164."""
    reason: str
    added: float
    """Unix seconds."""


@frozen
class Unread:
    """A number that was to be suppressed and cannot be read."""

    given: str
    reason: str
    added: float
    """Unix seconds."""


class SuppressionTables(Protocol):
    """A list within a transaction. What stands in it keeps its reason and its time when it is added again."""

    def add(self, entries: Sequence[Entry]) -> int:
        """Suppress phones; how many are new."""
        ...

    def remove(self, phones: Sequence[int]) -> int:
        """Suppress them no more; how many were."""
        ...

    def among(self, phones: Sequence[int]) -> list[Entry]:
        """Those of `phones` that are suppressed."""
        ...

    def page(self, after: int, limit: int) -> list[Entry]:
        """The next entries beyond the phone `after`, by phone."""
        ...

    def reasons(self) -> Mapping[str, int]:
        """How many are suppressed for each reason."""
        ...

    def note_unread(self, numbers: Sequence[Unread]) -> int:
        """Note numbers that cannot be read; how many are new."""
        ...

    def forget_unread(self, given: Sequence[str]) -> int:
        """Note them no more; how many were."""
        ...

    def unread(self) -> list[Unread]:
        """All numbers that cannot be read, oldest first."""
        ...


@frozen
class Request(Generic[T]):
    """What is asked of a list."""

    run: Callable[[SuppressionTables], T]
    """May be run again, where it is not known whether it was committed."""
    reads: bool = False
    """It writes nothing, and makes no list where there is none."""


SuppressionCommitter: TypeAlias = Committer[Request[Any], Any]
"""An engine's connection: runs requests in their order, in one transaction."""


class SuppressionStore:
    """Where a list is kept. Requests that come at the same time share a transaction, in a thread of its own.

    Opened at the first request, in each process; closed, it opens again when it is used again, and dropped it closes.

    Args:
        shown: As errors name it.
        connect: Opens a connection.
    """

    def __init__(self, shown: str | os.PathLike[str], connect: Callable[[], SuppressionCommitter]) -> None:
        self.shown = os.fspath(shown)
        self._connect = connect
        self._commits: GroupCommit[Request[Any], Any] | None = None

    async def read(self, run: Callable[[SuppressionTables], T]) -> T:
        """What `run` returns. Raises `SuppressionListError`, also where there is no list yet."""
        return await self._run(Request(run, reads=True))

    async def write(self, run: Callable[[SuppressionTables], T]) -> T:
        """As `read`; on the disk when this returns, in a list that is made if it is not there."""
        return await self._run(Request(run))

    async def _run(self, request: Request[T]) -> T:
        if self._commits is None:
            self._commits = GroupCommit(self._connect)
        try:
            result: T = await self._commits.run(request)
        except SuppressionListError as error:  # all that share a transaction are given the same one
            raise type(error)(error.path, error.problem) from None
        except JournalUnavailableError as error:
            raise SuppressionListUnavailableError(self.shown, error.problem) from None
        except NoThreadError as error:
            raise SuppressionListUnavailableError(self.shown, error.problem) from None
        except JournalError as error:
            raise SuppressionListError(self.shown, error.problem) from None
        return result

    async def aclose(self) -> None:
        """Commit what waits, and close the connection."""
        commits, self._commits = self._commits, None
        if commits is not None:
            await commits.aclose()
