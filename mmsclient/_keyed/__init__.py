"""Sends with a key, none of which is carried out twice: `sends` runs them, `outcome` says what their ends mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

from mmsclient._api.checks import require
from mmsclient._keyed.sends import KeyedSends
from mmsclient._store.models import Owner
from mmsclient._store.sqlite_ledger import SQLiteLedger
from mmsclient.errors import ConfigurationError, LedgerUnavailableError

__all__ = ["open_keyed_sends"]


def open_keyed_sends(
    path: str | os.PathLike[str],
    keep: timedelta,
    base_url: str,
    fingerprint: Callable[[bytes], str],
    *,
    is_new_key: bool,
) -> KeyedSends:
    """The keyed sends whose ledger is the file at `path`. Raises `ConfigurationError` where it cannot be used."""
    is_path = isinstance(path, str | os.PathLike) and bool(os.fspath(path)) and "://" not in os.fspath(path)
    require("ledger", path, is_path, "the path of a file")
    require("ledger_keep", keep, isinstance(keep, timedelta) and keep > timedelta(0), "a timedelta, more than 0")
    try:
        ledger = SQLiteLedger(path, Owner(base_url, fingerprint, is_new_key), keep=keep.total_seconds())
    except LedgerUnavailableError as error:
        problem = f"ledger: {error.problem}: {error.path}"
    else:
        return KeyedSends(ledger)
    raise ConfigurationError(problem)
