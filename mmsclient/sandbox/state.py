"""What the sandbox knows: messages, replies, opt-outs, templates, credit, and the calls that came. No I/O.

Nothing happens in the background: statuses and the replies of set numbers are worked out when asked for. What is to be
called back waits in the `outbox` for the server's task.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Literal, get_args, overload

from attrs import define, field

from mmsclient.sandbox import options
from mmsclient.sandbox.answers import Dialect, Refusal
from mmsclient.sandbox.callbacks import NOT_CALLED_BACK, Job, Outbox, inbound, report
from mmsclient.sandbox.magic import FINAL_STATUS, REPLY_TEXT, Ending, ending_of
from mmsclient.sandbox.records import (
    Arrival,
    Callback,
    Message,
    OptOut,
    Reply,
    Send,
    Template,
    digits,
    now,
    seconds_after,
)
from mmsclient.sandbox.throttle import Window

CREDITS_EACH = Decimal(1)
"""What one message costs."""


@define(kw_only=True)
class Settings:
    """How the sandbox behaves; each may be changed while it runs. A wrong value is a `ConfigurationError`."""

    rate: int | None = field(default=15, validator=options.whole_or_none)
    """Calls in any second for each key; None for no cap."""
    dialect: Dialect = field(default="meta", validator=options.one_of(*get_args(Dialect)))
    """The envelope of the answers (wire.md section 1)."""
    empty: Literal["string", "not_found"] = field(default="string", validator=options.one_of("string", "not_found"))
    """How an empty listing is told: `"responses": ""`, or NOT_FOUND with HTTP 400 (wire.md section 3)."""
    mms_balance: Decimal = field(default=Decimal("1000000.00"), validator=options.decimal)
    """Credit at the start; a message costs 1."""
    low_balance: Decimal | None = field(default=None, validator=options.decimal_or_none)
    """Below this balance successes carry `low_sms_alert`."""
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
    """Which are reported. The service itself reports final ones only (wire.md section 4)."""
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


class State:
    """The service's memory, open to tests. Safe to use from any thread."""

    def __init__(
        self,
        settings: Settings,
        keys: Iterable[str],
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.keys = set(keys)
        """The keys that are let in. Each has its own cap; all see the same messages."""
        self.clock = clock
        self.lock = threading.RLock()
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Forget everything; settings and keys stay."""
        with self.lock:
            self.random = random.Random(self._seed)  # noqa: S311 -- repeatable on purpose
            self.arrivals: list[Arrival] = []
            """Every call, in the order of coming, throttled and unauthorised ones too."""
            self.errors: list[Exception] = []
            """Defects of the sandbox itself that a call has met."""
            self.sends: list[Send] = []
            """Every `send-mms` that was carried out."""
            self.messages = Messages(self.sends, self._id_prefix())
            """Every message that was carried out, in order."""
            self.balance = self.settings.mms_balance
            self.replies: list[Reply] = []
            """Every inbound message so far, read ones too."""
            self.templates: list[Template] = []
            self.outbox = Outbox()
            self._windows: defaultdict[str, Window] = defaultdict(Window)
            self._carried_out: Counter[str] = Counter()
            self._statuses: dict[str, str] = {}
            self._unread: dict[str, Reply] = {}
            self._reply_ids: set[str] = set()
            self._due: list[tuple[float, int, Reply, Ending | None]] = []
            self._opt_outs: dict[str, OptOut] = {}
            self._throttled_once: set[str] = set()
            self._serial = 0

    # The calls that came ----------------------------------------------------------------------------------------------

    @property
    def calls(self) -> Counter[str]:
        """How often each call came, throttled ones included."""
        return Counter(arrival.call for arrival in list(self.arrivals))

    @property
    def throttled(self) -> Counter[str]:
        """How often each call was throttled."""
        return Counter(arrival.call for arrival in list(self.arrivals) if arrival.throttled)

    def arrive(self, call: str) -> Arrival:
        """Note a call whose headers are in."""
        arrival = Arrival(self.clock(), call)
        self.arrivals.append(arrival)
        return arrival

    def admit(self, key: str, arrival: Arrival) -> None:
        """Count a call towards the cap of its key. Raises `Refusal` beyond the cap."""
        with self.lock:
            if not self._windows[key].admit(arrival, self.settings.rate):
                arrival.throttled = True
                raise over_limit()

    def discount(self, arrival: Arrival) -> None:
        """The call was throttled after it had been counted."""
        arrival.throttled = True
        with self.lock:
            for window in self._windows.values():
                window.withdraw(arrival)

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
            self._fail_if_asked(numbers)
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
        prefix, _, place = message_id.rpartition("-")
        try:
            message = self.messages[int(place, 16)]
        except (ValueError, IndexError):
            return None
        return message if prefix and message.id == message_id else None

    def timeline(self, message: Message) -> list[tuple[float, str]]:
        """The statuses of a message: by the sandbox's clock from when on, and which."""
        sent, settings = message.send.at, self.settings
        final = FINAL_STATUS.get(self._ending(message.to), "Delivered")
        return [
            (sent, "Queued"),
            (sent + settings.dispatch_after, "Dispatched"),
            (sent + settings.deliver_after, final),
        ]

    def status(self, message_id: str) -> str:
        """The status of a message now. Raises `LookupError` for an unknown id."""
        message = self.message(message_id)
        if message is None:
            raise LookupError(f"no message {message_id}")
        if message_id in self._statuses:
            return self._statuses[message_id]
        time = self.clock()
        return [status for start, status in self.timeline(message) if start <= time][-1]

    def set_status(self, message_id: str, status: str) -> None:
        """Let a message have any status from now on. Raises `LookupError` for an unknown id."""
        with self.lock:
            before = self.status(message_id)
            self._statuses[message_id] = status
            message = self.message(message_id)
            if message and status != before:
                self._report(self.clock(), message, status, lambda: True)

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
    def unread(self) -> list[Reply]:
        """The replies not yet marked read, oldest first."""
        with self.lock:
            self._settle()
            return list(self._unread.values())

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
            self._receive(reply)
            self._call_back(self.clock(), Job(kind="inbound", item=inbound(reply)))
            return reply

    def add_replies(self, count: int) -> list[Reply]:
        """Put in `count` replies with the texts "Reply 1", "Reply 2" and so on."""
        return [self.add_reply(text=f"Reply {number}") for number in range(1, count + 1)]

    def mark_read(self, ids: Iterable[str]) -> int:
        """Mark replies as read, again if need be. Answers how many of `ids` exist."""
        with self.lock:
            self._settle()
            known = self._reply_ids.intersection(ids)
            for reply_id in known:
                self._unread.pop(reply_id, None)
            return len(known)

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

    def _ending(self, number: str) -> Ending | None:
        return ending_of(number) if self.settings.magic else None

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _id_prefix(self) -> str:
        bits = self.random.getrandbits
        return f"{bits(32):08X}-{bits(16):04X}-{bits(16):04X}-{bits(16):04X}"

    def _fail_if_asked(self, numbers: Iterable[str]) -> None:
        for number in numbers:
            match self._ending(number):
                case Ending.NO_CREDIT:
                    raise no_credit()
                case Ending.THROTTLED:
                    raise over_limit()
                case Ending.THROTTLED_ONCE if digits(number) not in self._throttled_once:
                    self._throttled_once.add(digits(number))
                    raise over_limit()
                case _:
                    pass

    def _may_receive(self, number: str) -> bool:
        ending = self._ending(number)
        if ending is Ending.UNSUBSCRIBED:
            self.add_opt_out(number)
        return valid_number(number) and ending is not Ending.REFUSED and digits(number) not in self._opt_outs

    def _schedule_replies(self, send: Send) -> None:
        for place, number in enumerate(send.recipients, send.first):
            ending = self._ending(number)
            if ending in REPLY_TEXT:
                at = seconds_after(send.sent_at, self.settings.reply_after)
                reply = self._reply(number, REPLY_TEXT[ending], self.messages[place], at)
                heapq.heappush(self._due, (send.at + self.settings.reply_after, self._next(), reply, ending))
                self._call_back(send.at + self.settings.reply_after, Job(kind="inbound", item=inbound(reply)))

    def _schedule_reports(self, send: Send) -> None:
        if self.settings.callback_url is None:
            return
        for message in self.messages.of(send):
            before = "Queued"
            for due, status in self.timeline(message)[1:]:
                if status != before:
                    self._report(due, message, status, partial(self._keeps_to_its_timeline, message))
                before = status

    def _keeps_to_its_timeline(self, message: Message) -> bool:
        return message.id not in self._statuses

    def _report(self, due: float, message: Message, status: str, is_wanted: Callable[[], bool]) -> None:
        if status not in NOT_CALLED_BACK or self.settings.callback_statuses == "all":
            self._call_back(due, Job(kind="report", item=report(message, status), is_wanted=is_wanted))

    def _call_back(self, due: float, job: Job) -> None:
        settings = self.settings
        for _ in range(1 + settings.duplicates if settings.callback_url else 0):
            self.outbox.add(due + self.random.uniform(0, settings.disorder), job)

    def _settle(self) -> None:
        """Let the replies come that are due."""
        while self._due and self._due[0][0] <= self.clock():
            _, _, reply, ending = heapq.heappop(self._due)
            self._receive(reply)
            if ending is Ending.REPLIES_STOP:
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

    def _receive(self, reply: Reply) -> None:
        self.replies.append(reply)
        self._reply_ids.add(reply.id)
        self._unread[reply.id] = reply


class Messages(Sequence[Message]):
    """The messages of all sends, made when looked at: a million cost little more than their numbers."""

    def __init__(self, sends: list[Send], id_prefix: str) -> None:
        self._sends = sends
        self._id_prefix = id_prefix

    def __len__(self) -> int:
        if not self._sends:
            return 0
        last = self._sends[-1]
        return last.first + len(last.recipients)

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> list[Message]: ...
    def __getitem__(self, place: int | slice) -> Message | list[Message]:
        places = range(len(self))[place]
        return self._at(places) if isinstance(places, int) else [self._at(each) for each in places]

    def of(self, send: Send) -> list[Message]:
        """The messages of one send."""
        return [self._message(send, place) for place in range(send.first, send.first + len(send.recipients))]

    def _at(self, place: int) -> Message:
        return self._message(self._sends[bisect_right(self._sends, place, key=lambda send: send.first) - 1], place)

    def _message(self, send: Send, place: int) -> Message:
        return Message(f"{self._id_prefix}-{place:012X}", send.recipients[place - send.first], send)


def valid_number(number: str) -> bool:
    """The documented Australian forms (wire.md section 1), or any other country's with a plus."""
    bare = number.removeprefix("+")
    if not (bare.isascii() and bare.isdigit()):
        return False
    if number.startswith("0"):
        return number.startswith("04") and len(number) == 10
    if bare.startswith("61"):
        return bare.startswith("614") and len(bare) == 11
    return number.startswith("+") and not bare.startswith("0") and 8 <= len(bare) <= 15


def over_limit() -> Refusal:
    """Throttled."""
    return Refusal("OVER_LIMIT", "Too many requests: you have exceeded the calls allowed each second.")


def no_credit() -> Refusal:
    """Out of credit; the service says so under the code of a wrong field (wire.md section 2)."""
    return Refusal("FIELD_INVALID", "You do not have enough credit to send this message.")
