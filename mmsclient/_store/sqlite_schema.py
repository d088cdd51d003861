"""Schemas of files in SQLite, in numbered scripts, and the copy that is kept of a file before it is migrated."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from mmsclient._store import private_files

__all__ = ["migrate", "run_script"]


def run_script(database: sqlite3.Connection, name: str) -> None:
    """Run a file of the folder `schema`, within the present transaction."""
    script = resources.files("mmsclient._store").joinpath("schema", name).read_text(encoding="utf-8")
    for statement in script.split(";\n"):  # `executescript` would end the transaction
        database.execute(statement)


def migrate(database: sqlite3.Connection, path: str, to: int, scripts: str = "{}.sql") -> None:
    """Bring a database to the version `to`, in one transaction; a copy of an earlier one is kept beside it.

    Args:
        database: A connection.
        path: Its file, "" for one that is not copied.
        to: The version.
        scripts: The names of the scripts, by the version that each leads to.
    """
    if _version_of(database) == to:
        return
    copy = None
    try:
        with private_files.transaction(database):
            version = _version_of(database)  # another process may have been faster
            if version < to and path:
                copy = _kept_copy(path, Path(f"{path}-v{version}"))
            for number in range(version + 1, to + 1):
                run_script(database, scripts.format(number))
    except BaseException:
        if copy is not None:  # else each attempt would leave one
            copy.unlink(missing_ok=True)
        raise


def _version_of(database: sqlite3.Connection) -> int:
    ((version,),) = database.execute("PRAGMA user_version").fetchall()
    return int(version)


def _kept_copy(path: str, wanted: Path) -> Path:
    """Copy what is committed in the database at `path`, into a file that was not there; which.

    A transaction of the caller keeps others from writing.
    """
    uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode=ro"
    copy = private_files.new_name(wanted)
    try:
        with (
            private_files.made_whole(copy) as draft,
            closing(private_files.connect(str(draft))) as target,
            closing(sqlite3.connect(uri, timeout=private_files.BUSY, uri=True, isolation_level=None)) as source,
        ):
            source.backup(target)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    return copy
