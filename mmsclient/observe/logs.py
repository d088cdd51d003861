"""Events as lines of a log: `key=value` pairs, or JSON."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import attrs

from mmsclient._bounded_cache import BoundedCache
from mmsclient.observe.around_calls import OrdersClaimed, OrdersDue, OrdersLost, PictureMade
from mmsclient.observe.beginnings import AttemptStarted, EventStarted
from mmsclient.observe.events import (
    AttemptEnded,
    CallbackReceived,
    CallEnded,
    CallRetried,
    CallStarted,
    CallThrottled,
    CallWaited,
    CampaignRef,
    Event,
    EventSettled,
    LimiterAway,
    LimiterBack,
    RateChanged,
    SaturationBegan,
    SaturationEnded,
)
from mmsclient.observe.leases import LeasesLost

__all__ = ["LogObserver"]

_STEPS = (
    AttemptEnded,
    AttemptStarted,
    CallRetried,
    CallStarted,
    CallThrottled,
    CallWaited,
    CallbackReceived,
    EventSettled,
    EventStarted,
    OrdersClaimed,
    OrdersDue,
    PictureMade,
)
_WARNINGS = (LeasesLost, LimiterAway, LimiterBack, OrdersLost, RateChanged, SaturationBegan, SaturationEnded)

REMEMBERED = 50_000
"""Messages whose call is remembered, for the reports that come."""

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PLAIN = re.compile(r"[\w.:+/-]+")


class LogObserver:
    """Logs one line for each event, which begins with its kind.

    ```
    event=call_ended call=3f2a91-17 name=send-mms outcome=accepted attempts=2 recipients=1 accepted=1 seconds=0.412 ...
    ```

    At INFO: the end of each call, of each callback, of orders of an outbox, keyed sends that were made before, and what
    happens to campaigns. At DEBUG: the steps of a call and of a callback, with the same id; those of an event that is
    about a message have the id of the call that sent it, too, where this observer was told of that at DEBUG as well.
    At WARNING: limiters that slow down or lose Redis, receivers that are saturated or lose leases, and workers that
    died.

    Args:
        logger: Where to; `mmsclient.observe.logs` if left out.
        json: A JSON object a line instead.
    """

    def __init__(self, logger: logging.Logger | None = None, *, json: bool = False) -> None:
        self._logger = logger or logging.getLogger(__name__)
        self._as_line = _as_json if json else _as_pairs
        self._calls: BoundedCache[str, str] = BoundedCache(REMEMBERED)
        """By a message's id the call that sent it."""

    def __call__(self, event: Event, /) -> None:
        """Logs `event`."""
        if isinstance(event, CallEnded) and self._logger.isEnabledFor(logging.DEBUG):
            for message_id in event.message_ids:
                self._calls[message_id] = event.call
        level = logging.WARNING if isinstance(event, _WARNINGS) else logging.INFO
        level = logging.DEBUG if isinstance(event, _STEPS) else level
        if self._logger.isEnabledFor(level):
            fields = dict(_fields(event))
            if isinstance(event, EventStarted | EventSettled) and (call := self._calls.get(event.message_id)):
                fields["call"] = call
            self._logger.log(level, "%s", self._as_line(fields))


def _fields(event: Event) -> Iterator[tuple[str, Any]]:
    """What stands in the line, in its order; nothing for what is not there."""
    kind = type(event)
    yield "event", _WORD.sub("_", kind.__name__).lower()
    for attribute in attrs.fields(kind) if attrs.has(kind) else ():
        name, value = attribute.name, getattr(event, attribute.name)
        name = "event_id" if name == "event" else name  # which is the kind of the line
        match value:
            case None | "" | ():
                continue
            case Enum():
                yield name, value.value
            case CampaignRef():
                yield name, value.id
                yield from ((key, of) for key, of in (("campaign_name", value.name), ("batch", value.batch)) if of)
            case datetime():
                yield name, value.isoformat(timespec="seconds")
            case float():
                yield name, round(value, 6)
            case Mapping():
                yield from ((f"{name}_{key}", count) for key, count in value.items())
            case tuple():
                yield (name.removesuffix("s"), value[0]) if len(value) == 1 else (name, len(value))
            case _:
                yield name, value


def _as_json(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields)


def _as_pairs(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_shown(value)}" for name, value in fields.items())


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
