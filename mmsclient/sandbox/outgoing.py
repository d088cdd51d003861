"""What was sent of one kind of message, and the credit that is left for it. No I/O; its owner holds the lock."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal

from attrs import frozen

from mmsclient._api.types import Kind
from mmsclient.sandbox.answers import no_credit
from mmsclient.sandbox.messages import Ids, Messages
from mmsclient.sandbox.records import Send, digits, seconds_after


@frozen(kw_only=True)
class Order:
    """A send as it was asked for."""

    numbers: Sequence[str]
    text: str
    subject: str = ""
    image: bytes = b""
    sender: str = ""
    custom_string: str = ""
    source: str = ""
    wait: float = 0.0
    """Seconds until it is to go out."""
    cost: Decimal = Decimal(1)
    """Credits for each recipient."""


class Outgoing:
    """The sends of one kind: `sandbox.mms` or `sandbox.sms`."""

    def __init__(self, kind: Kind, balance: Decimal, ids: Ids, clock: Callable[[], float]) -> None:
        self.kind: Kind = kind
        self.balance: Decimal = balance
        """Credits that are left."""
        self.credits_used: Decimal = Decimal(0)
        self.sends: list[Send] = []
        """Every send that was accepted, scheduled ones too."""
        self.messages: Messages = Messages(self.sends, ids)
        """Every message of them, in order."""
        self._clock = clock
        self._carried_out: Counter[str] = Counter()
        self._later: list[tuple[float, int]] = []

    @property
    def scheduled(self) -> list[Send]:
        """The sends that have not gone out yet."""
        now = self._clock()
        return [send for send in self.sends if send.due > now]

    def carried_out(self, number: str) -> int:
        """How many messages have gone to `number`, in whichever form it was written."""
        while self._later and self._later[0][0] <= self._clock():
            send = self.sends[heapq.heappop(self._later)[1]]
            self._carried_out.update(map(digits, send.recipients))
        return self._carried_out[digits(number)]

    def accept(self, order: Order, accepted: Sequence[str], now: datetime) -> Send:
        """Take a send to those of its numbers that may be sent to. Raises `Refusal` where there is no credit for it."""
        cost = len(accepted) * order.cost
        if cost > self.balance:
            raise no_credit()
        self.balance -= cost
        self.credits_used += cost
        chosen, at = set(accepted), self._clock()
        send = Send(
            kind=self.kind,
            number=len(self.sends) + 1,
            at=at,
            due=at + order.wait,
            sent_at=seconds_after(now, order.wait),
            text=order.text,
            subject=order.subject,
            image_size=len(order.image),
            image_sha256=hashlib.sha256(order.image).hexdigest() if order.image else "",
            sender=order.sender,
            custom_string=order.custom_string,
            source=order.source,
            recipients=tuple(accepted),
            refused=tuple(number for number in order.numbers if number not in chosen),
            first=len(self.messages),
        )
        self.sends.append(send)
        if order.wait > 0:
            heapq.heappush(self._later, (send.due, send.number - 1))
        else:
            self._carried_out.update(map(digits, accepted))
        return send
