"""The options that every command which calls the API has in common, and the client made of them."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from mmsclient import AsyncMMSClient
from mmsclient.cli.status import UsageError, complain
from mmsclient.client import BASE_URL, TIMEOUT
from mmsclient.credentials import ENVIRONMENT_VARIABLE

LONGEST_KEY = 4096
"""Bytes read of a key file, should it be another file."""


@Parameter(name="*", group=Group("Connection"))
@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where the API is and who calls it."""

    app_key_file: Path | None = None
    """File that holds the APPKEY. Left out: the environment variable MMSCLIENT_APP_KEY."""
    base_url: Annotated[str, Parameter(env_var="MMSCLIENT_BASE_URL")] = BASE_URL
    """URL of the API: https, or http on this machine."""
    ca_file: Annotated[Path | None, Parameter(env_var="MMSCLIENT_CA_FILE")] = None
    """PEM file of the certificate authority to trust in place of the usual ones, such as the sandbox's."""
    timeout: float = TIMEOUT
    """Seconds from a call's first byte to the end of its answer."""

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncMMSClient]:
        """A client; what it warns of goes to stderr."""
        with warnings_shown():
            async with AsyncMMSClient(
                self._key(), base_url=self.base_url, timeout=self.timeout, verify=self._trust()
            ) as mms:
                yield mms

    def _key(self) -> str | None:
        if self.app_key_file is not None:
            return key_in(self.app_key_file, "--app-key-file")
        if not os.environ.get(ENVIRONMENT_VARIABLE):
            raise UsageError(f"no APPKEY: set {ENVIRONMENT_VARIABLE} or give --app-key-file FILE")
        return None

    def _trust(self) -> ssl.SSLContext | bool:
        if self.ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError:
            raise UsageError(f"--ca-file: no PEM certificate in {self.ca_file}") from None
        except OSError as error:
            raise UsageError(f"--ca-file: {error.strerror}: {self.ca_file}") from None


DEFAULT = Connection()


def key_in(path: Path, option: str) -> str:
    """The one secret that a file holds. Raises `UsageError`, naming `option`."""
    try:
        with path.open("rb") as file:
            key = file.read(LONGEST_KEY).decode().strip()
    except OSError as error:
        raise UsageError(f"{option}: {error.strerror}: {path}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{option}: not a text file: {path}") from None
    if not key:
        raise UsageError(f"{option}: no {'token' if option == '--token-file' else 'APPKEY'} in {path}")
    return key


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(f"warning: {record.getMessage()}")


@contextmanager
def warnings_shown() -> Iterator[None]:
    """What the package warns of goes to stderr."""
    handler = _ToStderr(logging.WARNING)
    logger = logging.getLogger("mmsclient")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
