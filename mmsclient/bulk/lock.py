"""A lock that one process holds and that ends with it, however it ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

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

    A file beside the journal and not the journal, so that reports can be read meanwhile. Raises `BlockingIOError` or
    `PermissionError` where it is held already, by this process or another; other `OSError`s where it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        while True:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _lock(self._descriptor)
                if self._is_there():
                    return
            except BaseException:
                os.close(self._descriptor)
                raise
            os.close(self._descriptor)  # its holder removed it between the opening and the lock

    def _is_there(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        return False

    def release(self) -> None:
        """Let go; the file goes too."""
        with suppress(OSError):  # Windows removes no open file
            self._path.unlink()
        os.close(self._descriptor)
