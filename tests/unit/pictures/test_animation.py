"""Pictures that move: their timing and their loop stay, whatever else they lose."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmsclient.pictures import examine, fit
from tests.support.pictures import (
    CORNERS,
    corners,
    delays_of,
    encoded,
    exif,
    metadata_of,
    moving,
    noise,
    opened,
    with_corners,
)


def turning(count: int, size: tuple[int, int] = (240, 180)) -> list[Image.Image]:
    """A thing that turns before a background that does not."""
    frames = []
    for number in range(count):
        frame = with_corners(*size)
        frame.paste((255, 255, 255), (number * 5 % (size[0] // 2), 10, number * 5 % (size[0] // 2) + 30, 40))
        frames.append(frame)
    return frames


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=2, max_size=8),
    st.sampled_from([None, 0, 1, 7, 65535]),
    st.sampled_from([2000, 8000, 376_000]),
    st.sampled_from([(640, 640), (100, 50)]),
)
def test_timing_and_loop_are_kept(hundredths: list[int], loop: int | None, limit: int, box: tuple[int, int]) -> None:
    delays = [10 * each for each in hundredths]
    data = moving(turning(len(delays)), delays, loop)
    assert delays_of(data) == delays
    picture = fit(data, max_bytes=limit, max_size=box)
    assert picture.format == "GIF"
    assert picture.size <= limit
    assert sum(delays_of(picture.data)) == sum(delays)
    if picture.frames == len(delays):
        assert delays_of(picture.data) == delays
    image = opened(picture.data)
    assert image.info.get("loop") == loop
    assert image.size == (picture.width, picture.height)
    assert picture.width <= box[0]
    assert picture.height <= box[1]
    assert metadata_of(picture.data) == set()
    assert fit(picture.data, max_bytes=limit, max_size=box).data == picture.data


def test_each_frame_shows_what_it_showed() -> None:
    frames = turning(6)
    picture = fit(moving(frames, [100] * 6))
    image = Image.open(io.BytesIO(picture.data))
    for number, frame in enumerate(frames):
        image.seek(number)
        assert corners(image) == list(CORNERS)
        white = image.convert("RGB").getpixel((number * 5 % 120 + 15, 25))
        assert isinstance(white, tuple)
        assert min(white) > 200, number
        assert frame.size == image.size


def test_frames_that_are_alike_stay_two_and_keep_their_time() -> None:
    one, other = turning(2)
    data = encoded(
        one.convert("RGBA"),
        "WEBP",
        save_all=True,
        append_images=[one.convert("RGBA"), other.convert("RGBA")],
        duration=[100, 250, 400],
        loop=2,
        lossless=True,
        allow_mixed=False,
        minimize_size=False,
    )
    before = delays_of(data)
    picture = fit(data)
    assert (picture.source_format, picture.format) == ("WebP", "GIF")
    assert sum(delays_of(picture.data)) == sum(before)
    assert opened(picture.data).info["loop"] == 2


def test_size_goes_first_then_colours_then_frames() -> None:
    data = moving([noise(320, 240).convert("P") for _ in range(8)], [100] * 8)
    seen: list[Any] = []
    for limit in (370_000, 180_000, 60_000, 20_000, 3000):
        picture = fit(data, max_bytes=limit)
        assert picture.size <= limit
        assert sum(delays_of(picture.data)) == 800
        seen.append((picture.width, picture.frames))
    assert seen == sorted(seen, reverse=True)
    widths, frames = zip(*seen, strict=True)
    assert (frames[0], frames[-1]) == (8, 1)
    assert widths[0] > 200
    assert all(width <= 200 for width, count in seen if count < 8)


def test_what_is_transparent_stays_so_in_every_frame() -> None:
    frames = []
    for number in range(4):
        frame = Image.new("RGBA", (90, 60), (0, 0, 0, 0))
        frame.paste((255, 0, 0, 255), (number * 20, 10, number * 20 + 20, 50))
        frames.append(frame)
    data = moving(frames, [100] * 4, disposal=2)
    picture = fit(data, max_size=(45, 30))
    image = Image.open(io.BytesIO(picture.data))
    for number in range(4):
        image.seek(number)
        frame = image.convert("RGBA")
        for place in range(4):
            pixel = frame.getpixel((place * 10 + 5, 15))
            assert isinstance(pixel, tuple)
            assert (pixel[3] == 255) is (place == number), (number, place)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_webp_that_moves_is_turned_upright(orientation: int) -> None:
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}.get(orientation)
    frames = [frame if turn is None else frame.transpose(turn) for frame in turning(3)]
    data = encoded(
        frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True, exif=exif(orientation)
    )
    assert examine(data).frames == 3
    picture = fit(data, max_size=(160, 120))
    assert (picture.width, picture.height, picture.frames) == (160, 120, 3)
    assert corners(opened(picture.data)) == list(CORNERS)
    assert metadata_of(picture.data) == set()
