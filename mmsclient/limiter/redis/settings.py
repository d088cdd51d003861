"""The options of a `SharedTokenBucket`, checked, and what follows from them."""

from __future__ import annotations

import hashlib
from typing import Literal

import attrs

from mmsclient._api.checks import check_seconds, check_whole, require
from mmsclient.errors import ConfigurationError
from mmsclient.limiter.feedback import LONGEST_RETRY_AFTER, RECOVERY, SLOWER, SLOWEST
from mmsclient.limiter.pacing import GAP, burst_or_default, even_burst
from mmsclient.limiter.slots import CallClass, SlotRule, check_rule

LINGER = 0.4
"""Seconds that a report may wait for company: mostly the process asks for its next call before, in the same trip."""

SOON = 0.02
"""Seconds that a report waits that should not: a cancelled caller is seldom the only one."""

RENEW = 0.5
"""Seconds between two reports that a call is still sending. Less than `jitter + window` by more than a trip takes."""

GRACE = 1.0
"""Seconds that a process may be overdue, and the `timeout` of its trip, before it loses its place in the line."""

PROBE = 0.5
"""Seconds between two probes whether Redis is back; and, where processes go by their parts while it is away, the most
between two syncs while it is there."""

MOST_EXCHANGES, FRESH = 64, 60.0
"""Exchanges of others that a process learns at once, and seconds for which Redis keeps them for that."""

MISSED_FOR = 300.0
"""Seconds for which a process that does not say anything is thought to go by its part, and that is kept free for it."""

KEPT = 86_400
"""Seconds without a sync after which Redis forgets an account."""

LONGEST_TIMEOUT = 5.0
"""Seconds: the most that `timeout` may be."""

OnUnavailable = Literal["raise", "share"]


@attrs.frozen(kw_only=True)
class Settings:
    """The options of one limiter: see `checked`. The account is not kept, as its name may be a key."""

    rate: float
    burst: int
    jitter: float
    processes: int | None
    """How many share the cap while Redis is away; None: then nobody sends."""
    timeout: float

    @property
    def shares(self) -> bool:
        """The process goes by its own part of the cap while Redis is away."""
        return self.processes is not None

    @property
    def own_rate(self) -> float:
        """The part of the cap that this process has while Redis is away."""
        return self.rate / (self.processes or 1)

    @property
    def own_burst(self) -> int:
        """The part of the burst that it has then."""
        return max(1, self.burst // (self.processes or 1))

    def rule(self) -> SlotRule:
        """The rule of the slots in Redis."""
        return SlotRule(self.rate, self.jitter)

    def lease(self, rule: SlotRule) -> float:
        """Seconds after which a call that is no longer reported as sending loses its slot."""
        return 2 * (self.timeout + RENEW) + RENEW + rule.settling

    @property
    def missed_after(self) -> float:
        """Seconds after its last answer from Redis when the part of a process begins to be kept free for it.

        It asks for the next after `PROBE`, and says so with the one after that; each may take the `timeout`.
        """
        return 2 * (self.timeout + PROBE)

    def alone_after(self, rule: SlotRule) -> float:
        """Seconds after Redis went away when a process begins to go by its part.

        Then what the others were granted before they missed it counts no longer, though their answers were late by the
        `timeout`, and their calls took `RENEW` to send.
        """
        return self.missed_after + self.timeout + RENEW + rule.settling

    def for_script(self, rule: SlotRule) -> dict[str, object]:
        """What the script has to know of the rule. Seconds are whole microseconds there."""
        return {
            "slots": rule.slots,
            "window": microseconds(rule.hold),
            "jitter": microseconds(self.jitter),
            "gap": microseconds(GAP / rule.rate),
            "burst": self.burst,
            "earned": even_burst(self.burst, rule.rate),
            "lease": microseconds(self.lease(rule)),
            "renew": microseconds(RENEW),
            "grace": microseconds(GRACE + self.timeout),
            "kept": KEPT * 1000,
            "most_exchanges": MOST_EXCHANGES,
            "fresh": microseconds(FRESH),
            "longest_pause": microseconds(LONGEST_RETRY_AFTER),
            "slower": SLOWER,
            "slowest": SLOWEST,
            "recovery": RECOVERY / 1_000_000,
            **self._for_members(),
        }

    def _for_members(self) -> dict[str, object]:
        """What the script has to know where processes go by their parts while Redis is away."""
        if self.processes is None:
            return {}
        return {
            "processes": self.processes,
            "share": max(1, int(self.own_rate)),
            "beat": microseconds(PROBE),
            "missing": microseconds(self.missed_after),
            "kept_for": microseconds(MISSED_FOR),
            "rejoin": microseconds(2 * self.timeout + PROBE),
        }


def checked(
    *,
    account: str,
    rate: float,
    burst: int | None,
    jitter: float,
    on_unavailable: OnUnavailable,
    processes: int | None,
    timeout: float,
) -> Settings:
    """The options of a `SharedTokenBucket`.

    Raises:
        ConfigurationError: One of them is wrong.
    """
    check_rule(rate, burst, jitter)
    slots = max(1, int(rate))
    if not isinstance(account, str) or not account:
        raise ConfigurationError("account: expected a name that is not empty")  # it may be a key: not shown
    require("on_unavailable", on_unavailable, on_unavailable in ("raise", "share"), "'raise' or 'share'")
    goes_with = (processes is None) == (on_unavailable == "raise")
    require("processes", processes, goes_with, "a number with on_unavailable='share', and only then")
    if processes is not None:
        check_whole("processes", processes, 1, slots)
    check_seconds("timeout", timeout, most=LONGEST_TIMEOUT)
    return Settings(rate=rate, burst=burst_or_default(burst, rate), jitter=jitter, processes=processes, timeout=timeout)


def keys_of(account: str) -> list[str]:
    """The keys of an account in Redis, all in one slot of a cluster. They tell nothing of its name."""
    tag = hashlib.blake2b(account.encode(errors="surrogatepass"), key=b"mmsclient.limiter", digest_size=16).hexdigest()
    cooling = [f"cooling:{each.name.lower()}" for each in CallClass]
    parts = ("state", "busy", "line", "places", "kinds", "exchanges", *cooling, "members")
    return [f"mmsclient:{{{tag}}}:{part}" for part in parts]


def microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
