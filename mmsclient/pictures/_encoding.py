"""From a picture file to one that fits: as good as the bytes allow, found by search."""

from __future__ import annotations

import io
from collections.abc import Iterator

from attrs import frozen
from PIL import Image

from mmsclient.pictures._animation import animated, check_frames
from mmsclient.pictures._containers.container import Container
from mmsclient.pictures._decoding import decoded, scaled, target_size

__all__ = ["Encoded", "encode"]

BEST_QUALITY, LEAST_QUALITY = 90, 45
"""Of a JPEG: above the first nobody sees a difference, and below the second a smaller picture looks better."""

SHRINK = 0.8
"""What its sides are multiplied with where no quality makes it fit."""

Made = tuple[str, bytes, int | None]
"""Format, bytes and quality."""


@frozen(kw_only=True)
class Encoded:
    """A picture that fits."""

    data: bytes
    format: str
    width: int
    height: int
    frames: int = 1
    quality: int | None = None
    changes: tuple[str, ...] = ()
    is_as_given: bool = False
    """The file that was given is the one that fits."""


def encode(container: Container, max_bytes: int, box: tuple[int, int]) -> Encoded:
    """The picture in at most `max_bytes` and within `box`. Raises whatever Pillow does for a damaged one."""
    size = target_size(container, box)
    if fits_as_it_is(container, size, max_bytes):
        if container.animation is not None:
            check_frames(container, container.animation)
            frames = len(container.animation.delays)
        else:
            decoded(container, size)
            frames = 1
        return Encoded(
            data=container.data, format=container.format, width=size[0], height=size[1], frames=frames, is_as_given=True
        )
    if container.animation is not None:
        made = animated(container, container.animation, size, max_bytes)
        changes = _changes(container, (made.width, made.height), "GIF")
        if made.frames < len(container.animation.delays):
            changes.append(f"{made.frames} of {len(container.animation.delays)} frames")
        changes.append(f"at most {made.colours} colours")
        return Encoded(
            data=made.data,
            format="GIF",
            width=made.width,
            height=made.height,
            frames=made.frames,
            changes=tuple(changes),
        )
    return _still(container, decoded(container, size), max_bytes)


def fits_as_it_is(container: Container, size: tuple[int, int], max_bytes: int) -> bool:
    """Nothing needs to be done to the file, if only it is whole."""
    is_small = len(container.data) <= max_bytes and size == (container.width, container.height)
    return is_small and container.is_plain


def _still(container: Container, image: Image.Image, max_bytes: int) -> Encoded:
    whole = image
    factor = 1.0
    while True:
        for image_format, data, quality in _candidates(image, container, max_bytes):
            if len(data) <= max_bytes:
                changes = _changes(container, image.size, image_format)
                if image.mode == "RGBA" and image_format == "JPEG":
                    changes.append("laid on white")
                return Encoded(
                    data=data,
                    format=image_format,
                    width=image.width,
                    height=image.height,
                    quality=quality,
                    changes=tuple(changes),
                )
        factor *= SHRINK
        image = whole.resize(scaled(whole.size, factor), Image.Resampling.LANCZOS)


def _candidates(image: Image.Image, container: Container, max_bytes: int) -> Iterator[Made]:
    """Files of the picture, the one to be preferred first."""
    if image.mode == "RGBA":
        yield _png(image, max_bytes)
        yield _png(image.quantize(256, method=Image.Quantize.FASTOCTREE), max_bytes)
    elif not container.is_lossy:
        yield _png(image, max_bytes)
    yield _jpeg(_on_white(image), max_bytes)


def _png(image: Image.Image, max_bytes: int) -> Made:
    """As small as can be, or one that is too large, where that is seen at once: the former takes its time."""
    quick = _file(image, "PNG", compress_level=1)
    return "PNG", quick if len(quick) > 2 * max_bytes else _file(image, "PNG", optimize=True), None


def _jpeg(image: Image.Image, max_bytes: int) -> Made:
    """The best that fits, or the one of the least quality where none does."""
    low, high = LEAST_QUALITY, BEST_QUALITY
    if len(best := _jpeg_of(image, high)) <= max_bytes:
        return "JPEG", best, high
    found = _jpeg_of(image, low)
    while len(found) <= max_bytes and high - low > 1:  # `low` fits, `high` does not
        middle = (low + high) // 2
        data = _jpeg_of(image, middle)
        if len(data) <= max_bytes:
            low, found = middle, data
        else:
            high = middle
    return "JPEG", found, low


def _jpeg_of(image: Image.Image, quality: int) -> bytes:
    """Baseline, which the oldest phones show."""
    return _file(image, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")


def _file(image: Image.Image, image_format: str, **options: object) -> bytes:
    """The picture alone: what Pillow kept of the file that it came from would be written again."""
    image.info.clear()
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _changes(container: Container, size: tuple[int, int], image_format: str) -> list[str]:
    """What was done, in words."""
    across, down = container.width, container.height
    if container.orientation >= 5:
        across, down = down, across
    changes = []
    if image_format != container.format:
        changes.append(f"{container.format} to {image_format}")
    if container.orientation != 1:
        changes.append("turned upright")
    if size != (across, down):
        changes.append("scaled down")
    return changes or ["encoded again"]
