"""`mmsclient listen`: the receiver of callbacks in a terminal."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import shutil
import socket
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import uvicorn
from attrs import define

from mmsclient import MMSError, _environment
from mmsclient._api.checks import keeps_arguments_secret
from mmsclient._words import counted
from mmsclient.cli.connection import key_in, warnings_shown
from mmsclient.cli.monitoring import NONE, Monitor, Monitoring
from mmsclient.cli.output import Form, printable, to_json
from mmsclient.cli.sending import Printing
from mmsclient.cli.serve import signals
from mmsclient.cli.signals import SignalledError
from mmsclient.cli.status import UsageError
from mmsclient.cli.stdio import OutputLostError
from mmsclient.models import DeliveryReport
from mmsclient.observe import Observer
from mmsclient.webhooks import CallbackReceiver, Event, new_token

TIMEOUT = 30.0
"""Seconds that the sender is kept waiting for a command."""


async def listen(
    *,
    host: str,
    port: int,
    token_file: Path | None,
    seen: str | None,
    command: str,
    form: Form,
    monitoring: Monitoring = NONE,
) -> None:
    """Receive until SIGINT or SIGTERM."""
    arguments = _arguments(command)
    monitor = Monitor(monitoring)
    receiver, path = _receiver(token_file, seen, monitor.observer)
    listener = _bound(host, port)
    config = uvicorn.Config(receiver, lifespan="on", ws="none", log_config=None, access_log=False, server_header=False)
    printing = Printing()
    server = _Server(config, printing)
    desk = Desk(arguments, form, server, printing)
    receiver.on_delivery_report(desk.take)
    receiver.on_inbound(desk.take)

    async def works() -> bool:
        return not server.should_exit and await receiver.is_healthy()

    # uvicorn raises the signal that has stopped it once more at its end, which `signals` then takes.
    with listener, signals() as stopping, warnings_shown():
        _introduce(f"http://{host}:{listener.getsockname()[1]}/{path}", form)
        async with monitor.serving(works):
            await server.serve(sockets=[listener])
    if form is not Form.JSON:
        await printing.do(print, f"Stopped after {counted(desk.count, 'event')}.")
    if printing.is_over:
        raise printing.error or SignalledError(stopping())


class _Server(uvicorn.Server):
    """Once a signal has come, the reader of stdout has not for ever."""

    def __init__(self, config: uvicorn.Config, printing: Printing) -> None:
        super().__init__(config)
        self._hurry = partial(asyncio.get_running_loop().call_soon_threadsafe, printing.hurry)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come."""
        super().handle_exit(sig, frame)
        self._hurry()


@keeps_arguments_secret
def _receiver(token_file: Path | None, seen: str | None, observer: Observer | None) -> tuple[CallbackReceiver, str]:
    """A receiver, and the end of its address to show: a token that was given stays hidden."""
    given = key_in(token_file, "--token-file") if token_file else _environment.setting(_environment.CALLBACK_TOKEN)
    token = given or new_token()
    receiver = CallbackReceiver(token=token, seen=seen, timeout=TIMEOUT, observer=observer)
    return receiver, "<token>" if given else token


@define
class Desk:
    """Runs the command for each event, and prints it."""

    command: list[str]
    form: Form
    server: uvicorn.Server
    printing: Printing
    count: int = 0

    async def take(self, event: Event) -> None:
        """Handle one event. What it raises makes the receiver ask for the event again; not once the command has run."""
        document = to_json(_document(event))
        if self.command:
            await _run(self.command, document)
        line = document if self.form is Form.JSON else _line(event)
        if not await self.printing.do(partial(print, line, flush=True)):
            self.server.should_exit = True
            if not self.command:
                raise self.printing.error or OutputLostError(errno.ETIMEDOUT, "nobody reads it")
        self.count += 1


class CommandFailedError(MMSError):
    """The command of `--exec` ended with another status than 0."""


async def _run(command: list[str], document: str) -> None:
    secrets = (_environment.APP_KEY, _environment.CALLBACK_TOKEN)
    others = {name: value for name, value in os.environ.items() if name not in secrets}
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, env=others)
    await process.communicate(f"{document}\n".encode())
    if process.returncode:
        raise CommandFailedError(f"--exec: the command ended with status {process.returncode}")


def _document(event: Event) -> dict[str, Any]:
    kind = "delivery_report" if isinstance(event, DeliveryReport) else "inbound_message"
    fields = attrs.asdict(event, recurse=False, filter=lambda attribute, _: attribute.name != "raw")
    return {"event": kind, **fields}


def _line(event: Event) -> str:
    if isinstance(event, DeliveryReport):
        return "\t".join(map(printable, ("report", event.recipient, event.status, event.message_id)))
    return "\t".join(map(printable, ("message", event.sender, event.text, event.original_message_id))).rstrip()


def _introduce(url: str, form: Form) -> None:
    if form is Form.JSON:
        print(to_json({"event": "ready", "url": url}), flush=True)
        return
    print(f"Listening. What the provider posts to must lead here, over HTTPS:\n\n  {url}\n")
    print("Delivery reports and messages as they come; Ctrl-C ends it.", flush=True)


def _arguments(command: str) -> list[str]:
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--exec: {error}") from None
    if arguments and shutil.which(arguments[0]) is None:
        raise UsageError(f"--exec: there is no command {arguments[0]}")
    return arguments


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise UsageError(f"--port: expected 0 to 65535, got {port}")
    if not host:  # all addresses, to a socket
        raise UsageError("--host: expected a host's name or address, got nothing")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, proto=socket.IPPROTO_TCP)  # said, or asyncio leaves TCP_NODELAY off
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise UsageError(f"--port: {error.strerror}") from None
    return bound
