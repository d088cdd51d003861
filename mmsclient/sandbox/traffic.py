"""The calls that came, and the cap that they are counted towards. No I/O."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime

from mmsclient.sandbox.answers import over_limit
from mmsclient.sandbox.records import ZONE, Arrival
from mmsclient.sandbox.settings import Settings
from mmsclient.sandbox.throttle import Window


class Traffic:
    """Every call that came. Safe to use from any thread."""

    def __init__(self, settings: Settings, keys: Iterable[str], clock: Callable[[], float]) -> None:
        self.settings = settings
        self.keys: set[str] = set(keys)
        """The keys that are let in. Each has its own cap; all see the same messages."""
        self.clock = clock
        self._began = time.time() - clock()
        self.lock: threading.RLock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget everything; settings and keys stay."""
        with self.lock:
            self.arrivals: list[Arrival] = []
            """Every call, in the order of coming, throttled and unauthorised ones too."""
            self.errors: list[Exception] = []
            """Defects of the sandbox itself that a call has met."""
            self._windows: defaultdict[str, Window] = defaultdict(Window)

    def now(self) -> datetime:
        """The time of day in the service's zone, in whole seconds as the service writes them. It goes by `clock`."""
        return datetime.fromtimestamp(self._began + self.clock(), ZONE).replace(microsecond=0)

    @property
    def calls(self) -> Counter[str]:
        """How often each call came, throttled ones included."""
        return Counter(arrival.call for arrival in list(self.arrivals))

    @property
    def throttled(self) -> Counter[str]:
        """How often each call was throttled."""
        return Counter(arrival.call for arrival in list(self.arrivals) if arrival.throttled)

    def arrive(self, call: str) -> Arrival:
        """Note a call whose headers are in."""
        arrival = Arrival(self.clock(), call)
        self.arrivals.append(arrival)
        return arrival

    def admit(self, key: str, arrival: Arrival) -> None:
        """Count a call towards the cap of its key. Raises `Refusal` beyond the cap."""
        with self.lock:
            if not self._windows[key].admit(arrival, self.settings.rate):
                arrival.throttled = True
                raise over_limit()

    def discount(self, arrival: Arrival) -> None:
        """The call was throttled after it had been counted."""
        arrival.throttled = True
        with self.lock:
            for window in self._windows.values():
                window.withdraw(arrival)
