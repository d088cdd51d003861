"""The errors of the outbox.

MMSError
├── OutboxError               the outbox cannot be used; nothing was recorded
│   ├── OutboxBusyError       another worker is sending from the file
│   └── OutboxUnavailableError  it cannot be used for the moment: locked, a full disk, the database is away
└── OutboxStoppedError        its worker stopped, since going on makes no sense; what was not sent is still there

Like all errors of this package they can be pickled and read as one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmsclient._store.errors import JournalBusyError, JournalError, JournalUnavailableError
from mmsclient.errors import MMSError, one_line

__all__ = ["OutboxBusyError", "OutboxError", "OutboxStoppedError", "OutboxUnavailableError", "translated"]


class OutboxError(MMSError):
    """The outbox cannot be opened, read or written. A file that is no outbox is left as it is."""

    store: str
    """The file, or the host and the database."""
    problem: str
    """What is wrong, and what to do."""

    def __init__(self, store: str, problem: str) -> None:
        self.store = one_line(store, 500)
        self.problem = one_line(problem, 500)
        super().__init__(f"outbox {self.store}: {self.problem}")


class OutboxBusyError(OutboxError):
    """Another worker is sending from the file. A PostgreSQL database has room for any number of workers."""


class OutboxUnavailableError(OutboxError):
    """The outbox cannot be used at present: locked for long, a full disk, or a database that is away."""


class OutboxStoppedError(MMSError):
    """The worker of an outbox stopped: every call would have failed, or the outcome of too many in a row is unknown.

    What was not sent is still waiting, and goes out when a worker runs again.
    """

    error: MMSError
    """What its last call failed with."""

    def __init__(self, error: MMSError, why: str) -> None:
        self.error = error
        super().__init__(one_line(f"the outbox stopped {why}: {error}; what was not sent is still waiting", 1000))


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the store finds wrong within as an `OutboxError`."""
    try:
        yield
    except JournalError as error:
        problem = error
    else:
        return
    cls = OutboxError
    if isinstance(problem, JournalUnavailableError):
        cls = OutboxUnavailableError
    elif isinstance(problem, JournalBusyError):
        cls = OutboxBusyError
    raise cls(problem.path, problem.problem) from None
