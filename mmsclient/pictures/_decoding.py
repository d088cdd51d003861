"""From a picture file to upright pixels in sRGB, of no more than the size that is asked for."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from mmsclient.errors import one_line
from mmsclient.pictures._containers.container import Container, Refused
from mmsclient.pictures._heic import decoded_heic

__all__ = ["TURNS", "decoded", "is_opaque", "opened", "scaled", "target_size", "told_as_damaged"]

_READERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
"""Not `Image.open`: it would try every format it knows, and warn of sizes by a setting of the whole process."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its orientation in EXIF."""


def target_size(container: Container, box: tuple[int, int]) -> tuple[int, int]:
    """Width and height, before it is turned, with which it lies in `box`, which it does afterwards."""
    across, down = box if container.orientation < 5 else (box[1], box[0])
    return scaled((container.width, container.height), min(1.0, across / container.width, down / container.height))


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """`size` times `factor`; no side is less than a pixel."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def opened(container: Container) -> Image.Image:
    """The picture, of which nothing is decoded yet, but of a HEIC."""
    if container.format == "HEIC":
        return decoded_heic(container.data)
    image = _READERS[container.format](io.BytesIO(container.data))
    if container.format != "GIF" and image.size != (container.width, container.height):
        raise ValueError("the file contradicts itself about its size")
    return image


def decoded(container: Container, size: tuple[int, int]) -> Image.Image:
    """The still picture, `size` before it is turned: upright, and in mode L, RGB or RGBA."""
    with told_as_damaged():
        image = _loaded(container, size)
        image = _in_eight_bits(image)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    image = _in_srgb(image, container.colour_profile)
    if (turn := TURNS.get(container.orientation)) is not None:
        image = image.transpose(turn)
    return image.convert("RGB") if image.mode == "RGBA" and is_opaque(image) else image


@contextmanager
def told_as_damaged() -> Iterator[None]:
    """Around decoding what strangers made: whatever Pillow raises becomes `Refused`."""
    try:
        yield
    except (Refused, MemoryError):
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {one_line(str(error), 100)}"
        raise Refused(f"a picture that is whole and not damaged ({problem})") from None


def _loaded(container: Container, size: tuple[int, int]) -> Image.Image:
    image = opened(container)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(image.mode, (2 * size[0], 2 * size[1]))  # decodes only as much as is needed
    image.load()
    return image


def is_opaque(image: Image.Image) -> bool:
    """No pixel of it, in RGBA, is transparent."""
    return image.getchannel("A").getextrema() == (255, 255)


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """In a mode that can be resized: L, RGB, RGBA, CMYK or LAB."""
    if image.mode.startswith("I;16"):  # the upper of its two bytes
        upper = image.tobytes()[0 if image.mode.endswith("B") else 1 :: 2]
        return Image.frombytes("L", image.size, upper)
    if image.mode in ("I", "F"):
        return _from_wide_range(image)
    if image.mode in ("LA", "PA", "La", "RGBa") or (image.mode != "RGBA" and "transparency" in image.info):
        return image.convert("RGBA")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image if image.mode in ("RGB", "RGBA", "CMYK", "LAB") else image.convert("RGB")


def _from_wide_range(image: Image.Image) -> Image.Image:
    """Numbers of 32 bits: 0 to 1, to 255 or to 65535, or else up to the largest one in it."""
    lowest, highest = image.convert("F").getextrema()
    assert isinstance(lowest, float)  # noqa: S101
    assert isinstance(highest, float)  # noqa: S101
    spans = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    span = next((span for span in spans if highest <= span), highest)
    return image.convert("F").point(lambda value: value * (255.0 / span) + 0.0).convert("L")


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    if profile and (converted := _converted(image, profile)) is not None:
        return converted
    if image.mode == "LAB":
        return _profiled(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    return image.convert("RGB") if image.mode == "CMYK" else image


def _converted(image: Image.Image, profile: bytes) -> Image.Image | None:
    """In sRGB, as `profile` says; None where it does not fit the picture or cannot be read."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L":
            return _profiled(image, source).convert("L")
        if image.mode != "RGBA":
            return _profiled(image, source)
        colours = _profiled(image.convert("RGB"), source)
        colours.putalpha(image.getchannel("A"))
        return colours
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _profiled(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    result = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert result is not None  # noqa: S101
    return result
