"""Packages that are not installed: one kind of error everywhere, which says how to get them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmsclient import ConfigurationError
from mmsclient._extras import install_command, needed

BLOCK = "import sys; sys.modules[{module!r}] = None; "


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


@pytest.mark.parametrize(
    ("module", "code", "extra"),
    [
        ("redis", "from mmsclient import SharedTokenBucket; SharedTokenBucket('redis://x', account='a')", "redis"),
        ("phonenumbers", "from mmsclient.bulk import read_csv; read_csv('x.csv', region='NZ')", "cli"),
        ("starlette", "from mmsclient.sandbox import Sandbox", "sandbox"),
        ("psycopg", "from mmsclient._store.stores import store_at; store_at('postgresql:///x', 'spring')", "postgres"),
        ("opentelemetry", "import mmsclient.observe.otel", "otel"),
        ("prometheus_client", "import mmsclient.observe.prometheus", "prometheus"),
        ("PIL", "from mmsclient.pictures import fit; fit(b'GIF89a')", "images"),
        ("psycopg", "from mmsclient import AsyncMMSClient; AsyncMMSClient('k', ledger='postgresql:///x')", "postgres"),
        ("trustme", "import mmsclient.sandbox; mmsclient.sandbox.Sandbox", "sandbox"),
        ("python_multipart", "from mmsclient.sandbox import Sandbox", "sandbox"),
    ],
)
def test_the_library_without_an_extra(module: str, code: str, extra: str) -> None:
    process = run(BLOCK.format(module=module) + code)
    assert process.returncode == 1
    *_, line = process.stderr.splitlines()
    assert line.startswith("mmsclient.errors.ConfigurationError: ")
    assert line.endswith(f" needs {module}; install the extra: {install_command(extra)}")


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("cyclopts", ["demo"], "cli"),
        ("rich", ["demo"], "cli"),
        ("trustme", ["demo"], "sandbox"),
        ("starlette", ["sandbox"], "sandbox"),
        ("uvicorn", ["listen"], "sandbox"),
        ("prometheus_client", ["listen", "--metrics-port", "0"], "prometheus"),
    ],
)
def test_the_command_without_an_extra(module: str, arguments: list[str], extra: str) -> None:
    process = run(BLOCK.format(module=module) + f"from mmsclient.cli import main; sys.exit(main({arguments!r}))")
    assert (process.returncode, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    assert line.startswith("mmsclient: ")
    assert line.endswith(f" needs {module}; install the extra: {install_command(extra)}")


def test_a_module_of_ours_that_is_missing_is_a_defect_and_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError), needed("cli", "this"):
        import mmsclient.nowhere  # type: ignore[import-not-found]  # noqa: PLC0415, F401


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'mmsclient[redis]'"),
        ({"url": "file:///a%20b/c", "dir_info": {"editable": True}}, "pip install -e '/a b/c[redis]'"),
        ({"url": "file:///a/b", "dir_info": {}}, "pip install 'mmsclient[redis] @ file:///a/b'"),
        (
            {"url": "https://example.com/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'mmsclient[redis] @ git+https://example.com/x.git@abc'",
        ),
        ("nonsense", "pip install 'mmsclient[redis]'"),
    ],
)
def test_an_extra_comes_from_where_the_package_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: Any, command: str
) -> None:
    installed = tmp_path / "mmsclient-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mmsclient\nVersion: 1\n")
    if origin is not None:
        (installed / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(tmp_path)
    assert install_command("redis") == command


def test_the_error_is_one_of_ours() -> None:
    with pytest.raises(ConfigurationError, match="this needs nowhere; install the extra: "), needed("cli", "this"):
        import nowhere  # type: ignore[import-not-found]  # noqa: PLC0415, F401
