"""An observer that keeps what it is told."""

from __future__ import annotations

import json
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

import attrs

from mmsclient.observe import Event

E = TypeVar("E", bound=Event)


class Told:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Those of a kind, in their order."""
        return [event for event in self.events if isinstance(event, kind)]

    def one(self, kind: type[E]) -> E:
        """The only one of a kind."""
        (event,) = self.of(kind)
        return event

    def document(self) -> str:
        """All that stands in them, as JSON, and as they print."""
        fields = [[type(event).__name__, attrs.asdict(event)] for event in self.events]  # type: ignore[arg-type]
        return json.dumps(fields, default=_plain) + repr(self.events)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"an event holds {value!r}")
