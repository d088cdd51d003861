"""How many cases a fuzz test tries: as many as MMSCLIENT_TEST_FUZZ says, or what fits into an ordinary run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_ASKED = os.environ.get("MMSCLIENT_TEST_FUZZ")


def cases(usual: int) -> settings:
    """`usual` cases, or as many as the environment asks for."""
    return settings(
        max_examples=int(_ASKED) if _ASKED else usual,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
