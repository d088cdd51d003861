"""A picture for tests that look at none."""

from __future__ import annotations

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
"""Enough of one for the client and the sandbox: both look at the first bytes only."""
