"""Pictures as phones, cameras and programs make them, and what is in a file beside its picture."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
"""Of a picture that is upright: top left, top right, bottom left, bottom right."""

ORIENTED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera that is held so does to the picture."""


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    file = io.BytesIO(data)
    is_jpeg = data.startswith(b"\xff\xd8")  # `Image.open` warns of what says, and is not true, that it holds several
    image = JpegImagePlugin.JpegImageFile(file) if is_jpeg else Image.open(file)
    image.load()
    return image


def photograph(width: int, height: int) -> Image.Image:
    """Noise over gradients: as hard to compress as what a camera sees."""
    coarse = Image.effect_noise((max(1, width // 8), max(1, height // 8)), 80).resize((width, height))
    gradient = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (coarse, gradient, Image.effect_noise((width, height), 20)))


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """What cannot be compressed."""
    bands = [Image.effect_noise((width, height), 120) for _ in Image.Image.getbands(Image.new(mode, (1, 1)))]
    return Image.merge(mode, bands) if len(bands) > 1 else bands[0]


def with_corners(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture whose quarters tell which way is up."""
    image = Image.new("RGB", (width, height))
    for place, colour in enumerate(CORNERS):
        left, top = (place % 2) * (width // 2), (place // 2) * (height // 2)
        image.paste(colour, (left, top, left + width - width // 2, top + height - height // 2))
    return image.convert(mode)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours of the middle of each quarter, each band dark or bright."""
    image = image.convert("RGB")
    width, height = image.size
    found = []
    for place in range(4):
        x, y = width * (1 + 2 * (place % 2)) // 4, height * (1 + 2 * (place // 2)) // 4
        pixel = image.getpixel((x, y))
        assert isinstance(pixel, tuple)
        found.append(tuple(255 if band > 127 else 0 for band in pixel))
    return found


def exif(orientation: int = 1, *, gps: bool = True) -> Image.Exif:
    """As a phone writes it. Pillow puts no GPS into a TIFF."""
    block = Image.Exif()
    block[0x0112], block[0x010F], block[0x0110], block[0x0132] = orientation, "Phone", "X", "2026:01:02 03:04:05"
    if gps:
        block[0x8825] = {1: "S", 2: (37.0, 48.0, 30.0), 3: "E", 4: (144.0, 57.0, 47.0)}
    return block


def from_a_phone(width: int, height: int, orientation: int = 1, **options: Any) -> bytes:
    """A JPEG with everything in it that a phone, and who edits it, may put there."""
    image = with_corners(width, height)
    if (turn := ORIENTED[orientation]) is not None:
        image = image.transpose(turn)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {"quality": 85, "comment": b"SECRET comment", "icc_profile": profile, **options}
    data = encoded(image, "JPEG", exif=exif(orientation), **options)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x>SECRET exif:GPSLatitude</x>"
    iptc = b"Photoshop 3.0\0SECRET"
    segments = b"".join(
        b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body
        for marker, body in ((0xE1, xmp), (0xED, iptc), (0xE2, b"MPF\0SECRET"), (0xE5, b"SECRET"))
    )
    return data[:2] + segments + data[2:] + b"SECRET trailer"


def png_with_text(image: Image.Image) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "SECRET")
    text.add_itxt("XML:com.adobe.xmp", "SECRET exif:GPSLatitude")
    text.add_text("Long", "SECRET" * 100, zip=True)
    return encoded(image, "PNG", pnginfo=text, exif=exif(6)) + b"SECRET"


def tiff_with_text(image: Image.Image) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270], tags[315], tags[700] = "SECRET", "SECRET", b"SECRET exif:GPSLatitude"
    return encoded(image, "TIFF", tiffinfo=tags, save_all=True, append_images=[image])


def moving(frames: Sequence[Image.Image], delays: Sequence[int], loop: int | None = 0, **options: Any) -> bytes:
    """An animated GIF, with a comment. Two frames in a row must differ: Pillow makes one of two that are alike."""
    if loop is not None:
        options["loop"] = loop
    first, *others = frames
    return encoded(
        first, "GIF", save_all=True, append_images=others, duration=list(delays), comment=b"SECRET", **options
    )


def metadata_of(data: bytes) -> set[str]:
    """What Pillow finds in a file beside its picture, and whether one of the secrets is there."""
    image = opened(data)
    harmless = {"jfif", "jfif_version", "jfif_density", "jfif_unit", "dpi", "transparency", "version", "background"}
    found = {str(name) for name in image.info} - harmless - {"loop", "duration", "extension"}
    if image.getexif():
        found.add("exif")
    return found | ({"secret"} if b"SECRET" in data else set())


def delays_of(data: bytes) -> list[int]:
    """How long each frame is shown, in milliseconds."""
    image = Image.open(io.BytesIO(data))
    found = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        image.load()
        found.append(int(image.info.get("duration", 0)))
    return found
