"""Pictures that are made to fit: within both limits, upright, without metadata, and never scaled up."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from mmsclient import InvalidRequestError
from mmsclient.pictures import FITS_ANY_TEXT, MAX_SIZE, FittedPicture, examine, fit
from tests.support.pictures import (
    CORNERS,
    ORIENTED,
    corners,
    encoded,
    exif,
    from_a_phone,
    metadata_of,
    noise,
    opened,
    photograph,
    png_with_text,
    tiff_with_text,
    with_corners,
)

SIZES = st.tuples(st.integers(1, 900), st.integers(1, 900)) | st.sampled_from(
    [(3000, 2), (1, 1), (640, 640), (2, 1500)]
)
KINDS = st.sampled_from(
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
        *(("GIF", mode) for mode in ("P", "L")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("RGB", "RGBA", "L", "CMYK", "I;16", "F", "1", "LAB")),
        *(("BMP", mode) for mode in ("RGB", "P", "1")),
    ]
)
LIMITS = st.sampled_from([2000, 5000, 40_000, FITS_ANY_TEXT])
BOXES = st.sampled_from([MAX_SIZE, (300, 450), (64, 1000), (1, 1)])


def drawn(size: tuple[int, int], mode: str, *, hard: bool) -> Image.Image:
    """A picture in `mode`; a `hard` one cannot be compressed."""
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(with_corners(*size), srgb, lab, outputMode="LAB")
        assert converted is not None
        return converted
    if mode == "I;16":
        return Image.frombytes("I;16", size, noise(*size, "LA").tobytes())
    if mode in ("RGBA", "LA"):
        image = (noise(*size) if hard else with_corners(*size)).convert(mode)
        image.putalpha(Image.linear_gradient("L").resize(size))
        return image
    return (noise(*size) if hard else with_corners(*size)).convert(mode)


@settings(max_examples=25, deadline=None)
@given(SIZES, KINDS, LIMITS, BOXES, st.booleans())
def test_whatever_comes_fits_and_is_a_picture(
    size: tuple[int, int], kind: tuple[str, str], limit: int, box: tuple[int, int], hard: bool
) -> None:
    data = encoded(drawn(size, kind[1], hard=hard), kind[0])
    picture = fit(data, max_bytes=limit, max_size=box)
    assert picture.size <= limit
    image = opened(picture.data)
    assert image.format == picture.format
    assert image.size == (picture.width, picture.height)
    assert (picture.source_width, picture.source_height, picture.source_size) == (*size, len(data))
    assert picture.width <= min(box[0], size[0])
    assert picture.height <= min(box[1], size[1])
    assert metadata_of(picture.data) == set()
    assert fit(data, max_bytes=limit, max_size=box).data == picture.data
    again = fit(picture.data, max_bytes=limit, max_size=box)
    assert again.data == picture.data
    assert again.changed == ()


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_it_is_turned_upright(orientation: int, image_format: str) -> None:
    image = with_corners(900, 600)
    if (turn := ORIENTED[orientation]) is not None:
        image = image.transpose(turn)
    data = encoded(image, image_format, exif=exif(orientation, gps=image_format != "TIFF"))
    picture = fit(data, max_size=(320, 240))
    assert corners(opened(picture.data)) == list(CORNERS)
    assert (picture.width, picture.height) == (320, 213)
    facts = examine(data)
    assert (facts.width, facts.height) == (900, 600)
    assert facts.tells_place is (image_format != "TIFF")
    assert ("turned upright" in picture.changed) is (orientation > 1)


def test_all_that_a_phone_puts_into_a_photograph_is_gone() -> None:
    data = from_a_phone(1200, 900, 6)
    before = examine(data)
    told = {"EXIF", "GPS", "camera", "time", "comment", "XMP", "IPTC", "colour profile", "further pictures"}
    assert told | {"data of an application", "data after the picture"} == set(before.metadata)
    assert before.tells_place
    assert metadata_of(data) >= {"exif", "icc_profile", "comment", "secret"}
    for limit in (FITS_ANY_TEXT, 8000):
        picture = fit(data, max_bytes=limit)
        assert metadata_of(picture.data) == set()
        assert picture.removed == before.metadata
        after = examine(picture.data)
        assert after.metadata == ()
        assert not after.tells_place
        assert after.is_sendable
        assert corners(opened(picture.data)) == list(CORNERS)


def test_all_that_stands_beside_the_picture_of_a_png_is_gone() -> None:
    data = png_with_text(with_corners(60, 40))
    assert examine(data).tells_place
    assert set(examine(data).metadata) >= {"XMP", "text", "EXIF", "GPS"}
    picture = fit(data)
    assert picture.format == "PNG"
    assert metadata_of(picture.data) == set()


def test_a_tiff_is_its_first_page_without_its_tags() -> None:
    data = tiff_with_text(with_corners(60, 40))
    facts = examine(data)
    assert set(facts.metadata) == {"XMP", "text", "author", "further pictures"}
    assert facts.tells_place
    picture = fit(data)
    assert metadata_of(picture.data) == set()
    assert corners(opened(picture.data)) == list(CORNERS)


def test_a_small_picture_with_metadata_loses_only_that() -> None:
    data = from_a_phone(200, 150)
    assert examine(data).is_sendable
    picture = fit(data)
    assert picture.data != data
    assert (picture.width, picture.height) == (200, 150)
    assert metadata_of(picture.data) == set()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF"])
def test_what_fits_and_holds_nothing_else_comes_back_as_it_is(image_format: str) -> None:
    data = encoded(with_corners(200, 150), image_format)
    picture = fit(data)
    assert (picture.data, picture.changed, picture.quality) == (data, (), None)


def test_colours_are_converted_to_srgb_before_their_profile_goes() -> None:
    """A profile that swaps red and blue: without it the picture would be another one."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(profile)
    tags = {profile[place : place + 4]: place for place in range(132, 132 + 12 * profile[131], 12)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    swapped[red + 4 : red + 12], swapped[blue + 4 : blue + 12] = (
        profile[blue + 4 : blue + 12],
        profile[red + 4 : red + 12],
    )
    data = encoded(Image.new("RGB", (64, 64), (255, 0, 0)), "PNG", icc_profile=bytes(swapped))
    image = opened(fit(data).data).convert("RGB")
    assert image.getpixel((32, 32)) == (0, 0, 255)
    broken = encoded(Image.new("RGB", (64, 64), (255, 0, 0)), "PNG", icc_profile=b"nonsense" * 40)
    assert opened(fit(broken).data).convert("RGB").getpixel((32, 32)) == (255, 0, 0)


def test_transparency_is_kept_or_laid_on_white() -> None:
    image = with_corners(600, 600).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 300, 300))
    kept = fit(encoded(image, "PNG"), max_size=(300, 300))
    assert kept.format == "PNG"
    corner = opened(kept.data).convert("RGBA").getpixel((10, 10))
    assert isinstance(corner, tuple)
    assert corner[3] == 0
    hard = noise(600, 600).convert("RGBA")
    hard.paste((0, 0, 0, 0), (0, 0, 300, 300))
    flat = fit(encoded(hard, "PNG"), max_bytes=30_000)
    assert flat.format == "JPEG"
    assert "laid on white" in flat.changed
    white = opened(flat.data).convert("RGB").getpixel((10, 10))
    assert isinstance(white, tuple)
    assert min(white) > 240


