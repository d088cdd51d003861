"""HEIC, which `pillow-heif` reads where it is installed."""

from __future__ import annotations

import io
from importlib import import_module

from PIL import Image

from mmsclient.errors import one_line
from mmsclient.pictures._containers.container import Container, Refused
from mmsclient.pictures._containers.exif import read_exif, xmp_tells_place

__all__ = ["decoded_heic", "read_heic"]


def read_heic(data: bytes) -> Container:
    """Raises `Refused` where the package is not there, or cannot read it."""
    try:
        library = import_module("pillow_heif")
    except ImportError:
        raise Refused("a JPEG, or a HEIC where the package pillow-heif is installed") from None
    try:
        heif = library.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    except Exception as error:  # whatever it raises of what strangers made
        problem = f"{type(error).__name__}: {one_line(str(error), 100)}"
        raise Refused(f"a picture that is whole and not damaged ({problem})") from None
    exif, xmp = read_exif(heif.info.get("exif") or b""), heif.info.get("xmp") or b""
    profile = heif.info.get("icc_profile") or b""
    found = {
        "XMP": xmp,
        "colour profile": profile,
        "thumbnail": heif.info.get("thumbnails"),
        "further pictures": len(heif) > 1,
    }
    return Container(
        format="HEIC",
        data=data,
        width=heif.size[0],  # libheif has turned it upright already
        height=heif.size[1],
        metadata=(*exif.parts, *(name for name, is_there in found.items() if is_there)),
        tells_place=exif.tells_place or xmp_tells_place(xmp),
        colour_profile=profile,
        is_lossy=True,
    )


def decoded_heic(data: bytes) -> Image.Image:
    """Its pixels, upright."""
    heif = import_module("pillow_heif").open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    image = heif.to_pillow()
    assert isinstance(image, Image.Image)  # noqa: S101
    return image
