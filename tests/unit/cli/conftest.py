"""Where the tests of the command run it. A module whose command finds another sandbox has a `service` of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmsclient.sandbox import Sandbox
from tests.conftest import PNG
from tests.support.command import ACCOUNT, Cli, in_this_process, write_authority
from tests.support.postgres_server import PASSWORD


@pytest.fixture
def service(api: Sandbox) -> Sandbox:
    """The sandbox that the command finds."""
    return api


@pytest.fixture
def environment(service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the sandbox by itself."""
    monkeypatch.setenv("MMSCLIENT_APP_KEY", service.app_key)
    monkeypatch.setenv("MMSCLIENT_BASE_URL", service.url)
    monkeypatch.delenv("MMSCLIENT_LEDGER", raising=False)
    if service.ssl_context:
        monkeypatch.setenv("MMSCLIENT_CA_FILE", str(write_authority(service, tmp_path / "ca.pem")))


@pytest.fixture
def folder(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs, with a picture."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sale.png").write_bytes(PNG)
    return tmp_path


@pytest.fixture
def cli(service: Sandbox, folder: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command, in `folder`. It never prints the key, the password of a store or the name of an account."""
    assert folder.is_dir()
    return in_this_process(service.app_key, capsys, PASSWORD, ACCOUNT)
