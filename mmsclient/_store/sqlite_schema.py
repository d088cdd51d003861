"""Schemas of files in SQLite, in numbered scripts, and the copy that is kept of a file before it is migrated."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from mmsclient._store import private_files

__all__ = ["keep_copy", "run_script"]


def run_script(database: sqlite3.Connection, name: str) -> None:
    """Run a file of the folder `schema`, within the present transaction."""
    script = resources.files("mmsclient._store").joinpath("schema", name).read_text(encoding="utf-8")
    for statement in script.split(";\n"):  # `executescript` would end the transaction
        database.execute(statement)


def keep_copy(path: str, copy: Path) -> None:
    """Copy what is committed in the database at `path`. A transaction of the caller keeps others from writing."""
    uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode=ro"
    with (
        private_files.made_whole(copy) as draft,
        closing(private_files.connect(str(draft))) as target,
        closing(sqlite3.connect(uri, timeout=private_files.BUSY, uri=True, isolation_level=None)) as source,
    ):
        source.backup(target)
