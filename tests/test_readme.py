"""The README's Python runs, against the sandbox; its tables say what the code says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import mmsclient
from mmsclient import errors
from mmsclient.sandbox import Ending, Sandbox
from mmsclient.webhooks import CallbackReceiver, new_token
from tests.conftest import PNG

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.strip().splitlines()[0][:50] for block in BLOCKS])
def test_the_python_blocks_run(block: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sale.gif").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    with Sandbox(tls=True) as sandbox:
        sandbox.add_replies(30)
        sandbox.add_template("Sale", "Sale on now")
        monkeypatch.setenv("MMSCLIENT_APP_KEY", sandbox.app_key)
        monkeypatch.setenv("MMSCLIENT_CALLBACK_TOKEN", new_token())

        class LocalClient(mmsclient.AsyncMMSClient):
            """The README speaks of the service; here it is the sandbox."""

            def __init__(self, *args: Any, **options: Any) -> None:
                verify = {} if "http_client" in options else {"verify": sandbox.ssl_context}
                super().__init__(*args, **{"base_url": sandbox.url, **verify, **options})

        monkeypatch.setattr(mmsclient, "AsyncMMSClient", LocalClient)
        code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names: dict[str, Any] = {}
        if not code.co_flags & inspect.CO_COROUTINE:
            exec(code, names)  # noqa: S102

        async def main() -> None:
            if code.co_flags & inspect.CO_COROUTINE:
                async with LocalClient() as names["mms"]:
                    await eval(code, names)  # noqa: S307
            for value in names.values():
                if isinstance(value, CallbackReceiver):
                    await value.aclose()

        asyncio.run(main())
        assert sandbox.errors == []


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 7


def test_the_table_of_endings_is_the_codes() -> None:
    rows = dict(re.findall(r"^\| (\d{4}) \| (.*?) \|$", README, re.MULTILINE))
    assert rows == {ending.value: ending.description for ending in Ending}


def test_every_error_stands_in_the_table() -> None:
    table = README[README.index("## Errors") : README.index("## What is repeated")]
    assert set(errors.__all__) - {"MMSError"} <= set(re.findall(r"`(\w+Error)`", table))


def test_the_numbers_in_the_text_are_the_codes() -> None:
    from mmsclient import client, retry  # noqa: PLC0415

    assert (client.MAX_ATTEMPTS, client.MAX_IN_FLIGHT, client.RATE) == (4, 64, 15)
    assert (retry.FIRST_WAIT, retry.LONGEST_WAIT, retry.TOTAL, retry.LONGEST_RETRY_AFTER) == (0.5, 8, 120, 60)
    for text in ("`max_in_flight=` (64)", "At most four attempts", "two minutes", "from 0.5 to 8 seconds", "a minute"):
        assert text in README
