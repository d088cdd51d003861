"""What is told of receivers that share a store of handled events."""

from __future__ import annotations

from attrs import frozen

from mmsclient.observe.events import Event

__all__ = ["LeasesLost"]


@frozen(kw_only=True, slots=False)
class LeasesLost(Event):
    """Reservations of events were not renewed in time: other processes may have handled these events, too."""

    events: int
    """How many, since it was told last."""
