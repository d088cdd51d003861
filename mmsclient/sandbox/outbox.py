"""What is to be called back, and when; how the service writes it (api-notes.md section 4). No I/O."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Mapping
from random import Random

from attrs import define

from mmsclient.sandbox.records import Callback, Message, Reply, digits, wire_time
from mmsclient.sandbox.settings import Settings

NOT_CALLED_BACK = frozenset({"Queued", "Dispatched"})
"""Statuses that the service tells only when asked (api-notes.md section 4)."""


@define(eq=False, kw_only=True)
class Job:
    """A callback that is to be posted."""

    kind: str
    item: Mapping[str, str]
    is_wanted: Callable[[], bool] = lambda: True
    """Whether it still holds when it is due."""
    attempt: int = 1


class Outbox:
    """The callbacks that are to be posted, by when. Safe to use from any thread."""

    def __init__(self, settings: Settings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self.posted: list[Callback] = []
        self.given_up: list[Callback] = []
        self._lock = threading.Lock()
        self._serial = itertools.count()
        self._jobs: list[tuple[float, int, Job]] = []
        self._under_way = 0

    @property
    def open(self) -> int:
        """Callbacks that are still to be posted or are under way."""
        with self._lock:
            return len(self._jobs) + self._under_way

    def report(self, due: float, message: Message, status: str, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Let `status` be reported at `due`, if such a status is."""
        if status not in NOT_CALLED_BACK or self._settings.callback_statuses == "all":
            self._call_back(due, Job(kind="report", item=_report(message, status), is_wanted=is_wanted))

    def inbound(self, due: float, reply: Reply) -> None:
        """Let `reply` be posted at `due`."""
        self._call_back(due, Job(kind="inbound", item=_inbound(reply)))

    def _call_back(self, due: float, job: Job) -> None:
        for _ in range(1 + self._settings.duplicates if self._settings.callback_url else 0):
            self.add(due + self._random.uniform(0, self._settings.disorder), job)

    def add(self, due: float, job: Job) -> None:
        """Let `job` be posted at `due`, by the sandbox's clock."""
        with self._lock:
            heapq.heappush(self._jobs, (due, next(self._serial), job))

    def due(self, now: float) -> list[Job]:
        """Take out what is due; `done` for each of them when it is over."""
        jobs: list[Job] = []
        with self._lock:
            while self._jobs and self._jobs[0][0] <= now:
                jobs.append(heapq.heappop(self._jobs)[2])
            self._under_way += len(jobs)
        return jobs

    def done(self) -> None:
        """A job that was due is over, or was added again."""
        with self._lock:
            self._under_way -= 1


def _report(message: Message, status: str) -> Mapping[str, str]:
    """A delivery report, as the service writes it."""
    send = message.send
    report = {"message_id": message.id, "status": status, "recipient": digits(message.to)}
    report["custom_string"] = send.custom_string
    return {**report, "source": send.source} if send.source else report


def _inbound(reply: Reply) -> Mapping[str, str]:
    """An inbound message, as the service writes it."""
    return {
        "from": digits(reply.sender),
        "body": reply.text,
        "received_at": wire_time(reply.received_at),
        "message_id": reply.id,
        "type": reply.kind.upper(),
        "original_message_id": reply.original_id,
        "original_body": reply.original_text,
        **({"custom_string": reply.custom_string} if reply.custom_string else {}),
    }
