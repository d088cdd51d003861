"""What callbacks say of keyed sends."""

from __future__ import annotations

from attrs import field, frozen

from mmsclient._store.heard import reply_heard, report_heard
from mmsclient._store.ledger import Ledger
from mmsclient.models import DeliveryReport, InboundMessage, Reply

__all__ = ["SendLedger"]


@frozen(eq=False)
class SendLedger:
    """The ledger of a client, for what callbacks say of its keyed sends: `CallbackReceiver.record_into` takes it.

    A delivery report or a reply may prove that a send was carried out whose outcome is unknown. The next
    `AsyncMMSClient.send` with its key then returns a `SentBatch`, with `repeated` and `proven`.
    """

    _ledger: Ledger = field(repr=False)

    async def record(self, report: DeliveryReport) -> None:
        """Note a delivery report, any number of times, in any order. One that says nothing of a keyed send is ignored.

        Raises:
            LedgerUnavailableError: The ledger cannot be written, so that the report should come again.
        """
        await self._ledger.record(report_heard(report))

    async def record_reply(self, reply: InboundMessage | Reply) -> None:
        """Note a reply: it proves as a delivery report does. One that does not name its message counts for nothing.

        Raises:
            LedgerUnavailableError: The ledger cannot be written.
        """
        if heard := reply_heard(reply):
            await self._ledger.record(heard)
