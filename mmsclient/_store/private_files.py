"""Files that hold phone numbers and texts: for their owner's eyes alone, and on the disk when they are said to be."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from mmsclient._store.mounts import MOUNTED, is_mounted_alone

BUSY = 60.0
"""Seconds that a connection waits for another one's transaction."""
LOCK_POLL = 0.005
"""Seconds between the attempts to begin a log while others write."""

_LOGS = ("-wal", "-journal")
"""What SQLite calls the files beside a database that are a part of it."""

DAMAGED = "the file is damaged; it was left as it is. Restore it from a copy"


def make_private(path: str | os.PathLike[str]) -> None:
    """Let nobody but its owner read `path`; make it if it is not there.

    What SQLite puts beside a database takes over the rights of that. A file of somebody else is left as it is. Raises
    `OSError` where it cannot be made. One that is there is not opened: when we closed it, the locks that SQLite holds
    on it in this process would go.
    """
    real = os.path.realpath(path)
    with suppress(FileExistsError):
        os.close(os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    for each in (Path(real), Path(f"{real}-wal"), Path(f"{real}-shm")):
        with suppress(OSError):
            if each.is_file() and each.stat().st_mode & 0o077:
                each.chmod(0o600)


def connect(path: str) -> sqlite3.Connection:
    """A connection that commits only when told to, and then to the disk. Raises `sqlite3.Error`."""
    check_mount(path)
    database = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        database.executescript(
            "PRAGMA synchronous = FULL;"
            " PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;"  # macOS: past its cache
            " PRAGMA cache_size = -16000; PRAGMA temp_store = FILE;"
        )
    except BaseException:  # it is no database, say
        database.close()
        raise
    return database


def check_mount(path: str | os.PathLike[str]) -> None:
    """Raise `sqlite3.OperationalError` where only the file is mounted: its log would go with the container."""
    if path and is_mounted_alone(path):
        raise sqlite3.OperationalError(MOUNTED)


@contextmanager
def transaction(database: sqlite3.Connection, mode: str = "IMMEDIATE") -> Iterator[None]:
    """Within, `IMMEDIATE`, this connection alone writes; `DEFERRED`, it reads what was so at one moment."""
    database.execute(f"BEGIN {mode}")
    with database:
        yield


def log_writes_ahead(database: sqlite3.Connection, seconds: float) -> str:
    """Let writes go to a log beside the file, which others may read meanwhile; how they are logged from now on.

    SQLite waits for nobody here, however long it is told to, so this does: `seconds`, then its error is raised.
    """
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            ((mode,),) = database.execute("PRAGMA journal_mode = WAL").fetchall()
            return str(mode)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
        time.sleep(LOCK_POLL)


def header_of(path: Path) -> tuple[int, int]:
    """The application and the version of a SQLite file, from its own bytes, whatever lies beside it.

    It need not be whole without its log: who is killed while that is written into it has written the first page first.
    """
    uri = f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        database.execute("PRAGMA writable_schema = ON")  # else one shorter than that page says is an error
        ((application,),) = database.execute("PRAGMA application_id").fetchall()
        ((version,),) = database.execute("PRAGMA user_version").fetchall()
    return int(application), int(version)


def flaw_of(path: Path) -> str:
    """Why a file that is there holds no record of what was sent; "" where it may. Told before SQLite opens it."""
    file = path.stat()
    if not stat.S_ISREG(file.st_mode):
        return f"it is {'a directory' if stat.S_ISDIR(file.st_mode) else 'no file'}"
    if is_mounted_alone(path):
        return MOUNTED
    return "" if file.st_size else "the file is empty, so what was sent is not known; delete it if nothing was"


def too_many_names(path: Path, harm: str) -> str:
    """Why a file that has several names (hard links) is not opened: the `harm`. "" where it has one."""
    names = path.stat().st_nlink
    return f"the file has {names} names (hard links), {harm}; copy it" if names > 1 else ""


def damage_of(error: sqlite3.DatabaseError, foreign: str) -> str:
    """What SQLite found wrong with the file itself, `foreign` where it is no database; "" for anything else."""
    if str(error) == "file is not a database":
        return foreign
    return f"{DAMAGED} ({error})" if type(error) is sqlite3.DatabaseError else ""  # malformed


def stray_log_of(path: Path) -> str:
    """Why no file is to be made at `path`, which is gone while a part of it is there; "" where one may be."""
    for log in _LOGS:
        if os.path.lexists(f"{path}{log}"):  # SQLite would read it into the new file
            return f"it is gone, but {path.name}{log}, a part of it, is there; put it back, or remove that too"
    return ""


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """Within, a draft of `path` is filled, and closed; then it is there, whole and on the disk, or not at all.

    The draft has a name that nobody gives to a file of his own.
    """
    draft = path.with_name(f".{path.name}.mmsclient-draft")
    _remove(draft)  # left by a process that died here
    try:
        make_private(draft)
        yield draft
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            _remove(draft)
        raise
    flush_folder(path.parent)


def new_name(path: Path) -> Path:
    """An empty file that was not there: `path`, or else the first that is free of `path-2`, `path-3` and so on."""
    for name in (path, *(Path(f"{path}-{number}") for number in range(2, 1000))):
        with suppress(FileExistsError):
            if not stray_log_of(name):
                os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                return name
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _remove(draft: Path) -> None:
    for ending in ("", "-shm", *_LOGS):
        Path(f"{draft}{ending}").unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Let the name of a new file survive a power cut."""
    if os.name == "nt":  # no such call there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if sys.platform == "darwin":
            import fcntl  # noqa: PLC0415

            with suppress(OSError):  # not every file system knows it
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
