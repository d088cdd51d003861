"""Who may stand before the HTTP library: how many calls may be under way, and how many of them without a token."""

from __future__ import annotations

import asyncio

from mmsclient._capacity import CapacityLimiter
from mmsclient._transport.connections import STALE_AFTER

AT_WIRE = 10
"""Calls that may hold or open a connection without a token, at most: two thirds of a second's worth at 15 a second, so
that handshakes of that length do not slow it down once it has grown so far. No call is overtaken by more than these."""

FIRST_AT_WIRE = 5
"""So many to begin with, which is what a limiter grants at once from idle: how long tokens take is not known yet."""

SHORT_WAIT, LONG_WAIT = 0.35 * STALE_AFTER, 0.7 * STALE_AFTER
"""Seconds of waiting for a token with a connection ready: after a shorter wait one more may, up to `AT_WIRE`; after a
longer one, as many fewer as it was too long. A connection that waited too long is opened anew with the token in hand,
which spends it early. Below one token in `STALE_AFTER` that is so for all."""

SLOW_OPENING = 1.0
"""Seconds after which a call that is still opening its connection keeps no other from coming to the wire."""


class Admission:
    """Three limits before the HTTP library.

    The first bounds the calls under way, so that callers queue here, where that costs little, and not in the library's
    pool. The second bounds those of them that have no token yet. The third lets one at a time ask the pool for a
    connection: it offers an idle one to all that ask at once, and those that lose it ask again, at some cost.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._in_flight = CapacityLimiter(max_in_flight)
        self._most_at_wire = min(AT_WIRE, max_in_flight)
        self._at_wire = CapacityLimiter(min(FIRST_AT_WIRE, self._most_at_wire))
        self._asking = CapacityLimiter(1)

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._in_flight.waiting + self._at_wire.waiting

    async def enter(self) -> Place:
        """Wait for a place, in the order of asking. `Place.leave` gives it back."""
        await self._in_flight.acquire()
        try:
            await self._at_wire.acquire()
        except BaseException:
            self._in_flight.release()
            raise
        return Place(self, self._at_wire.permits)

    async def ask(self) -> None:
        """Wait for the turn to ask for a connection, which `asked` ends."""
        await self._asking.acquire()

    def asked(self) -> None:
        """A call has its connection, or opens one."""
        self._asking.release()

    def waited(self, seconds: float, room: int) -> None:
        """A call waited so long for its token, with `room` at the wire when it came.

        As many as get their tokens in time may stand there, judged by those that came since that was last changed.
        """
        if room != self._at_wire.permits:
            return
        if seconds > LONG_WAIT:
            self._at_wire.resize(max(1, int(room * LONG_WAIT / seconds)))
        elif seconds < SHORT_WAIT:
            self._at_wire.resize(min(self._most_at_wire, room + 1))

    def passed(self) -> None:
        """A call has its token, or is so slow that it keeps no other from coming to the wire."""
        self._at_wire.release()

    def left(self) -> None:
        """A call is over."""
        self._in_flight.release()


class Place:
    """What one call occupies, as far as it has come."""

    def __init__(self, admission: Admission, room: int) -> None:
        self._admission = admission
        self._room = room
        self._timer: asyncio.TimerHandle | None = None
        self._asks = False
        self._is_at_wire = True
        self._is_over = False

    async def ask(self) -> None:
        """Wait for the turn to ask the pool for a connection. `opening` and `ready` end it."""
        if not self._asks:
            await self._admission.ask()
            self._asks = True

    def opening(self) -> None:
        """It opens a connection of its own, which no other call can take from it."""
        if self._asks:
            self._asked()
            self._timer = asyncio.get_running_loop().call_later(SLOW_OPENING, self._pass)

    def ready(self) -> None:
        """It has a connection, and waits for its token."""
        self._stop_timer()
        self._asked()

    def token_spent(self, waited: float) -> None:
        """Its token is spent, after it waited so many seconds with a connection ready."""
        if self._is_at_wire:
            self._admission.waited(waited, self._room)
        self._pass()

    def leave(self) -> None:
        """The call is over, however it ended."""
        if not self._is_over:
            self._is_over = True
            self._pass()
            self._admission.left()

    def _pass(self) -> None:
        self._stop_timer()
        self._asked()
        if self._is_at_wire:
            self._is_at_wire = False
            self._admission.passed()

    def _asked(self) -> None:
        if self._asks:
            self._asks = False
            self._admission.asked()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
