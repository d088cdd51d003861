"""What is told of the runs of a campaign."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import TypeVar

from mmsclient.observe.around_calls import PictureMade
from mmsclient.observe.events import (
    BatchEnded,
    CampaignContinued,
    CampaignEnded,
    CampaignPaused,
    CampaignRef,
    CampaignReopened,
    CampaignStarted,
    CampaignStopped,
    CampaignWaiting,
    Event,
)
from mmsclient.observe.observer import Emit, class_of

__all__ = ["RunObserver"]

S = TypeVar("S", bound=Enum)


class RunObserver:
    """Tells the observers of one run of a campaign, if there are any.

    Args:
        emit: Tells the observers; None where there are none.
        name: What the campaign is called.
    """

    def __init__(self, emit: Emit | None, name: str) -> None:
        self._emit = emit
        self._run = CampaignRef(secrets.token_hex(4), name)
        self._began = time.monotonic()
        self._held_at = 0.0
        self._is_stopped = False

    def batch(self, number: int) -> CampaignRef | None:
        """What the calls of a batch belong to; None where nobody is told."""
        return None if self._emit is None else CampaignRef(self._run.id, self._run.name, number)

    def started(self) -> None:
        """The run begins."""
        self._tell(CampaignStarted(campaign=self._run))

    def paused(self, batch: int, seconds: float, error: BaseException | None) -> None:
        """The run is held before a call of a batch is tried again."""
        if (of := self.batch(batch)) is not None:
            self._tell(CampaignPaused(campaign=of, seconds=seconds, error=class_of(error) or ""))

    def waiting(self, until: datetime | None) -> None:
        """The run waits for its hours; with None it does so no more."""
        self._tell(
            CampaignReopened(campaign=self._run) if until is None else CampaignWaiting(campaign=self._run, until=until)
        )

    def held(self) -> None:
        """Another process has paused the campaign."""
        self._held_at = time.monotonic()
        self._tell(CampaignPaused(campaign=self._run, seconds=None, error=None, from_outside=True))

    def continued(self) -> None:
        """Another process has ended that pause."""
        self._tell(CampaignContinued(campaign=self._run, seconds=time.monotonic() - self._held_at))

    def stopped(self, error: BaseException | None, *, from_outside: bool = False) -> None:
        """Nothing new starts: for the program, for another one, or for an error. Told once."""
        if not self._is_stopped:
            self._is_stopped = True
            self._tell(CampaignStopped(campaign=self._run, error=class_of(error), from_outside=from_outside))

    def batch_ended(self, batch: int, states: Iterable[Enum], error: BaseException | None) -> None:
        """A batch is over; its recipients are in these states."""
        if (of := self.batch(batch)) is not None:
            self._tell(
                BatchEnded(campaign=of, counts=Counter(str(state.value) for state in states), error=class_of(error))
            )

    def picture_made(self, seconds: float, size: int, error: BaseException | None) -> None:
        """A recipient's own picture was made, or could not be."""
        self._tell(PictureMade(campaign=self._run, seconds=seconds, bytes=size, error=class_of(error)))

    def ended(self, counts: Mapping[S, int], calls: int, error: BaseException | None) -> None:
        """The run is over, with so many recipients in each state."""
        self._is_stopped = True
        if self._emit is not None:
            found = {str(state.value): count for state, count in counts.items() if count}
            seconds = time.monotonic() - self._began
            self._tell(
                CampaignEnded(campaign=self._run, counts=found, calls=calls, seconds=seconds, error=class_of(error))
            )

    def _tell(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)
