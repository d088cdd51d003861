"""The task that posts the sandbox's callbacks (api-notes.md section 4)."""

from __future__ import annotations

import asyncio
import json

import anyio
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
        self._under_way = 0
        self._ended = asyncio.Event()
        """One of those under way has ended."""
        self._http: HTTPPoster | None = None

    async def run(self) -> None:
        """Post until cancelled; what is under way then is dropped."""
        try:
            async with anyio.create_task_group() as posts:  # the HTTP library shields what it closes from its end
                while True:
                    outbox = self._state.outbox
                    for job in outbox.due(self._state.clock()):
                        await self._make_room()
                        self._under_way += 1
                        posts.start_soon(self._post, job, outbox)
                    await asyncio.sleep(LOOK_AGAIN)
        finally:
            if self._http is not None:
                await self._http.aclose()

    async def _make_room(self) -> None:
        most = AT_ONCE if self._state.settings.disorder else 1
        while self._under_way >= most:
            self._ended.clear()
            await self._ended.wait()

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
            self._under_way -= 1
            self._ended.set()

    async def _exchange(self, callback: Callback) -> int | None:
        """Post it, and return the status that came; None where none did."""
        if self._http is None:
            self._http = HTTPPoster(timeout=TIMEOUT)
        alone = callback.kind == "inbound" and self._state.settings.inbound_shape == "object"
        body = json.dumps(callback.item if alone else [callback.item]).encode()
        return await self._http.post(callback.url, body)
