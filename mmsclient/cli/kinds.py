"""What a campaign in a terminal sends: MMS or SMS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cyclopts import Group, Parameter

from mmsclient._api.types import Kind
from mmsclient.bulk import CampaignOptions

__all__ = ["AS_MMS", "KindOptions", "balance_name", "unit_of"]


@Parameter(name="*", group=Group("SMS"))
@dataclass(frozen=True, kw_only=True)
class KindOptions:
    """Whether it is a campaign of SMS, and what those have."""

    kind: Literal["mms", "sms"] = "mms"
    """What is sent. With sms a text alone: no --image, --subject and --fit. Credits are counted by its parts."""
    sender: str | None = None
    """Of an SMS: a number of at most 16 digits, or a registered id of at most 11 letters, digits, spaces and dashes."""
    source: str | None = None
    """Of an SMS: one line, which comes back in delivery reports."""
    custom_string: str | None = None
    """Of an SMS: letters, digits and dashes, which come back in delivery reports and replies."""

    def of_campaign(self) -> CampaignOptions:
        """Those of `AsyncMMSClient.campaign`."""
        return {
            "kind": self.kind,
            "sender": self.sender,
            "source": self.source,
            "custom_string": self.custom_string,
        }


AS_MMS: KindOptions = KindOptions()
"""Where none of them was given."""


def balance_name(kind: Kind) -> str:
    """What the balance for messages of a kind is called."""
    return f"{kind.upper()} balance"


def unit_of(kind: Kind) -> str:
    """What has a price."""
    return "a message" if kind == "mms" else "a part"
