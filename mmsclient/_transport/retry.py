"""What may be retried, and how long to wait before it."""

from __future__ import annotations

import random

from mmsclient.errors import MMSError, NotSentError, RateLimitError, ServerError, TransportError
from mmsclient.limiter.feedback import LONGEST_RETRY_AFTER

FIRST_WAIT = 0.5
"""Seconds: the bound of the first random wait; it doubles with every attempt."""

LONGEST_WAIT = 8.0
"""Seconds: what that bound grows to."""

TOTAL = 120.0
"""Seconds after the first attempt has ended: no attempt starts later."""

PASSING = (TransportError, RateLimitError, ServerError)
"""Errors that may be gone the next time. The others stay until somebody acts."""


def may_repeat(error: MMSError, repeatable: bool) -> bool:
    """Repeating the call cannot carry it out twice, and may help.

    A throttled call and one that never left: always. Anything else that may pass: only if the call is `repeatable`.
    """
    if isinstance(error, RateLimitError | NotSentError):
        return True
    return repeatable and isinstance(error, TransportError | ServerError)


def backoff(number: int, *, first: float, longest: float, growth: float = 2.0, least: float = 1.0) -> float:
    """Seconds to wait for the `number`th time (1 or more) in a row: longer each time, and at random.

    Args:
        number: Which wait it is.
        first: Seconds: the first wait, at most.
        longest: Seconds: any wait, at most.
        growth: What a wait is longer by than the one before it.
        least: The share of it that is waited at least: 0 for full jitter, 1 for none.
    """
    bound = min(longest, first * growth ** min(number - 1, 64))
    return bound * random.uniform(least, 1.0)  # noqa: S311


def wait_before(attempt: int, error: MMSError) -> float | None:
    """Seconds to wait before attempt number `attempt` (2 or more): full jitter, at least what the server asked for.

    None where the server asks for more than is waited for.
    """
    asked = getattr(error, "retry_after", None) or 0.0
    if asked > LONGEST_RETRY_AFTER:
        return None
    return float(asked) + backoff(attempt - 1, first=FIRST_WAIT, longest=LONGEST_WAIT, least=0.0)
