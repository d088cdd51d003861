"""Every call against the sandbox, over TLS, on both HTTP libraries."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import logging
import pickle
import traceback
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import aiolimiter
import attrs
import httpx
import pytest

import mmsclient
from mmsclient import AsyncMMSClient, ConfigurationError, InvalidRequestError, MMSError, Reply
from mmsclient.limiter import CallKind, NoLimit, SignalsCapacity, TokenBucket
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import EndlessBody, Latency, Reject, Respond, WrongContentType, redirect
from tests.conftest import PNG, Connect

ONE = "+61400000000"


async def send(mms: AsyncMMSClient, to: Any = ONE, **more: Any) -> mmsclient.SentBatch:
    return await mms.send(**{"to": to, "text": "Sale on now", "image": PNG, **more})


# The calls ------------------------------------------------------------------------------------------------------------


class OwnLimiter:
    """A user's, which keeps no figures of the package's kind."""

    stats = "plenty"

    async def acquire(self) -> mmsclient.Grant:
        return await NoLimit().acquire()


async def test_the_limiter_of_a_client_can_be_waited_for() -> None:
    own = OwnLimiter()
    async with AsyncMMSClient("key") as mms, AsyncMMSClient("key", limiter=own) as other:
        assert isinstance(mms.limiter, SignalsCapacity)
        assert mms.stats.limiter is not None
        assert mms.stats.limiter.rate == 15
        assert mms.with_options(timeout=1).limiter is mms.limiter
        assert other.limiter is own
        assert other.stats.limiter is None


@pytest.mark.parametrize("dialect", ["meta", "error"])
async def test_send(connect: Connect, sandbox: Sandbox, dialect: Any, tmp_path: Path) -> None:
    sandbox.settings.dialect = dialect
    picture = tmp_path / "sale.gif"
    picture.write_bytes(b"GIF89a and so on")
    mms = connect()
    sent = await send(mms, [ONE, "0400 000 001", "61400000000"], text="Sale\non now", image=str(picture), subject="Hi")
    assert (sent.accepted, sent.total, sent.refused, sent.duplicates) == (2, 2, (), ("61400000000",))
    assert sent.credits_used == Decimal(2)
    assert [message.to for message in sent.messages] == [ONE, "+61400000001"]
    (stored,) = sandbox.sends
    assert (stored.text, stored.subject, stored.image_size) == ("Sale\r\non now", "Hi", 16)
    assert [sandbox.messages[0].id, sandbox.messages[1].id] == [message.id for message in sent.messages]
    assert mms.stats.calls == mms.stats.attempts == 1
    assert sandbox.errors == []


async def test_partial_acceptance_is_visible_and_logged(
    connect: Connect, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sent = await send(connect(), [ONE, "+61400009901"])
    assert (sent.accepted, sent.total, sent.refused) == (1, 2, ("+61400009901",))
    assert "1 of 2 recipients accepted" in caplog.text
    assert ONE not in caplog.text


async def test_low_sms_alert_is_a_field_and_a_warning(
    connect: Connect, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.settings.low_balance = Decimal(10**9)
    mms = connect()
    assert (await send(mms)).low_sms_alert
    assert (await mms.account()).low_sms_alert
    assert len([record for record in caplog.records if "warns" in record.message]) == 1  # not with every call


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("9901", mmsclient.RecipientsError),
        ("9902", mmsclient.RecipientsError),
        ("9903", mmsclient.InsufficientCreditError),
        ("9904", mmsclient.RateLimitError),
    ],
)
async def test_refusals(connect: Connect, sandbox: Sandbox, ending: str, expected: type[MMSError]) -> None:
    with pytest.raises(expected):
        await send(connect(max_attempts=1), f"+6140000{ending}")
    assert not sandbox.messages


@pytest.mark.parametrize("empty", ["string", "not_found"])
async def test_replies(connect: Connect, sandbox: Sandbox, empty: Any) -> None:
    sandbox.settings.empty = empty
    mms = connect()
    assert [reply async for reply in mms.replies()] == []
    sandbox.add_replies(60)
    texts = [reply.text async for reply in mms.replies()]
    assert texts == [reply.text for reply in sandbox.unread]
    pages = [page async for page in mms.replies(prefetch=0).pages()]
    assert [(page.number, page.count, page.total, len(page.items)) for page in pages] == [
        (1, 3, 60, 25),
        (2, 3, 60, 25),
        (3, 3, 60, 10),
    ]


async def test_mark_read(connect: Connect, sandbox: Sandbox) -> None:
    sandbox.add_replies(240)
    mms = connect()
    replies = [reply async for reply in mms.replies()]
    await mms.mark_read(replies[0])
    await mms.mark_read(replies[1].id)
    assert len(sandbox.unread) == 238
    await mms.mark_read([])
    assert len(sandbox.unread) == 238  # an empty call would have marked all
    await mms.mark_read(reply if i % 2 else reply.id for i, reply in enumerate(replies[2:235]))
    assert len(sandbox.unread) == 5
    assert sandbox.calls["inbound-read-bulk"] == 3
    await mms.mark_read_before(datetime.now(UTC) - timedelta(days=1))
    assert len(sandbox.unread) == 5
    await mms.mark_read_before(datetime.now(UTC) + timedelta(days=1))
    assert not sandbox.unread


@pytest.mark.parametrize("reply", ["", " ", None, 7, [""], ["a", None]])
async def test_mark_read_of_nothing_is_refused(sandbox: Sandbox, reply: Any) -> None:
    sandbox.add_replies(1)
    async with sandbox.client() as mms:
        with pytest.raises(InvalidRequestError, match="replies"):
            await mms.mark_read(reply)
        names = [field.name for field in attrs.fields(Reply)]
        without_id = Reply(**{**dict.fromkeys(names, ""), "received_at": None, "raw": {}})  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="replies"):
            await mms.mark_read(without_id)
        for before in (
            datetime(2026, 1, 1),
            "2026",
            datetime(1969, 1, 1, tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
        ):
            with pytest.raises(InvalidRequestError, match="before"):
                await mms.mark_read_before(before)  # type: ignore[arg-type]
    assert len(sandbox.unread) == 1
    assert not sandbox.arrivals


async def test_bounds_of_opt_outs_are_compared_as_times_and_not_by_the_clock_on_the_wall(connect: Connect) -> None:
    """In the repeated hour the clock goes from 2:59 back to 2:00."""
    zone = ZoneInfo("Australia/Melbourne")
    first, second = datetime(2026, 4, 5, 2, 50, tzinfo=zone), datetime(2026, 4, 5, 2, 10, fold=1, tzinfo=zone)
    assert [each async for each in connect().opt_outs(since=first, until=second)] == []
    with pytest.raises(InvalidRequestError, match="before until"):
        connect().opt_outs(since=second, until=first)


async def test_opt_outs(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect()
    await send(mms, [ONE, "+61400009902"])
    now = datetime.now(UTC)
    sandbox.add_opt_out("+61400000005", at=now - timedelta(days=2))
    numbers = [opt_out.number async for opt_out in mms.opt_outs()]
    assert len(numbers) == 2
    since = [opt_out async for opt_out in mms.opt_outs(since=now - timedelta(days=1), until=now + timedelta(hours=1))]
    assert [opt_out.number.lstrip("+") for opt_out in since] == ["61400009902"]
    assert since[0].created_at is not None
    assert abs(since[0].created_at - now) < timedelta(hours=1)


async def test_templates_account_and_message(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect()
    for i in range(20):
        sandbox.add_template(f"Title {i}", "Hello")
    assert [template.title async for template in mms.templates()] == [f"Title {i}" for i in range(20)]
    account = await mms.account()
    assert account.mms_balance == Decimal("1000000.00")
    sent = await send(mms)
    sandbox.set_status(sent.messages[0].id, "Teleported")
    status = await mms.message(sent.messages[0].id)
    assert status is not None
    assert (status.id, status.to, str(status.status)) == (sent.messages[0].id, ONE, "Teleported")
    assert await mms.message("no-such-id") is None


async def test_call_is_the_way_out(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect()
    result = await mms.call("GET", "account")
    assert result.data["mms_balance"] == "1000000.00"
    assert result.raw["meta"]["status"] == "SUCCESS"
    with pytest.raises(mmsclient.UnknownCallError):
        await mms.call("POST", "send-fax", json={"a": 1})
    with pytest.raises(mmsclient.FieldEmptyError):
        await mms.call("POST", "send-mms", form={"mms_text": "Hello"})
    before = len(sandbox.arrivals)
    wrong: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", "account", {}),
        ("GET", "../admin", {}),
        ("GET", "account?x=1", {}),
        ("GET", "https://evil.example/", {}),
        ("POST", "x", {"form": {}, "json": {}}),
        ("GET", "x", {"json": {}}),
        ("GET", "x", {"params": 7}),
        ("GET", "x", {"params": {"a": object()}}),
        ("GET", "x", {"params": {"a": "\ud800"}}),
        ("POST", "x", {"form": [1]}),
        ("POST", "x", {"form": {1: "2"}}),
        ("POST", "x", {"json": object()}),
        ("POST", "x", {"json": float("nan")}),
        ("POST", "x", {"json": ["\ud800"]}),
    ]
    for method, name, more in wrong:
        with pytest.raises(InvalidRequestError):
            await mms.call(method, name, **more)  # type: ignore[arg-type]
    assert len(sandbox.arrivals) == before


# Local checks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("to", []),
        ("to", "nonsense"),
        ("to", [f"+61400{i:06}" for i in range(1001)]),
        ("text", ""),
        ("text", "x" * 1001),
        ("subject", "x" * 41),
        ("image", "/no/such/file.png"),
        ("image", b"RIFF"),
        ("image", b"GIF89a" + bytes(379_990)),
        ("timeout", 0),
        ("timeout", "1"),
    ],
)
async def test_bad_input_is_found_before_anything_is_sent(sandbox: Sandbox, argument: str, value: Any) -> None:
    async with sandbox.client(rate=0.001) as mms:  # a spent token would be missed
        with pytest.raises(InvalidRequestError) as caught:
            await send(mms, **{argument: value})
        assert caught.value.argument == argument
        assert mms.stats.attempts == 0
    assert not sandbox.arrivals


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("app_key", ""),
        ("app_key", "a b"),
        ("auth", "cookie"),
        ("base_url", "http://cellcast.com.au/api/v3"),
        ("base_url", "https://user:pass@cellcast.com.au/api/v3"),
        ("base_url", "https://cellcast.com.au/api/v3?key=1"),
        ("base_url", "cellcast.com.au"),
        ("base_url", "ftp://127.0.0.1/"),
        ("base_url", "https://[::1"),
        ("base_url", "https://host:port/"),
        ("base_url", 7),
        ("base_url", "https://xn--/"),
        ("base_url", "https://\ud800/"),
        ("timeout", 0),
        ("timeout", float("nan")),
        ("timeout", 10**400),
        ("timeout", True),
        ("max_attempts", 0),
        ("max_attempts", 1.5),
        ("max_in_flight", 0),
        ("timezone", "Mars/Olympus"),
        ("timezone", "/etc/passwd"),
        ("timezone", 7),
        ("limiter", object()),
        ("rate", 0),
        ("rate", -1),
        ("http_client", object()),
        ("http_client", httpx.Client()),
        ("base_url", "https://127.0.0.1/api#"),
        ("base_url", "https://127.0.0.1/api?"),
        ("verify", False),
        ("verify", "/path"),
    ],
)
def test_wrong_options(option: str, value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigurationError) as caught:
            AsyncMMSClient(**{"app_key": "key", option: value})
        gc.collect()
    assert isinstance(caught.value, ValueError)
    assert option in str(caught.value) or option == "rate"


@pytest.mark.parametrize(
    "options",
    [
        {"limiter": mmsclient.TokenBucket(), "rate": 14},
        {"http_client": httpx.AsyncClient(), "verify": False, "base_url": "https://127.0.0.1/"},
    ],
)
def test_options_that_exclude_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"rate|verify"):
        AsyncMMSClient("key", **options)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SSL_CERT_FILE", "/nonexistent.pem"), ("ALL_PROXY", "socks5://127.0.0.1:1"), ("HTTPS_PROXY", "foo://x")],
)
def test_a_bad_environment(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="environment"):
        AsyncMMSClient("key")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NO_PROXY", "localhost,fd00::/8"),
        ("NO_PROXY", "host:secret"),
        ("HTTPS_PROXY", "http://user:secret/s@proxy:3128"),
        ("HTTPS_PROXY", "proxy:80secret"),
        ("HTTP_PROXY", "http://[::secret"),
        ("ALL_PROXY", "\x01secret"),
    ],
)
def test_proxies_of_the_environment_that_are_no_urls(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece of one may be a password, which no error repeats."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="environment") as caught:
        AsyncMMSClient("key")
    assert name in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_base_url_with_a_password_that_is_no_url() -> None:
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        AsyncMMSClient("key", base_url="https://user:secret/s@127.0.0.1/")
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("stranger", [aiolimiter.AsyncLimiter(5), asyncio.Semaphore(5)])
async def test_a_limiter_that_grants_something_else(stranger: Any, sandbox: Sandbox) -> None:
    async with sandbox.client(limiter=stranger) as mms:
        with pytest.raises(ConfigurationError, match="Grant"):
            await send(mms)
    assert not sandbox.sends


async def test_http_is_for_this_machine_only() -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        await AsyncMMSClient("key", base_url=f"http://{host}:1/").aclose()
    await AsyncMMSClient("key", base_url="https://127.0.0.1:1/", verify=False).aclose()


async def test_the_key_comes_from_the_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMSCLIENT_APP_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="MMSCLIENT_APP_KEY"):
        AsyncMMSClient()
    monkeypatch.setenv("MMSCLIENT_APP_KEY", sandbox.app_key)
    async with AsyncMMSClient(base_url=sandbox.url, verify=sandbox.ssl_context or True) as mms:
        await mms.account()


# Credentials ----------------------------------------------------------------------------------------------------------

KEY = "Very/Secret+Key=42"


@pytest.mark.parametrize("auth", ["both", "basic", "header"])
async def test_either_form_of_credentials(connect: Connect, auth: Any) -> None:
    await connect(auth=auth).account()


async def test_a_wrong_key(connect: Connect, sandbox: Sandbox) -> None:
    async with AsyncMMSClient("wrong-key", base_url=sandbox.url, verify=sandbox.ssl_context or True) as mms:
        with pytest.raises(mmsclient.AuthenticationError) as caught:
            await mms.account()
    assert "wrong-key" not in "".join(traceback.format_exception(caught.value))
    assert sandbox.calls["account"] == 1


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_an_injected_client_adds_nothing(library: str, sandbox: Sandbox) -> None:
    module = pytest.importorskip(library)
    seen: list[Any] = []

    async def look(request: Any) -> None:
        seen.append(request)

    async with module.AsyncClient(
        verify=sandbox.ssl_context,
        auth=("someone", "else"),
        headers={"Authorization": "Bearer theirs", "APPKEY": "theirs", "X-Theirs": "1"},
        cookies={"theirs": "1"},
        params={"theirs": "1"},
        base_url="https://theirs.example/",
        follow_redirects=True,
        event_hooks={"request": [look]},
    ) as pool:
        for auth, names in (
            ("both", {"appkey", "authorization"}),
            ("header", {"appkey"}),
            ("basic", {"authorization"}),
        ):
            mms = sandbox.client(http_client=pool, auth=auth)
            await mms.account()
            await mms.aclose()
            request = seen.pop()
            assert str(request.url) == f"{sandbox.url}/account"
            assert names == {"appkey", "authorization"} & set(request.headers)
            assert "theirs" not in str(request.headers.raw)
            assert "cookie" not in request.headers
        sandbox.faults.add(redirect("https://other.example/x"), times=1)
        mms = sandbox.client(http_client=pool, max_attempts=1)
        with pytest.raises(mmsclient.TransportError, match=r"other\.example"):
            await mms.account()
        await mms.aclose()
        await pool.get(f"{sandbox.url}/account")  # ours does not close what it was given


async def test_the_key_is_nowhere_but_in_the_headers(impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    """A server that echoes all it was sent, in every part of every kind of answer, with our log at its finest."""
    caplog.set_level(logging.DEBUG)
    basic = base64.b64encode(f"{KEY}:".encode()).decode()
    texts: list[str] = []
    async with _serve(_echo) as url, AsyncMMSClient(KEY, base_url=url, max_attempts=2, rate=None) as mms:
        texts += [repr(mms), repr(mms.__dict__), repr(mms._session.__dict__), repr(mms._session._transport.__dict__)]
        for status in (200, 400, 401, 429, 500, 302):
            for name in ("json", "html", "chunk"):
                try:
                    result = await mms.call("GET", f"{name}-{status}")
                except MMSError as error:
                    texts += [str(error), repr(error.__dict__), "".join(traceback.format_exception(error))]
                    texts += [repr(pickle.dumps(error)), repr(error.__context__), repr(error.__cause__)]
                else:
                    texts.append(repr(result.raw))
        with pytest.raises((ConfigurationError, TypeError)):
            pickle.dumps(mms)
    texts += [record.getMessage() for record in caplog.records if record.name.startswith("mmsclient")]
    everything = "\n".join(texts)
    assert "***" in everything  # it was echoed
    for spelling in (KEY, basic, basic.rstrip("="), json.dumps(KEY), KEY.replace("/", r"\/")):
        assert spelling not in everything


async def _echo(head: bytes) -> bytes:
    name = head.split()[1].rpartition(b"/")[2]
    kind, _, status = name.partition(b"-")
    if kind == b"json":
        code = "SUCCESS" if status == b"200" else "FIELD_INVALID"
        body = json.dumps({"meta": {"status": code}, "msg": head.decode(), "data": {"echo": head.decode()}}).encode()
        body = body.replace(b"/", rb"\/") if status == b"400" else body
    elif kind == b"chunk":
        return b"HTTP/1.1 %s X\r\ntransfer-encoding: chunked\r\n\r\n%s\r\n" % (status, KEY.encode())
    else:
        body = b"<html>" + head.replace(b"\r\n", b" ")[-400:]
    lines = [
        b"HTTP/1.1 %s X" % status,
        b"content-length: %d" % len(body),
        b"content-type: text/html; k=" + KEY.encode(),
    ]
    lines += [b"location: https://%s.example/" % KEY.encode(), b"", body]
    return b"\r\n".join(lines)


class _serve:  # noqa: N801 -- used as a function
    """A server that answers each request's head with bytes of the test's choice."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                writer.write(await self._answer(head))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/api/v3"

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()


