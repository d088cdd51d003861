"""Where keys, tokens and passwords must not show: errors, the variables of their frames, and logs."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import httpx2
import pytest

from mmsclient import AsyncMMSClient, ConfigurationError, SharedTokenBucket
from mmsclient.cli.listen import listen
from mmsclient.cli.output import Form
from mmsclient.cli.status import UsageError
from mmsclient.webhooks import CallbackReceiver
from tests.support.http2 import http2_contexts

SECRET = "s3cret-of-the-account"  # noqa: S105
TOKEN = f"{SECRET}-token"

# What an error reporter sends away --------------------------------------------------------------------------------


def errors_of(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and whatever it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def variables(frame: FrameType) -> str:
    """The local variables of `frame`, and what stands in their attributes, as an error reporter takes them."""
    values = list(frame.f_locals.values())
    ours = [value for value in values if type(value).__module__.startswith("mmsclient") and hasattr(value, "__dict__")]
    return repr(values + [vars(value) for value in ours])


FAILURES: dict[str, Callable[[], Any]] = {
    "a key with a colon": lambda: AsyncMMSClient(f"{SECRET}:1"),
    "a key with a newline": lambda: AsyncMMSClient(f"{SECRET}\n"),
    "a key and a wrong mode": lambda: AsyncMMSClient(SECRET, auth="none"),  # type: ignore[arg-type]
    "a key and a wrong option": lambda: AsyncMMSClient(SECRET, timeout=-1),
    "a key and a wrong client": lambda: AsyncMMSClient(SECRET, http_client=object()),  # type: ignore[arg-type]
    "a URL with a password": lambda: AsyncMMSClient("key", base_url=f"https://user:{SECRET}@example.com/"),
    "a URL that is none": lambda: AsyncMMSClient("key", base_url=f"https://[{SECRET}/"),
    "a token that fits into no path": lambda: CallbackReceiver(token=f"{TOKEN}/"),
    "a token that is short": lambda: CallbackReceiver(token=SECRET[:6]),
    "a token and a wrong option": lambda: CallbackReceiver(token=TOKEN, timeout=-1),
    "a token and a wrong network": lambda: CallbackReceiver(token=TOKEN, networks=["nowhere"]),
    "a token and a wrong file": lambda: CallbackReceiver(token=TOKEN, seen="/nonexistent/seen.sqlite"),
    "a password for a wrong user": lambda: CallbackReceiver(token="t" * 20, basic=("a:b", SECRET)),
    "a Redis URL that is none": lambda: SharedTokenBucket(f"redis://user:{SECRET}@[bad", account="shop"),
    "a Redis URL with a wrong port": lambda: SharedTokenBucket(f"redis://user:{SECRET}@host:bad/0", account="shop"),
    "a Redis URL with a wrong scheme": lambda: SharedTokenBucket(f"http://user:{SECRET}@host", account="shop"),
    "a Redis URL and a wrong option": lambda: SharedTokenBucket(f"redis://:{SECRET}@host", account="shop", rate=0),
    "a key as the account": lambda: SharedTokenBucket("redis://host", account=SECRET, processes=3),
    "the account and a wrong URL": lambda: SharedTokenBucket("nothing", account=SECRET),
}


@pytest.mark.parametrize("name", FAILURES)
def test_no_secret_is_in_a_configuration_error_or_in_the_variables_of_its_frames(name: str) -> None:
    secret = SECRET[:6]
    with pytest.raises(ConfigurationError) as caught:
        FAILURES[name]()
    for error in errors_of(caught.value):
        assert secret not in f"{error} {error!r} {error.__dict__}"
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename != __file__]
        assert frames
        for frame in frames:
            assert secret not in variables(frame), frame


def test_a_key_of_the_environment_is_not_in_the_variables_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSCLIENT_APP_KEY", f"{SECRET}:1")
    FAILURES["the environment"] = AsyncMMSClient
    try:
        test_no_secret_is_in_a_configuration_error_or_in_the_variables_of_its_frames("the environment")
    finally:
        del FAILURES["the environment"]


@pytest.mark.parametrize("in_file", [False, True])
async def test_the_token_of_listen_is_not_in_the_variables_either(
    in_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file of the handled events cannot be used, where the token fits into no path, and where it is used."""
    token_file = tmp_path / "token"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for token, seen, expected in (
            (TOKEN, Path("/nonexistent/seen.sqlite"), ConfigurationError),
            (f"{TOKEN}/", None, ConfigurationError),
            (TOKEN, None, UsageError),  # the port is taken
        ):
            token_file.write_text(token)
            monkeypatch.setenv("MMSCLIENT_CALLBACK_TOKEN", token)
            with pytest.raises(expected) as caught:
                await listen(
                    host="127.0.0.1",
                    port=port,
                    token_file=token_file if in_file else None,
                    seen=None if seen is None else str(seen),
                    command="",
                    form=Form.PLAIN,
                )
            for error in errors_of(caught.value):
                frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
                ours = [frame for frame in frames if frame.f_code.co_filename != __file__]
                assert ours
                for frame in ours:
                    assert SECRET not in variables(frame), frame


# The logs of the HTTP libraries -----------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    """Answers over HTTP/2 or HTTP/1.1 with a header that repeats the key."""

    def __init__(self) -> None:
        self._http2: h2.connection.H2Connection | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self._http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            self._http2.initiate_connection()
            transport.write(self._http2.data_to_send())

    def data_received(self, data: bytes) -> None:
        body = json.dumps({"meta": {"status": "SUCCESS"}, "data": {"account_name": SECRET}}).encode()
        if self._http2 is None:
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nx-echo: %s\r\ncontent-length: %d\r\n\r\n" % (SECRET.encode(), len(body))
            )
            self._transport.write(body)
            return
        for event in self._http2.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                headers = [(":status", "200"), ("content-length", str(len(body))), ("x-echo", SECRET)]
                self._http2.send_headers(event.stream_id, headers)
                self._http2.send_data(event.stream_id, body, end_stream=True)
        self._transport.write(self._http2.data_to_send())


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("new_pool", [httpx.AsyncClient, httpx2.AsyncClient])
async def test_the_key_is_logged_at_debug_by_no_other_library_than_the_docs_name(
    new_pool: Callable[..., Any], http2: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (None, "httpx", "httpx2", "httpcore", "httpcore2"):  # which the suite keeps quiet
        caplog.set_level(logging.DEBUG, logger=name)
    server_context, client_context = http2_contexts()
    loop = asyncio.get_running_loop()
    server_context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        new_pool(http2=http2, verify=client_context, trust_env=False) as pool,
        AsyncMMSClient(SECRET, base_url=url, http_client=pool, rate=None) as mms,
    ):
        assert (await mms.account()).name == "***"
    server.close()
    telling = {record.name.partition(".")[0] for record in caplog.records if SECRET in record.getMessage()}
    documented = (Path(__file__).parent.parent.parent / "docs" / "security.md").read_text(encoding="utf-8")
    warned = re.search(r"Keep (.*) above DEBUG", documented)
    assert warned
    assert telling
    assert telling <= set(re.findall(r"`(\w+)`", warned[1]))
    loud = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert not any(SECRET in record.getMessage() for record in loud)
