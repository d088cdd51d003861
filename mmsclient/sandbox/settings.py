"""How the sandbox behaves: the options of `Sandbox`, and what they are while it runs."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypedDict, get_args

from attrs import define, field

from mmsclient.sandbox import options
from mmsclient.sandbox.answers import Dialect, Statuses, http_status


@define(kw_only=True)
class Settings:
    """How the sandbox behaves; each may be changed while it runs. A wrong value is a `ConfigurationError`."""

    rate: int | None = field(default=15, validator=options.whole_or_none)
    """Calls in any second for each key; None for no cap."""
    dialect: Dialect = field(default="meta", validator=options.one_of(*get_args(Dialect)))
    """The envelope of the answers (api-notes.md section 1)."""
    statuses: Statuses = field(default="documented", validator=options.one_of(*get_args(Statuses)))
    """The HTTP status of an error: that of the vendor's tables, or 200, as a caller reports of the live service."""
    empty: Literal["string", "not_found"] = field(default="string", validator=options.one_of("string", "not_found"))
    """How an empty listing is told: `"responses": ""`, or NOT_FOUND with HTTP 400 (api-notes.md section 3)."""
    mms_balance: Decimal = field(default=Decimal("1000000.00"), validator=options.decimal)
    """Credit at the start; a message costs 1."""
    sms_balance: Decimal = field(default=Decimal("1000000.00"), validator=options.decimal)
    """Credit for SMS at the start; a part costs 1, and a third more with an alphanumeric sender."""
    low_balance: Decimal | None = field(default=None, validator=options.decimal_or_none)
    """Below this balance, of either, successes carry `low_sms_alert`."""
    senders: Literal["any", "registered"] = field(default="any", validator=options.one_of("any", "registered"))
    """Which alphanumeric senders an SMS may have: any, or those that `register-alpha-id` was asked for."""
    magic: bool = field(default=True, validator=options.yes_or_no)
    """Set endings of numbers trigger set behaviours (`Ending`); turn it off to send to whole ranges of numbers."""
    dispatch_after: float = field(default=0.05, validator=options.seconds)
    """Seconds from the send until a message is Dispatched."""
    deliver_after: float = field(default=0.2, validator=options.seconds)
    """Seconds from the send until a message has its final status."""
    reply_after: float = field(default=0.3, validator=options.seconds)
    """Seconds from the send until the reply of a number that replies."""
    callback_url: str | None = field(default=None, validator=options.url_or_none)
    """Where reports and replies are posted from now on; None for nowhere."""
    callback_statuses: Literal["final", "all"] = field(default="final", validator=options.one_of("final", "all"))
    """Which are reported. The service itself reports final ones only (api-notes.md section 4)."""
    inbound_shape: Literal["array", "object"] = field(default="array", validator=options.one_of("array", "object"))
    """How a reply is posted: as an array of one (live) or as an object (documented)."""
    duplicates: int = field(default=0, validator=options.whole(0))
    """How often each callback comes again."""
    disorder: float = field(default=0.0, validator=options.seconds)
    """Seconds by which a callback is late at random, at most; so they come out of order, several at a time."""
    callback_attempts: int = field(default=8, validator=options.whole(1))
    """How often a callback is posted that is not answered with 2xx."""
    callback_backoff: float = field(default=0.1, validator=options.seconds)
    """Seconds before the first repetition; they double with each, up to 10."""

    def http_status(self, code: str) -> int:
        """The HTTP status of an answer with that code."""
        return http_status(code) if self.statuses == "documented" else 200


class SettingsOptions(TypedDict, total=False):
    """`Settings` as keyword arguments."""

    rate: int | None
    dialect: Dialect
    statuses: Statuses
    empty: Literal["string", "not_found"]
    mms_balance: Decimal
    sms_balance: Decimal
    low_balance: Decimal | None
    senders: Literal["any", "registered"]
    magic: bool
    dispatch_after: float
    deliver_after: float
    reply_after: float
    callback_url: str | None
    callback_statuses: Literal["final", "all"]
    inbound_shape: Literal["array", "object"]
    duplicates: int
    disorder: float
    callback_attempts: int
    callback_backoff: float
