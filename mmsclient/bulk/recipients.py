"""From whatever recipients come as to numbers that can be sent to, or a reason why not. A chunk at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

from attrs import field, frozen

from mmsclient._api.phone_numbers import normalise
from mmsclient._store.models import ListEntry
from mmsclient._threads import started
from mmsclient.bulk.fields import is_recipient, number_in
from mmsclient.bulk.template import ONE_OF_A_NAME, field_key
from mmsclient.errors import InvalidRequestError, described, one_line

T = TypeVar("T")

CHUNK = 1000
"""Rows that are read, checked and recorded at a time."""

SHOWN = 200
"""Characters of a wrong number that are kept."""


@frozen
class Row:
    """A recipient as it stands in a list."""

    number: str
    line: int
    """From 1; the header is a line too."""
    problem: str | None = None
    """Why it is no phone number, where whoever read the list knows."""
    fields: Mapping[str, object] | None = field(default=None, repr=False, eq=False)
    """What a `Template` is filled in with, by names in lower case; None for a number alone."""


Recipients = Iterable[str | Row | Mapping[str, object]] | AsyncIterable[str | Row | Mapping[str, object]]
"""Where recipients come from: a list, a generator, an async generator, or what `read_csv` returns.

Each is a number, or a mapping with the fields of a `Template` and the number as `to`, `number`, `phone`, `mobile`,
`recipient` or `msisdn`."""


@runtime_checkable
class BlockingSource(Protocol):
    """A source that waits for a disk; it is read in a thread."""

    reads_files: bool

    def __iter__(self) -> Iterator[Row]: ...


def check(row: Row) -> ListEntry:
    """Normalise `row` as `send` does (api-notes.md section 1, numbers). Never fails."""
    problem = row.problem
    if problem is None:
        try:
            return ListEntry(row.line, row.number, phone_of(row.number))
        except InvalidRequestError as error:
            problem = f"expected {error.expected}"
    given = row.number if isinstance(row.number, str) else described(row.number)
    return ListEntry(row.line, one_line(given, SHOWN), None, problem)


def check_all(rows: Iterable[Row]) -> list[ListEntry]:
    return [check(row) for row in rows]


def phone_of(number: str, argument: str = "to") -> int:
    """What a phone is known by in a journal: the digits of its number in E.164. Raises `InvalidRequestError`."""
    return int(normalise(number, argument)[1:])


async def chunks(source: Recipients | str, size: int = CHUNK) -> AsyncIterator[list[Row]]:
    """The rows of `source`, `size` at a time. A generator that was opened here is closed at the end."""
    line = 0
    if isinstance(source, AsyncIterable):
        rows: list[Row] = []
        async for item in source:
            line += 1
            rows.append(row_of(item, line))
            if len(rows) == size:
                yield rows
                rows = []
        if rows:
            yield rows
        return
    if isinstance(source, bytes | bytearray | memoryview) or not isinstance(source, Iterable):
        raise InvalidRequestError("recipients", source, "phone numbers: a list, a generator or an async generator")
    is_one = isinstance(source, str) or (isinstance(source, Mapping) and is_recipient(source))
    iterator = iter([source] if is_one else source)
    blocking = isinstance(source, BlockingSource)
    try:
        while items := await _next(iterator, size, blocking):
            yield [row_of(item, line + place) for place, item in enumerate(items, 1)]
            line += len(items)
    finally:
        if iterator is not source:
            with suppress(AttributeError, ValueError):  # it is no generator, or its thread still waits for a pipe
                iterator.close()  # type: ignore[attr-defined]


async def _next(iterator: Iterator[Any], size: int, blocking: bool) -> Sequence[Any]:
    if blocking:
        return await _in_a_thread(lambda: list(islice(iterator, size)))
    await asyncio.sleep(0)
    return list(islice(iterator, size))


async def _in_a_thread(function: Callable[[], T]) -> T:
    """Run `function` in a thread that neither a caller who is cancelled nor the end of the process waits for.

    It may read from a pipe into which nobody writes any more.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    started(work, "mmsclient-list")
    return await asyncio.wrap_future(future)


def row_of(item: Any, line: int) -> Row:
    """Whatever stands for a recipient, as a row."""
    if isinstance(item, Mapping):
        fields = {field_key(name): value for name, value in item.items() if isinstance(name, str)}
        number, problem = number_in(fields)
        if len(fields) < sum(isinstance(name, str) for name in item):
            problem = f"expected {ONE_OF_A_NAME}"
        return Row(number, line, problem, fields)
    return item if isinstance(item, Row) else Row(item, line)
