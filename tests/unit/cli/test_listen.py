"""`mmsclient listen` and `mmsclient sandbox`, whose reader goes away, or takes nothing any more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from mmsclient.cli.status import Status
from tests.support.command import COMMAND, started
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such pipes there")


def post(url: str) -> int:
    """The status that the sender of a report gets."""
    report = {"message_id": "m1", "status": "Delivered", "recipient": "61400000000"}
    return httpx.post(url, json=[report], trust_env=False, timeout=60).status_code


def test_a_command_that_has_run_does_not_run_again_though_its_event_could_not_be_printed(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    note = f"{sys.executable} -c 'import sys; open(sys.argv[1], \"a\").write(sys.stdin.read())' {noted}"
    for is_first in (True, False):  # as a service manager starts it again
        with started("listen", "--json", "--port", "0", "--exec", note, "--seen", str(tmp_path / "seen")) as process:
            assert process.stdout
            url = json.loads(process.stdout.readline())["url"]
            process.stdout.close()
            assert post(url) == 200
            process.stdout = None
            if is_first:
                assert process.wait(timeout=60) == Status.OUTPUT_LOST
    assert len(noted.read_text().splitlines()) == 1


def test_an_event_that_could_not_be_printed_is_asked_for_again_where_there_is_no_command() -> None:
    with started("listen", "--json", "--port", "0") as process:
        assert process.stdout
        url = json.loads(process.stdout.readline())["url"]
        process.stdout.close()
        assert post(url) == 503
        process.stdout = None
        assert process.wait(timeout=60) == Status.OUTPUT_LOST


@contextmanager
def full(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command and its URL, whose stdout takes no more once it has introduced itself."""
    reading, writing = os.pipe()
    command = [*COMMAND, *arguments]
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            url = json.loads(os.read(reading, 65536))["url"]
            os.set_blocking(writing, False)
            with suppress(BlockingIOError):
                while True:
                    os.write(writing, b"\n")
            os.set_blocking(writing, True)
            yield process, url
        finally:
            process.kill()
            os.close(reading)
            os.close(writing)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_sandbox_though_nobody_reads_its_output(number: signal.Signals) -> None:
    with full("sandbox", "--json", "--port", "0") as (process, url):
        for _ in range(3):
            httpx.get(f"{url}/account", headers={"APPKEY": "sandbox-app-key"}, trust_env=False, timeout=60)
        process.send_signal(number)
        assert process.wait(timeout=60) == Status.of_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_listen_though_nobody_reads_its_output(tmp_path: Path, number: signal.Signals) -> None:
    ran = tmp_path / "ran"
    with (
        full("listen", "--json", "--port", "0", "--exec", f"touch {ran}") as (process, url),
        ThreadPoolExecutor() as others,
    ):
        posting = others.submit(post, url)
        until(ran.exists)
        elsewhere = httpx.get(url.rpartition("/")[0], trust_env=False, timeout=60)
        assert elsewhere.status_code == 404  # meanwhile it answers others
        process.send_signal(number)
        assert process.wait(timeout=60) == Status.of_signal(number)
        assert posting.result() == 200
