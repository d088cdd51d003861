"""Makes a picture fit: from a file to a file, with every refusal an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mmsclient._api.checks import check_whole, require
from mmsclient._api.fitted_picture import FITS_ANY_TEXT, MAX_SOURCE_BYTES, FittedPicture
from mmsclient._api.media import MAX_BYTES, described, digest_of, format_of
from mmsclient._extras import needed
from mmsclient._reading.picture_source import PictureSource, name_of, read_here
from mmsclient.errors import InvalidRequestError
from mmsclient.pictures._containers.container import Container, Refused
from mmsclient.pictures._containers.files import TAKEN, take_apart
from mmsclient.pictures.models import PictureFacts

__all__ = ["MAX_PIXELS", "MAX_SIZE", "examine", "fit", "fit_file"]

T = TypeVar("T")

MAX_SIZE = (640, 640)
"""Pixels that a fitted picture has at most: what phones show of an MMS, and more than the vendor's 300x450."""

MAX_PIXELS = 64_000_000
"""Pixels of a picture that is decoded: what larger ones claim to hold would take too much memory."""

MAX_MOVING_PIXELS = 16_000_000
"""Pixels of a picture that moves, of which several copies are needed."""

MAX_FRAME_PIXELS = 400_000_000
"""Pixels of all frames of a picture that moves."""

LEAST_BYTES = 2000
"""Bytes in which any picture fits, if only as a dot."""

SENDABLE = ("JPEG", "PNG", "GIF")


def fit(image: PictureSource, *, max_bytes: int = FITS_ANY_TEXT, max_size: tuple[int, int] = MAX_SIZE) -> FittedPicture:
    """Make a picture fit: turned upright, without metadata, in sRGB, no larger than asked for. Blocks: use a thread.

    ```python
    picture = fit("IMG_2041.HEIC")
    await mms.send(to="+61400000000", text="Look", image=picture)
    ```

    It is scaled down, never up. What is transparent stays so, as a PNG; where that does not fit, it is laid on white
    and becomes a JPEG of the best quality that fits. A GIF that moves keeps its timing and its loop, and loses size,
    then colours, at last frames. A JPEG, PNG or GIF that fits already and holds nothing beside its picture comes back
    as it is. The same file gives the same bytes with the same version of Pillow.

    Args:
        image: A path, bytes, or a file open for reading bytes: JPEG, PNG, GIF, WebP, TIFF, BMP, and HEIC where
            `pillow-heif` is installed; at most 100 MB and 64 megapixels.
        max_bytes: Of the result, from 2000 to 380 000. Left out: what fits beside any text.
        max_size: Its width and height in pixels at most.

    Raises:
        InvalidRequestError: The file cannot be read, is no such picture, is damaged, cut short, too large to be
            decoded, or its name says that it is of another format.
        ConfigurationError: Pillow is not installed: the extra `images`.
    """
    check_whole("max_bytes", max_bytes, LEAST_BYTES, MAX_BYTES, error=InvalidRequestError)
    is_pair = isinstance(max_size, tuple) and len(max_size) == 2
    expected = "width and height in pixels, a tuple of two"
    require("max_size", max_size, is_pair, expected, error=InvalidRequestError)
    for side in max_size:
        check_whole("max_size", side, 1, 10_000, error=InvalidRequestError)
    data, size = read_here(image, MAX_SOURCE_BYTES)
    return fit_file(data, size, name_of(image), max_bytes, max_size)


def fit_file(
    data: bytes, size: int, name: str, max_bytes: int = FITS_ANY_TEXT, max_size: tuple[int, int] = MAX_SIZE
) -> FittedPicture:
    """As `fit`, of a file that was read: `size` bytes in all, of which `data` are those that may be used."""
    with needed("images", "`fit`"):
        from mmsclient.pictures._encoding import encode  # noqa: PLC0415 - Pillow takes a while to load

    def fitted(container: Container) -> FittedPicture:
        made = encode(container, max_bytes, max_size)
        return FittedPicture(
            data=data if made.is_as_given else made.data,
            format=made.format,
            width=made.width,
            height=made.height,
            frames=made.frames,
            quality=made.quality,
            removed=container.metadata,
            changed=made.changes,
            source_format=container.format,
            source_size=size,
            source_width=container.width,
            source_height=container.height,
            source_frames=_frames(container),
            source_digest=digest_of(data),
        )

    return _told(data, size, name, fitted)


def examine(image: PictureSource) -> PictureFacts:
    """What a picture file is and gives away, without decoding it. Raises as `fit` does; HEIC alone needs Pillow."""
    data, size = read_here(image, MAX_SOURCE_BYTES)

    def facts(container: Container) -> PictureFacts:
        across, down = container.width, container.height
        if container.orientation >= 5:
            across, down = down, across
        return PictureFacts(
            format=container.format,
            size=size,
            width=across,
            height=down,
            frames=_frames(container),
            metadata=container.metadata,
            tells_place=container.tells_place,
            objection=_objection(container.format, size),
        )

    return _told(data, size, name_of(image), facts)


def _objection(image_format: str, size: int) -> str:
    if image_format not in SENDABLE:
        return f"it is a {image_format}, and no PNG, GIF or JPEG"
    if size > FITS_ANY_TEXT:
        return f"{size} bytes, of {MAX_BYTES} with the text"
    return ""


def _told(data: bytes, size: int, name: str, use: Callable[[Container], T]) -> T:
    """What `use` makes of the picture. All that goes wrong becomes an `InvalidRequestError`."""
    try:
        return use(_container(data, size, name))
    except Refused as error:
        expected = str(error)
    except MemoryError:
        expected = "a picture that fits into the memory"
    shown = described(format_of(data), size, name) if data else f"no bytes{f' in {name}' if name else ''}"
    raise InvalidRequestError("image", shown, expected)


def _container(data: bytes, size: int, name: str) -> Container:
    if not data:
        raise Refused(f"{TAKEN}; a file object is read from where it stands")
    if len(data) > MAX_SOURCE_BYTES:
        raise Refused(f"at most {MAX_SOURCE_BYTES} bytes")
    container = take_apart(data, name)
    if container.format == "HEIC":
        with needed("images", "HEIC"):
            from mmsclient.pictures._heic import read_heic  # noqa: PLC0415 - its package is seldom there

        container = read_heic(data)
    if not container.width or not container.height:
        raise Refused("a picture with pixels in it")
    most = MAX_PIXELS if container.animation is None else MAX_MOVING_PIXELS
    if container.width * container.height > most:
        raise Refused(f"at most {most} pixels, not {container.width}x{container.height}")
    if _frames(container) * container.width * container.height > MAX_FRAME_PIXELS:
        raise Refused(f"at most {MAX_FRAME_PIXELS} pixels in all frames, of which it has {_frames(container)}")
    return container


def _frames(container: Container) -> int:
    return 1 if container.animation is None else len(container.animation.delays)
