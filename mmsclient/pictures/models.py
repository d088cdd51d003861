"""What a picture file is, without a pixel of it decoded."""

from __future__ import annotations

from attrs import frozen

__all__ = ["PictureFacts"]


@frozen(kw_only=True)
class PictureFacts:
    """What is known of a picture file."""

    format: str
    """`JPEG`, `PNG`, `GIF`, `WebP`, `TIFF`, `BMP` or `HEIC`."""
    size: int
    """Bytes."""
    width: int
    """In pixels, as it is to be looked at: turned upright."""
    height: int
    """Likewise."""
    frames: int
    """More than 1 if it moves."""
    metadata: tuple[str, ...]
    """What the file holds beside the picture: `EXIF`, `GPS`, `camera`, `time`, `XMP`, `thumbnail` and others."""
    tells_place: bool
    """Its metadata says where it was taken."""
    objection: str
    """Why the API does not take it as it is; empty where it does."""

    @property
    def is_sendable(self) -> bool:
        """The API takes it as it is, beside any text."""
        return not self.objection
