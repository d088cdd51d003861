"""Callbacks of the sandbox: what is to be posted and when (no I/O), and the task that posts it (wire.md section 4)."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import httpx
from attrs import define, evolve

from mmsclient.sandbox.records import Callback, Message, Reply, digits, wire_time

if TYPE_CHECKING:
    from mmsclient.sandbox.state import State

NOT_CALLED_BACK = frozenset({"Queued", "Dispatched"})
"""Statuses that the service tells only when asked (wire.md section 4)."""

AT_ONCE = 16
"""Posts under way at a time where their order does not matter; else one."""

TIMEOUT = 15.0
"""Seconds for one post."""

LONGEST_PAUSE = 10.0
"""Seconds before a repetition, at most."""

LOOK_AGAIN = 0.02
"""Seconds between two looks at the sandbox's clock, which need not be that of the event loop."""


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

    def __init__(self) -> None:
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


def report(message: Message, status: str) -> Mapping[str, str]:
    """A delivery report, as the service writes it."""
    return {"message_id": message.id, "status": status, "recipient": digits(message.to), "custom_string": ""}


def inbound(reply: Reply) -> Mapping[str, str]:
    """An inbound message, as the service writes it."""
    return {
        "from": digits(reply.sender),
        "body": reply.text,
        "received_at": wire_time(reply.received_at),
        "message_id": reply.id,
        "type": "MMS",
        "original_message_id": reply.original_id,
        "original_body": reply.original_text,
    }


class Poster:
    """Posts what is due, for as long as its task runs. Belongs to the sandbox's event loop."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: httpx.AsyncClient | None = None

    async def run(self) -> None:
        """Post until cancelled; what is under way then is dropped."""
        try:
            while True:
                outbox = self._state.outbox
                for job in outbox.due(self._state.clock()):
                    await self._make_room()
                    task = asyncio.get_running_loop().create_task(self._post(job, outbox))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                await asyncio.sleep(LOOK_AGAIN)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._http is not None:
                await self._http.aclose()

    async def _make_room(self) -> None:
        most = AT_ONCE if self._state.settings.disorder else 1
        while len(self._tasks) >= most:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _post(self, job: Job, outbox: Outbox) -> None:
        settings, clock = self._state.settings, self._state.clock
        try:
            if settings.callback_url is None or not job.is_wanted():
                return
            callback = Callback(clock(), settings.callback_url, job.kind, job.item, job.attempt)
            outbox.posted.append(callback)
            callback.status = await self._exchange(callback)
            if callback.status is not None and 200 <= callback.status < 300:
                return
            if job.attempt >= settings.callback_attempts:
                outbox.given_up.append(callback)
                return
            pause = min(LONGEST_PAUSE, settings.callback_backoff * 2.0 ** (job.attempt - 1))
            outbox.add(clock() + pause, evolve(job, attempt=job.attempt + 1))
        except Exception as error:
            self._state.errors.append(error)
        finally:
            outbox.done()

    async def _exchange(self, callback: Callback) -> int | None:
        """Post it, and answer the status that came; None where none did."""
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False)
        alone = callback.kind == "inbound" and self._state.settings.inbound_shape == "object"
        body = json.dumps(callback.item if alone else [callback.item]).encode()
        try:
            answer = await self._http.post(callback.url, content=body, headers={"content-type": "application/json"})
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        return answer.status_code
