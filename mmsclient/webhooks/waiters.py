"""Who waits for the final report of which message, and the final reports that came before anybody did."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from attrs import frozen

from mmsclient._api.phone_numbers import phone_key
from mmsclient._bounded_cache import BoundedCache
from mmsclient.models import DeliveryReport, DeliveryStatus

FinalReport: TypeAlias = tuple[str, DeliveryStatus, str, str | None, str | None]
"""What is kept of a final report: the fields of `DeliveryReport`, without `raw`."""

REMEMBERED = 10_000
"""Messages whose final reports are kept for a `wait_for` that comes later."""

MOST_RECIPIENTS = 1000
"""Final reports kept of one message."""

LONGEST_REMEMBERED = 1000
"""Characters of a report's free fields; a longer one is not kept."""


@frozen
class AwaitedReport:
    """The final report that somebody waits for: of a message, to one of its recipients or to any."""

    message_id: str
    phone: str
    """As `phone_key` has it; "" for any."""

    @classmethod
    def of(cls, message_id: str, recipient: str | None) -> AwaitedReport:
        """The one of `message_id` to `recipient`, or to any."""
        return cls(message_id.strip(), "" if recipient is None else phone_key(recipient))

    def matches(self, report: DeliveryReport) -> bool:
        """Whether `report` is of this message and phone. One that names no recipient is of the whole message."""
        if message_of(report) != self.message_id:
            return False
        return not self.phone or phone_key(report.recipient) in {"", self.phone}

    def best(self, reports: Iterable[DeliveryReport]) -> DeliveryReport | None:
        """Of those, in their order: one that names the recipient rather than one that names none; then the first.

        If its message arrived after all, the report that says so: as in journals, whatever was said before.
        """
        matching = [report for report in reports if self.matches(report)]
        if not matching:
            return None
        named = [report for report in matching if self.phone and phone_key(report.recipient) == self.phone]
        first = (named or matching)[0]
        alike = (report for report in matching if phone_key(report.recipient) == phone_key(first.recipient))
        return next((report for report in alike if report.status.is_delivered), first)


def message_of(report: DeliveryReport) -> str:
    """The id of its message, without blanks around it."""
    return report.message_id.strip()


def is_kept(report: DeliveryReport) -> bool:
    """A report that is remembered for those who wait for it later, or elsewhere."""
    is_short = len(report.custom_string or "") + len(report.source or "") <= LONGEST_REMEMBERED
    return bool(message_of(report)) and report.status.is_final and is_short


class ReportWaiters:
    """Hands final reports to those who wait for them, and remembers the last for those who will."""

    def __init__(self) -> None:
        self._waiters: defaultdict[str, list[tuple[AwaitedReport, asyncio.Future[DeliveryReport]]]] = defaultdict(list)
        self._finals: BoundedCache[str, list[FinalReport]] = BoundedCache(REMEMBERED)
        self._closed = False

    @property
    def awaited(self) -> list[AwaitedReport]:
        """What is waited for."""
        return [awaited for waiters in self._waiters.values() for awaited, future in waiters if not future.done()]

    def is_awaited(self, report: DeliveryReport) -> bool:
        """Whether anybody waits for a final report of this message and recipient."""
        return any(awaited.matches(report) for awaited, _ in self._waiters.get(message_of(report), ()))

    def known(self, awaited: AwaitedReport) -> DeliveryReport | None:
        """The report, where it came before."""
        return awaited.best(map(_report, self._finals.get(awaited.message_id) or ()))

    @contextmanager
    def waiting(self, awaited: AwaitedReport) -> Iterator[asyncio.Future[DeliveryReport]]:
        """A future that gets the report when it comes within the context; `RuntimeError` where it cannot come."""
        if self._closed:
            raise _closed()
        waiter = awaited, asyncio.get_running_loop().create_future()
        self._waiters[awaited.message_id].append(waiter)
        try:
            yield waiter[1]
        finally:
            waiters = self._waiters[awaited.message_id]
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[awaited.message_id]

    def note(self, *reports: DeliveryReport) -> None:
        """Hands reports of final statuses to their waiters, and remembers them."""
        finals = [report for report in reports if message_of(report) and report.status.is_final]
        for report in finals:
            for awaited, future in self._waiters.get(message_of(report), ()):
                if not future.done() and (best := awaited.best(finals)):
                    future.set_result(best)
            if is_kept(report):
                self._remember(report)

    def close(self) -> None:
        """No report comes any more."""
        self._closed = True
        for waiters in self._waiters.values():
            for _, future in waiters:
                if not future.done():
                    future.set_exception(_closed())

    def _remember(self, report: DeliveryReport) -> None:
        final = (report.message_id, report.status, report.recipient, report.custom_string, report.source)
        finals = self._finals.get(message_of(report))
        if finals is None:
            self._finals[message_of(report)] = [final]
        elif len(finals) < MOST_RECIPIENTS and final not in finals:
            finals.append(final)


def _report(final: FinalReport) -> DeliveryReport:
    message_id, status, recipient, custom_string, source = final
    return DeliveryReport(
        message_id=message_id, status=status, recipient=recipient, custom_string=custom_string, source=source
    )


def _closed() -> RuntimeError:
    return RuntimeError("the receiver is closed, and hears of no report")
