"""`mmsclient sandbox`: the sandbox in a terminal."""

from __future__ import annotations

import shlex
import signal
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from mmsclient import _environment
from mmsclient._words import counted
from mmsclient.cli import stdio
from mmsclient.cli.output import Form, printable, show_facts, to_json
from mmsclient.cli.signals import SignalledError
from mmsclient.cli.status import UsageError
from mmsclient.sandbox import Arrival, Callback, Ending, Sandbox, Send

TICK = 0.1
NO_ANSWER_AFTER = 30.0
"""Seconds after which a call that was not answered is shown as such."""


def serve(
    *,
    port: int,
    tls: bool,
    rate: int,
    replies: int,
    balance: str,
    magic: bool,
    callback_url: str | None,
    form: Form,
) -> None:
    """Serve until SIGINT or SIGTERM."""
    _check("--port", port, 0 <= port <= 65535, "0 to 65535")
    _check("--rate", rate, rate >= 1, "1 or more")
    _check("--replies", replies, replies >= 0, "0 or more")
    credit = _credits(balance)
    _check("--balance", balance, credit.is_finite(), "a number of credits")
    is_url = callback_url is None or callback_url.startswith(("http://", "https://"))
    _check("--callback-url", callback_url, is_url, "an http or https URL")
    served = Sandbox(
        port=port, tls=tls, rate=rate, magic=magic, callback_url=callback_url, sms_balance=credit, mms_balance=credit
    )
    with signals() as stopping, _running(served) as sandbox, _authority_file(sandbox.ssl_context) as ca_file:
        sandbox.add_replies(replies)
        _print(partial(_introduce, sandbox, ca_file, form), stopping)
        watcher = _Watcher(sandbox, form)
        while not stopping():
            time.sleep(TICK)
            _print(watcher.look, stopping)
        if form is not Form.JSON:
            sent = len(sandbox.mms.messages) + len(sandbox.sms.messages)
            calls, messages = counted(len(sandbox.arrivals), "call"), counted(sent, "message")
            _print(partial(print, f"Stopped after {calls} and {messages}.", flush=True), stopping)


def _print(job: Callable[[], object], stopping: Callable[[], int]) -> None:
    """Run `job`, which prints. Raises `SignalledError` where nobody reads it and a signal has asked to stop."""
    printing = stdio.STDOUT.submit(job)
    while not printing.done() and not stopping():
        wait([printing], TICK)
    if not wait([printing], stdio.GRACE).done:
        raise SignalledError(stopping())
    printing.result()


def _credits(text: str) -> Decimal:
    """A number; not a finite one where `text` is none."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("nan")


def _check(option: str, value: object, ok: bool, expected: str) -> None:
    if not ok:
        raise UsageError(f"{option}: expected {expected}, got {value}")


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
def signals() -> Iterator[Callable[[], int]]:
    """Answers which signal has asked to stop; 0 where none has."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came[0] if came else 0
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
    """Where it is, how to point programs at it, and what the magic numbers do."""
    endings = {ending.value: ending.description for ending in Ending} if sandbox.settings.magic else {}
    if form is Form.JSON:
        _print_json(
            event="ready",
            url=sandbox.url,
            app_key=sandbox.app_key,
            ca_file=None if ca_file is None else str(ca_file),
            endings=endings,
        )
        return
    settings = {_environment.BASE_URL: sandbox.url, _environment.APP_KEY: sandbox.app_key}
    if ca_file is not None:
        settings[_environment.CA_FILE] = str(ca_file)
    print("The sandbox is up. In another terminal, for the library and the command alike:\n")
    print("\n".join(f"  export {name}={shlex.quote(value)}" for name, value in settings.items()))
    print("  mmsclient account\n")
    if endings:
        print("Numbers that end in these digits, such as +61400009901:\n")
        if form is Form.TABLE:
            show_facts(endings, form)
        else:
            print("\n".join(f"  {digits}  {meaning}" for digits, meaning in endings.items()))
        print()
    if sandbox.settings.callback_url is not None:
        print(f"Delivery reports and replies go to {printable(sandbox.settings.callback_url)}\n")
    print("Calls as they come; Ctrl-C ends it.", flush=True)


class _Watcher:
    """Prints the calls and callbacks that were answered, and the sends that were carried out, since it last looked."""

    def __init__(self, sandbox: Sandbox, form: Form) -> None:
        self._sandbox = sandbox
        self._form = form
        self._calls_seen = 0
        self._mms_seen = 0
        self._sms_seen = 0
        self._callbacks_seen = 0
        self._open: list[Arrival | Callback] = []

    def look(self) -> None:
        """Print what is new."""
        mms, sms = self._sandbox.mms.sends[self._mms_seen :], self._sandbox.sms.sends[self._sms_seen :]
        calls = self._sandbox.arrivals[self._calls_seen :]
        callbacks = self._sandbox.callbacks[self._callbacks_seen :]
        self._mms_seen += len(mms)
        self._sms_seen += len(sms)
        self._calls_seen += len(calls)
        self._callbacks_seen += len(callbacks)
        for send in sorted([*mms, *sms], key=lambda send: send.at):
            self._show_send(send)
        waiting, self._open = [*self._open, *calls, *callbacks], []
        for each in waiting:
            if each.status is None and self._sandbox.clock() - each.at < NO_ANSWER_AFTER:
                self._open.append(each)
            elif isinstance(each, Callback):
                self._show_callback(each)
            else:
                self._show_call(each)

    def _show_call(self, call: Arrival) -> None:
        if self._form is Form.JSON:
            at = self._time(call.at)
            _print_json(event="call", at=at, call=call.call, http_status=call.status, throttled=call.throttled)
            return
        note = "  throttled" if call.throttled else ""
        print(f"{self._time(call.at):%H:%M:%S}  {call.status or '---'}  {printable(call.call)}{note}", flush=True)

    def _show_callback(self, callback: Callback) -> None:
        at, item = self._time(callback.at), callback.item
        if self._form is Form.JSON:
            _print_json(
                event="callback",
                at=at,
                kind=callback.kind,
                item=item,
                http_status=callback.status,
                attempt=callback.attempt,
            )
            return
        what = (
            f"{item['recipient']} {item['status']}" if callback.kind == "report" else f"{item['from']} {item['body']!r}"
        )
        again = f"  attempt {callback.attempt}" if callback.attempt > 1 else ""
        print(f"{at:%H:%M:%S}  {callback.status or '---'}  callback: {printable(what)}{again}", flush=True)

    def _show_send(self, send: Send) -> None:
        if self._form is Form.JSON:
            _print_json(
                event="send",
                kind=send.kind,
                at=self._time(send.at),
                text=send.text,
                subject=send.subject,
                image_size=send.image_size,
                recipients=send.recipients,
                refused=send.refused,
            )
            return
        accepted, refused = len(send.recipients), len(send.refused)
        picture = f", a picture of {send.image_size} bytes" if send.kind == "mms" else ""
        later = f", to go out at {self._time(send.due):%Y-%m-%d %H:%M:%S}" if send.due > send.at else ""
        said = f"{accepted} accepted, {refused} refused: {send.text[:40]!r}{picture}{later}"
        name = "send" if send.kind == "mms" else "SMS"
        print(f"{self._time(send.at):%H:%M:%S}  {name} {send.number}: {said}", flush=True)

    def _time(self, at: float) -> datetime:
        """The time of day at `at` by the sandbox's clock."""
        return datetime.fromtimestamp(time.time() - (self._sandbox.clock() - at)).astimezone()


def _print_json(**event: Any) -> None:
    print(to_json(event), flush=True)
