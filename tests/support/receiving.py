"""A process that receives callbacks: uvicorn with a receiver in one of several frameworks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from attrs import define

from mmsclient.models import DeliveryReport, InboundMessage
from mmsclient.webhooks import CallbackReceiver
from tests.support.waiting import until

TOKEN = "the-token-of-the-server-tests"  # noqa: S105


def app() -> Any:
    """For uvicorn's `--factory`: the framework and the folder stand in the environment."""
    folder = Path(os.environ["RECEIVER_FOLDER"])
    receiver = CallbackReceiver(
        token=TOKEN,
        seen=folder / "seen.sqlite" if os.environ["RECEIVER_SEEN"] else None,
        timeout=float(os.environ.get("RECEIVER_TIMEOUT", "10")),
    )
    handled = (folder / "handled").open("ab", buffering=0)

    async def take_report(report: DeliveryReport) -> None:
        if report.status == "Rejected":
            while not (folder / "go on").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        handled.write(f"{report.message_id} {report.status}\n".encode())

    if os.environ["RECEIVER_REPORTS"]:
        receiver.on_delivery_report(take_report)

    @receiver.on_inbound
    def take_message(message: InboundMessage) -> None:
        handled.write(f"{message.id} reply\n".encode())

    return mounted(receiver, os.environ["RECEIVER_FRAMEWORK"])


def mounted(receiver: CallbackReceiver, framework: str) -> Any:
    """`receiver` under /mms of an app, or alone."""
    if framework == "alone":
        return receiver

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with receiver:
            yield

    if framework == "fastapi":
        from fastapi import FastAPI  # noqa: PLC0415

        api = FastAPI(lifespan=lifespan)
        api.mount("/mms", receiver)
        return api
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.routing import Mount  # noqa: PLC0415

    return Starlette(routes=[Mount("/mms", receiver)], lifespan=lifespan)


@define
class Process:
    """uvicorn with `app`, on the same port every time."""

    framework: str
    folder: Path
    port: int
    options: tuple[str, ...] = ()
    seen: bool = True
    reports: bool = True
    timeout: float = 10.0
    running: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mms/{TOKEN}"

    @property
    def handled(self) -> Counter[str]:
        file = self.folder / "handled"
        return Counter(file.read_text().splitlines()) if file.exists() else Counter()

    def start(self) -> None:
        """Start it, and come back when it listens."""
        settings = {
            "RECEIVER_FRAMEWORK": self.framework,
            "RECEIVER_FOLDER": str(self.folder),
            "RECEIVER_SEEN": "1" if self.seen else "",
            "RECEIVER_TIMEOUT": str(self.timeout),
            "RECEIVER_REPORTS": "1" if self.reports else "",
        }
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "tests.support.receiving:app",
            "--factory",
            "--no-access-log",
        ]
        log = (self.folder / "log").open("a")
        with log:
            self.running = subprocess.Popen(  # noqa: S603 -- our own command
                [*command, "--port", str(self.port), *self.options],
                env=os.environ | settings,
                cwd=Path(__file__).parent.parent.parent,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        until(lambda: not self.refuses())

    def refuses(self) -> bool:
        assert self.running
        assert self.running.poll() is None, self.log
        with closing(socket.socket()) as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) != 0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal, wait until it has ended, and see to it that its workers have, too."""
        if self.running is not None:
            try:
                self.running.send_signal(number)
                self.running.wait(timeout=60)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(self.running.pid, signal.SIGKILL)
                self.running.wait()
            self.running = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()
