"""The tables of the store in PostgreSQL, and how they come about: numbered files, each applied once."""

from __future__ import annotations

import re
from functools import partial
from importlib import resources

import psycopg

from mmsclient._store.errors import JournalError
from mmsclient._store.postgres.database import Database, Transaction

__all__ = ["check_version", "migrate"]

LOCK_TIMEOUT = 300
"""Milliseconds; a server looks for those who wait for each other after a second, unless it is told otherwise."""
ENCODINGS = ("UTF8", "SQL_ASCII")
"""Of databases, that hold every text: the second takes bytes as they are."""
ATTEMPTS = 100
"""How often all tables are tried to be locked together."""


def migrate(database: Database) -> list[str]:
    """Make the schema and its tables, or bring them up to date; the names of the files that were applied.

    Those who do so at the same moment wait for each other.

    Raises:
        JournalError: The tables are of a newer version, the role must not make any, or the database's encoding does not
            hold every text.
    """
    files = _files()
    if database.run(partial(_version_to_write, database)) == len(files):
        return []

    def work(transaction: Transaction) -> list[str]:
        key = f"mmsclient:{database.address.schema}"
        transaction.row("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (key,))
        _refuse_newer(database, _version(database, transaction))
        schema = database.address.schema
        if transaction.row("SELECT to_regnamespace(quote_ident(%s))", (schema,))[0] is None:
            transaction.script(f'CREATE SCHEMA "{schema}"')  # a role that may not make one is given one
        transaction.script(
            "CREATE TABLE IF NOT EXISTS migration"
            " (number integer PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now())"
        )
        applied = []
        version = _version(database, transaction)
        if 0 < version < len(files):
            _lock_tables(transaction, [sql for _, sql in files[:version]])
        for number in range(version + 1, len(files) + 1):
            name, sql = files[number - 1]
            transaction.script(sql)
            transaction.execute("INSERT INTO migration (number, name) VALUES (%s, %s)", (number, name))
            applied.append(name)
        return applied

    return database.run(work)


def _lock_tables(transaction: Transaction, made_by: list[str]) -> None:
    """Keep everybody else out of the tables that these files have made, until the end of the transaction.

    Whoever uses one of them may be about to use another one, in whichever order: what has been locked is let go where
    the rest takes longer than `LOCK_TIMEOUT`, so that nobody waits for us for whom we are waiting.
    """
    tables = ", ".join(re.findall(r"^CREATE TABLE (\w+)", "\n".join(made_by), re.MULTILINE))
    for _ in range(ATTEMPTS):
        transaction.script(f"SAVEPOINT locks; SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
        try:
            transaction.script(f"LOCK TABLE {tables}")
        except psycopg.errors.LockNotAvailable:
            transaction.script("ROLLBACK TO SAVEPOINT locks")
        else:
            transaction.script("SET LOCAL lock_timeout TO DEFAULT")
            return
    # Somebody always uses one of them: as they are needed.


def check_version(database: Database) -> bool:
    """Whether there are tables of this version.

    Raises:
        JournalError: They are of another version, or the role must not use them.
    """
    found, needed = database.run(partial(_version, database)), len(_files())
    _refuse_newer(database, found)
    if 0 < found < needed:
        problem = f"its tables are of version {found}, and this package needs {needed}; run `mmsclient store migrate`"
        raise JournalError(database.path, problem)
    return found == needed


def _refuse_newer(database: Database, found: int) -> None:
    if found > len(_files()):
        problem = f"its tables are of version {found}, and this package reads {len(_files())}; use a newer mmsclient"
        raise JournalError(database.path, problem)


def _version_to_write(database: Database, transaction: Transaction) -> int:
    """As `_version`, for those who write: where a text cannot be held, the end of a call could not be recorded."""
    (encoding,) = transaction.row("SHOW server_encoding")
    if encoding not in ENCODINGS:
        problem = f"its encoding is {encoding}, which does not hold every text; make one with ENCODING 'UTF8'"
        raise JournalError(database.path, problem)
    return _version(database, transaction)


def _version(database: Database, transaction: Transaction) -> int:
    """The last file that was applied, 0 where there are no tables.

    Raises:
        JournalError: The role must not use the schema, so that its tables look as if they were not there.
    """
    sql = "SELECT to_regclass('migration'), has_schema_privilege(to_regnamespace(quote_ident(%s)), 'USAGE')"
    schema = database.address.schema
    table, may_use = transaction.row(sql, (schema,))
    if may_use is False:
        problem = f"permission denied for schema {schema}; grant USAGE on it, and the use of its tables"
        raise JournalError(database.path, problem)
    if table is None:
        return 0
    return int(transaction.row("SELECT coalesce(max(number), 0) FROM migration")[0])


def _files() -> list[tuple[str, str]]:
    """The names and contents of the migrations, in order: their numbers run from 1 without a gap."""
    folder = resources.files("mmsclient._store").joinpath("schema", "postgres")
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".sql")), key=lambda each: each.name)
    return [(each.name, each.read_text(encoding="utf-8")) for each in files]
