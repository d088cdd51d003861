"""A real PostgreSQL cluster for the tests, reached by a Unix socket in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest

from mmsclient._store.postgres.address import Address
from mmsclient._store.postgres.database import Database
from mmsclient._store.postgres.migrations import migrate
from tests.support.waiting import until


def binaries() -> Path:
    """The folder of `initdb` and `pg_ctl`. Skips the test on a machine without them; in CI it fails."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: int(each.parts[-3]))
    if not versions:
        _without("initdb is neither on the PATH nor in /usr/lib/postgresql (Debian: apt-get install postgresql)")
    return versions[-1].parent


def _answers(path: Path) -> bool:
    """Whoever made this socket takes connections."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def _without(missing: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


class Server:
    """A cluster. PostgreSQL refuses to run as root: there, it runs as the user `postgres` or `nobody`."""

    def __init__(self) -> None:
        self._bin = binaries()
        self._user = _ordinary_user()
        self._databases = count(1)
        self._template = ""
        self._shape: object = None
        self._lent: list[str] = []
        self._ready: list[str] = []
        self.directory = Path(tempfile.mkdtemp(prefix="mmspg-", dir="/tmp"))  # sockets need a short path
        if self._user is not None:
            os.chown(self.directory, *self._user)
        try:
            self._run("initdb", "--auth=trust", "--username=mms", "--encoding=UTF8", "--no-locale", "--no-sync")
            with (self.directory / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.write(
                    f"listen_addresses = ''\nunix_socket_directories = '{self.directory}'\nmax_connections = 50\n"
                )
                file.write("fsync = off\n")  # of the machine's power nothing is tested
            self.start()
        except BaseException:
            self.remove()
            raise

    @property
    def url(self) -> str:
        """Of the database that is always there. It has a password, which this cluster does not ask for."""
        return self._url("postgres")

    def new_database(self, *settings: str, has_tables: bool = True) -> str:
        """The URL of a database with our tables, empty ones, or with none. `settings`: as for ALTER DATABASE SET."""
        if not has_tables:
            name = self._created("template1")
        elif self._ready:
            name = self._ready.pop()
        else:
            name = self._created(self._template or self._made_template())
        for setting in settings:
            self.ask(f"ALTER DATABASE {name} SET {setting}")
        if has_tables:
            self._lent.append(name)
        return self._url(name)

    def take_back(self) -> None:
        """Make those that `new_database` gave out ready for the next: to make one takes far longer than to empty it."""
        lent, self._lent = self._lent, []
        self._ready += filter(self._emptied, lent)

    def _emptied(self, name: str) -> bool:
        """It is as new; False where a test has made or changed tables in it."""
        self.ask(f"ALTER DATABASE {name} RESET ALL")
        with psycopg.connect(self._url(name), autocommit=True) as connection:
            until(lambda: not connection.execute(_END_OTHERS).fetchall())
            is_as_new = connection.execute(_SHAPE).fetchall() == self._shape
            if is_as_new:
                connection.execute(_EMPTY)
        return is_as_new

    def _created(self, template: str) -> str:
        name = f"test{next(self._databases)}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _made_template(self) -> str:
        name = self._created("template1")
        with closing(Database(Address.of(self._url(name)))) as database:
            migrate(database)
        self._shape = self.ask(_SHAPE, self._url(name))
        self._template = name
        return name

    def cut_connections(self) -> None:
        """End all sessions but our own."""
        self.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def ask(self, query: str, url: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with psycopg.connect(url or self.url, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        self._run("pg_ctl", "start", "--wait", "--silent", f"--log={self.directory / 'log'}")

    def stop(self, mode: str = "fast") -> None:
        """`immediate`: as if it had crashed."""
        self._run("pg_ctl", "stop", "--wait", "--silent", f"--mode={mode}")

    @contextmanager
    def pooled(self, url: str) -> Iterator[str]:
        """The same database behind a PgBouncer that pools transactions, over two connections."""
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            _without("pgbouncer is not on the PATH (Debian: apt-get install pgbouncer)")
        settings = self.directory / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={self.directory} user=mms\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n"
            "auth_type = any\n"
            f"unix_socket_dir = {self.directory}\npool_mode = transaction\ndefault_pool_size = 2\nmin_pool_size = 2\n"
            "server_round_robin = 1\n",
            encoding="utf-8",
        )
        with (
            (self.directory / "pgbouncer.log").open("w", encoding="utf-8") as log,
            subprocess.Popen([str(program), str(settings)], stdout=log, stderr=log, **self._credentials()) as process,  # noqa: S603
        ):
            try:
                until(lambda: _answers(self.directory / ".s.PGSQL.6432"))  # its file is there before it listens
                yield f"{url}&port=6432"
            finally:
                process.terminate()

    @contextmanager
    def frozen(self, url: str) -> Iterator[None]:
        """The sessions in this database take everything, and answer nothing."""
        with psycopg.connect(url) as connection:
            sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            sessions = [pid for (pid,) in connection.execute(sql)]
        for pid in sessions:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in sessions:
                os.kill(pid, signal.SIGCONT)

    def _credentials(self) -> dict[str, Any]:
        """For `subprocess`: the user that the cluster runs as."""
        return {} if self._user is None else {"user": self._user[0], "group": self._user[1], "extra_groups": []}

    def remove(self) -> None:
        """Stop it, and leave nothing of it."""
        if (self.directory / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        until(self._is_removed)  # its processes may write for a moment after it has stopped

    def _is_removed(self) -> bool:
        shutil.rmtree(self.directory, ignore_errors=True)
        return not self.directory.exists()

    def _url(self, database: str) -> str:
        return f"postgresql://mms:{PASSWORD}@/{database}?host={self.directory}"

    def _run(self, program: str, *options: str) -> None:
        with (self.directory / "said").open("w", encoding="utf-8") as said:
            done = subprocess.run(  # noqa: S603 - not a pipe: the server inherits it, and would keep it open
                [self._bin / program, *options],
                env={**os.environ, "PGDATA": str(self.directory / "data")},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                check=False,
                **self._credentials(),
            )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{(self.directory / 'said').read_text(encoding='utf-8')}")


def waits_for_a_lock(url: str, query: str) -> bool:
    """Somebody in this database waits for another's transaction, with a statement that is like that."""
    with psycopg.connect(url) as connection:
        sql = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND ltrim(query, E'\\n ') LIKE %s"
        )
        return bool(connection.execute(sql, (query,)).fetchall())


PASSWORD = "s3cret-of-the-store"  # noqa: S105

_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_SHAPE = """
SELECT relnamespace::regnamespace::text, relname, relnatts, relacl::text FROM pg_class
WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY 1, 2
"""
_EMPTY = """
SET session_replication_role = replica; -- rows go in any order
DO $$ DECLARE each record; BEGIN
    FOR each IN SELECT oid::regclass AS name, relkind AS kind, relname FROM pg_class
        WHERE relnamespace = 'mmsclient'::regnamespace AND relkind IN ('r', 'S') AND relname <> 'migration'
    LOOP
        IF each.kind = 'S' THEN
            PERFORM setval(each.name, 1, false);
        ELSIF each.relname = 'outbox_fact' THEN -- the one row that a migration makes
            EXECUTE format('DELETE FROM %1$s; INSERT INTO %1$s DEFAULT VALUES', each.name);
        ELSE
            EXECUTE format('DELETE FROM %s', each.name);
        END IF;
    END LOOP;
END $$
"""


def _ordinary_user() -> tuple[int, int] | None:
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
