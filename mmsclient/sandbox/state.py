"""What the sandbox knows: messages, replies, opt-outs, templates, credit, and the calls that came. No I/O.

Nothing happens in the background: statuses and the replies of set numbers are worked out when asked for. What is to be
called back waits in the `outbox` for the server's task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial

from mmsclient._api.types import Kind
from mmsclient.sandbox.answers import Refusal
from mmsclient.sandbox.inbox import Inbox
from mmsclient.sandbox.magic import REPLY_TEXT, Ending, Endings
from mmsclient.sandbox.messages import Digits, Messages, Statuses
from mmsclient.sandbox.outbox import Outbox
from mmsclient.sandbox.outgoing import Order, Outgoing
from mmsclient.sandbox.records import (
    Callback,
    Message,
    OptOut,
    Reply,
    Send,
    Template,
    digits,
    seconds_after,
    valid_number,
)
from mmsclient.sandbox.sent import Sent

FIRST_SMS_REPLY = 7_104_000_000
"""The ids of SMS are digits."""


class State(Sent):
    """The service's memory, open to tests. Safe to use from any thread."""

    def reset(self) -> None:
        """Forget everything; settings and keys stay."""
        with self.lock:
            super().reset()
            self.templates: list[Template] = []
            self.outbox: Outbox = Outbox(self.settings, self.random)
            self._inbox = Inbox()
            self._endings = Endings(self.settings)
            self._statuses = Statuses(self.settings, self._endings, self.clock)
            self._opt_outs: dict[str, OptOut] = {}
            self._serial = 0

    # Messages ---------------------------------------------------------------------------------------------------------

    def send(self, numbers: Sequence[str], text: str, subject: str, image: bytes) -> Send:
        """Carry out a send to those of `numbers` that may be sent to, or raise `Refusal` with nothing done."""
        return self.carry_out(self.mms, Order(numbers=numbers, text=text, subject=subject, image=image))

    def carry_out(self, outgoing: Outgoing, order: Order) -> Send:
        """Carry out `order` as one of `mms` or `sms`, or raise `Refusal` with nothing done."""
        with self.lock:
            self._endings.fail_if_asked(order.numbers)
            self._settle()
            accepted = [number for number in order.numbers if self._may_receive(number)]
            if not accepted:
                raise Refusal("RECIPIENTS_ERROR", "No valid recipient is left: all are invalid or unsubscribed.")
            send = outgoing.accept(order, accepted, self.now())
            self._schedule_reports(outgoing.messages, send)
            self._schedule_replies(outgoing.messages, send)
            return send

    def message(self, message_id: str) -> Message | None:
        """The message of that id, of either kind; None if there is none."""
        return self.mms.messages.find(message_id) or self.sms.messages.find(message_id)

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
        kind: Kind = "mms",
    ) -> Reply:
        """Put in a reply: to the message `to` and of its kind if there is one, else of `kind`. `at` must be aware."""
        with self.lock:
            reply = self._reply(sender, text, to, at or self.now(), kind)
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
            created_at=at or self.now(),
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
            template_id = f"{self.random.getrandbits(128):032x}"
            template = Template(id=template_id, title=title, text=text, created_at=at or self.now())
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

    def _may_receive(self, number: str) -> bool:
        ending = self._endings.of(number)
        if ending is Ending.UNSUBSCRIBED:
            self.add_opt_out(number)
        return valid_number(number) and ending is not Ending.REFUSED and digits(number) not in self._opt_outs

    def _schedule_replies(self, messages: Messages, send: Send) -> None:
        for place, number in enumerate(send.recipients, send.first):
            ending = self._endings.of(number)
            if ending in REPLY_TEXT:
                at = seconds_after(send.sent_at, self.settings.reply_after)
                reply = self._reply(number, REPLY_TEXT[ending], messages[place], at, send.kind)
                due = send.due + self.settings.reply_after
                self._inbox.schedule(due, reply)
                self.outbox.inbound(due, reply)

    def _schedule_reports(self, messages: Messages, send: Send) -> None:
        if self.settings.callback_url is None:
            return
        for message in messages.of(send):
            for due, status in self._statuses.changes(message):
                self.outbox.report(due, message, status, partial(self._statuses.keeps_to_its_timeline, message))

    def _settle(self) -> None:
        """Let the replies come that are due."""
        for reply in self._inbox.settle(self.clock()):
            if self._endings.of(reply.sender) is Ending.REPLIES_STOP:
                self.add_opt_out(reply.sender, at=reply.received_at)

    def _reply(self, sender: str, text: str, to: Message | None, at: datetime, kind: Kind) -> Reply:
        kind = to.send.kind if to else kind
        ids = Digits(FIRST_SMS_REPLY) if kind == "sms" else self.mms_ids()
        return Reply(
            id=ids.of(self._next()).lower(),
            sender=sender,
            text=text,
            received_at=at,
            original_id=to.id if to else "",
            original_text=to.send.text if to else "",
            kind=kind,
            custom_string=to.send.custom_string if to else "",
        )
