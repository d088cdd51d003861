"""Files that are no picture, not whole, not what they say, or too much: refused with the reason, and nothing worse."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from mmsclient import InvalidRequestError
from mmsclient.pictures import MAX_PIXELS, MAX_SOURCE_BYTES, examine, fit
from mmsclient.pictures._containers.jpeg import MOST_SCANS
from tests.support.fuzzing import cases
from tests.support.pictures import (
    delays_of,
    encoded,
    from_a_phone,
    moving,
    opened,
    png_with_text,
    tiff_with_text,
    with_corners,
)

PICTURE = with_corners(64, 48)

FILES = {
    "photo.jpg": from_a_phone(64, 48, 6),
    "progressive.jpg": encoded(PICTURE, "JPEG", progressive=True),
    "text.png": png_with_text(PICTURE),
    "palette.png": encoded(PICTURE.convert("P"), "PNG"),
    "moving.gif": moving([PICTURE.rotate(turn).convert("P") for turn in (0, 90, 180)], [100, 200, 300]),
    "still.gif": encoded(PICTURE, "GIF"),
    "lossy.webp": encoded(PICTURE, "WEBP", exif=b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0"),
    "moving.webp": encoded(
        PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(90)], duration=100, lossless=True
    ),
    "tags.tif": tiff_with_text(PICTURE),
    "packed.tif": encoded(PICTURE, "TIFF", compression="tiff_lzw"),
    "picture.bmp": encoded(PICTURE, "BMP"),
}


def refused(data: bytes, name: str = "", **options: Any) -> InvalidRequestError:
    source: Any = data
    if name:
        source = io.BytesIO(data)
        source.name = name
    with pytest.raises(InvalidRequestError) as caught:
        fit(source, **options)
    assert caught.value.argument == "image"
    assert len(str(caught.value)) < 350
    return caught.value


@pytest.mark.parametrize(
    ("data", "reason", "shown"),
    [
        (b"", "a JPEG, PNG, GIF", "no bytes"),
        (b"hello, this is a text\n" * 20, "a JPEG, PNG, GIF", "unknown format of 440 bytes"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "a JPEG, PNG, GIF", "SVG"),
        (b"%PDF-1.7 and so on", "a JPEG, PNG, GIF", "PDF"),
        (b"\xff\xd8\xff", "ends in the middle", "JPEG of 3 bytes"),
        (b"\x89PNG\r\n\x1a\n", "ends in the middle", "PNG of 8 bytes"),
        (b"GIF89a", "ends in the middle", "GIF of 6 bytes"),
        (b"RIFF\x04\0\0\0WEBP", "not damaged", "WebP"),
        (b"BM", "ends in the middle", "BMP"),
        (b"II*\0", "ends in the middle", "TIFF"),
        (b"\x89PNG\r\n\x1a\n" + FILES["photo.jpg"], "ends in the middle", "PNG"),
        (b"GIF89a" + FILES["photo.jpg"][6:], "", "GIF"),
    ],
)
def test_what_is_no_picture(data: bytes, reason: str, shown: str) -> None:
    error = refused(data)
    assert reason in error.expected
    assert error.value.startswith(shown)


@pytest.mark.parametrize(
    ("name", "data"),
    [("photo.jpg", FILES["text.png"]), ("photo.PNG", FILES["photo.jpg"]), ("photo.heic", FILES["photo.jpg"])],
)
def test_a_name_that_lies(name: str, data: bytes, tmp_path: Path) -> None:
    assert "as its name says" in refused(data, name).expected
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InvalidRequestError, match="as its name says, and not a") as caught:
        fit(path)
    assert name in caught.value.value
    assert fit(data).size
    (tmp_path / "photo.upload").write_bytes(data)  # says nothing
    assert fit(tmp_path / "photo.upload").size


@pytest.mark.parametrize("name", FILES)
def test_what_is_cut_short_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the process lets Pillow take what is truncated."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = FILES[name]
    whole = len(data) - (len("SECRET trailer") if name == "photo.jpg" else len("SECRET") if name == "text.png" else 0)
    if name == "tags.tif":  # its first page is whole as long as that
        return
    if name in ("packed.tif", "picture.bmp"):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
        whole = len(data) // 2
    for share in (0.3, 0.6, 0.95):
        refused(data[: int(whole * share)])
    refused(data[: whole - 1])


def test_a_png_that_claims_to_be_large_is_refused_before_it_is_decoded() -> None:
    """30 000 x 30 000 pixels in a file of a few hundred bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    patched = bytearray(FILES["lossy.webp"])
    size = (16_000).to_bytes(3, "little")
    patched[24:30] = size + size  # of the canvas
    gif = bytearray(FILES["still.gif"])
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    bmp = bytearray(FILES["picture.bmp"])
    bmp[18:26] = struct.pack("<ii", 30_000, -30_000)
    jpeg = bytearray(FILES["progressive.jpg"])
    frame = jpeg.index(b"\xff\xc2")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 30_000, 30_000)
    tracemalloc.start()
    try:
        for data in (bomb, bytes(patched), bytes(gif), bytes(bmp), bytes(jpeg)):
            error = refused(data)
            assert error.expected.startswith(f"at most {MAX_PIXELS} pixels, not "), error
            with pytest.raises(InvalidRequestError):
                examine(data)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_tile_that_claims_to_be_large_is_refused() -> None:
    data = bytearray(encoded(PICTURE, "TIFF"))
    for tag, other in ((279, 322), (284, 323)):  # become the width and the height of a tile
        place = data.index(struct.pack("<H", tag) + b"\3\0" if tag == 284 else struct.pack("<HH", tag, 4))
        data[place : place + 12] = struct.pack("<HHII", other, 4, 1, 60_000)
    assert "tiles" in refused(bytes(data)).expected


