"""The file beside a journal, in which the SMS stand that those get whose MMS did not arrive."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from typing import Self

from mmsclient._store.errors import JournalError
from mmsclient._store.heard import Heard
from mmsclient._store.protocol import ReportRecorder
from mmsclient._store.sqlite_database import Database, translated_errors
from mmsclient._store.sqlite_recorder import SQLiteRecorder

__all__ = ["RecorderWithFallback", "check_fallback", "fallback_file", "note_fallback"]

BEGUN = "fallback"
"""The fact about a journal that there is one beside it."""


def fallback_file(path: str) -> str:
    """Of the journal at `path`."""
    return f"{os.path.realpath(path)}-sms"


def note_fallback(path: str) -> None:
    """Note in the journal at `path` that there is one beside it."""
    with translated_errors(path), closing(Database.writable(path)) as database:
        database.set_meta(BEGUN, 1)


def check_fallback(path: str) -> None:
    """Raise `JournalError` where the one beside that at `path` is gone: nobody knows then who got an SMS."""
    beside = fallback_file(path)
    if os.path.exists(beside):
        return
    with translated_errors(path), closing(Database.read_only(path)) as database:
        has_begun = database.meta(BEGUN)
    if has_begun:
        raise JournalError(beside, "it is gone, and with it who got an SMS; put it back beside the campaign's journal")


class RecorderWithFallback:
    """Notes what was heard in a journal, and in the one beside it, once that is there.

    What names a message of the first one is not of the second, which must not take it for proof; nor for what may be of
    one whose answer was lost.
    """

    def __init__(self, path: str, recorder: SQLiteRecorder) -> None:
        self._path = fallback_file(path)
        self._recorder = recorder
        self._beside: ReportRecorder | None = None

    @classmethod
    def open(cls, path: str) -> Self:
        """Open the journal at `path`. Raises `JournalError` where there is none."""
        return cls(path, SQLiteRecorder.open(path))

    @property
    def is_current(self) -> bool:
        """The files are those that were opened."""
        return self._recorder.is_current and (self._beside is None or self._beside.is_current)

    def record(self, heard: Sequence[Heard]) -> None:
        """See `ReportRecorder.record`. A transaction for each journal: what is recorded again does no harm.

        What is wrong with the second one keeps nothing out of the first.
        """
        try:
            self._record_beside(heard)
        finally:
            self._recorder.record(heard)

    def _record_beside(self, heard: Sequence[Heard]) -> None:
        if self._beside is None and os.path.exists(self._path):
            self._beside = SQLiteRecorder.open(self._path)
        if self._beside is not None and (others := self._recorder.of_others(heard)):
            self._beside.record(others)

    def close(self) -> None:
        """Close both connections. May be called again."""
        try:
            self._recorder.close()
        finally:
            if self._beside is not None:
                self._beside.close()
