"""The public names, and what every error promises."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from typing import Any

import attrs
import pytest

import mmsclient
from mmsclient import errors, models
from mmsclient.credentials import AppKey
from mmsclient.errors import CallError, ConfigurationError, InvalidRequestError, MMSError, one_line

ERRORS = [getattr(errors, name) for name in errors.__all__]


def test_every_exported_name_is_there_and_documented() -> None:
    assert sorted(mmsclient.__all__) == sorted(set(mmsclient.__all__))
    for name in mmsclient.__all__:
        value = getattr(mmsclient, name)
        assert name == "__version__" or value.__doc__, name


def test_every_public_class_of_errors_and_models_is_exported() -> None:
    assert set(errors.__all__) <= set(mmsclient.__all__)
    public = {name for name, value in vars(models).items() if isinstance(value, type) and attrs.has(value)}
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
    assert str(error) == "account: Wrong key (AUTH_FAILED, HTTP 401); check the APPKEY"
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
        AppKey(key, "both")
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
    with pytest.raises(ConfigurationError, match="colon"):
        AppKey("a:b", "both")
    assert AppKey("a:b", "header").headers() == {"APPKEY": "a:b"}


def test_importing_the_client_imports_no_extra() -> None:
    code = "import sys, httpx; before = set(sys.modules); import mmsclient; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()  # noqa: S603
    extras = {"starlette", "uvicorn", "trustme", "rich", "cyclopts", "httpx2", "redis", "multipart", "pytest"}
    assert not extras & set(loaded)
