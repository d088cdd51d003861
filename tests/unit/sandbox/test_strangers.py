"""Programs in other languages, written from the vendor's pages alone, take the sandbox for the service."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mmsclient.sandbox import Sandbox

PROGRAMS = Path(__file__).parents[2] / "support" / "strangers"
STRANGERS = {"curl": ["sh", "client.sh"], "ruby": ["ruby", "client.rb"], "php": ["php", "client.php"]}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_strangers_program_sends_and_reads(name: str, tmp_path: Path) -> None:
    program, script = STRANGERS[name]
    if shutil.which(name) is None or shutil.which(program) is None:
        pytest.skip(f"{name} is not installed")
    picture = tmp_path / "a.gif"
    picture.write_bytes(b"GIF89a and so on")
    with Sandbox(rate=None) as sandbox:
        for statuses in ("documented", "always 200"):
            sandbox.reset()
            sandbox.settings.statuses = statuses
            for number in range(26):  # two pages
                sandbox.add_reply(f"+614000000{number:02}", kind="sms")
            sandbox.add_opt_out("+61400000009")
            sandbox.add_template("Sale", "Sale on now")
            environment = {"BASE_URL": sandbox.url, "APPKEY": sandbox.app_key, "PICTURE": str(picture)}
            ended = run([program, str(PROGRAMS / script)], environment)
            assert (ended.returncode, ended.stderr) == (0, "")
            assert ended.stdout.splitlines() == [
                "sent 2 of 2",
                "message +61400000000",
                "bulk SUCCESS FIELD_EMPTY",
                "mms 1",
                *(f"reply 614000000{number:02}" for number in range(26)),
                "read SUCCESS",
                "template Sale",
                "from template 1",
                "optout +61400000009",
                "balance 999996.00",
                "wrong key AUTH_FAILED",
            ]
            assert sandbox.unread == []
            assert [send.custom_string for send in sandbox.sms.sends] == ["order-1", "", ""]
            assert [send.image_size for send in sandbox.mms.sends] == [16]
        assert sandbox.errors == []


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[Any]:
    """Without the proxies of this machine, which lead elsewhere."""
    inherited = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return subprocess.run(  # noqa: S603
        command, env={**inherited, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