# Answers --------------------------------------------------------------------------------------------------------------


async def test_an_endless_answer_is_an_error_and_no_memory_problem(connect: Connect, sandbox: Sandbox) -> None:
    sandbox.faults.add(EndlessBody(), times=1)
    with pytest.raises(mmsclient.OutcomeUnknownError, match="larger than 8388608 bytes"):
        await send(connect(max_attempts=1))
    await connect().account()


async def test_a_wrong_content_type_does_no_harm(connect: Connect, sandbox: Sandbox) -> None:
    sandbox.faults.add(WrongContentType(), times=1)
    assert (await send(connect())).accepted == 1


async def test_codes_come_through_with_all_that_was_said(connect: Connect, sandbox: Sandbox) -> None:
    sandbox.faults.add(Reject("SOMETHING_NEW", "Not today.", 400), times=1)
    with pytest.raises(mmsclient.APIError) as caught:
        await send(connect())
    assert type(caught.value) is mmsclient.APIError
    assert str(caught.value) == "send-mms: Not today. (SOMETHING_NEW, HTTP 400)"


async def test_a_timeout_counts_from_the_first_byte(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect(timeout=0.2, max_attempts=1)
    with sandbox.faults.add(Latency(30.0)):
        with pytest.raises(mmsclient.OutcomeUnknownError, match=r"0\.2 s|Timeout"):
            await send(mms)
        with pytest.raises(mmsclient.TransportError, match=r"0\.1 s|Timeout"):
            await mms.account(timeout=0.1)
    assert (await mms.with_options(timeout=20, max_attempts=2).account()).name


async def test_retry_after_longer_than_the_bound_is_not_waited_for(connect: Connect, sandbox: Sandbox) -> None:
    sandbox.faults.add(Respond(429, headers={"retry-after": "3600"}))
    with pytest.raises(mmsclient.RateLimitError) as caught:
        await connect().account()
    assert (caught.value.retry_after, caught.value.attempts) == (3600.0, 1)


# Transports that call no hook -----------------------------------------------------------------------------------------


class Recorder:
    """A limiter that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def acquire(self) -> Recorder:
        self.events.append("acquire")
        return self

    def sent(self) -> None:
        self.events.append("sent")

    def answered(self) -> None:
        self.events.append("answered")

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        self.events.append(f"release throttled={throttled} retry_after={retry_after}")


async def test_what_a_limiter_is_told(connect: Connect, sandbox: Sandbox) -> None:
    limiter = Recorder()
    mms = connect(limiter=limiter, max_attempts=1)
    await send(mms)
    assert limiter.events == ["acquire", "sent", "answered", "release throttled=False retry_after=None"]
    limiter.events.clear()
    sandbox.faults.add(Respond(429, headers={"retry-after": "2"}), times=1)
    with pytest.raises(mmsclient.RateLimitError):
        await send(mms)
    assert limiter.events[-1] == "release throttled=True retry_after=2.0"
    limiter.events.clear()
    sandbox.faults.add(Reject("OVER_LIMIT", status=200), times=1)
    with pytest.raises(mmsclient.RateLimitError):
        await send(mms)
    assert limiter.events[-1] == "release throttled=True retry_after=None"
    limiter.events.clear()
    with sandbox.refusing(), pytest.raises(mmsclient.NotSentError):
        await send(mms)
    assert limiter.events == []  # no connection, no token


@pytest.fixture(params=["httpx", "httpx2"])
def mocked(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


async def test_with_a_mock_transport_the_token_is_spent_just_before(mocked: Any) -> None:
    limiter, order = Recorder(), list[str]()

    def handler(request: Any) -> Any:
        order.extend(limiter.events)
        return mocked.Response(200, json={"meta": {"status": "SUCCESS"}, "data": {"account_name": "A"}})

    async with mocked.AsyncClient(transport=mocked.MockTransport(handler)) as pool:
        mms = AsyncMMSClient("key", http_client=pool, limiter=limiter)
        assert (await mms.account()).name == "A"
        await mms.aclose()
    assert order == ["acquire"]
    assert limiter.events == ["acquire", "answered", "release throttled=False retry_after=None"]


async def test_with_a_mock_transport_what_is_known_of_a_failure(mocked: Any) -> None:
    failures = [mocked.ConnectError("no"), mocked.ReadTimeout("late"), RuntimeError("bug")]

    def handler(request: Any) -> Any:
        raise failures.pop(0)

    async with mocked.AsyncClient(transport=mocked.MockTransport(handler)) as pool:
        mms = AsyncMMSClient("key", http_client=pool, max_attempts=1)
        for expected in (mmsclient.NotSentError, mmsclient.OutcomeUnknownError, mmsclient.OutcomeUnknownError):
            with pytest.raises(expected) as caught:
                await send(mms)
            assert type(caught.value) is expected
            assert caught.value.__cause__ is None
        await mms.aclose()


async def test_an_asgi_transport(mocked: Any, sandbox: Sandbox) -> None:
    transport = mocked.ASGITransport(sandbox.app)
    async with mocked.AsyncClient(transport=transport) as pool:
        mms = AsyncMMSClient(sandbox.app_key, base_url=sandbox.url, http_client=pool)
        assert (await send(mms)).accepted == 1
        await mms.aclose()


# Life and end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["sent", "answered", "release"])
async def test_what_a_limiter_does_with_the_news_of_a_call_changes_nothing_about_it(
    sandbox: Sandbox, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        def sent(self) -> None:
            self._fail("sent")

        def answered(self) -> None:
            self._fail("answered")

        def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
            self._fail("release")

        def _fail(self, now: str) -> None:
            if now == event:
                raise OSError("no room in the book")

        async def acquire(self) -> mmsclient.Grant:
            return self

    async with sandbox.client(limiter=Failing()) as mms:
        assert (await send(mms)).accepted == 1
    assert "no room in the book" in caplog.text


async def test_a_large_answer_is_read_where_no_thread_can_be_started(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_sync(*args: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("anyio.to_thread.run_sync", run_sync)
    async with sandbox.client(ledger=tmp_path / "sends.db") as mms:
        to = [f"+614{number:08}" for number in range(1000)]
        for _ in range(2):
            assert (await mms.send(to=to, text="Hi", image=PNG, key="a")).accepted == 1000


class Apart(Recorder):
    async def acquire_for(self, kind: CallKind, size: int = 0) -> Recorder:
        self.events.append(kind.name)
        return self


class Replaced(Apart):
    async def acquire(self) -> Recorder:
        self.events.append("ITS OWN")
        return self


class Both(Replaced):
    async def acquire_for(self, kind: CallKind, size: int = 0) -> Recorder:
        self.events.append(kind.name)
        return self


class Mixin:
    """Placed before the limiter, as one that counts is."""

    events: list[str]

    async def acquire(self) -> Recorder:
        self.events.append("ITS OWN")
        return await super().acquire()  # type: ignore[misc, no-any-return]


class Mixed(Mixin, Apart):
    pass


def patched() -> Recorder:
    limiter = Apart()
    limiter.acquire = Replaced.acquire.__get__(limiter)  # type: ignore[method-assign]
    return limiter


KINDS_TOLD, ITS_OWN = ["READ", "WRITE", "UPLOAD"], ["ITS OWN"] * 3


@pytest.mark.parametrize(
    ("limiter", "told"),
    [(Apart, KINDS_TOLD), (Both, KINDS_TOLD), (Replaced, ITS_OWN), (Mixed, ITS_OWN), (patched, ITS_OWN)],
)
async def test_a_limiter_that_tells_kinds_apart_is_told_of_them_unless_only_acquire_was_replaced_since(
    sandbox: Sandbox, limiter: Callable[[], Recorder], told: list[str]
) -> None:
    asked = limiter()
    async with sandbox.client(limiter=asked) as mms:
        await mms.account()
        await mms.send_sms(to="0400000000", text="Sale")
        await send(mms)
    assert [event for event in asked.events if event.isupper()] == told


async def test_a_limiter_that_tells_kinds_apart_is_told_how_large_an_upload_is(sandbox: Sandbox) -> None:
    class Sizes(Recorder):
        sizes: ClassVar[list[int]] = []

        async def acquire_for(self, kind: CallKind, size: int = 0) -> Recorder:
            self.sizes.append(size)
            return self

    limiter = Sizes()
    async with sandbox.client(limiter=limiter) as mms:
        await mms.account()
        await mms.send_sms(to="0400000000", text="Sale")
        await mms.send(to="0400000000", text="Hi", image=PNG)
        await mms.send(to="0400000000", text="Hi, Ann", image=PNG)
    read, write, upload, longer = limiter.sizes
    assert (read, write) == (0, 0)
    assert len(PNG) < upload == longer - len(", Ann")


class OfBefore(Recorder):
    async def acquire_for(self, kind: CallKind) -> Recorder:
        return self


class ByName(TokenBucket):
    async def acquire_for(self, kind: CallKind, *, size: int = 0) -> mmsclient.Grant:  # type: ignore[override]
        return await super().acquire_for(kind, size)


@pytest.mark.parametrize("limiter", [OfBefore, ByName])
async def test_a_limiter_that_does_not_take_the_size_of_a_call_is_an_error_at_once(
    sandbox: Sandbox, limiter: Callable[[], Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"acquire_for\(kind, size=0\)"):
        sandbox.client(limiter=limiter())


async def test_a_daily_cap_on_top_of_a_token_bucket_is_asked_for_every_call(sandbox: Sandbox) -> None:
    class Daily(TokenBucket):
        left = 3

        async def acquire(self) -> mmsclient.Grant:
            grant = await super().acquire()
            self.left -= 1
            return grant

    limiter = Daily()
    async with sandbox.client(limiter=limiter) as mms:
        await mms.account()
        await mms.send_sms(to="0400000000", text="Sale")
        await send(mms)
    assert limiter.left == 0


async def test_two_clients_share_a_limiter(sandbox: Sandbox) -> None:
    limiter = Recorder()
    async with sandbox.client(limiter=limiter) as one, sandbox.client(limiter=limiter) as two:
        await one.account()
        await two.account()
    assert limiter.events.count("acquire") == 2


async def test_views_share_pool_limiter_and_counts(connect: Connect) -> None:
    mms = connect()
    view = mms.with_options(timeout=5, max_attempts=1)
    await view.account()
    await view.aclose()  # closes nothing
    await mms.account()
    assert mms.stats.calls == view.stats.calls == 2
    with pytest.raises(ConfigurationError):
        mms.with_options(max_attempts=0)


async def test_aclose_is_idempotent_and_a_closed_client_sends_nothing(connect: Connect, sandbox: Sandbox) -> None:
    mms = connect()
    await mms.account()
    await mms.aclose()
    await mms.aclose()
    with pytest.raises(mmsclient.NotSentError, match="closed"):
        await send(mms)
    assert not sandbox.sends


async def test_a_client_dropped_without_closing_warns_and_schedules_nothing(sandbox: Sandbox) -> None:
    dropped = [sandbox.client()]
    tasks = asyncio.all_tasks()
    with pytest.warns(ResourceWarning, match="not closed"):
        dropped.clear()
    assert asyncio.all_tasks() == tasks


def test_a_client_belongs_to_one_event_loop(sandbox: Sandbox) -> None:
    mms = sandbox.client()
    asyncio.run(_account_and_close_connections(mms))
    with pytest.raises(ConfigurationError, match="event loop"):
        asyncio.run(_account_and_close_connections(mms))
    mms._session._closed = True


async def _account_and_close_connections(mms: AsyncMMSClient) -> None:
    await mms.account()
    await mms._session._transport.aclose()


async def test_an_untrusted_certificate_is_not_sent_to(sandbox: Sandbox) -> None:
    async with AsyncMMSClient("key", base_url=sandbox.url, max_attempts=1) as mms:
        with pytest.raises(mmsclient.NotSentError, match=r"(?i)certificate"):
            await send(mms)
    assert not sandbox.arrivals


async def test_times_come_in_the_clients_zone(sandbox: Sandbox) -> None:
    sandbox.add_replies(1)
    async with sandbox.client(timezone=ZoneInfo("UTC")) as mms:
        (reply,) = [reply async for reply in mms.replies()]
    assert reply.received_at is not None
    assert reply.received_at.utcoffset() == timedelta(0)
    assert reply.received_at.strftime("%Y-%m-%d %H:%M:%S") == reply.received_at_text


async def test_a_file_object_is_read_once_for_all_attempts(impatient: None, connect: Connect, sandbox: Sandbox) -> None:
    sandbox.faults.add(Respond(429), times=2)
    sent = await send(connect(), image=io.BytesIO(PNG))
    assert sent.accepted == 1
    assert sandbox.sends[0].image_size == len(PNG)
    assert len(sandbox.arrivals) == 3
