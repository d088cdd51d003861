"""What a campaign asks of the client that it sends with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Self

from mmsclient._reading.listing import Listing
from mmsclient._transport.session import Recall
from mmsclient.limiter import Limiter
from mmsclient.models import Account, OptOut, SentBatch, Stats
from mmsclient.observe.events import CampaignRef
from mmsclient.observe.observer import Emit

__all__ = ["Sender"]


class Sender(Protocol):
    """The part of `AsyncMMSClient` that campaigns stand on."""

    @property
    def base_url(self) -> str:
        """Where the calls go."""
        ...

    @property
    def limiter(self) -> Limiter:
        """What decides when a call may go."""
        ...

    @property
    def stats(self) -> Stats:
        """What it has done so far."""
        ...

    @property
    def emit(self) -> Emit | None:
        """Tells its observers of an event; None where there are none."""
        ...

    def key_fingerprint(self, salt: bytes) -> str:
        """What tells its APPKEY from another one."""
        ...

    async def account(self) -> Account:
        """The account and its balances."""
        ...

    def opt_outs(self) -> Listing[OptOut]:
        """The numbers that unsubscribed."""
        ...

    def with_options(self, *, max_attempts: int, recall: Recall, campaign: CampaignRef | None = None) -> Self:
        """The same one with other options."""
        ...

    async def send_sms(
        self,
        *,
        to: str | Iterable[str],
        text: str,
        sender: str | None,
        custom_string: str | None,
        source: str | None,
        timeout: float | None,
    ) -> SentBatch:
        """Send a text to up to 1000 phones."""
        ...

    async def send(
        self, *, to: str | Iterable[str], text: str, image: bytes, subject: str | None, timeout: float | None
    ) -> SentBatch:
        """Send a picture and a text to up to 1000 phones."""
        ...
