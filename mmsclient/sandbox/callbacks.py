"""The task that posts the sandbox's callbacks (api-notes.md section 4)."""

from __future__ import annotations

import asyncio
import json

from attrs import evolve

from mmsclient._transport.adapter import Poster as HTTPPoster
from mmsclient._transport.retry import backoff
from mmsclient.sandbox.outbox import Job, Outbox
from mmsclient.sandbox.records import Callback
from mmsclient.sandbox.state import State

AT_ONCE = 16
"""Posts under way at a time where their order does not matter; else one."""

TIMEOUT = 15.0
"""Seconds for one post."""

LONGEST_PAUSE = 10.0
"""Seconds before a repetition, at most."""

LOOK_AGAIN = 0.02
"""Seconds between two looks at the sandbox's clock, which need not be that of the event loop."""


class Poster:
    """Posts what is due, for as long as its task runs. Belongs to the sandbox's event loop."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: HTTPPoster | None = None

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
            pause = backoff(job.attempt, first=settings.callback_backoff, longest=LONGEST_PAUSE)
            outbox.add(clock() + pause, evolve(job, attempt=job.attempt + 1))
        except Exception as error:
            self._state.errors.append(error)
        finally:
            outbox.done()

    async def _exchange(self, callback: Callback) -> int | None:
        """Post it, and return the status that came; None where none did."""
        if self._http is None:
            self._http = HTTPPoster(timeout=TIMEOUT)
        alone = callback.kind == "inbound" and self._state.settings.inbound_shape == "object"
        body = json.dumps(callback.item if alone else [callback.item]).encode()
        return await self._http.post(callback.url, body)
