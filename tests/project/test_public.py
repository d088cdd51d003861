"""The public names, and what every error promises."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import subprocess
import sys
from difflib import unified_diff
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest

import mmsclient
from mmsclient import errors, models
from mmsclient._transport.credentials import AppKey
from mmsclient.errors import CallError, ConfigurationError, InvalidRequestError, MMSError, one_line
from tools.public_api import SNAPSHOT, public_api

TESTS = Path(__file__).parent.parent
ERRORS = [getattr(errors, name) for name in errors.__all__]


def test_every_exported_name_is_there_and_documented() -> None:
    assert sorted(mmsclient.__all__) == sorted(set(mmsclient.__all__))
    for name in mmsclient.__all__:
        value = getattr(mmsclient, name)
        assert name == "__version__" or value.__doc__, name


def test_the_public_api_changes_only_on_purpose() -> None:
    kept, found = SNAPSHOT.read_text(encoding="utf-8").splitlines(), public_api().splitlines()
    changes = [line for line in unified_diff(kept, found, lineterm="", n=0) if re.match(r"[-+][^-+]", line)]
    assert not changes, "if it is on purpose: python -m tools.public_api --write"


def test_every_public_class_of_errors_and_models_is_exported() -> None:
    assert set(errors.__all__) <= set(mmsclient.__all__)
    classes = [(name, value) for name, value in vars(models).items() if isinstance(value, type) and attrs.has(value)]
    public = {name for name, value in classes if value.__module__ == models.__name__}
    assert public <= set(mmsclient.__all__)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    rows = re.findall(r"^([│ ├└─]*)([A-Z]\w*Error)\b", errors.__doc__ or "", re.MULTILINE)
    drawn = [(len(branch) // 4, name) for branch, name in rows]
    assert {name for _, name in drawn} == set(errors.__all__)
    path: list[type[MMSError]] = []
    for depth, name in drawn:
        cls = getattr(errors, name)
        del path[depth:]
        assert not path or issubclass(cls, path[-1]), name
        assert [base for base in cls.__mro__ if base in ERRORS][1:2] == path[-1:], name
        path.append(cls)


def example(cls: type[MMSError]) -> MMSError:
    if issubclass(cls, InvalidRequestError):
        return cls("to", "+61\n400", "a number")
    if issubclass(cls, CallError):
        return cls(
            "It\nfailed \x1b[31mbadly", call="send-mms", attempts=3, http_status=400, code="X\nY", excerpt="<html>"
        )
    return cls("wrong")


@pytest.mark.parametrize("cls", ERRORS)
def test_every_error_survives_pickle_and_copy_and_is_one_line(cls: type[MMSError]) -> None:
    error = example(cls)
    error.add_note("kept")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(twin) is cls
        assert str(twin) == str(error)
        assert twin.__dict__ == error.__dict__
        assert twin.__notes__ == ["kept"]
    assert len(str(error).splitlines()) == 1
    assert "\x1b" not in str(error)


def test_what_an_error_says() -> None:
    error = mmsclient.AuthenticationError("Wrong key", call="account", http_status=401, code="AUTH_FAILED")
    advice = "check the APPKEY; a key of the provider's newer platform is none of this API"
    assert str(error) == f"account: Wrong key (AUTH_FAILED, HTTP 401); {advice}"
    error.attempts = 4
    assert "[4 attempts]" in str(error)
    wrong = InvalidRequestError("to", "0400", "a number")
    assert str(wrong) == "to: expected a number, got '0400'"
    assert (wrong.argument, wrong.value, wrong.expected) == ("to", "0400", "a number")


def test_one_line() -> None:
    assert one_line("a\r\n b\t\x00c", 10) == "a b c"
    assert one_line("x" * 100, 10) == "x" * 9 + "…"


@pytest.mark.parametrize("cls", [c for c in vars(models).values() if isinstance(c, type) and attrs.has(c)])
def test_models_are_frozen_and_can_be_pickled(cls: type[Any]) -> None:
    assert hash(mmsclient.CallResult(data={}, description="", low_sms_alert=None))
    model = cls(**{field.name: None for field in attrs.fields(cls) if field.init and field.name != "raw"})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(model, attrs.fields(cls)[0].name, 1)
    assert pickle.loads(pickle.dumps(model)) == model  # noqa: S301
    assert hash(model) == hash(model)


def test_statuses_admit_unknown_ones() -> None:
    status = mmsclient.DeliveryStatus("Teleported")
    assert status == "Teleported"
    assert {status: 1}["Teleported"] == 1  # type: ignore[index]
    assert not status.is_final
    assert pickle.loads(pickle.dumps(status)) == status  # noqa: S301
    assert mmsclient.DeliveryStatus("DELIVERED") is mmsclient.DeliveryStatus.DELIVERED
    assert mmsclient.DeliveryStatus.DELIVERED.is_delivered
    assert mmsclient.DeliveryStatus("Unknown").is_final
    assert [s.value for s in mmsclient.DeliveryStatus if not s.is_final] == ["Queued", "Dispatched"]
    with pytest.raises(ValueError):
        mmsclient.DeliveryStatus(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "schlüssel", "\x00", None, 7])
def test_malformed_keys(key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMSCLIENT_APP_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="app_key") as caught:
        mmsclient.AsyncMMSClient(key)
    assert not key or repr(key) not in str(caught.value)


def test_the_key_gives_itself_away_only_as_headers() -> None:
    key = AppKey("secret/key+1", "both")
    assert "secret" not in repr(key)
    assert key.headers() == {"APPKEY": "secret/key+1", "Authorization": "Basic c2VjcmV0L2tleSsxOg=="}
    assert set(AppKey("k", "basic").headers()) == {"Authorization"}
    assert set(AppKey("k", "header").headers()) == {"APPKEY"}
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ConfigurationError):
            way(key)
    echoed = rb'{"a":"secret/key+1","b":"secret\/key+1","c":"c2VjcmV0L2tleSsxOg"}'
    assert key.scrub(echoed) == b'{"a":"***","b":"***","c":"***"}'


def test_a_colon_does_not_fit_into_basic() -> None:
    with pytest.raises(ConfigurationError, match="colon") as caught:
        mmsclient.AsyncMMSClient("a-secret:b")
    assert "a-secret" not in str(caught.value)
    assert AppKey("a:b", "header").headers() == {"APPKEY": "a:b"}


LOADS = """
import sys
for name in ("click", "rich"):  # of httpx's command line
    sys.modules[name] = None
