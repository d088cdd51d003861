"""The sandbox as a Starlette app: a call passes the door (credentials, cap, faults) and is then carried out."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import python_multipart  # noqa: F401 -- Starlette misses it only when the first form arrives
from starlette.applications import Starlette
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsclient.sandbox.answers import Answer, Refusal, as_json, empty, invalid
from mmsclient.sandbox.calls import CALLS, Call
from mmsclient.sandbox.exchange import Exchange, RawAnswer
from mmsclient.sandbox.faults import Fault, Faults
from mmsclient.sandbox.fields import check_unicode
from mmsclient.sandbox.state import State

PREFIX = "/api/v3"

THROTTLED = "mmsclient.sandbox.throttled"
"""Where the scope says that a call was throttled; its HTTP status need not."""


def create_app(state: State, faults: Faults) -> Starlette:
    """The API over `state`. Any path that is no call is NOT_IMPLEMENTED (api-notes.md section 2)."""

    async def not_implemented(request: Request, error: Exception) -> Response:
        return _response(state, Answer("NOT_IMPLEMENTED", f"There is no call {request.method} {request.url.path}."))

    app = Starlette(
        routes=[_route(state, name, call) for name, call in CALLS.items()],
        middleware=[Middleware(Gatekeeper, state=state, faults=faults)],
        exception_handlers={404: not_implemented, 405: not_implemented},
    )
    app.router.redirect_slashes = False
    return app


class Gatekeeper:
    """What stands before every call. A call counts at the moment its headers are in."""

    def __init__(self, app: ASGIApp, state: State, faults: Faults) -> None:
        self._app = app
        self._state = state
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = scope["path"].removeprefix(PREFIX).strip("/")
        exchange = Exchange(self._state.arrive(call), self._state, scope, receive, send)
        try:
            await self._pass(exchange, scope)
        except Exception as error:
            self._state.errors.append(error)
            raise

    async def _pass(self, exchange: Exchange, scope: Scope) -> None:
        faults: list[Fault] = []
        refused: RawAnswer | None = None
        try:
            self._state.admit(_key(Headers(scope=scope), self._state.keys), exchange.arrival)
            faults = self._faults.draw(exchange.arrival.call, self._state.random)
        except Refusal as refusal:
            refused = _raw(self._state, refusal.answer)
        for fault in faults:
            if await fault.on_headers(exchange):
                return
        body = await exchange.read()
        if body is None:
            return
        answer = refused or await self._handle(exchange, faults, scope, body)
        if answer.throttled:
            self._state.discount(exchange.arrival)
        for fault in faults:
            changed = await fault.after(exchange, answer)
            if changed is None:
                return
            answer = changed
        await exchange.answer(answer)

    async def _handle(self, exchange: Exchange, faults: list[Fault], scope: Scope, body: bytes) -> RawAnswer:
        for fault in faults:
            answer = await fault.before(exchange)
            if answer is not None:
                return answer
        return await self._carry_out(scope, body)

    async def _carry_out(self, scope: Scope, body: bytes) -> RawAnswer:
        """Run the call on the body read before, and hold its answer back."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        body = b"".join(part["body"] for part in sent[1:])
        return RawAnswer(sent[0]["status"], body, throttled=scope.get(THROTTLED, False))


def _key(headers: Headers, keys: set[str]) -> str:
    """The key of a call: in the header APPKEY, as HTTP Basic, or alike in both (api-notes.md section 1)."""
    given = {*headers.getlist("appkey"), *map(_basic_key, headers.getlist("authorization"))}
    if not given:
        raise Refusal("AUTH_FAILED_NO_DATA", "You have not provided APPKEY")
    key = given.pop()
    if given or key not in keys:
        raise Refusal("AUTH_FAILED", "APPKEY you have provided is invalid")
    return key or ""


def _basic_key(header: str) -> str | None:
    """The key in `Basic base64(key:)`, None for anything else."""
    scheme, _, credentials = header.partition(" ")
    try:
        user, colon, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user if scheme.lower() == "basic" and colon and not password else None


def _route(state: State, name: str, call: Call) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            fields = await _FIELDS[call.source](request)
            with state.lock:
                return _response(state, call.carry_out(state, fields))
        except Refusal as refusal:
            request.scope[THROTTLED] = refusal.answer.code == "OVER_LIMIT"
            return _response(state, refusal.answer)

    async def endpoint_of_several(request: Request) -> Response:
        try:
            items = await _array(request)
        except Refusal as refusal:
            return _response(state, refusal.answer)
        with state.lock:
            answers = [_one_of_several(state, call, item) for item in items]
            alert = state.low_sms_alert
        body = as_json([answer.envelope(state.settings.dialect, alert) for answer in answers])
        return Response(body, 200, RawAnswer(200).headers)

    if call.source == "array":
        return Route(f"{PREFIX}/{name}", endpoint_of_several, methods=[call.method])
    return Route(f"{PREFIX}/{name}", endpoint, methods=[call.method])


async def _query(request: Request) -> dict[str, Any]:
    return dict(request.query_params)


async def _form(request: Request) -> dict[str, Any]:
    """Files as bytes, the rest as text. A body that is no form has no fields."""
    try:
        async with request.form() as form:
            return {
                name: await value.read() if isinstance(value, UploadFile) else value for name, value in form.items()
            }
    except HTTPException as error:
        raise invalid("body", error.detail) from None


def _one_of_several(state: State, call: Call, item: Any) -> Answer:
    try:
        if not isinstance(item, dict):
            raise invalid("body", "each item must be an object")
        check_unicode(item)
        return call.carry_out(state, item)
    except Refusal as refusal:
        return refusal.answer


async def _array(request: Request) -> list[Any]:
    try:
        items = json.loads(await request.body())
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list):
        raise invalid("body", "it must be a JSON array")
    if not items:
        raise empty("body")
    return items


async def _json(request: Request) -> dict[str, Any]:
    """No body, and PHP's empty array, are an object without fields (api-notes.md section 3, inbound-read)."""
    body = await request.body()
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        fields = None
    if fields == []:
        return {}
    if not isinstance(fields, dict):
        raise invalid("body", "it must be a JSON object")
    check_unicode(fields)
    return fields


_FIELDS = {"query": _query, "form": _form, "json": _json}


def _raw(state: State, answer: Answer) -> RawAnswer:
    body = answer.body(state.settings.dialect, state.low_sms_alert)
    return RawAnswer(state.settings.http_status(answer.code), body, throttled=answer.code == "OVER_LIMIT")


def _response(state: State, answer: Answer) -> Response:
    raw = _raw(state, answer)
    return Response(raw.body, raw.status, raw.headers)
