"""The outbox: orders that are handed over now, and sent once at most."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, cast

import anyio

from mmsclient._api.checks import character_at, checked_key, checked_subject, checked_text, checked_time
from mmsclient._api.phone_numbers import recipients
from mmsclient._reading import image_file
from mmsclient._store.models import Owner
from mmsclient._store.outbox import Order
from mmsclient._store.sqlite_outbox import SQLiteOutbox
from mmsclient._store.stores import outbox_at
from mmsclient.bulk.sender import Sender
from mmsclient.bulk.waiting import all_done
from mmsclient.errors import ConfigurationError, InvalidRequestError
from mmsclient.observe.outbox import WorkerObserver
from mmsclient.outbox.errors import translated
from mmsclient.outbox.models import OutboxResult
from mmsclient.outbox.options import KEEP, STOP_AFTER, Options
from mmsclient.outbox.orders import Orders
from mmsclient.outbox.outcome import result_of
from mmsclient.outbox.threads import StoreThread
from mmsclient.outbox.worker import Worker

if TYPE_CHECKING:
    from mmsclient._store.postgres.outbox import Connection, PostgresOutbox
    from mmsclient._store.postgres.outbox_rows import Statement

__all__ = ["Outbox"]


class Outbox(Orders):
    """Orders that are recorded now and sent soon, each once at most, also where a process or a machine dies.

    ```python
    async with AsyncMMSClient() as mms, Outbox(mms, "outbox.db") as outbox:
        await outbox.put(key="order-17", to="+61400000000", text="Your order is ready", image="sale.gif")
        print(await outbox.result("order-17", timeout=60))
    ```

    Without `async with` it only puts and tells, and sends nothing: close it by `aclose()`. Within, and as
    `mmsclient outbox run`, it sends what is there, within the client's cap.

    **Never twice.** An order is recorded as sending, on the disk, before its call can leave. What a worker that died
    was sending is `unknown`, and not sent again. What was surely not sent waits, and is sent later.

    Args:
        mms: The client.
        store: A file on a local disk, which is made if it is not there, for one worker; or the URL of a PostgreSQL
            database (`postgresql://user@host/database`, extra `postgres`), for any number of workers on any machines.
        keep: How long an order is remembered after it has ended: so long its key is not sent again. Of several that
            open the store, the longest counts. None asks for nothing: where nobody has, nothing is forgotten.
        stop_after: Calls in a row whose outcome is unknown, after which the worker stops.
        timeout: Seconds of a call from its first byte to the end of its answer, in place of the client's.
        new_key: The outbox was begun with another APPKEY of the same account, which was changed since.

    Raises:
        InvalidRequestError: An option is wrong.
        ConfigurationError: The URL cannot be read, or the extra is not installed.
    """

    def __init__(
        self,
        mms: Sender,
        store: str | os.PathLike[str],
        *,
        keep: timedelta | None = KEEP,
        stop_after: int = STOP_AFTER,
        timeout: float | None = None,
        new_key: bool = False,
    ) -> None:
        self._mms = mms
        self._options = Options(keep=keep, stop_after=stop_after, timeout=timeout, new_key=new_key)
        super().__init__(outbox_at(store, keep=None if keep is None else keep.total_seconds()))
        self._worker: Worker | None = None
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to send.

        Raises:
            OutboxBusyError: Another worker is sending from the file.
            OutboxError: The store cannot be used, or belongs to another account.
        """
        if self._is_closed or self._worker is not None:
            raise ConfigurationError("the outbox was used before; make a new one")
        owner = Owner(self._mms.base_url, self._mms.key_fingerprint, self._options.new_key)
        opening = self._thread.submit(lambda store: (store.last_number(), store.open_worker(owner)))
        try:
            await all_done(opening)
            self._began_after, opened = opening.result()
            store = self._thread.store
            observer = WorkerObserver(self._mms.emit, store.shown, store.identity)
            thread = StoreThread(opened, store.shown, is_open=True)
            self._worker = Worker(self._mms, thread, self._options, observer, self._tell)
        except BaseException:
            if opening.done() and opening.exception() is None:
                opening.result()[1].close()
            await self.aclose()
            raise
        self._listening = asyncio.create_task(self._thread.store.listen(self._hear))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()
        if exc is None:
            self._raise_error()

    def stop(self) -> None:
        """Start nothing new: `async with` then ends as soon as the calls under way are recorded."""
        if self._worker is not None:
            self._is_stopping = True
            self._worker.stop()

    async def stopped(self) -> None:
        """Wait until the worker has ended, by `stop()` or by an error.

        Raises:
            OutboxStoppedError: Going on made no sense: out of credit, key or permission refused, too many unknowns.
            OutboxError: The store cannot be used any more.
        """
        if self._worker is None:
            raise ConfigurationError("the outbox sends nothing: use `async with`")
        await self._worker.ended()
        self._raise_error()

    async def aclose(self) -> None:
        """Start nothing new, wait until the calls under way are recorded, and close the store. May be called again."""
        self._is_closed = True
        self.stop()
        with anyio.CancelScope(shield=True):
            if self._worker is not None:
                await self._worker.ended()
            if self._listening is not None:
                self._listening.cancel()
                with suppress(asyncio.CancelledError):
                    await self._listening
            await super().aclose()

    # Orders -----------------------------------------------------------------------------------------------------------

    async def put(
        self,
        *,
        key: str,
        to: str | Iterable[str],
        text: str,
        image: image_file.ImageSource,
        subject: str | None = None,
        not_before: datetime | None = None,
        connection: Connection | None = None,
    ) -> OutboxResult:
        """Record an order; it is on the disk when this returns. The same order again changes nothing.

        Args:
            key: What the order is, such as its number, up to 200 characters.
            to: As for `AsyncMMSClient.send`, up to 1000 phones; so `text`, `image` and `subject`.
            text: See `to`.
            image: See `to`. It is stored once, however many orders have it.
            subject: See `to`.
            not_before: An aware datetime before which it is not sent; by the database's clock in PostgreSQL.
            connection: A `psycopg.Connection` or `AsyncConnection` to the same database: the order is put in its
                transaction, and is there if that is committed. Errors of the database are psycopg's then.

        Returns:
            What is held for the key.

        Raises:
            InvalidRequestError: An argument is wrong; nothing was recorded.
            KeyReusedError: There is an order with the key, with another text, subject, image or recipients.
            OutboxError: The store cannot be used; nothing was recorded, unless its connection was lost at the last
                moment: put the same order again.
        """
        order = await _order(key, to, text, image, subject, not_before)
        if connection is not None:
            with translated():
                return result_of(await self._postgres("connection").put_within(connection, order))
        held = await self._run(lambda store: store.put(order))
        self._hear()
        return result_of(held)

    async def statement(
        self,
        *,
        key: str,
        to: str | Iterable[str],
        text: str,
        image: image_file.ImageSource,
        subject: str | None = None,
        not_before: datetime | None = None,
        placeholders: Literal["pyformat", "named", "numeric"] = "pyformat",
    ) -> Statement:
        """What puts an order within a transaction of any driver: one statement in SQL, and its parameters.

        Run again with the same order, it changes nothing; with another order of the same key, it is an error of the
        database's (`unique_violation`), which ends the transaction.

        Args:
            key: As for `put`, and so what follows.
            to: See `key`.
            text: See `key`.
            image: See `key`.
            subject: See `key`.
            not_before: See `key`.
            placeholders: `pyformat` for `%(key)s` (psycopg, psycopg2, Django), `named` for `:key` (SQLAlchemy's
                `text`), both with a mapping of parameters; `numeric` for `$1` (asyncpg), with a sequence.

        Raises:
            InvalidRequestError: An argument is wrong.
        """
        order = await _order(key, to, text, image, subject, not_before)
        return self._postgres("statement").statement(order, placeholders)

    def _postgres(self, argument: str) -> PostgresOutbox:
        store = self._thread.store
        if isinstance(store, SQLiteOutbox):
            raise InvalidRequestError(argument, store.shown, "an outbox in PostgreSQL")
        return cast("PostgresOutbox", store)

    def _hear(self) -> None:
        """Something may be there to be sent."""
        if self._worker is not None:
            self._worker.wake()
        self._tell()

    @property
    def _has_stopped(self) -> bool:
        return self._worker is not None and self._worker.is_over

    def _raise_error(self) -> None:
        if self._worker is not None and self._worker.error is not None:
            raise self._worker.error


async def _order(  # noqa: PLR0917
    key: str,
    to: str | Iterable[str],
    text: str,
    image: image_file.ImageSource,
    subject: str | None,
    not_before: datetime | None,
) -> Order:
    """An order, checked as `send` checks what it sends."""
    key = checked_key(key)
    phones = recipients(to)
    subject = checked_subject(subject)
    earliest = None if not_before is None else checked_time("not_before", not_before).timestamp()
    picture = await image_file.load(image)
    outgoing = checked_text(text, picture)
    if (nul := text.find("\0")) >= 0:
        raise InvalidRequestError("text", character_at(text, nul), "a text without NUL, which a database does not hold")
    digits = tuple(int(number[1:]) for number in phones.numbers)
    return Order(key, outgoing, subject or "", picture.data, digits, earliest)