import aiolimiter, anyio.to_thread, asyncio, attrs, httpx, zoneinfo
before = set(sys.modules)
import mmsclient
print(*set(sys.modules) - before)
"""
OURS = {
    *(
        "_api",
        "_base_client",
        "_bounded_cache",
        "_capacity",
        "_environment",
        "_reading",
        "_threads",
        "_transport",
        "_version",
        "_words",
    ),
    *("_sms_client", "client", "errors", "limiter", "models"),
}
"""Packages and modules of ours that a send needs."""
OF_THE_LIBRARY = {"_decimal", "decimal", "html", "numbers"}
"""Modules of the standard library that nothing else loads, for them to be named here."""


def test_what_importing_the_client_loads() -> None:
    """Nothing beyond its dependencies and what a send needs: no campaign, no SQLite, no Redis, no extra."""
    loaded = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True).stdout.split()  # noqa: S603
    ours = {name.split(".")[1] for name in loaded if name.startswith("mmsclient.")}
    others = {name.split(".")[0] for name in loaded} - {"mmsclient"}
    assert ours <= OURS
    assert not [name for name in loaded if name.startswith("mmsclient.limiter.redis")]
    assert others <= OF_THE_LIBRARY


@pytest.mark.parametrize("module", ["mmsclient", "mmsclient.limiter"])
def test_the_shared_limiter_is_loaded_where_it_is_imported(module: str) -> None:
    from mmsclient.limiter.redis.limiter import SharedTokenBucket  # noqa: PLC0415

    names: dict[str, Any] = {}
    exec(f"from {module} import *", names)  # noqa: S102
    assert names["SharedTokenBucket"] is SharedTokenBucket
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'Shared'"):
        _ = import_module(module).Shared


def test_tests_import_what_they_share_and_neither_each_other_nor_benchmarks() -> None:
    for path in TESTS.rglob("*.py"):
        imported = re.findall(
            r"^\s*from ((?:tests|benchmarks)[\w.]*) import", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        allowed = {"tests.conftest"} | ({"benchmarks"} if path.name == "test_benchmarks.py" else set())
        for module in imported:
            assert module.startswith("tests.support") or module.split(".")[0] in allowed or module in allowed, path


def test_the_api_as_data_does_no_io_and_knows_no_other_room() -> None:
    folder = Path(mmsclient.__file__).parent / "_api"
    allowed = {"mmsclient._api", "mmsclient.errors", "mmsclient.models"}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"anyio", "asyncio", "httpx", "os", "pathlib", "socket", "threading"} & set(names), path
            ours = {".".join(name.split(".")[:2]) for name in names if name.startswith("mmsclient.")}
            assert ours <= allowed, path
