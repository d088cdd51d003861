"""What is told of keyed sends that make no call of their own."""

from __future__ import annotations

from collections.abc import Awaitable
from time import monotonic

from mmsclient.errors import APIError, OutcomeUnknownError
from mmsclient.models import SentBatch
from mmsclient.observe.around_calls import SendRepeated
from mmsclient.observe.events import Outcome
from mmsclient.observe.observer import Emit, class_of

__all__ = ["ObservedKey"]


class ObservedKey:
    """A keyed send, which may turn out to have been made before.

    Args:
        emit: Tells the observers.
        name: Of the API's call.
        server: The API's.
        recipients: Of the send.
    """

    def __init__(self, emit: Emit, name: str, server: str, recipients: int) -> None:
        self._emit = emit
        self._name = name
        self._server = server
        self._recipients = recipients
        self.makes_call: bool = False
        """It makes its own call, of which the observers are told."""

    async def watch(self, send: Awaitable[SentBatch]) -> SentBatch:
        """What `send` returns or raises. A caller that is cancelled is told of by its call, if there is one."""
        began = monotonic()
        try:
            sent = await send
        except Exception as error:
            self._ended(_outcome_of(error), monotonic() - began, error)
            raise
        self._ended(Outcome.ACCEPTED, monotonic() - began, None)
        return sent

    def _ended(self, outcome: Outcome, seconds: float, error: Exception | None) -> None:
        if not self.makes_call:
            self._emit(
                SendRepeated(
                    name=self._name,
                    server=self._server,
                    recipients=self._recipients,
                    outcome=outcome,
                    seconds=seconds,
                    error=class_of(error),
                )
            )


def _outcome_of(error: Exception) -> Outcome:
    if isinstance(error, OutcomeUnknownError):
        return Outcome.UNKNOWN
    return Outcome.REFUSED if isinstance(error, APIError) else Outcome.NOT_SENT
