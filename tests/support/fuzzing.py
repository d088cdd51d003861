"""How the property tests choose their cases: the same ones each time, or as many others as MMSCLIENT_TEST_FUZZ says."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_ASKED = os.environ.get("MMSCLIENT_TEST_FUZZ")

settings.register_profile("mmsclient", max_examples=50, derandomize=not _ASKED, database=None, deadline=None)


def cases(usual: int) -> settings:
    """`usual` cases, or as many as the environment asks for."""
    return settings(
        max_examples=int(_ASKED) if _ASKED else usual,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
