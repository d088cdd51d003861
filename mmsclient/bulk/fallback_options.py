"""What those get as an SMS whose MMS did not arrive. Pure."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from attrs import field, frozen

from mmsclient._api.sms_fields import Options as SMSFields
from mmsclient._api.sms_fields import checked_sms_text
from mmsclient.bulk.launch_options import max_credits, seconds
from mmsclient.errors import InvalidRequestError

__all__ = ["SMSFallback", "fallback_of"]


def _wait(value: timedelta | float) -> float:
    return seconds("wait", value)


@frozen(kw_only=True)
class SMSFallback:
    """What those get as an SMS whose MMS did not arrive: `fallback=` of a campaign.

    Raises:
        InvalidRequestError: A value is wrong.
    """

    text: str | None = field(default=None, repr=False)
    """At most six parts; None for the text that the recipient's MMS had. The opt-out line of the campaign is added."""
    sender: str | None = None
    """As of `AsyncMMSClient.send_sms`."""
    source: str | None = None
    """As of `AsyncMMSClient.send_sms`."""
    custom_string: str | None = None
    """As of `AsyncMMSClient.send_sms`."""
    wait: float = field(default=600.0, converter=_wait)
    """Seconds after its last answer that a run goes on waiting for delivery reports; a timedelta is taken, too."""
    max_credits: Decimal | None = field(default=None, converter=max_credits)
    """What the SMS may cost. None: what `max_credits` of the campaign leaves, and then it holds for both together."""

    def __attrs_post_init__(self) -> None:
        if self.text is not None:
            checked_sms_text(self.text)
        fields = SMSFields(sender=self.sender, source=self.source, custom_string=self.custom_string)
        fields.check()

    @property
    def is_default(self) -> bool:
        """It says nothing of the message: where a journal has one, that is meant."""
        return (self.text, self.sender, self.source, self.custom_string) == (None,) * 4


def fallback_of(value: Any) -> SMSFallback | None:
    """The option `fallback`. Raises `InvalidRequestError`."""
    if value == "sms":
        return SMSFallback()
    if value is not None and not isinstance(value, SMSFallback):
        raise InvalidRequestError("fallback", value, "'sms', an SMSFallback, or None")
    return value
