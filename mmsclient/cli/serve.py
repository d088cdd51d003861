"""`mmsclient sandbox`: the sandbox in a terminal."""

from __future__ import annotations

import signal
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from mmsclient.cli.output import Form, facts_table, printable, to_json
from mmsclient.cli.status import UsageError
from mmsclient.credentials import ENVIRONMENT_VARIABLE
from mmsclient.sandbox import Arrival, Ending, Sandbox, Send

TICK = 0.1
NO_ANSWER_AFTER = 30.0
"""Seconds after which a call that was not answered is shown as such."""


def serve(*, port: int, tls: bool, rate: int, replies: int, form: Form) -> None:
    """Serve until SIGINT or SIGTERM."""
    if not 0 <= port <= 65535:
        raise UsageError(f"--port: expected 0 to 65535, got {port}")
    if rate < 1:
        raise UsageError(f"--rate: expected 1 or more, got {rate}")
    with (
        signals() as stopping,
        _running(Sandbox(port=port, tls=tls, rate=rate)) as sandbox,
        _authority_file(sandbox.ssl_context) as ca_file,
    ):
        sandbox.add_replies(replies)
        _introduce(sandbox, ca_file, form)
        watcher = _Watcher(sandbox, form)
        while not stopping():
            time.sleep(TICK)
            watcher.look()
        if form is not Form.JSON:
            print(f"Stopped after {len(sandbox.arrivals)} calls and {len(sandbox.messages)} messages.")


@contextmanager
def _running(sandbox: Sandbox) -> Iterator[Sandbox]:
    try:
        sandbox.start()
    except OSError as error:
        raise UsageError(f"--port: {error.strerror}") from None
    try:
        yield sandbox
    finally:
        sandbox.stop()


@contextmanager
def signals() -> Iterator[Callable[[], bool]]:
    """Answers whether a signal has asked to stop."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _authority_file(trust: ssl.SSLContext | None) -> Iterator[Path | None]:
    """The certificates that `trust` holds, in a file for `--ca-file`; removed at the end."""
    if trust is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mmsclient-") as folder:
        path = Path(folder, "sandbox-ca.pem")
        path.write_text("".join(map(ssl.DER_cert_to_PEM_cert, trust.get_ca_certs(binary_form=True))))
        yield path


def _introduce(sandbox: Sandbox, ca_file: Path | None, form: Form) -> None:
    """Where it is, how to point the command at it, and what the magic numbers do."""
    endings = {ending.value: ending.description for ending in Ending}
    if form is Form.JSON:
        _print_json(
            event="ready",
            url=sandbox.url,
            app_key=sandbox.app_key,
            ca_file=None if ca_file is None else str(ca_file),
            endings=endings,
        )
        return
    settings = {"MMSCLIENT_BASE_URL": sandbox.url, ENVIRONMENT_VARIABLE: sandbox.app_key}
    if ca_file is not None:
        settings["MMSCLIENT_CA_FILE"] = str(ca_file)
    print("The sandbox is up. In another terminal:\n")
    print("\n".join(f"  export {name}={value}" for name, value in settings.items()))
    print("  mmsclient account\n\nNumbers that end in these digits, such as +61400009901:\n")
    if form is Form.TABLE:
        Console().print(facts_table(endings))
    else:
        print("\n".join(f"  {digits}  {meaning}" for digits, meaning in endings.items()))
    print("\nCalls as they come; Ctrl-C ends it.", flush=True)


class _Watcher:
    """Prints the calls that were answered and the sends that were carried out since it last looked."""

    def __init__(self, sandbox: Sandbox, form: Form) -> None:
        self._sandbox = sandbox
        self._form = form
        self._calls_seen = 0
        self._sends_seen = 0
        self._open: list[Arrival] = []

    def look(self) -> None:
        """Print what is new."""
        sends = self._sandbox.sends[self._sends_seen :]
        calls = self._sandbox.arrivals[self._calls_seen :]
        self._sends_seen += len(sends)
        self._calls_seen += len(calls)
        for send in sends:
            self._show_send(send)
        waiting, self._open = self._open + calls, []
        for call in waiting:
            if call.status is None and self._sandbox.clock() - call.at < NO_ANSWER_AFTER:
                self._open.append(call)
            else:
                self._show_call(call)

    def _show_call(self, call: Arrival) -> None:
        if self._form is Form.JSON:
            at = self._time(call.at)
            _print_json(event="call", at=at, call=call.call, http_status=call.status, throttled=call.throttled)
            return
        note = "  throttled" if call.throttled else ""
        print(f"{self._time(call.at):%H:%M:%S}  {call.status or '---'}  {printable(call.call)}{note}", flush=True)

    def _show_send(self, send: Send) -> None:
        if self._form is Form.JSON:
            _print_json(
                event="send",
                at=self._time(send.at),
                text=send.text,
                subject=send.subject,
                image_size=send.image_size,
                recipients=send.recipients,
                refused=send.refused,
            )
            return
        accepted, refused = len(send.recipients), len(send.refused)
        said = f"{accepted} accepted, {refused} refused: {send.text[:40]!r}, a picture of {send.image_size} bytes"
        print(f"{self._time(send.at):%H:%M:%S}  send {send.number}: {said}", flush=True)

    def _time(self, at: float) -> datetime:
        """The time of day at `at` by the sandbox's clock."""
        return datetime.fromtimestamp(time.time() - (self._sandbox.clock() - at)).astimezone()


def _print_json(**event: Any) -> None:
    print(to_json(event), flush=True)
