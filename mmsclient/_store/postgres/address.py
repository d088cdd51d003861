"""Where a store in PostgreSQL is: a URL whose password shows nowhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import psycopg
from attrs import field, frozen
from psycopg.conninfo import conninfo_to_dict

from mmsclient.errors import ConfigurationError

__all__ = ["SCHEMA", "Address"]

SCHEMA = "mmsclient"
"""The schema, unless the URL names another (`?schema=`)."""

_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")

_DEFAULTS: Mapping[str, Any] = {
    "application_name": "mmsclient",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds until a server that vanished is given up
}

_UNREADABLE = (
    "the URL of the store cannot be read; expected postgresql://user:password@host/database, with the special"
    " characters of the password percent-encoded"
)


@frozen
class Address:
    """A database and the schema in it."""

    shown: str
    """Host and database, for errors and logs."""
    schema: str
    conninfo: Mapping[str, Any] = field(repr=False)
    """As `psycopg.connect` takes it, the password included."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Read `postgresql://user:password@host/database?schema=mmsclient`, with whatever else libpq takes.

        Raises:
            ConfigurationError: It cannot be read. The error tells nothing of it, since the password may be anywhere.
        """
        given = _parsed(url)
        if given is None:
            raise ConfigurationError(_UNREADABLE)
        schema = given.pop("schema")
        if not _SCHEMA_NAME.fullmatch(schema):
            raise ConfigurationError("the URL of the store: schema= takes a name of letters, digits and _")
        host = given.get("host") or given.get("hostaddr") or "localhost"
        database = given.get("dbname") or given.get("user") or ""
        return cls(f"{host}/{database}", schema, {**_DEFAULTS, **given, "client_encoding": "utf8"})

    def __reduce__(self) -> tuple[type[Address], tuple[str, str, dict[str, Any]]]:
        """A pickle holds no password: whoever reads it needs PGPASSWORD or a password file."""
        public = {name: value for name, value in self.conninfo.items() if "password" not in name}
        return Address, (self.shown, self.schema, public)


def _parsed(url: str) -> dict[str, Any] | None:
    """What a URL says, `schema` among it; None where it is none, or may be read in two ways."""
    try:
        parts = urlsplit(url)
        if url.count("@") != parts.netloc.count("@") or url.count("@") > 1 or parts.fragment:
            return None  # a password that is not percent-encoded
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        schema = query.pop("schema", SCHEMA)
        plain = url.partition("?")[0] + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        return {**conninfo_to_dict(plain), "schema": schema}
    except (ValueError, psycopg.Error):
        return None
