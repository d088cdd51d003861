"""What the sandbox knows: messages, replies, opt-outs, templates, credit, and the calls that came. No I/O.

Nothing happens in the background: statuses and the replies of set numbers are worked out when asked for. What is to be
called back waits in the `outbox` for the server's task.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial

from mmsclient.sandbox.answers import Refusal, no_credit
from mmsclient.sandbox.inbox import Inbox
from mmsclient.sandbox.magic import REPLY_TEXT, Ending, Endings
from mmsclient.sandbox.messages import Messages, Statuses
from mmsclient.sandbox.outbox import Outbox
from mmsclient.sandbox.records import (
    Callback,
    Message,
    OptOut,
    Reply,
    Send,
    Template,
    digits,
    now,
    seconds_after,
    valid_number,
)
from mmsclient.sandbox.settings import Settings
from mmsclient.sandbox.traffic import Traffic

CREDITS_EACH = Decimal(1)
"""What one message costs."""


class State(Traffic):
    """The service's memory, open to tests. Safe to use from any thread."""

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
            self.sends: list[Send] = []
            """Every `send-mms` that was carried out."""
            self.messages: Messages = Messages(self.sends, self._id_prefix())
            """Every message that was carried out, in order."""
            self.balance: Decimal = self.settings.mms_balance
            self.templates: list[Template] = []
            self.outbox: Outbox = Outbox(self.settings, self.random)
            self._inbox = Inbox()
            self._endings = Endings(self.settings)
            self._statuses = Statuses(self.settings, self._endings, self.clock)
            self._carried_out: Counter[str] = Counter()
            self._opt_outs: dict[str, OptOut] = {}
            self._serial = 0

    # Messages ---------------------------------------------------------------------------------------------------------

    @property
    def credits_used(self) -> Decimal:
        """What all messages have cost."""
        return CREDITS_EACH * len(self.messages)

    @property
    def low_sms_alert(self) -> str | None:
        """The sentence of a low balance, None while there is enough."""
        threshold = self.settings.low_balance
        low = threshold is not None and self.balance < threshold
        return f"Your balance is low: {self.balance} MMS left." if low else None

    def carried_out(self, number: str) -> int:
        """How many messages went to `number`, in whichever form it was written."""
        return self._carried_out[digits(number)]

    def send(self, numbers: Sequence[str], text: str, subject: str, image: bytes) -> Send:
        """Carry out a send to those of `numbers` that may be sent to, or raise `Refusal` with nothing done."""
        with self.lock:
            self._endings.fail_if_asked(numbers)
            self._settle()
            accepted = tuple(number for number in numbers if self._may_receive(number))
            if not accepted:
                raise Refusal("RECIPIENTS_ERROR", "No valid recipient is left: all are invalid or unsubscribed.")
            if len(accepted) * CREDITS_EACH > self.balance:
                raise no_credit()
            self.balance -= len(accepted) * CREDITS_EACH
            chosen = set(accepted)
            send = Send(
                number=len(self.sends) + 1,
                at=self.clock(),
                sent_at=now(),
                text=text,
                subject=subject,
                image_size=len(image),
                image_sha256=hashlib.sha256(image).hexdigest(),
                recipients=accepted,
                refused=tuple(number for number in numbers if number not in chosen),
                first=len(self.messages),
            )
            self.sends.append(send)
            self._carried_out.update(map(digits, accepted))
            self._schedule_reports(send)
            self._schedule_replies(send)
            return send

    def message(self, message_id: str) -> Message | None:
        """The message of that id, None if there is none."""
        return self.messages.find(message_id)

    def timeline(self, message: Message) -> list[tuple[float, str]]:
        """The statuses of a message: by the sandbox's clock from when on, and which."""
        return self._statuses.timeline(message)

    def status(self, message_id: str) -> str:
        """The status of a message now. Raises `LookupError` for an unknown id."""
        return self._statuses.now(self._known(message_id))

    def set_status(self, message_id: str, status: str) -> None:
        """Let a message have any status from now on. Raises `LookupError` for an unknown id."""
        with self.lock:
            message = self._known(message_id)
            before = self._statuses.now(message)
            self._statuses.set(message, status)
            if status != before:
                self.outbox.report(self.clock(), message, status)

    # Callbacks --------------------------------------------------------------------------------------------------------

    @property
    def callbacks(self) -> list[Callback]:
        """Every callback that was posted, in order, repeated ones too."""
        return list(self.outbox.posted)

    @property
    def callbacks_open(self) -> int:
        """How many callbacks are still to be posted, or to be answered."""
        return self.outbox.open

    @property
    def callbacks_lost(self) -> list[Callback]:
        """The last posts of those callbacks that were never answered with 2xx."""
        return list(self.outbox.given_up)

    # Replies, opt-outs, templates -------------------------------------------------------------------------------------

    @property
    def replies(self) -> list[Reply]:
        """Every inbound message so far, read ones too."""
        return self._inbox.received

    @property
    def unread(self) -> list[Reply]:
        """The replies not yet marked read, oldest first."""
        with self.lock:
            self._settle()
            return self._inbox.unread

    @property
    def opt_outs(self) -> list[OptOut]:
        """The numbers that have opted out, oldest first."""
        with self.lock:
            self._settle()
            return list(self._opt_outs.values())

    def add_reply(
        self,
        sender: str = "+61400000000",
        text: str = "Yes",
        *,
        to: Message | None = None,
        at: datetime | None = None,
    ) -> Reply:
        """Put in a reply, to the message `to` if there is one; `at` must be aware."""
        with self.lock:
            reply = self._reply(sender, text, to, at or now())
            self._inbox.receive(reply)
            self.outbox.inbound(self.clock(), reply)
            return reply

    def add_replies(self, count: int) -> list[Reply]:
        """Put in `count` replies with the texts "Reply 1", "Reply 2" and so on."""
        return [self.add_reply(text=f"Reply {number}") for number in range(1, count + 1)]

    def mark_read(self, ids: Iterable[str]) -> int:
        """Mark replies as read, again if need be. Returns how many of `ids` exist."""
        with self.lock:
            self._settle()
            return self._inbox.mark_read(ids)

    def add_opt_out(
        self,
        number: str,
        *,
        at: datetime | None = None,
        first_name: str | None = None,
        last_name: str | None = None,
        gender: str | None = None,
        post_code: str | None = None,
        dob: str | None = None,
    ) -> OptOut:
        """Let `number` opt out, if it has not yet; `at` must be aware."""
        opt_out = OptOut(
            number=number,
            created_at=at or now(),
            first_name=first_name,
            last_name=last_name,
            gender=gender,
            post_code=post_code,
            dob=dob,
        )
        with self.lock:
            return self._opt_outs.setdefault(digits(number), opt_out)

    def add_template(self, title: str, text: str, *, at: datetime | None = None) -> Template:
        """Put in a message template; `at` must be aware."""
        with self.lock:
            template = Template(id=str(self._next()), title=title, text=text, created_at=at or now())
            self.templates.append(template)
            return template

    # Inside -----------------------------------------------------------------------------------------------------------

    def _known(self, message_id: str) -> Message:
        message = self.message(message_id)
        if message is None:
            raise LookupError(f"no message {message_id}")
        return message

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _id_prefix(self) -> str:
        bits = self.random.getrandbits
        return f"{bits(32):08X}-{bits(16):04X}-{bits(16):04X}-{bits(16):04X}"

    def _may_receive(self, number: str) -> bool:
        ending = self._endings.of(number)
        if ending is Ending.UNSUBSCRIBED:
            self.add_opt_out(number)
        return valid_number(number) and ending is not Ending.REFUSED and digits(number) not in self._opt_outs

    def _schedule_replies(self, send: Send) -> None:
        for place, number in enumerate(send.recipients, send.first):
            ending = self._endings.of(number)
            if ending in REPLY_TEXT:
                at = seconds_after(send.sent_at, self.settings.reply_after)
                reply = self._reply(number, REPLY_TEXT[ending], self.messages[place], at)
                due = send.at + self.settings.reply_after
                self._inbox.schedule(due, reply)
                self.outbox.inbound(due, reply)

    def _schedule_reports(self, send: Send) -> None:
        if self.settings.callback_url is None:
            return
        for message in self.messages.of(send):
            for due, status in self._statuses.changes(message):
                self.outbox.report(due, message, status, partial(self._statuses.keeps_to_its_timeline, message))

    def _settle(self) -> None:
        """Let the replies come that are due."""
        for reply in self._inbox.settle(self.clock()):
            if self._endings.of(reply.sender) is Ending.REPLIES_STOP:
                self.add_opt_out(reply.sender, at=reply.received_at)

    def _reply(self, sender: str, text: str, to: Message | None, at: datetime) -> Reply:
        return Reply(
            id=f"{self._id_prefix()}-{self._next():012X}".lower(),
            sender=sender,
            text=text,
            received_at=at,
            original_id=to.id if to else "",
            original_text=to.send.text if to else "",
        )
