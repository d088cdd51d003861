"""What a picture file is found to be, whichever format it has."""

from __future__ import annotations

from attrs import field, frozen

__all__ = ["Animation", "Container", "Refused"]


class Refused(Exception):  # noqa: N818 - it becomes an `InvalidRequestError`, and never leaves this package
    """The picture cannot be used; the text says what was expected."""


@frozen
class Animation:
    """The frames of a picture that moves."""

    delays: tuple[int, ...]
    """Of each frame, in milliseconds."""
    loops: int | None
    """How often it is repeated, 0 for ever; None where the file does not say, which is once."""


@frozen(kw_only=True)
class Container:
    """A picture file, taken apart."""

    format: str
    """`JPEG`, `PNG`, `GIF`, `WebP`, `TIFF`, `BMP` or `HEIC`."""
    data: bytes = field(repr=False)
    """What is to be decoded: where its format allows it, without metadata."""
    width: int
    height: int
    metadata: tuple[str, ...] = ()
    """What it holds beside the picture, in words."""
    tells_place: bool = False
    """Its metadata says where it was taken."""
    orientation: int = 1
    """As EXIF counts them, 1 to 8; 1 is upright."""
    colour_profile: bytes = field(default=b"", repr=False)
    """An ICC profile, empty where there is none."""
    animation: Animation | None = None
    is_lossy: bool = False
    """Its pixels were rounded already: another lossy format loses little."""
    is_plain: bool = False
    """A JPEG, PNG or GIF that any phone shows as it is, with nothing beside the picture in it."""
