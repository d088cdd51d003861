"""JPEG files taken apart: the segments that are the picture, and those that speak about it."""

from __future__ import annotations

import re
import struct

from attrs import define, field

from mmsclient.pictures._containers.container import Container, Refused
from mmsclient.pictures._containers.exif import Exif, read_exif, xmp_tells_place

__all__ = ["read_jpeg"]

MOST_SEGMENTS = 20_000
MOST_SCANS = 40
"""Each goes over the whole picture; encoders make about ten."""

_SOI, _EOI, _SOS, _COM, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0, 0xEE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""What ends the data of a scan: neither a stuffed byte nor a restart."""


@define
class _Reading:
    """What was found so far."""

    kept: list[bytes] = field(factory=lambda: [b"\xff\xd8"])
    size: tuple[int, int] | None = None
    components: int = 0
    scans: int = 0
    metadata: list[str] = field(factory=list)
    exif: Exif = field(factory=Exif)
    xmp_place: bool = False
    profile: list[bytes] = field(factory=list)


def read_jpeg(data: bytes) -> Container:
    """Raises `Refused` for one that is cut short or damaged."""
    found, place = _Reading(), 2
    for _ in range(MOST_SEGMENTS):
        marker, start, end = _segment(data, place)
        if marker == _EOI:
            found.kept.append(b"\xff\xd9")
            if len(data) - end > 1 or data[end:] not in (b"", b"\0"):
                found.metadata.append("data after the picture")
            return _container(found)
        if marker == _SOS:
            scan_ends = _NEXT_MARKER.search(data, end)
            if scan_ends is None:
                raise Refused("a whole picture: it ends in the middle")
            end = scan_ends.start()
            found.scans += 1
            if found.scans > MOST_SCANS:
                raise Refused(f"at most {MOST_SCANS} scans")
        if not _is_metadata(found, marker, data[start:end]):
            found.kept.append(b"\xff" + bytes([marker]) + data[start - 2 : end])
        place = end
    raise Refused(f"at most {MOST_SEGMENTS} segments")


def _segment(data: bytes, place: int) -> tuple[int, int, int]:
    """The marker at `place`, and where what comes after its length starts and ends."""
    while data[place : place + 2] == b"\xff\xff":  # fill bytes
        place += 1
    if place + 2 > len(data):
        raise Refused("a whole picture: it ends in the middle")
    if data[place] != 0xFF:
        raise Refused("a JPEG that is not damaged")
    marker = data[place + 1]
    if marker == _EOI:
        return marker, place + 2, place + 2
    if place + 4 > len(data):
        raise Refused("a whole picture: it ends in the middle")
    length = struct.unpack_from(">H", data, place + 2)[0]
    if length < 2 or marker in (0, 1, _SOI) or 0xD0 <= marker <= 0xD7:
        raise Refused("a JPEG that is not damaged")
    end = place + 2 + length
    if end > len(data):
        raise Refused("a whole picture: it ends in the middle")
    return marker, place + 4, end


def _is_metadata(found: _Reading, marker: int, body: bytes) -> bool:
    """It is left out of what is decoded. Notes what it says."""
    if marker in _FRAMES:
        if found.size is not None or len(body) < 6:
            raise Refused("a JPEG that is not damaged")
        height, width, found.components = struct.unpack_from(">HHB", body, 1)
        found.size = (width, height)
        return False
    if marker == _COM:
        found.metadata.append("comment")
    elif marker == _APP0 and body.startswith(b"JFIF\0"):
        if len(body) <= 14:
            return False
        found.metadata.append("thumbnail")
    elif marker == _APP14 and body.startswith(b"Adobe"):
        return False
    elif 0xE0 <= marker <= 0xEF:
        _note_application(found, body)
    else:
        return False
    return True


def _note_application(found: _Reading, body: bytes) -> None:
    if body.startswith(b"Exif\0"):
        exif = read_exif(body)
        found.exif = exif if found.exif == Exif() else found.exif
        found.metadata += exif.parts
    elif body.startswith(b"http://ns.adobe.com/"):
        found.metadata.append("XMP")
        found.xmp_place = found.xmp_place or xmp_tells_place(body)
    elif body.startswith(b"ICC_PROFILE\0"):
        found.metadata.append("colour profile")
        found.profile.append(body[12:])
    elif body.startswith(b"Photoshop "):
        found.metadata.append("IPTC")
    elif body.startswith(b"MPF\0"):
        found.metadata.append("further pictures")
    else:
        found.metadata.append("thumbnail" if body.startswith(b"JFXX\0") else "data of an application")


def _container(found: _Reading) -> Container:
    if found.size is None or not found.scans:
        raise Refused("a JPEG that is not damaged")
    pieces = sorted((piece[:1], piece[2:]) for piece in found.profile)
    return Container(
        format="JPEG",
        data=b"".join(found.kept),
        width=found.size[0],
        height=found.size[1],
        metadata=tuple(dict.fromkeys(found.metadata)),
        tells_place=found.exif.tells_place or found.xmp_place,
        orientation=found.exif.orientation,
        colour_profile=b"".join(piece for _, piece in pieces),
        is_lossy=True,
        is_plain=not found.metadata and found.components in (1, 3),
    )
