"""The options that every command which calls the API has in common, and the client made of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Group, Parameter

from mmsclient import AsyncMMSClient, _environment
from mmsclient._base_client import TIMEOUT
from mmsclient._transport.endpoint import trusting
from mmsclient.cli.cap import ALONE, Cap
from mmsclient.cli.keyed import NO_KEY, Keyed
from mmsclient.cli.one_send import OneSend
from mmsclient.cli.output import with_local_times
from mmsclient.cli.status import UsageError, complain
from mmsclient.cli.words import words_of

if TYPE_CHECKING:
    from mmsclient.observe import Observer

LONGEST_KEY = 4096
"""Bytes read of a key file, should it be another file."""


@Parameter(name="*", group=Group("Connection"))
@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where the API is and who calls it."""

    app_key_file: Path | None = None
    """File that holds the APPKEY. Left out: the environment variable MMSCLIENT_APP_KEY."""
    base_url: str | None = None
    """URL of the API: https, or http on this machine. Left out: MMSCLIENT_BASE_URL, or the service's."""
    ca_file: Path | None = None
    """PEM file of the certificate authority to trust in place of the usual ones, such as the sandbox's. Left out:
    MMSCLIENT_CA_FILE, or the usual ones."""
    timeout: float = TIMEOUT
    """Seconds from a call's first byte to the end of its answer."""
    cap: Cap = ALONE

    @asynccontextmanager
    async def client(self, keyed: Keyed = NO_KEY, observer: Observer | None = None) -> AsyncIterator[AsyncMMSClient]:
        """A client; what it warns of goes to stderr."""
        ledger = keyed.chosen_ledger()
        with warnings_shown():
            verify = None if self.ca_file is None else trusting(self.ca_file, "--ca-file")
            key = self._key()
            async with (
                self.cap.limiter() as limiter,
                AsyncMMSClient(
                    key,
                    base_url=self.base_url,
                    timeout=self.timeout,
                    verify=verify,
                    ledger=ledger,
                    ledger_keep=None,
                    ledger_new_key=keyed.new_key,
                    limiter=limiter,
                    observer=observer,
                ) as mms,
            ):
                yield mms

    @asynccontextmanager
    async def sender(self, keyed: Keyed) -> AsyncIterator[tuple[AsyncMMSClient, OneSend]]:
        """A client for one send. At a signal the answer to what has left is waited for.

        Raises `SignalledError` where nothing has left.
        """
        one = OneSend()
        with one.ended_by_signals():
            async with self.client(keyed) as mms:
                yield mms, one

    def in_words(self) -> list[str]:
        """As arguments of a command that goes on: what is a secret itself stands in none of them."""
        files = {"--app-key-file": self.app_key_file, "--ca-file": self.ca_file}
        timeout = None if self.timeout == TIMEOUT else self.timeout
        words = words_of({"--base-url": self.base_url, **files, "--timeout": timeout})
        return [*words, *self.cap.in_words()]

    def _key(self) -> str | None:
        if self.app_key_file is not None:
            return key_in(self.app_key_file, "--app-key-file")
        if _environment.setting(_environment.APP_KEY) is None:
            raise UsageError(f"no APPKEY: set {_environment.APP_KEY} or give --app-key-file FILE")
        return None


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
    """Whatever hinders it stays in here: whoever warns is about to answer what became of a send."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            complain(f"warning: {with_local_times(record.getMessage())}")
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the name is of logging
        """Tell the warning as it was written."""
        with suppress(Exception):
            complain(f"warning: {record.msg}")


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
