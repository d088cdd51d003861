"""TIFF files taken apart: the tags of the first page that are the picture, and those that speak about it."""

from __future__ import annotations

import struct

from mmsclient.pictures._containers.container import Container, Refused
from mmsclient.pictures._containers.exif import read_exif, xmp_tells_place

__all__ = ["read_tiff"]

LARGEST_TILE = 4_000_000
"""Pixels; each is decoded as a whole, whatever the size of the picture."""

_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_PROFILE, _XMP, _IPTC, _PHOTOSHOP = 34675, 700, 33723, 34377
_OF_THE_PICTURE = {
    *(_WIDTH, _HEIGHT, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320),
    *(_TILE_WIDTH, _TILE_HEIGHT, 324, 325, 332, 338, 339, 347, 529, 530, 531, 532),
}
_SINGLE = {_WIDTH, _HEIGHT, 259, 262, 266, 277, 278, 284, 292, 293, 317, _TILE_WIDTH, _TILE_HEIGHT, 332}
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Bytes of a value, by its type."""
_NAMES = {_PROFILE: "colour profile", _XMP: "XMP", _IPTC: "IPTC", _PHOTOSHOP: "IPTC", 270: "text", 315: "author"}


def read_tiff(data: bytes) -> Container:
    """Raises `Refused` for one that is cut short or damaged. Of several pages it is the first."""
    order = "<" if data.startswith(b"II") else ">"
    try:
        return _read(data, order)
    except struct.error:
        raise Refused("a whole picture: it ends in the middle") from None


def _read(data: bytes, order: str) -> Container:
    directory = struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, directory)[0]
    kept, numbers, found, total = list[bytes](), dict[int, int](), dict[int, bytes](), 0
    for place in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, place)
        size = _UNITS.get(kind, 0) * length
        start = place + 8 if size <= 4 else struct.unpack_from(order + "I", data, place + 8)[0]
        if tag not in _OF_THE_PICTURE:
            found[tag] = data[start : start + size]
            continue
        total += size
        if not size or start + size > len(data) or total > len(data) or (tag in _SINGLE and length != 1):
            raise Refused("a TIFF that is not damaged")
        kept.append(data[place : place + 12])
        numbers[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, place + 8)[0]
    if numbers.get(_TILE_WIDTH, 0) * numbers.get(_TILE_HEIGHT, 0) > LARGEST_TILE:
        raise Refused(f"tiles of at most {LARGEST_TILE} pixels")
    further = struct.unpack_from(order + "I", data, directory + 2 + 12 * count)[0]
    exif = read_exif(data)
    return Container(
        format="TIFF",
        data=_with_directory(data, order, directory, kept),
        width=numbers.get(_WIDTH, 0),
        height=numbers.get(_HEIGHT, 0),
        metadata=tuple(dict.fromkeys([*_in_words(found, exif.parts), *(["further pictures"] if further else [])])),
        tells_place=exif.tells_place or xmp_tells_place(found.get(_XMP, b"")),
        orientation=exif.orientation,
        colour_profile=found.get(_PROFILE, b""),
    )


def _in_words(found: dict[int, bytes], exif: tuple[str, ...]) -> list[str]:
    named = [_NAMES[tag] for tag in found if tag in _NAMES]
    parts = [part for part in exif if part not in ("EXIF", "thumbnail")]  # every TIFF is built as EXIF is
    return [*(["EXIF", *parts] if parts else []), *named]


def _with_directory(data: bytes, order: str, place: int, entries: list[bytes]) -> bytes:
    """`data` with these entries alone in its first directory, and no second one."""
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:place] + directory + data[place + len(directory) :]
