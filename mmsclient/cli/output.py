"""What the commands print: JSON for scripts, tables on a terminal, plain lines in a pipe."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from typing import Annotated, Any, Generic, TypeVar

import attrs
from cyclopts import Parameter
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from mmsclient import Account, DeliveryStatus, Listing, MessageStatus, MMSError, OptOut, Reply, SentBatch, Template
from mmsclient._words import counted

T = TypeVar("T")

WORTH_A_WORD = 10
"""Seconds from which on minutes are told."""
ROOM = 20
"""Columns that a value needs beside its name."""


OneJSON = Annotated[bool, Parameter(help="Print one JSON object for scripts.", show_default=False)]
"""The option `--json` of a command that prints one thing."""


class Form(Enum):
    """How a command prints."""

    JSON = auto()
    TABLE = auto()
    PLAIN = auto()

    @classmethod
    def chosen(cls, as_json: bool) -> Form:
        """JSON where asked for, else what fits stdout."""
        if as_json:
            return cls.JSON
        return cls.TABLE if sys.stdout and sys.stdout.isatty() else cls.PLAIN


def to_json(value: Any) -> str:
    """`value` as JSON on one line: models without `raw`, decimals as strings, times in ISO 8601."""
    return json.dumps(value, default=_jsonable)


def _jsonable(value: Any) -> Any:
    if attrs.has(type(value)):
        return attrs.asdict(value, recurse=False, filter=lambda attribute, _: attribute.name != "raw")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal | MMSError):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def printable(text: str) -> str:
    """`text` on one line, in characters that stdout has, and without control characters: strangers write replies, and
    terminals obey them."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    line = "".join(c if c.isprintable() else " " for c in text)
    return line.encode(encoding, "backslashreplace").decode(encoding)


def local(time: datetime) -> datetime:
    """`time` as it is printed: to the second, in this computer's zone, of which it holds the offset.

    At the ends of the calendar, where that zone has no such time, in its own.
    """
    with suppress(ValueError, OverflowError, OSError):
        time = time.astimezone()
    return time.replace(microsecond=0)


def local_if_any(time: datetime | None) -> datetime | None:
    """As `local`, of what may not have happened."""
    return None if time is None else local(time)


def with_local_times(text: str) -> str:
    """`text` with the times in it that say their zone as `local` has them; what is no time stays as it is."""
    return _TIME.sub(_with_local_time, text)


def _with_local_time(found: re.Match[str]) -> str:
    try:
        return str(local(datetime.fromisoformat(found[0].replace(" UTC", "+00:00"))))
    except ValueError:  # such as a month 13
        return found[0]


_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?: UTC\b|[+-]\d\d:\d\d\b)")


def duration(seconds: float) -> str:
    """Such as `4.2 s`, `0:02:10`."""
    return f"{seconds:.1f} s" if seconds < WORTH_A_WORD else str(timedelta(seconds=round(seconds)))


# One answer -------------------------------------------------------------------------------------------------


def show_account(account: Account, form: Form) -> None:
    """The account and its balances."""
    if form is Form.JSON:
        print(to_json(account))
        return
    facts = {
        "Account": account.name,
        "Email": account.email,
        "MMS balance": _number(account.mms_balance),
        "SMS balance": _number(account.sms_balance),
    }
    show_facts(facts, form)


def show_sent(sent: SentBatch, form: Form) -> None:
    """What became of a send: a sentence, then a line for each number."""
    if form is Form.JSON:
        print(to_json(sent))
        return
    cost = "" if sent.credits_used is None else f", {counted(sent.credits_used, 'credit')} used"
    headline = f"{sent}{cost}{'; sent before, and not again' if sent.repeated else ''}"
    rows = [
        *(("accepted", message.to, message.id) for message in sent.messages),
        *(("refused", number, "") for number in sent.refused or ()),
        *(("duplicate", number, "not sent twice") for number in sent.duplicates),
    ]
    if sent.refused is None:
        rows.append(("refused", counted(sent.total - sent.accepted, "number"), "the API does not tell which"))
    if form is Form.TABLE:
        table = Table("", "Number", "Message", box=None, header_style="bold")
        _add_rows(table, rows)
        Console().print(Text(headline, "bold yellow" if sent.is_partial else "bold green"), table, sep="\n")
    else:
        _print_rows([(headline,), *rows])


