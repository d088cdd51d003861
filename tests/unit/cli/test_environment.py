"""One set of environment variables for the library and the command; and everything says which host it speaks to."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from mmsclient import AsyncMMSClient, ConfigurationError, NotSentError, OutcomeUnknownError, TransportError
from mmsclient.sandbox import Sandbox, faults
from tests.conftest import PNG
from tests.support.command import Cli, in_this_process, started, write_authority

README = (Path(__file__).parent.parent.parent.parent / "README.md").read_text(encoding="utf-8")
PRODUCTION = "https://cellcast.com.au/api/v3"
KEY, URL, CA = "MMSCLIENT_APP_KEY", "MMSCLIENT_BASE_URL", "MMSCLIENT_CA_FILE"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours but those that a test sets."""
    for name in (URL, CA):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(KEY, "a-key")


@pytest.fixture
def authority(sandbox: Sandbox, tmp_path: Path) -> Path:
    """The PEM file of the certificate authority of `sandbox`."""
    return write_authority(sandbox, tmp_path / "ca.pem")


# What the variables do ----------------------------------------------------------------------------------------------


@pytest.fixture
def environment(sandbox: Sandbox, authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ((KEY, sandbox.app_key), (URL, sandbox.url), (CA, str(authority))):
        monkeypatch.setenv(name, value)


async def test_the_client_obeys_all_three(environment: None, sandbox: Sandbox) -> None:
    async with AsyncMMSClient() as mms:
        assert (await mms.account()).name == "Sandbox"
    assert mms.base_url == sandbox.url


async def test_an_argument_wins(environment: None, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "wrong")
    monkeypatch.setenv(URL, "nonsense")
    monkeypatch.setenv(CA, "/nonexistent")
    async with AsyncMMSClient(sandbox.app_key, base_url=sandbox.url, verify=sandbox.ssl_context) as mms:
        assert (await mms.account()).name == "Sandbox"


async def test_true_is_the_usual_authorities(environment: None, impatient: None) -> None:
    async with AsyncMMSClient(verify=True) as mms:
        with pytest.raises(NotSentError, match="CERTIFICATE_VERIFY_FAILED"):
            await mms.account()


async def test_an_injected_client_brings_its_own_certificates(
    environment: None, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CA, "/nonexistent")
    async with (
        httpx.AsyncClient(verify=sandbox.ssl_context or True, trust_env=False) as pool,
        AsyncMMSClient(http_client=pool) as mms,
    ):
        assert (await mms.account()).name == "Sandbox"


async def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "")
    monkeypatch.setenv(CA, "")
    async with AsyncMMSClient() as mms:
        assert mms.base_url == PRODUCTION
    monkeypatch.setenv(KEY, "")
    with pytest.raises(ConfigurationError, match=f"^app_key: expected an APPKEY, here or in {KEY}; got none$"):
        AsyncMMSClient()


async def test_a_file_that_no_connection_needs_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CA, "/nonexistent")
    async with AsyncMMSClient(base_url="http://127.0.0.1:1"):
        pass


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (KEY, "two words", "expected printable ASCII"),
        (KEY, "a:colon", "HTTP Basic cannot carry a colon"),
        (URL, "nonsense", "expected https://host/path"),
        (URL, "http://example.com", "expected https, got http to example.com"),
        (URL, "https://host:port", "expected https://host/path"),
        (CA, "/nonexistent", "No such file or directory: /nonexistent"),
        (CA, __file__, "no PEM certificate in "),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        AsyncMMSClient()
    assert str(caught.value).startswith(f"{name}: {said}")
    if name == KEY:
        assert value not in str(caught.value)


def test_the_command_says_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cli: Cli = in_this_process("no key", capsys)
    monkeypatch.setenv(URL, "nonsense")
    outcome = cli("account")
    assert (outcome.status, outcome.error) == (2, f"{URL}: expected https://host/path")
    monkeypatch.setenv(URL, "")
    monkeypatch.setenv(CA, "/nonexistent")
    assert cli("account").error == f"{CA}: No such file or directory: /nonexistent"


# What `mmsclient sandbox` prints --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["--tls", "--no-tls"])
def test_its_exports_lead_the_readmes_first_example_to_the_sandbox(tmp_path: Path, tls: str) -> None:
    (tmp_path / "sale.gif").write_bytes(PNG)
    (tmp_path / "example.py").write_text(re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[0])
    with started("sandbox", "--port", "0", tls) as process:
        assert process.stdout
        introduction = list(iter(process.stdout.readline, "Calls as they come; Ctrl-C ends it.\n"))
        exports = [line.split(maxsplit=1)[1] for line in introduction if line.startswith("  export ")]
        settings = dict(word.split("=", 1) for line in exports for word in shlex.split(line))
        assert set(settings) == {KEY, URL, CA} - ({CA} if tls == "--no-tls" else set())
        bare = {name: value for name, value in os.environ.items() if not name.startswith("MMSCLIENT_")}
        example = subprocess.run(
            [sys.executable, "example.py"],
            cwd=tmp_path,
            env=bare | settings,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (example.returncode, example.stderr) == (0, "")
        assert example.stdout.startswith("2 of 2 for 2 ")
        seen = process.stdout.readline() + process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert "200  send-mms" in seen


# The host -------------------------------------------------------------------------------------------------------------


async def test_the_host_stands_in_the_repr() -> None:
    async with AsyncMMSClient("a-key", base_url="https://mms.example.com/v3") as mms:
        pass
    assert repr(mms) == "<AsyncMMSClient https://mms.example.com/v3>"


async def ask(mms: AsyncMMSClient, call: str) -> None:
    await (mms.account() if call == "account" else mms.send(to="+61400000000", text="Hi", image=PNG))


@pytest.mark.parametrize(
    ("fault", "call", "kind"),
    [
        (faults.Reset(carried_out=False), "account", TransportError),
        (faults.Reset(carried_out=True), "send-mms", OutcomeUnknownError),
        (faults.bad_gateway(), "send-mms", OutcomeUnknownError),
    ],
)
async def test_the_host_stands_in_every_connection_error(
    sandbox: Sandbox, impatient: None, fault: Any, call: str, kind: type[TransportError]
) -> None:
    sandbox.faults.add(fault, call=call)
    async with sandbox.client(rate=None, max_attempts=2) as mms:
        with pytest.raises(TransportError) as caught:
            await ask(mms, call)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{call} at 127.0.0.1:{sandbox.port}: ")


@pytest.mark.parametrize("call", ["account", "send-mms"])
async def test_the_host_stands_in_the_error_of_a_connection_that_was_refused(sandbox: Sandbox, call: str) -> None:
    async with sandbox.client(max_attempts=1) as mms:
        with sandbox.refusing(), pytest.raises(NotSentError) as caught:
            await ask(mms, call)
    assert str(caught.value).startswith(f"{call} at 127.0.0.1:{sandbox.port}: ")
