"""A picture made by code, so that the demo needs no file and no imaging library."""

from __future__ import annotations

import math
import struct
import zlib

WIDTH, HEIGHT = 300, 450

_TOP, _HORIZON, _SEA, _SUN = (24, 32, 88), (255, 132, 72), (16, 48, 80), (255, 232, 150)
_SUN_RADIUS = 70


def sunset() -> bytes:
    """A PNG of a sun going down over the sea."""
    rows = b"".join(b"\0" + _row(y) for y in range(HEIGHT))  # \0: no filter
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)  # 8 bits each of red, green and blue
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _row(y: int) -> bytes:
    horizon = HEIGHT * 2 // 3
    if y >= horizon:
        return bytes(_SEA) * WIDTH
    share = y / horizon
    sky = bytes(round(top + (low - top) * share) for top, low in zip(_TOP, _HORIZON, strict=True))
    half = round(math.sqrt(max(0, _SUN_RADIUS**2 - (horizon - y) ** 2)))
    side = sky * (WIDTH // 2 - half)
    return side + bytes(_SUN) * (2 * half) + side


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
