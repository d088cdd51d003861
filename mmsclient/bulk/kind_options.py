"""Which options a campaign has by its kind, SMS or MMS. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from mmsclient._api.sms_fields import Options as SMSFields
from mmsclient._api.types import Kind
from mmsclient._store.models import Message
from mmsclient.errors import InvalidRequestError

__all__ = ["SMS_OPTIONS", "KindOptions", "check_kind", "options_of", "sms_document"]

SMS_OPTIONS = ("sender", "source", "custom_string")
"""What an SMS has beside its text."""

_MMS_OPTIONS = ("image", "subject", "fit", "fallback")


class KindOptions(Protocol):
    """The options of a campaign that depend on its kind."""

    @property
    def kind(self) -> Kind: ...
    @property
    def sender(self) -> str | None: ...
    @property
    def source(self) -> str | None: ...
    @property
    def custom_string(self) -> str | None: ...


def check_kind(options: KindOptions) -> None:
    """Raise `InvalidRequestError` for an option that the kind of a campaign does not have, or lacks."""
    kind: object = options.kind
    if kind not in ("mms", "sms"):
        raise InvalidRequestError("kind", kind, "'mms' or 'sms'")
    if kind == "sms":
        _refuse(options, _MMS_OPTIONS, "nothing: a campaign of kind='sms' sends a text alone")
        SMSFields(sender=options.sender, source=options.source, custom_string=options.custom_string).check()
        return
    _refuse(options, SMS_OPTIONS, "nothing beside kind='mms': it is an option of kind='sms'")
    if getattr(options, "image", None) is None:
        raise InvalidRequestError("image", None, "a picture, as for `send`; kind='sms' sends a text alone")


def _refuse(options: KindOptions, names: tuple[str, ...], expected: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and value is not False:
            shown = value if isinstance(value, str | bool) else type(value).__name__
            raise InvalidRequestError(name, shown, expected)


def sms_document(options: KindOptions) -> str:
    """What an SMS has beside its text, as a journal keeps it."""
    given = {name: value for name in SMS_OPTIONS if (value := getattr(options, name)) is not None}
    return json.dumps(given, sort_keys=True)


def options_of(message: Message) -> Mapping[str, str]:
    """What an SMS has beside its text, of what a journal keeps."""
    found: Mapping[str, str] = json.loads(message.sms or "{}")
    return found
