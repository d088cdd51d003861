"""A lock that one process holds and that ends with it, however it ends."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

LOCK_POLL = 0.005
"""Seconds between the attempts to take a lock that another holds."""

LOOKED_AT = 0.1
"""Seconds for which somebody may look whether the lock is held."""

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """Holds the file `path`, which it makes and removes, from the start until `release`.

    A file beside the journal and not the journal, so that reports can be read meanwhile. A fork does not hold it, and
    cannot release it. Raises `BlockingIOError` or `PermissionError` where it is held already, by this process or
    another; other `OSError`s where it cannot be made, `FileExistsError` where its name is that of a file with something
    in it, which is left as it is.

    Args:
        path: The file.
        is_log: It is the log of a database, which is there, and is left to SQLite.
    """

    def __init__(self, path: Path, *, is_log: bool = False) -> None:
        self._path = path
        self._is_log = is_log
        with _forking:
            self._descriptor: int | None = _open_log(path) if is_log else _open_locked(path)
            _held.add(self)

    def release(self) -> None:
        """Let go; the file goes too. May be called again."""
        with _forking:
            if self._descriptor is None:
                return
            if not self._is_log:
                with suppress(OSError):  # Windows removes no open file
                    self._path.unlink()
            self.close()

    def close(self) -> None:
        """Close the file. In a fork, the parent holds it all the same."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        _held.discard(self)


def lock_within(path: Path, seconds: float, *, is_log: bool = False) -> FileLock:
    """A lock that another may hold for a moment. Raises `BlockingIOError` where it is held for `seconds`."""
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            return FileLock(path, is_log=is_log)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                raise
        time.sleep(LOCK_POLL)


def is_held(path: Path) -> bool:
    """Somebody holds the lock. Whoever takes it at this moment has to try again: see `lock_within`."""
    with _forking:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return False
        try:
            _lock(descriptor)
        except OSError:
            return True
        finally:
            os.close(descriptor)
    return False


class DatabaseLock:
    """Holds a database in a file, by a lock file beside it, and once it has one by its log, too.

    A program that cleans up may remove the lock file, whose name another process could lock anew; the log stays as long
    as the database is open. SQLite locks nothing in it, and by other calls of the system than this. On Windows, where
    it would mind, nobody removes a file that is open.

    Args:
        path: The database.
        ending: What the name of the lock file ends with.

    Raises:
        OSError: As `FileLock`.
    """

    def __init__(self, path: str | os.PathLike[str], ending: str) -> None:
        self._log_path = _log_of(path)
        self._log: FileLock | None = None
        self._lock = lock_within(Path(f"{os.fspath(path)}{ending}"), LOOKED_AT)
        try:
            with suppress(FileNotFoundError):
                self.hold_log()
        except BaseException:
            self._lock.release()
            raise
        self._release_log()  # SQLite may put another file there

    def hold_log(self) -> None:
        """Hold the log, which is there now. Raises `BlockingIOError` where another process does."""
        if sys.platform != "win32":
            self._log = lock_within(self._log_path, LOOKED_AT, is_log=True)

    def _release_log(self) -> None:
        if self._log is not None:
            self._log.release()
            self._log = None

    def release(self) -> None:
        """Let go. May be called again."""
        self._release_log()
        self._lock.release()


def is_database_held(path: str | os.PathLike[str], ending: str) -> bool:
    """Somebody has the `DatabaseLock`."""
    return is_held(Path(f"{os.fspath(path)}{ending}")) or (sys.platform != "win32" and is_held(_log_of(path)))


def _log_of(path: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(path)}-wal")


_held: WeakSet[FileLock] = WeakSet()
_forking = threading.Lock()
"""Held while the process forks: no file is half open then, which the fork would hold as long as it lives."""


def _close_inherited() -> None:
    for lock in list(_held):
        lock.close()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_close_inherited)


def _open_locked(path: Path) -> int:
    while True:
        with suppress(FileNotFoundError):
            if os.stat(path).st_size:
                raise FileExistsError(errno.EEXIST, "a file that is no lock has its name", str(path))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor)
            if _is_there(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it between the opening and the lock


def _open_log(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR)
    try:
        _lock(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_there(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False
