"""EXIF, as far as it matters here: which way is up, and what it gives away."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from attrs import frozen

__all__ = ["Exif", "read_exif", "xmp_tells_place"]

_ORIENTATION, _CAMERA, _MODEL, _TIME, _SUB_IFD, _GPS_IFD = 0x0112, 0x010F, 0x0110, 0x0132, 0x8769, 0x8825
_TAKEN, _SERIAL = (0x9003, 0x9004), 0xA431
_THUMBNAIL = 0x0201
_PLACES = (2, 4)
"""Latitude and longitude, in the IFD of the GPS."""


@frozen
class Exif:
    """What a block of EXIF says."""

    orientation: int = 1
    parts: tuple[str, ...] = ()
    """What it holds, in words."""
    tells_place: bool = False


def read_exif(data: bytes) -> Exif:
    """What `data` says, a TIFF structure with or without `Exif` before it. What is damaged says nothing."""
    if not data:
        return Exif()
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    try:
        return Exif(parts=("EXIF",)) if order is None else _read(data, order)
    except (struct.error, IndexError):
        return Exif(parts=("EXIF",))


def xmp_tells_place(xmp: bytes) -> bool:
    """XMP holds a latitude."""
    return b"GPSLatitude" in xmp


def _read(data: bytes, order: str) -> Exif:
    main, next_ifd = _ifd(data, order, struct.unpack_from(order + "I", data, 4)[0])
    sub = _ifd(data, order, main[_SUB_IFD])[0] if _SUB_IFD in main else {}
    gps = _ifd(data, order, main[_GPS_IFD])[0] if _GPS_IFD in main else {}
    thumbnail = _ifd(data, order, next_ifd)[0] if next_ifd else {}
    parts = {
        "EXIF": True,
        "camera": _CAMERA in main or _MODEL in main,
        "serial number": _SERIAL in sub,
        "time": _TIME in main or any(tag in sub for tag in _TAKEN),
        "GPS": bool(gps),
        "thumbnail": _THUMBNAIL in thumbnail,
    }
    orientation = main.get(_ORIENTATION, 1)
    return Exif(
        orientation if 1 <= orientation <= 8 else 1,
        tuple(name for name, is_there in parts.items() if is_there),
        tells_place=any(tag in gps for tag in _PLACES),
    )


def _ifd(data: bytes, order: str, offset: int) -> tuple[dict[int, int], int]:
    """The tags of a directory with their first short or long value, and where the next one is."""
    if offset + 2 > len(data):
        return {}, 0
    count = struct.unpack_from(order + "H", data, offset)[0]
    entries = dict(_entries(data, order, offset + 2, count))
    end = offset + 2 + 12 * count
    return entries, struct.unpack_from(order + "I", data, end)[0] if end + 4 <= len(data) else 0


def _entries(data: bytes, order: str, start: int, count: int) -> Iterator[tuple[int, int]]:
    for place in range(start, min(start + 12 * count, len(data) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", data, place)
        yield tag, struct.unpack_from(order + ("H" if kind == 3 else "I"), data, place + 8)[0]
