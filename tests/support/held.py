"""A server that carries calls out at once, and answers them when the test allows it."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

from mmsclient.sandbox.exchange import Exchange, RawAnswer
from mmsclient.sandbox.faults import Fault


class Held(Fault):
    """No answer before `answer` is set. A fault that is added after it strikes then."""

    stacks: ClassVar[bool] = True

    def __init__(self) -> None:
        self.answer = threading.Event()

    async def after(self, exchange: Exchange, answer: RawAnswer) -> RawAnswer:
        while not self.answer.is_set():  # noqa: ASYNC110 - it is set in another thread
            await asyncio.sleep(0.005)
        return answer
