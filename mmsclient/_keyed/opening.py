"""Finds the ledger that a client was given."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

from mmsclient._api.checks import require
from mmsclient._keyed.sends import KeyedSends
from mmsclient._store.models import Owner
from mmsclient._store.stores import EXPECTED, is_known_place, ledger_at, shown_place
from mmsclient.errors import ConfigurationError, LedgerUnavailableError

__all__ = ["open_keyed_sends"]


def open_keyed_sends(
    place: str | os.PathLike[str],
    keep: timedelta | None,
    base_url: str,
    fingerprint: Callable[[bytes], str],
    *,
    is_new_key: bool,
) -> KeyedSends:
    """The keyed sends whose ledger is a file or a database. Raises `ConfigurationError` where it cannot be used."""
    require("ledger", shown_place(place), is_known_place(place), EXPECTED)
    is_time = keep is None or (isinstance(keep, timedelta) and keep > timedelta(0))
    require("ledger_keep", keep, is_time, "a timedelta, more than 0, or None")
    try:
        seconds = None if keep is None else keep.total_seconds()
        ledger = ledger_at(place, Owner(base_url, fingerprint, is_new_key), keep=seconds)
    except LedgerUnavailableError as error:
        problem = f"ledger: {error.problem}: {error.path}"
    else:
        return KeyedSends(ledger)
    raise ConfigurationError(problem)
