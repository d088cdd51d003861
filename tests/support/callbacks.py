"""Callbacks handed to a receiver without a server, and those that a sandbox posts to one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.listener import HOST, Listener
from mmsclient.webhooks import CallbackReceiver, new_token

TOKEN = "a-token-of-the-tests"  # noqa: S105


async def post(
    app: Any,
    body: Any = (),
    *,
    path: str = f"/{TOKEN}",
    method: str = "POST",
    headers: dict[str, str] | None = None,
    client: tuple[str, int] | None = ("127.0.0.1", 1),
    receive: Callable[[], Any] | None = None,
    **scope: Any,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def whole() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    request = {"type": "http", "path": path, "method": method, "headers": given, "client": client, **scope}
    await app(request, receive or whole, send)
    if not sent:
        return 0, {}, b""
    start, part = sent
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, part["body"]


async def status(app: Any, body: Any = (), **options: Any) -> int:
    return (await post(app, body, **options))[0]


@asynccontextmanager
async def reports_recorded(into: Any, sandbox: Sandbox) -> AsyncIterator[None]:
    """The sandbox posts its reports to a receiver, which records them into a campaign or an outbox, and no more."""
    token = new_token()
    async with CallbackReceiver(token=token) as receiver:
        receiver.record_into(into)
        listener = Listener(receiver, 0, None, 60.0)
        listener.listen()
        sandbox.settings.callback_url = f"http://{HOST}:{listener.port}/{token}"
        try:
            yield
        finally:
            await listener.close()
