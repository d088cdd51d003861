"""PNG files taken apart: the chunks that are the picture, and those that speak about it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from mmsclient.pictures._containers.container import Container, Refused
from mmsclient.pictures._containers.exif import Exif, read_exif, xmp_tells_place

__all__ = ["read_png"]

MOST_CHUNKS = 100_000
LARGEST_PROFILE = 4_000_000

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_OF_THE_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_NAMES = {
    b"tEXt": "text",
    b"zTXt": "text",
    b"iTXt": "text",
    b"tIME": "time",
    b"iCCP": "colour profile",
    b"acTL": "animation",
    b"fcTL": "animation",
    b"fdAT": "animation",
}


def read_png(data: bytes) -> Container:
    """Raises `Refused` for one that is cut short or damaged. An animated one is its first picture."""
    kept, metadata = [_SIGNATURE], list[str]()
    header, profile, exif, xmp_place = b"", b"", Exif(), False
    for kind, body, chunk in _chunks(data):
        if kind in _OF_THE_PICTURE:
            kept.append(chunk)
            header = body if kind == b"IHDR" else header
        elif kind == b"eXIf":
            exif = read_exif(body)
            metadata += exif.parts
        elif kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0"):
            metadata.append("XMP")
            xmp_place = xmp_tells_place(body)
        else:
            metadata.append(_NAMES.get(kind, "further data"))
            profile = _profile(body) if kind == b"iCCP" else profile
    if len(data) > sum(map(len, kept)) and not metadata:
        metadata.append("data after the picture")
    if len(header) != 13:
        raise Refused("a PNG that is not damaged")
    width, height, depth = struct.unpack_from(">IIB", header)
    return Container(
        format="PNG",
        data=b"".join(kept),
        width=width,
        height=height,
        metadata=tuple(dict.fromkeys(metadata)),
        tells_place=exif.tells_place or xmp_place,
        orientation=exif.orientation,
        colour_profile=profile,
        is_plain=not metadata and depth <= 8,
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, body and whole of each chunk, up to the last."""
    place = len(_SIGNATURE)
    for _ in range(MOST_CHUNKS):
        if place + 12 > len(data):
            raise Refused("a whole picture: it ends in the middle")
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            raise Refused("a whole picture: it ends in the middle")
        if zlib.crc32(data[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise Refused("a PNG that is not damaged")
        yield kind, data[place + 8 : end - 4], data[place:end]
        if kind == b"IEND":
            return
        place = end
    raise Refused(f"at most {MOST_CHUNKS} chunks")


def _profile(body: bytes) -> bytes:
    """The ICC profile of a chunk; empty where it cannot be read."""
    try:
        return zlib.decompressobj().decompress(body[body.index(b"\0") + 2 :], LARGEST_PROFILE)
    except (ValueError, zlib.error):
        return b""