def test_frames_without_end_are_refused() -> None:
    """Frames cost few bytes: ten thousand of them are taken as long as they are small, and no more than fit."""
    still = FILES["still.gif"]
    frame = b"!\xf9\x04\0\x05\0\0\0" + still[13 + (3 << ((still[10] & 7) + 1)) : -1]
    many = still[:-1] + frame * 130_500 + b";"
    assert "pixels in all frames, of which it has 130501" in refused(many).expected
    large = bytearray(FILES["moving.gif"])
    large[6:10] = struct.pack("<HH", 5000, 5000)
    assert "at most 16000000 pixels, not 5000x5000" in refused(bytes(large)).expected


def test_ten_thousand_frames_lose_most_of_them_and_no_time() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black", "white")]
    first, *others = moving(frames, [20] * 3)[:-1].split(b"!\xf9")  # each with its palette
    tiny = b"!\xf9".join([first, *(others[:1] + others[1:] * 5000)[:10_000]]) + b";"
    picture = fit(tiny, max_bytes=20_000)
    assert (picture.source_frames, picture.size <= 20_000) == (10_000, True)
    assert 1 < picture.frames <= 600
    assert sum(delays_of(picture.data)) == 200_000


def test_a_jpeg_whose_scans_have_no_end_is_refused() -> None:
    data = FILES["progressive.jpg"]
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    assert "scans" in refused(data[:-2] + scan * MOST_SCANS + b"\xff\xd9").expected


def test_a_file_that_is_too_large_is_not_read_to_its_end() -> None:
    class Endless:
        given = 0

        def read(self, size: int) -> bytes:
            piece = FILES["photo.jpg"][: min(size, 4)] if not self.given else bytes(min(size, 10_000_000))
            self.given += len(piece)
            return piece

    endless = Endless()
    with pytest.raises(InvalidRequestError, match=f"at most {MAX_SOURCE_BYTES} bytes"):
        fit(endless)
    assert endless.given == MAX_SOURCE_BYTES + 1


@pytest.mark.parametrize("source", [7, None, io.StringIO("text"), "missing.jpg", "nul\0.jpg"])
def test_what_cannot_be_read(source: Any) -> None:
    with pytest.raises(InvalidRequestError, match="a path, bytes or an open file that can be read"):
        fit(source)


@cases(100)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 2**32), st.integers(1, 12))
def test_whatever_is_changed_in_a_file_it_is_a_picture_or_refused(name: str, seed: int, changes: int) -> None:
    chance = random.Random(seed)
    data = bytearray(FILES[name])
    for _ in range(changes):
        place = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                data[place] ^= 1 << chance.randrange(8)
            case 2:
                del data[place : place + chance.randrange(1, 9)]
            case 3:
                data[place:place] = chance.randbytes(chance.randrange(1, 9))
            case _:
                data[place : place + 4] = chance.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        if not data:
            return
    with suppress(InvalidRequestError):
        examine(bytes(data))
    try:
        picture = fit(bytes(data), max_bytes=5000)
    except InvalidRequestError:
        return
    assert picture.size <= 5000
    assert opened(picture.data).size == (picture.width, picture.height)


@cases(60)
@given(st.sampled_from([data[:24] for data in FILES.values()]), st.binary(max_size=300))
def test_nor_does_what_only_begins_as_a_picture_do_harm(beginning: bytes, rest: bytes) -> None:
    with suppress(InvalidRequestError):
        assert fit(beginning + rest, max_bytes=5000).size <= 5000