def show_deliveries(statuses: Mapping[str, DeliveryStatus | None], form: Form) -> None:
    """What became of each message of a send, by its number."""
    if form is Form.JSON:
        print(to_json({"statuses": statuses}))
        return
    rows = [(status or "no status yet", number) for number, status in statuses.items()]
    if form is Form.TABLE:
        table = Table("", "Number", box=None, header_style="bold")
        _add_rows(table, rows)
        Console().print(table)
    else:
        _print_rows(rows)


@attrs.frozen
class Facts:
    """Names and values on a terminal: side by side, or one below the other where that is narrow."""

    facts: Mapping[str, str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width >= max(map(len, self.facts), default=0) + ROOM:
            table = Table(show_header=False, box=None)
            table.add_column(style="bold", no_wrap=True)
            _add_rows(table, self.facts.items())
            yield table
        else:
            for name, value in self.facts.items():
                yield Text.assemble((f"{name}:", "bold"), f" {printable(value)}")


def show_facts(facts: Mapping[str, str], form: Form) -> None:
    """A line for each; not for scripts."""
    if form is Form.TABLE:
        Console().print(Facts(facts))
    else:
        print("\n".join(f"{name}: {printable(value)}" for name, value in facts.items()))


# Listings ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Column(Generic[T]):
    """One column of a listing. Without a width it takes what is left."""

    title: str
    value: Callable[[T], str]
    width: int | None = None


REPLIES: tuple[Column[Reply], ...] = (
    Column("Received", lambda reply: _time(reply.received_at, reply.received_at_text), 25),
    Column("From", lambda reply: reply.sender, 16),
    Column("Text", lambda reply: reply.text),
)

OPT_OUTS: tuple[Column[OptOut], ...] = (
    Column("Since", lambda opt_out: _time(opt_out.created_at, opt_out.created_at_text), 25),
    Column("Number", lambda opt_out: opt_out.number, 16),
    Column("Name", lambda opt_out: f"{opt_out.first_name or ''} {opt_out.last_name or ''}".strip()),
)


TEMPLATES: tuple[Column[Template], ...] = (
    Column("Created", lambda template: _time(template.created_at, template.created_at_text), 25),
    Column("Title", lambda template: template.title, 24),
    Column("Text", lambda template: template.text),
)

MESSAGES: tuple[Column[MessageStatus], ...] = (
    Column("Status", lambda message: message.status, 10),
    Column("Number", lambda message: message.to, 16),
    Column("Sent", lambda message: _time(message.sent_at, message.sent_at_text), 25),
    Column("Message", lambda message: message.id),
)


async def show_listing(listing: Listing[T], columns: Sequence[Column[T]], form: Form, noun: str) -> None:
    """The items of a listing as its pages come."""
    async with aclosing(listing):
        if form is Form.TABLE:
            await _show_pages(listing, columns, noun)
            return
        async for item in listing:
            if form is Form.JSON:
                print(to_json(item))
            else:
                _print_rows([[column.value(item) for column in columns]])


async def show_stream(items: AsyncGenerator[T, None], columns: Sequence[Column[T]], form: Form) -> None:
    """Items one by one, each printed before the next is asked for."""
    async with aclosing(items):
        async for item in items:
            cells = [column.value(item) for column in columns]
            if form is Form.JSON:
                print(to_json(item))
            elif form is Form.PLAIN:
                _print_rows([cells])
            else:
                print(" ".join(f"{printable(c):{column.width or 0}}" for c, column in zip(cells, columns, strict=True)))
            sys.stdout.flush()


async def _show_pages(listing: Listing[T], columns: Sequence[Column[T]], noun: str) -> None:
    console = Console()
    count = 0
    async for page in listing.pages():
        table = Table(box=None, expand=True, show_header=count == 0, header_style="bold")
        for column in columns:
            table.add_column(column.title, width=column.width, ratio=None if column.width else 1, overflow="fold")
        _add_rows(table, ([column.value(item) for column in columns] for item in page.items))
        console.print(table)
        count += len(page.items)
    console.print(Text(counted(count, noun) if count else f"No{counted(0, noun)[1:]}", "bold"))


def _add_rows(table: Table, rows: Iterable[Sequence[str]]) -> None:
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))


def _print_rows(rows: Iterable[Sequence[str]]) -> None:
    for row in rows:
        print("\t".join(map(printable, row)).rstrip())


def _number(value: Decimal | None) -> str:
    return "unknown" if value is None else str(value)


def _time(time: datetime | None, text: str) -> str:
    return text if time is None else time.isoformat(sep=" ")
