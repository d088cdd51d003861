"""`mmsclient listen`, whose reader goes away."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import httpx
import pytest

from mmsclient.cli.status import Status
from tests.support.command import started

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
