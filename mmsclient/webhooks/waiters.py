"""Who waits for the final report of which message, and the final reports that came before anybody did."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
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
        return cls(message_id, "" if recipient is None else phone_key(recipient))

    def matches(self, report: DeliveryReport) -> bool:
        """Whether `report` is of this message and phone. One that names no recipient is of the whole message."""
        if report.message_id != self.message_id:
            return False
        return not self.phone or phone_key(report.recipient) in {"", self.phone}


def is_kept(report: DeliveryReport) -> bool:
    """A report that is remembered for those who wait for it later, or elsewhere."""
    is_short = len(report.custom_string or "") + len(report.source or "") <= LONGEST_REMEMBERED
    return bool(report.message_id) and report.status.is_final and is_short


class ReportWaiters:
    """Hands final reports to those who wait for them, and remembers the last for those who will."""

    def __init__(self) -> None:
        self._waiters: defaultdict[str, list[tuple[AwaitedReport, asyncio.Future[DeliveryReport]]]] = defaultdict(list)
        self._finals: BoundedCache[str, list[FinalReport]] = BoundedCache(REMEMBERED)

    @property
    def awaited(self) -> list[AwaitedReport]:
        """What is waited for."""
        return [awaited for waiters in self._waiters.values() for awaited, future in waiters if not future.done()]

    def is_awaited(self, report: DeliveryReport) -> bool:
        """Whether anybody waits for a final report of this message and recipient."""
        return any(awaited.matches(report) for awaited, _ in self._waiters.get(report.message_id, ()))

    def known(self, awaited: AwaitedReport) -> DeliveryReport | None:
        """The report, where it came before: one that names the recipient rather than one that names none."""
        finals = self._finals.get(awaited.message_id) or ()
        matching = [report for report in map(_report, finals) if awaited.matches(report)]
        named = [report for report in matching if awaited.phone and phone_key(report.recipient) == awaited.phone]
        return next(iter(named or matching), None)

    @contextmanager
    def waiting(self, awaited: AwaitedReport) -> Iterator[asyncio.Future[DeliveryReport]]:
        """A future that gets the report when it comes within the context."""
        waiter = awaited, asyncio.get_running_loop().create_future()
        self._waiters[awaited.message_id].append(waiter)
        try:
            yield waiter[1]
        finally:
            waiters = self._waiters[awaited.message_id]
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[awaited.message_id]

    def note(self, report: DeliveryReport) -> None:
        """Hands a report of a final status to its waiters, and remembers it."""
        if not report.message_id or not report.status.is_final:
            return
        for awaited, future in self._waiters.get(report.message_id, ()):
            if awaited.matches(report) and not future.done():
                future.set_result(report)
        if not is_kept(report):
            return
        final = (report.message_id, report.status, report.recipient, report.custom_string, report.source)
        finals = self._finals.get(report.message_id)
        if finals is None:
            self._finals[report.message_id] = [final]
        elif len(finals) < MOST_RECIPIENTS and final not in finals:
            finals.append(final)


def _report(final: FinalReport) -> DeliveryReport:
    message_id, status, recipient, custom_string, source = final
    return DeliveryReport(
        message_id=message_id, status=status, recipient=recipient, custom_string=custom_string, source=source
    )
