"""The rule of the slots: until when the server can have counted a call, and so when its slot is free. No I/O.

docs/limiter.md explains it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from operator import index

from mmsclient._api.checks import check_seconds, check_whole, is_number, require
from mmsclient.errors import ConfigurationError
from mmsclient.limiter.protocol import CallKind

MARGIN = 0.006
"""Seconds added to the window: what the clock, the timers and the min RTT are wrong by."""

MEMORY, ENOUGH = 512, 15
"""Responses that the min RTT is taken from, and how many there must be before it is used."""

OWN = 5
"""Of these, so many must be of the process's own calls, and the others know them still: their way may be longer."""

ALLOWANCE = 30
"""For how far the true minimum may lie below theirs: so many mean excesses, over their number."""

MOST_BYTES = 2**53
"""Whole numbers up to this one are exact everywhere, in Redis too."""

KINDS = tuple(CallKind)


class CallClass(IntEnum):
    """What is known of a call before it leaves."""

    READ = CallKind.READ
    WRITE = CallKind.WRITE
    UPLOAD = CallKind.UPLOAD
    SMALLER = 3
    """It is smaller than those known of its kind: it may be counted sooner after it leaves than they are."""


CountedBy = Sequence[float]
"""The latest moment at which the server can have counted a call, less the way to the server: as it is to be taken for
a next call of each class."""


