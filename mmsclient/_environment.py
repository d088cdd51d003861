"""The environment variables of the library and the command. One that is empty counts as not set."""

from __future__ import annotations

import os

APP_KEY = "MMSCLIENT_APP_KEY"
BASE_URL = "MMSCLIENT_BASE_URL"
CA_FILE = "MMSCLIENT_CA_FILE"
LEDGER = "MMSCLIENT_LEDGER"
REDIS = "MMSCLIENT_REDIS"
ACCOUNT = "MMSCLIENT_ACCOUNT"
PROCESSES = "MMSCLIENT_PROCESSES"
CALLBACK_TOKEN = "MMSCLIENT_CALLBACK_TOKEN"  # noqa: S105 -- its name


def setting(name: str) -> str | None:
    """What the variable says; None where it is not set."""
    return os.environ.get(name) or None
