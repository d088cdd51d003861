"""Whom an SMS comes from: a number, or an alphanumeric id (api-notes.md section 3, SMS)."""

from __future__ import annotations

import re

from mmsclient.errors import InvalidRequestError

SENDER = "a number of at most 16 digits, or at most 11 letters, digits, spaces and dashes, a letter among them"

_NUMBER = re.compile(r"\+?[0-9]{1,16}")
_CUSTOM_ID = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9-](?:[A-Za-z0-9 -]{0,9}[A-Za-z0-9-])?")
_NZ_CODE = re.compile(r"[0-9]{4}")


def checked_sender(sender: str) -> str:
    """The sender as it goes out. Raises `InvalidRequestError`."""
    if not isinstance(sender, str) or not (_NUMBER.fullmatch(sender) or _CUSTOM_ID.fullmatch(sender)):
        raise InvalidRequestError("sender", sender, SENDER)
    return sender.removeprefix("+")


def checked_nz_sender(sender: str) -> str:
    """The sender of `send-sms-nz`. Raises `InvalidRequestError`."""
    if not isinstance(sender, str) or not _NZ_CODE.fullmatch(sender):
        raise InvalidRequestError("sender", sender, "exactly 4 digits")
    return sender


def checked_custom_id(custom_id: str) -> str:
    """An alphanumeric sender that is to be registered. Raises `InvalidRequestError`."""
    if not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
        expected = "at most 11 letters, digits, spaces and dashes, a letter among them"
        raise InvalidRequestError("custom_id", custom_id, expected)
    return custom_id


def is_custom_id(sender: str | None) -> bool:
    """`sender` is an alphanumeric one, not a number."""
    return sender is not None and not sender.removeprefix("+").isdigit()
