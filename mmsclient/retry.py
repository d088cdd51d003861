"""What may be repeated, and how long to wait before it."""

from __future__ import annotations

import random

from mmsclient.errors import MMSError, NotSentError, RateLimitError, ServerError, TransportError

FIRST_WAIT = 0.5
"""Seconds: the bound of the first random wait; it doubles with every attempt."""

LONGEST_WAIT = 8.0
"""Seconds: what that bound grows to."""

LONGEST_RETRY_AFTER = 60.0
"""Seconds: a server that asks for more gets no further attempt."""

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


def wait_before(attempt: int, error: MMSError) -> float | None:
    """Seconds to wait before attempt number `attempt` (2 or more): full jitter, at least what the server asked for.

    None where the server asks for more than is waited for.
    """
    asked = getattr(error, "retry_after", None) or 0.0
    if asked > LONGEST_RETRY_AFTER:
        return None
    bound = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempt - 2))
    return float(asked) + random.uniform(0.0, bound)  # noqa: S311
