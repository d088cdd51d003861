"""GIF files taken apart: how many frames there are, how long each is shown, and what stands beside them."""

from __future__ import annotations

import struct

from attrs import define, field

from mmsclient.pictures._containers.container import Animation, Container, Refused

__all__ = ["first_image", "read_gif"]

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL, _COMMENT, _APPLICATION, _TEXT = 0xF9, 0xFE, 0xFF, 0x01


@define
class _Reading:
    width: int
    height: int
    delays: list[int] = field(factory=list)
    delay: int = 0
    """Of the frame to come, in milliseconds."""
    loops: int | None = None
    metadata: list[str] = field(factory=list)


def read_gif(data: bytes) -> Container:
    """Raises `Refused` for one that is cut short or damaged."""
    try:
        return _read(data)
    except (struct.error, IndexError):
        raise Refused("a whole picture: it ends in the middle") from None


def first_image(data: bytes) -> bytes:
    """The first image of a GIF with one palette, as it stands in the file: its descriptor and its pixels."""
    place = _after_header(data)
    while data[place] == _EXTENSION:
        place = _after_blocks(data, place + 2)
    return data[place : _after_blocks(data, place + 11)]


def _read(data: bytes) -> Container:
    found = _Reading(*struct.unpack_from("<HH", data, 6))
    place = _after_header(data)
    while (kind := data[place]) != _TRAILER:
        if kind == _EXTENSION:
            start, place = place, _after_blocks(data, place + 2)
            _note_extension(found, data[start:place])
        elif kind == _IMAGE:
            left, top, width, height, flags = struct.unpack_from("<HHHHB", data, place + 1)
            found.width, found.height = max(found.width, left + width), max(found.height, top + height)
            found.delays.append(found.delay)
            found.delay = 0
            place = _after_blocks(data, place + 11 + _table(flags))
        else:
            raise Refused("a GIF that is not damaged")
    if place + 1 < len(data):
        found.metadata.append("data after the picture")
    if not found.delays:
        raise Refused("a GIF with a picture in it")
    return Container(
        format="GIF",
        data=data,
        width=found.width,
        height=found.height,
        metadata=tuple(dict.fromkeys(found.metadata)),
        animation=Animation(tuple(found.delays), found.loops) if len(found.delays) > 1 else None,
        is_plain=not found.metadata,
    )


def _note_extension(found: _Reading, block: bytes) -> None:
    label, body = block[1], block[3:]
    if label == _CONTROL:
        found.delay = 10 * struct.unpack_from("<H", body, 1)[0]
    elif label == _APPLICATION and body[:11] in (b"NETSCAPE2.0", b"ANIMEXTS1.0"):
        if body[11:13] == b"\x03\x01":
            found.loops = struct.unpack_from("<H", body, 13)[0]
    elif label == _APPLICATION:
        found.metadata.append("XMP" if body.startswith(b"XMP Data") else "data of an application")
    else:
        found.metadata.append("comment" if label == _COMMENT else "text")


def _after_header(data: bytes) -> int:
    return 13 + _table(data[10])


def _table(flags: int) -> int:
    """Bytes of the colour table that the flags before it promise."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, place: int) -> int:
    """Where the blocks that start at `place`, each with its length before it, have ended."""
    while length := data[place]:
        place += 1 + length
    return place + 1
