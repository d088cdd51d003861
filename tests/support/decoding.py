"""Answers as bytes, and what the decoders make of them."""

from __future__ import annotations

import json
from typing import Any

from mmsclient import (
    MMSError,
)
from mmsclient._api import envelope
from mmsclient._api.types import Call, Response


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers={name.replace("_", "-"): v for name, v in headers.items()}, body=data)


def decode(call: Call[Any], reply: Response) -> Any:
    return envelope.read(call, reply, envelope.unwrap(call, reply))


def meta(data: Any, msg: str = "OK", **more: Any) -> dict[str, Any]:
    return {"meta": {"code": 200, "status": "SUCCESS"}, "msg": msg, "data": data, **more}


def outcome_of(call: Call[Any], reply: Response) -> Any:
    try:
        return decode(call, reply)
    except MMSError as error:
        return error
