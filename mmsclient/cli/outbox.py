"""`mmsclient outbox`: the worker, and a look at what is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Annotated, Self

from attrs import asdict, define, frozen
from cyclopts import App, Parameter

from mmsclient._store.stores import outbox_at
from mmsclient.cli.connection import DEFAULT, Connection
from mmsclient.cli.monitoring import NONE, Monitor, Monitoring
from mmsclient.cli.output import Column, Form, local, local_if_any, printable, show_stream, to_json
from mmsclient.cli.sending import Printing
from mmsclient.cli.signals import told_of_signals
from mmsclient.cli.status import Status, complain, complain_last, output_lost
from mmsclient.outbox import Outbox, OutboxResult, OutboxState, OutboxStoppedError, OutboxUnavailableError
from mmsclient.outbox.orders import Orders

app: App = App(name="outbox", default_parameter=Parameter(negative=()))

OneJSON = Annotated[bool, Parameter(help="Print one JSON object for scripts.", show_default=False)]
JSONLines = Annotated[bool, Parameter(help="Print a JSON object a line for scripts.", show_default=False)]

LOOK_AGAIN = 1.0
"""Seconds between the looks at a store that is away."""


@frozen
class Line:
    """An order as it is printed."""

    key: str
    state: OutboxState
    recipients: int
    accepted: int | None
    attempts: int
    put_at: datetime
    not_before: datetime | None
    sent_at: datetime | None
    ended_at: datetime | None
    number: int | None
    error: str | None

    @classmethod
    def of(cls, result: OutboxResult) -> Self:
        """The line of an order."""
        return cls(
            key=result.key,
            state=result.state,
            recipients=len(result.recipients),
            accepted=None if result.sent is None else result.sent.accepted,
            attempts=result.attempts,
            put_at=local(result.put_at),
            not_before=local_if_any(result.not_before),
            sent_at=local_if_any(result.sent_at),
            ended_at=local_if_any(result.ended_at),
            number=result.number,
            error=None if result.error is None else str(result.error),
        )


LINES: tuple[Column[Line], ...] = (
    Column("State", lambda line: line.state, 9),
    Column("Put", lambda line: str(line.put_at), 25),
    Column("Recipients", lambda line: str(line.recipients), 4),
    Column("Key", lambda line: line.key),
    Column("Error", lambda line: line.error or ""),
)


@app.command
async def run(
    store: str,
    *,
    new_key: Annotated[bool, Parameter(show_default=False)] = False,
    connection: Connection = DEFAULT,
    monitoring: Monitoring = NONE,
    json: JSONLines = False,
) -> int:
    """Send what is put into an outbox, until Ctrl-C or SIGTERM. Costs credits.

    Prints a line for each order that ends, here or in another worker. The first signal waits for the calls under way;
    once more ends it at once.

    Parameters
    ----------
    store
        File, made if it is not there, for one worker; or the URL of a PostgreSQL database, for any number of workers.
        The password is best in PGPASSWORD or ~/.pgpass.
    new_key
        The account has another APPKEY by now than the one that the outbox was begun with.
    """
    form = Form.chosen(json)
    monitor = Monitor(monitoring)
    async with connection.client(observer=monitor.observer) as mms:
        outbox = Outbox(mms, store, keep=None, new_key=new_key)
        async with monitor.serving(outbox.is_healthy):
            return await _send(outbox, form)


@app.command
async def status(store: str, *, json: OneJSON = False) -> int:
    """Show how many orders are in each state. Exit status 4 if any is unknown. Calls no API.

    Parameters
    ----------
    store
        File, or the URL of a PostgreSQL database.
    """
    async with aclosing(_orders(store)) as orders:
        counts = await orders.counts()
    since = local_if_any(counts.oldest_due)
    if json:
        print(to_json({**asdict(counts), "oldest_due": since}))
    else:
        facts = {state.capitalize(): str(getattr(counts, state)) for state in OutboxState}
        facts |= {} if since is None else {"Could be sent since": str(since)}
        print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    return Status.OUTCOME_UNKNOWN if counts.unknown else Status.DONE


@app.command(name="list")
async def list_(store: str, *, state: OutboxState | None = None, json: JSONLines = False) -> None:
    """List the orders of an outbox, as they were put. Calls no API.

    Parameters
    ----------
    store
        File, or the URL of a PostgreSQL database.
    state
        Only those in this state.
    """

    async def lines() -> AsyncGenerator[Line, None]:
        async with aclosing(orders.orders(state)) as found:
            async for result in found:
                yield Line.of(result)

    async with aclosing(_orders(store)) as orders:
        await show_stream(lines(), LINES, Form.chosen(json))


@app.command
async def cancel(store: str, keys: list[str], /) -> int:
    """Take orders back that are waiting. Exit status 1 if one of them is not. Calls no API.

    Parameters
    ----------
    store
        File, or the URL of a PostgreSQL database.
    keys
        Keys of orders.
    """
    status = Status.DONE
    async with aclosing(_orders(store)) as orders:
        for key in keys:
            if await orders.cancel(key):
                print(printable(f"cancelled {key}"))
                continue
            found = await orders.result(key)
            complain(f"not cancelled: {key!r} is {'not there' if found is None else found.state}")
            status = Status.FAILED
    return status


@app.command
async def reconcile(store: str, *, json: OneJSON = False) -> int:
    """Settle orders whose outcome is unknown, by the reports and replies that came. Calls no API.

    Exit status 4 if any is unknown after it. A worker does the same by itself.

    Parameters
    ----------
    store
        File from which no worker is sending, or the URL of a PostgreSQL database.
    """
    async with aclosing(_orders(store)) as orders:
        settled = await orders.reconcile()
        unknown = (await orders.counts()).unknown
    if json:
        print(to_json({"settled": settled, "unknown": unknown}))
    else:
        print(f"Settled now: {settled}\nStill unknown: {unknown}")
    return Status.OUTCOME_UNKNOWN if unknown else Status.DONE


def _orders(store: str) -> Orders:
    return Orders(outbox_at(store, make=False))


# The worker -----------------------------------------------------------------------------------------------------------


@define
class _Run:
    ended: int = 0
    signal: int | None = None


async def _send(outbox: Outbox, form: Form) -> Status:
    printing = Printing()
    run = _Run()

    def stop(number: int) -> None:
        outbox.stop()
        printing.hurry()
        run.signal = number
        complain("stopping: waiting for the calls under way; once more ends it at once")

    def last_words() -> None:
        complain_last("ended at once: what is under way becomes unknown")

    with told_of_signals(stop, last_words):
        try:
            async with outbox:
                await _print_results(outbox, printing, form, run)
        except OutboxStoppedError as error:
            complain(str(error))
            return Status.STOPPED if run.ended else Status.FAILED
    if printing.error is not None:
        if not isinstance(printing.error, OSError):
            raise printing.error
        return output_lost(printing.error)
    return Status.DONE if run.signal is None else Status.of_signal(run.signal)


async def _print_results(outbox: Outbox, printing: Printing, form: Form, run: _Run) -> None:
    """Until the worker has ended, or nobody reads any more."""
    after: int | None = None
    while True:
        try:
            async with aclosing(outbox.results(after=after)) as results:
                async for result in results:
                    after = result.number
                    run.ended += 1
                    if not await printing.do(partial(_show, result, form)):
                        outbox.stop()
            return
        except OutboxUnavailableError:  # the worker says so, and waits for it
            await asyncio.sleep(LOOK_AGAIN)


def _show(result: OutboxResult, form: Form) -> None:
    if form is Form.JSON:
        print(to_json(Line.of(result)), flush=True)
    else:
        print(printable(str(result)), flush=True)
