"""A real redis-server for the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    pass


class Server:
    """A `redis-server` on a free port of this machine."""

    def __init__(self, *options: str, tls: bool = False) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            missing = "redis-server is not on the PATH (Debian: apt-get install redis-server)"
            if os.environ.get("CI"):
                pytest.fail(missing)
            pytest.skip(missing)
        self.directory = tempfile.mkdtemp(prefix="mmsclient-redis-")
        self.port = free_port()
        plain = ["--port", "0", "--tls-port", str(self.port)] if tls else ["--port", str(self.port)]
        fixed = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.directory]
        self._command = [binary, *plain, *fixed, *options]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        with Path(self.directory, "log").open("w") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)  # noqa: S603
        for _ in range(1000):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        said = Path(self.directory, "log").read_text()
        self.stop()
        raise RuntimeError(f"redis-server did not start:\n{said}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    """One that leaves room for the port of a cluster's bus, 10 000 higher."""
    while True:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            if (port := int(sock.getsockname()[1])) <= 55_535:
                return port
