"""WebP files taken apart: size, frames and metadata. What decodes it would take memory for what its header claims."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mmsclient.pictures._containers.container import Animation, Container, Refused
from mmsclient.pictures._containers.exif import Exif, read_exif, xmp_tells_place

__all__ = ["read_webp"]

MOST_CHUNKS = 100_000


def read_webp(data: bytes) -> Container:
    """Raises `Refused` for one that is cut short or damaged."""
    size: tuple[int, int] | None = None
    metadata, delays = list[str](), list[int]()
    exif, profile, xmp_place, loops, is_lossy = Exif(), b"", False, 0, False
    for kind, body in _chunks(data):
        if kind in (b"VP8X", b"VP8 ", b"VP8L"):
            size = size or _size(kind, body)
            is_lossy = is_lossy or kind == b"VP8 "
        elif kind == b"ANIM" and len(body) >= 6:
            loops = struct.unpack_from("<H", body, 4)[0]
        elif kind == b"ANMF":
            delays.append(int.from_bytes(body[12:15], "little"))
            is_lossy = True  # some of its frames may be
        elif kind == b"EXIF":
            exif = read_exif(body)
            metadata += exif.parts
        elif kind == b"XMP ":
            metadata.append("XMP")
            xmp_place = xmp_tells_place(body)
        elif kind == b"ICCP":
            metadata.append("colour profile")
            profile = body
    if size is None:
        raise Refused("a WebP that is not damaged")
    return Container(
        format="WebP",
        data=data,
        width=size[0],
        height=size[1],
        metadata=tuple(dict.fromkeys(metadata)),
        tells_place=exif.tells_place or xmp_place,
        orientation=exif.orientation,
        colour_profile=profile,
        animation=Animation(tuple(delays), loops) if len(delays) > 1 else None,
        is_lossy=is_lossy,
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise Refused("a whole picture: it ends in the middle")
    place = 12
    for _ in range(MOST_CHUNKS):
        if place + 8 > end:
            return
        kind, length = struct.unpack_from("<4sI", data, place)
        if place + 8 + length > end:
            raise Refused("a whole picture: it ends in the middle")
        yield kind, data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2
    raise Refused(f"at most {MOST_CHUNKS} chunks")


def _size(kind: bytes, body: bytes) -> tuple[int, int]:
    if len(body) < 10:
        raise Refused("a WebP that is not damaged")
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    bits = int.from_bytes(body[1:5], "little")
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