def test_sixteen_bits_keep_their_brightness() -> None:
    for image_format in ("PNG", "TIFF"):
        data = encoded(Image.frombytes("I;16", (40, 40), b"\x00\x80" * 1600), image_format)
        assert opened(fit(data).data).convert("L").getpixel((20, 20)) == 128


def test_quality_is_as_good_as_the_bytes_allow() -> None:
    data = encoded(photograph(640, 480), "JPEG", quality=95)
    rough, fine = fit(data, max_bytes=40_000), fit(data, max_bytes=80_000)
    assert rough.quality is not None
    assert fine.quality is not None
    assert 45 <= rough.quality < fine.quality <= 90
    assert 36_000 < rough.size <= 40_000
    smaller = fit(encoded(noise(500, 400), "JPEG"), max_bytes=2000)  # no quality makes it fit at this size
    assert smaller.size <= 2000
    assert 60 < smaller.width < 500


def test_a_photograph_in_every_source(tmp_path: Path) -> None:
    data = from_a_phone(300, 200)
    path = tmp_path / "photo.JPG"
    path.write_bytes(data)
    expected = fit(data)
    with path.open("rb") as file:
        sources: list[Any] = [path, str(path), bytearray(data), memoryview(data), io.BytesIO(data), file]
        for source in sources:
            assert fit(source) == expected


def test_the_result_can_be_read_compared_and_pickled() -> None:
    picture = fit(from_a_phone(1200, 900, 6))
    twin: FittedPicture = pickle.loads(pickle.dumps(picture))  # noqa: S301
    assert twin == picture
    assert len(repr(picture)) < 250
    assert "JPEG 900x1200" in repr(picture)
    assert f"{picture.size} bytes, quality 90" in str(picture)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"max_bytes": 1999}, "max_bytes"),
        ({"max_bytes": 380_001}, "max_bytes"),
        ({"max_bytes": True}, "max_bytes"),
        ({"max_size": (0, 10)}, "max_size"),
        ({"max_size": 640}, "max_size"),
        ({"max_size": (1.5, 10)}, "max_size"),
    ],
)
def test_wrong_limits(options: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        fit(encoded(with_corners(8, 8), "PNG"), **options)
    assert caught.value.argument == argument
