"""What a campaign of MMS and one of SMS do differently: their message, their call and their balance.

An SMS goes out by `send-sms`: one text to up to 1000 phones, and one envelope in the answer. `bulk-send-sms` would
carry several texts, but answers with an array whose items need not tell which text they speak of.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from attrs import evolve

from mmsclient._api.types import Kind
from mmsclient._store.models import Message
from mmsclient.bulk.kind_options import SMS_OPTIONS, options_of, sms_document
from mmsclient.bulk.options import Options
from mmsclient.bulk.personal import Outgoing, Renderer, message_of, with_line
from mmsclient.bulk.sender import Sender
from mmsclient.models import Account, SentBatch

__all__ = ["CALLS", "balance_of", "sent", "sms_message"]

CALLS = {"mms": "send-mms", "sms": "send-sms"}
"""The call that carries a message."""


def sms_message(options: Options) -> tuple[Message, Renderer | None]:
    """What a campaign of SMS sends, and what makes everybody's own of it. Raises `InvalidRequestError`."""
    message, renderer = message_of(with_line(options.text, options.opt_out_line), None, None)
    return evolve(message, kind="sms", sms=sms_document(options)), renderer


async def sent(
    client: Sender, message: Message, own: Outgoing, numbers: Sequence[str], timeout: float | None
) -> SentBatch:
    """Send `own` to some, as the campaign's `message` says. Raises what `send` and `send_sms` raise."""
    if message.kind == "mms":
        subject = own.subject or None
        return await client.send(to=numbers, text=own.text, image=own.image, subject=subject, timeout=timeout)
    fields = options_of(message)
    sender, source, custom_string = (fields.get(name) for name in SMS_OPTIONS)
    return await client.send_sms(
        to=numbers, text=own.text, sender=sender, source=source, custom_string=custom_string, timeout=timeout
    )


def balance_of(account: Account, kind: Kind) -> Decimal | None:
    """The credits for messages of a kind; None where the API does not tell."""
    return account.mms_balance if kind == "mms" else account.sms_balance
