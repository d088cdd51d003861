"""The command `mmsclient` for the tests: run in this process, or started in one of its own."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mmsclient.cli import main
from mmsclient.sandbox import Sandbox

ACCOUNT = "the-name-of-the-account"
"""Under which processes share a cap: it may be a key."""
COMMAND = [sys.executable, "-W", "error", "-m", "mmsclient"]


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        """Stdout as a JSON document a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> str:
        """The one line on stderr."""
        (line,) = self.err.splitlines()
        assert line.startswith("mmsclient: ")
        return line.removeprefix("mmsclient: ")


Cli = Callable[..., Outcome]


def in_this_process(key: str, capsys: pytest.CaptureFixture[str], *more: str) -> Cli:
    """Runs the command. What it prints never holds `key` or `more` secrets, nor a traceback."""

    def run(*arguments: str) -> Outcome:
        status = main(arguments)
        out, err = capsys.readouterr()
        assert not [secret for secret in (key, *more) if secret in out + err]
        assert "Traceback" not in err
        return Outcome(status, out, err)

    return run


def write_authority(sandbox: Sandbox, path: Path) -> Path:
    """Write the certificate authority of `sandbox`, for MMSCLIENT_CA_FILE."""
    assert sandbox.ssl_context
    path.write_text("".join(map(ssl.DER_cert_to_PEM_cert, sandbox.ssl_context.get_ca_certs(binary_form=True))))
    return path


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, killed at the end if need be."""
    with subprocess.Popen(  # noqa: S603 -- our own command
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            yield process
        finally:
            process.kill()
