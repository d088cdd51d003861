"""A service that sends a picture for an order, and takes what the provider posts about it.

    uvicorn --factory fastapi_service:create_app --no-access-log

Environment: MMSCLIENT_APP_KEY, MMSCLIENT_CALLBACK_TOKEN (made once with `mmsclient.webhooks.new_token()`).
"""

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Form, HTTPException, Request, UploadFile

from mmsclient import (
    AsyncMMSClient,
    DeliveryReport,
    InboundMessage,
    InvalidRequestError,
    MMSError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitError,
)
from mmsclient.webhooks import CallbackReceiver

log = logging.getLogger("shop")


def create_app(new_client: Callable[[], AsyncMMSClient] = AsyncMMSClient, seen: str = "callbacks.sqlite") -> FastAPI:
    """The service. Tests hand in `sandbox.client` and a file of their own."""
    receiver = CallbackReceiver(token=os.environ["MMSCLIENT_CALLBACK_TOKEN"], seen=seen)
    statuses: dict[str, str] = {}  # in a real service: your database
    unsubscribed: set[str] = set()

    @receiver.on_delivery_report
    async def note(report: DeliveryReport) -> None:
        statuses[report.message_id] = report.status.value

    @receiver.on_inbound
    async def read(message: InboundMessage) -> None:
        if message.is_opt_out:
            unsubscribed.add(message.sender)
        log.info("%s answered to %s", message.sender, message.original_message_id)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with receiver, new_client() as app.state.mms:  # one client for the whole service
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/mms", receiver)  # the provider posts to https://your.host/mms/<token>

    @app.post("/pictures", status_code=202)
    async def send(
        request: Request, to: Annotated[str, Form()], text: Annotated[str, Form()], image: UploadFile
    ) -> dict[str, Any]:
        try:
            sent = await request.app.state.mms.send(to=to, text=text, image=await image.read())
        except InvalidRequestError as error:
            raise HTTPException(422, str(error)) from None
        except OutcomeUnknownError:
            log.exception("a message to %s may have been sent: look before anybody sends it again", to)
            raise HTTPException(502, "it may have been sent; do not repeat it") from None
        except (NotSentError, RateLimitError) as error:
            raise HTTPException(503, str(error), {"Retry-After": "30"}) from None  # surely not sent
        except MMSError as error:
            raise HTTPException(502, str(error)) from None  # refused: key, credit, recipient
        return {"accepted": sent.accepted, "id": sent.messages[0].id if sent.messages else None}

    @app.get("/pictures/{message_id}")
    async def status(message_id: str) -> dict[str, str | None]:
        return {"status": statuses.get(message_id)}

    @app.get("/unsubscribed")
    async def who_left() -> list[str]:
        return sorted(unsubscribed)

    return app
