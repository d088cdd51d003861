"""A picture that was made to fit, and what was done to it."""

from __future__ import annotations

from attrs import frozen

from mmsclient._api.media import MAX_BYTES

__all__ = ["FITS_ANY_TEXT", "MAX_SOURCE_BYTES", "FittedPicture"]

FITS_ANY_TEXT = MAX_BYTES - 4000
"""Bytes that a picture may have beside any text: a thousand characters are at most 4000 bytes."""

MAX_SOURCE_BYTES = 100_000_000
"""Bytes of a file that is made to fit."""


@frozen(kw_only=True, repr=False)
class FittedPicture:
    """A picture made to fit, to be given to `AsyncMMSClient.send` or `campaign` as their `image`."""

    data: bytes
    """The file as it goes out: a JPEG, PNG or GIF without any metadata."""
    format: str
    """`JPEG`, `PNG` or `GIF`."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    frames: int = 1
    """More than 1 if it moves."""
    quality: int | None = None
    """Of a JPEG that was made here, from 1 to 95; None for any other file."""
    removed: tuple[str, ...] = ()
    """The metadata that was in it, in words: `EXIF`, `GPS`, `camera`, `time`, `XMP`, `thumbnail`, `text` and others."""
    changed: tuple[str, ...] = ()
    """What was done to the picture, in words; empty where the file is the one that was given."""
    source_format: str
    """`JPEG`, `PNG`, `GIF`, `WebP`, `TIFF`, `BMP` or `HEIC`."""
    source_size: int
    """Bytes of the file that was given."""
    source_width: int
    """Its pixels, before it was turned upright."""
    source_height: int
    """Likewise."""
    source_frames: int = 1
    source_digest: str
    """Of the file that was given: by it a keyed send knows the same photograph again."""

    @property
    def size(self) -> int:
        """Bytes of `data`."""
        return len(self.data)

    def __str__(self) -> str:
        before = _in_words(self.source_format, self.source_width, self.source_height, self.source_frames)
        after = _in_words(self.format, self.width, self.height, self.frames)
        quality = "" if self.quality is None else f", quality {self.quality}"
        removed = f"; removed: {', '.join(self.removed)}" if self.removed else ""
        return f"{before}, {self.source_size} bytes -> {after}, {self.size} bytes{quality}{removed}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


def _in_words(image_format: str, width: int, height: int, frames: int) -> str:
    return f"{image_format} {width}x{height}" + (f" of {frames} frames" if frames > 1 else "")