class MinRTT:
    """The shortest exchange there can be, from the last byte sent to the response, learned from the last 512 of a kind.

    It is their minimum, less an allowance for how far the true minimum may lie below it: 30 times their mean excess
    over it, divided by their number. For an upload it is the least of that and of the same by those no larger than it:
    after many large ones the minimum rests on the few smaller ones.

    Args:
        slots: How many calls may be counted by what was known before.
    """

    def __init__(self, slots: int = ENOUGH) -> None:
        self._needed = min(max(slots, ENOUGH), MEMORY // 2)
        self._exchanges: deque[float] = deque()
        self._sizes: deque[int] = deque()
        self._sorted_sizes: list[int] = []
        self._own: deque[float] = deque(maxlen=OWN)  # when the last of this process were answered
        self._sum = 0.0  # of all of them
        self._minima: deque[float] = deque()  # their minimum, the minimum of those after it, and so on
        self.estimate: float = 0.0
        """Seconds; 0 until 15 exchanges are known."""

    @property
    def is_known(self) -> bool:
        """There were enough exchanges."""
        return len(self._exchanges) >= ENOUGH

    @property
    def is_own(self) -> bool:
        """There were a few exchanges of this process: others may have a longer way than it has."""
        return len(self._own) == OWN

    def lapse(self, before: float) -> None:
        """What this process learned before then is forgotten by the others."""
        while self._own and self._own[0] < before:
            self._own.popleft()

    @property
    def least_size(self) -> int:
        """Bytes. Of this size, or a smaller one, were enough exchanges; a call smaller than that may take less time."""
        return self._sorted_sizes[self._needed - 1] if len(self._sorted_sizes) >= self._needed else 0

    def learn(self, exchange: float, size: int = 0, at: float = 0.0) -> float:
        """Takes one more exchange into account.

        Args:
            exchange: Its seconds.
            size: Bytes that its call carried.
            at: When it was answered.

        Returns:
            What may be taken off it by those before it: the min RTT, or 0 if it was shorter or its call smaller.
        """
        before = self._before(size) if self.is_own else 0.0
        self._remember(exchange, size)
        self._own.append(at)
        return before if before <= exchange else 0.0

    def learn_of_another(self, exchange: float, size: int) -> None:
        """Takes one of another process into account: while there are fewer than 512, and if it is the shortest."""
        if len(self._exchanges) < MEMORY or exchange < self._minima[0]:
            self._remember(exchange, size)

    def _before(self, size: int) -> float:
        """The min RTT for a call of that size."""
        if size < self.least_size:
            return 0.0
        if not self._sizes or size >= self._sorted_sizes[-1]:
            return self.estimate
        no_larger = [exchange for exchange, other in zip(self._exchanges, self._sizes, strict=True) if other <= size]
        return min(self.estimate, _estimate(min(no_larger, default=0.0), sum(no_larger), len(no_larger)))

    def _remember(self, exchange: float, size: int) -> None:
        self._remember_seconds(exchange)
        self._remember_size(size)
        self.estimate = _estimate(self._minima[0], self._sum, len(self._exchanges))

    def _remember_seconds(self, exchange: float) -> None:
        """Takes it in, and the oldest out: in constant time on average, for this is done for each call."""
        if len(self._exchanges) == MEMORY:
            oldest = self._exchanges.popleft()
            self._sum -= oldest
            if oldest == self._minima[0]:
                self._minima.popleft()
        while self._minima and self._minima[-1] > exchange:
            self._minima.pop()
        self._minima.append(exchange)
        self._exchanges.append(exchange)
        self._sum += exchange

    def _remember_size(self, size: int) -> None:
        if len(self._sizes) == MEMORY:
            del self._sorted_sizes[bisect_left(self._sorted_sizes, self._sizes.popleft())]
        self._sizes.append(size)
        insort(self._sorted_sizes, size)


def _estimate(least: float, total: float, count: int) -> float:
    """Of so many exchanges, that take so long together."""
    return max(0.0, least - ALLOWANCE * (total / count - least) / count) if count >= ENOUGH else 0.0


class SlotRule:
    """How many slots there are, and how long a call holds one.

    Args:
        rate: Calls a second that the server allows.
        jitter: Seconds by which the way to the server may vary.
        min_rtt: What is known of the exchanges of each kind; by default nothing yet.
    """

    def __init__(self, rate: float, jitter: float, min_rtt: Sequence[MinRTT] = ()) -> None:
        self.slots: int = max(1, int(rate))
        self.window: float = max(1.0, 1 / rate)
        """Seconds in which the server allows that many calls."""
        self.rate: float = self.slots / self.window
        self.jitter = jitter
        self.min_rtt: Sequence[MinRTT] = min_rtt or [MinRTT(self.slots) for _ in KINDS]

    @property
    def hold(self) -> float:
        """Seconds that a slot stays taken after the server has counted its call."""
        return self.window + MARGIN

    @property
    def settling(self) -> float:
        """Seconds after which a call that leaves now surely counts no longer."""
        return self.jitter + self.hold

    def lapse(self, now: float) -> None:
        """The others have forgotten this process's exchanges of long ago: they know so many, and learned newer ones."""
        for each in self.min_rtt:
            each.lapse(now - MEMORY / self.rate)

    def class_of(self, kind: CallKind, size: int) -> CallClass:
        """The class of a call that carries so many bytes."""
        min_rtt = self.min_rtt[kind]
        return CallClass(kind) if min_rtt.is_own and size >= min_rtt.least_size else CallClass.SMALLER

    def class_begins_at(self, kind: CallKind, size: int) -> int:
        """Bytes from which on calls of that kind are of its class, or of one whose slots are free no later."""
        least_size = self.min_rtt[kind].least_size
        return least_size if size >= least_size else 0

    def counted_by(
        self, kind: CallKind, sent: float, answered: float | None, *, size: int = 0, unusual: bool = False
    ) -> CountedBy:
        """The latest moment at which the server can have counted a call, less the way of the next to the server.

        Args:
            kind: Of the call.
            sent: When the last byte had left.
            answered: When the response came, if it has.
            size: Bytes that it carried.
            unusual: The response, a refusal say, may have come a shorter way: nothing is taken off, nor learned.
        """
        latest = sent + self.jitter
        if answered is None:
            return [latest] * len(CallClass)
        way = 0.0 if unusual else self.min_rtt[kind].learn(answered - sent, size, answered)
        others = [self.min_rtt[other] for other in KINDS if other is not kind]
        way = min([way, *(other.estimate for other in others if other.is_known)])
        ways = [way if other is kind or self.min_rtt[other].is_known else 0.0 for other in KINDS]
        return [min(answered - each, latest) for each in (*ways, 0.0)]


def check_rule(rate: float, burst: int | None, jitter: float) -> None:
    """Checks the options that all limiters have.

    Raises:
        ConfigurationError: One of them is wrong.
    """
    require("rate", rate, is_number(rate) and rate > 0, "calls a second, more than 0")
    if burst is not None:
        check_whole("burst", burst, 1)
    check_seconds("jitter", jitter, zero=True)


def checked_call(kind: CallKind, size: int) -> tuple[CallKind, int]:
    """What a limiter is asked for.

    Raises:
        ConfigurationError: It is no kind, or no number of bytes.
    """
    try:
        kind = CallKind(kind)
    except ValueError:
        raise ConfigurationError(f"kind: expected a CallKind, got {kind!r:.100}") from None
    try:
        size = index(size)
    except TypeError:
        raise ConfigurationError(f"size: expected a whole number of bytes, got {size!r:.100}") from None
    if not 0 <= size <= MOST_BYTES:
        raise ConfigurationError("size: expected a number of bytes, from 0 to 2**53")
    return kind, size
