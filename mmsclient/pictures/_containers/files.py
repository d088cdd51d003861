"""What a file is, by its first bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable

from mmsclient._api.media import format_of
from mmsclient.pictures._containers.container import Container, Refused
from mmsclient.pictures._containers.gif import read_gif
from mmsclient.pictures._containers.jpeg import read_jpeg
from mmsclient.pictures._containers.png import read_png
from mmsclient.pictures._containers.tiff import read_tiff
from mmsclient.pictures._containers.webp import read_webp

__all__ = ["TAKEN", "take_apart"]

TAKEN = "a JPEG, PNG, GIF, WebP, TIFF, BMP or HEIC"

_ENDINGS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    ".png": "PNG",
    ".gif": "GIF",
    ".webp": "WebP",
}


def take_apart(data: bytes, name: str) -> Container:
    """The picture file that `data` is, found by its first bytes. `name`: what it is called, empty for nothing.

    Raises `Refused` for what is no picture, is cut short or damaged, or has the name of another format.
    """
    image_format = format_of(data)
    reader = _READERS.get(image_format)
    if reader is None:
        raise Refused(f"{TAKEN} by its first bytes")
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    named = _ENDINGS.get(ending, image_format)
    if named != image_format:
        raise Refused(f"a {named}, as its name says, and not a {image_format}: give it the right ending")
    try:
        return reader(data)
    except (struct.error, IndexError):
        raise Refused("a whole picture: it ends in the middle") from None


def _read_bmp(data: bytes) -> Container:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Container(format="BMP", data=data, width=abs(width), height=abs(height))


def _read_heic(data: bytes) -> Container:
    """Its metadata and its size are read by what decodes it."""
    return Container(format="HEIC", data=data, width=0, height=0, is_lossy=True)


_READERS: dict[str, Callable[[bytes], Container]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "GIF": read_gif,
    "WebP": read_webp,
    "TIFF": read_tiff,
    "BMP": _read_bmp,
    "HEIC": _read_heic,
}
