"""A PostgreSQL cluster of our own, whose commits reach the disk."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg
import pytest

from tests.support.postgres_server import Server


def postgres(stack: ExitStack) -> str:
    """The URL of a database in a new cluster, which goes with `stack`; "" where there is no PostgreSQL."""
    try:
        server = Server()
    except pytest.skip.Exception as missing:
        print(f"without PostgreSQL: {missing}")
        return ""
    stack.callback(server.remove)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = on")
        connection.execute("SELECT pg_reload_conf()")
    return server.new_database()
