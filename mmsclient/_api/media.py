"""The picture of a message, known by its bytes (api-notes.md section 3, send-mms)."""

from __future__ import annotations

import hashlib

from attrs import field, frozen

from mmsclient.errors import InvalidRequestError

MAX_BYTES = 380_000
"""What image and text may weigh together. The vendor says 380 KB; taken as 380 000 bytes."""

_KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"GIF87a": "gif", b"GIF89a": "gif", b"\xff\xd8\xff": "jpeg"}

_OTHER_FORMATS = (
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"%PDF", "PDF"),
    (8, b"WEBP", "WebP"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftypavif", "AVIF"),
)
"""Formats that the service does not take, by the bytes at a place: so that their error can name them."""

FITTABLE = frozenset(("PNG", "GIF", "JPEG", "WebP", "TIFF", "BMP", "HEIC"))
"""Formats that can be made to fit."""


@frozen
class Image:
    """A picture, read and checked."""

    data: bytes = field(repr=False)
    kind: str
    """`png`, `gif` or `jpeg`."""
    source: str = field(default="", eq=False)
    """The name of the file that it came from, for errors; never sent."""
    digest: str | None = field(default=None, eq=False)
    """Of the file that the caller gave, where the picture was made of it."""

    @property
    def filename(self) -> str:
        """A name of our own; the caller's path stays here."""
        return f"image.{self.kind}"

    @property
    def content_type(self) -> str:
        return f"image/{self.kind}"


def digest_of(data: bytes) -> str:
    """What tells a file, or a text, from another one."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def image_of(data: bytes, size: int, name: str) -> Image:
    """The picture that `data` is, by its first bytes. `size` is that of the whole, of which no more need be read.

    Raises `InvalidRequestError` for one that is empty, too large, or not PNG, GIF or JPEG.
    """
    if not data:
        problem = "no bytes" + (f" in {name}" if name else "")
        raise InvalidRequestError("image", problem, "a PNG, GIF or JPEG; a file object is read from where it stands")
    kind = next((kind for signature, kind in _KINDS.items() if data.startswith(signature)), None)
    if len(data) > MAX_BYTES:
        raise too_large(format_of(data), size, name)
    if kind is None:
        problem = described(format_of(data), size, name)
        raise InvalidRequestError("image", problem, "a PNG, GIF or JPEG by its first bytes: convert it, to JPEG say")
    return Image(data, kind, name)


def too_large(image_format: str, size: int, name: str, room: int = MAX_BYTES) -> InvalidRequestError:
    """Why a picture of `size` bytes is refused where there is `room`, and what to do about it."""
    limit = f"at most {room} bytes" + ("" if room == MAX_BYTES else f" beside this text, {MAX_BYTES} in all")
    fits = "fit=True (--fit; extra `images`), or " if image_format in FITTABLE else ""
    remedy = f"{fits}scale it down, to about 300x450 pixels, and save it as JPEG"
    return InvalidRequestError("image", described(image_format, size, name), f"{limit}: {remedy}")


def described(image_format: str, size: int, name: str) -> str:
    """A file as errors show it."""
    weight = f"more than {MAX_BYTES} bytes" if size == MAX_BYTES + 1 else f"{size} bytes"  # no more was read
    return f"{image_format} of {weight}" + (f", {name}" if name else "")


def format_of(data: bytes) -> str:
    """The format of a picture by its first bytes, as people call it; `unknown format` for any other file."""
    known = ((0, signature, kind.upper()) for signature, kind in _KINDS.items())
    for place, signature, name in (*known, *_OTHER_FORMATS):
        if data.startswith(signature, place):
            return name
    return "SVG" if b"<svg" in data[:1024] else "unknown format"
