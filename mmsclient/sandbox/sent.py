"""What was sent of either kind, and what is left of the account's credit. No I/O."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from decimal import Decimal

from mmsclient.sandbox.answers import low_credit
from mmsclient.sandbox.messages import Digits, LikeUUIDs, Messages
from mmsclient.sandbox.outgoing import Outgoing
from mmsclient.sandbox.records import Send
from mmsclient.sandbox.settings import Settings
from mmsclient.sandbox.traffic import Traffic

FIRST_SMS = 6_952_176_713
"""The ids of SMS are digits."""


class Sent(Traffic):
    """The messages of both kinds. Safe to use from any thread."""

    def __init__(
        self,
        settings: Settings,
        keys: Iterable[str],
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seed = seed
        super().__init__(settings, keys, clock)

    def reset(self) -> None:
        """Forget everything; settings and keys stay."""
        with self.lock:
            super().reset()
            self.random: random.Random = random.Random(self._seed)  # noqa: S311 -- repeatable on purpose
            self.mms: Outgoing = Outgoing("mms", self.settings.mms_balance, self.mms_ids(), self.clock)
            """What was sent as MMS."""
            self.sms: Outgoing = Outgoing("sms", self.settings.sms_balance, Digits(FIRST_SMS), self.clock)
            """What was sent as SMS."""
            self.sender_ids: dict[str, str] = {}
            """The alphanumeric senders that were registered, with their descriptions."""

    @property
    def sends(self) -> list[Send]:
        """Every `send-mms` that was carried out."""
        return self.mms.sends

    @property
    def messages(self) -> Messages:
        """Every MMS that was carried out, in order."""
        return self.mms.messages

    @property
    def balance(self) -> Decimal:
        """The credit that is left for MMS."""
        return self.mms.balance

    @balance.setter
    def balance(self, credits_left: Decimal) -> None:
        self.mms.balance = credits_left

    @property
    def credits_used(self) -> Decimal:
        """What all MMS have cost."""
        return self.mms.credits_used

    @property
    def low_sms_alert(self) -> str | None:
        """The sentence of a low balance, None while there is enough."""
        left = min(self.mms.balance, self.sms.balance)
        threshold = self.settings.low_balance
        return None if threshold is None or left >= threshold else low_credit(left)

    def carried_out(self, number: str) -> int:
        """How many messages of either kind went to `number`, in whichever form it was written."""
        with self.lock:
            return self.mms.carried_out(number) + self.sms.carried_out(number)

    def mms_ids(self) -> LikeUUIDs:
        """Ids as those of MMS, under a prefix of their own."""
        bits = self.random.getrandbits
        return LikeUUIDs(f"{bits(32):08X}-{bits(16):04X}-{bits(16):04X}-{bits(16):04X}")
