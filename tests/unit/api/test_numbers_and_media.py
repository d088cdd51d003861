"""Recipients and pictures: what is taken, what is refused, and that it is said why."""

from __future__ import annotations

import io
import os
import re
import threading
from pathlib import Path
from typing import Any

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import InvalidRequestError
from mmsclient._api import checks
from mmsclient._api.media import FITTABLE, MAX_BYTES
from mmsclient._api.phone_numbers import e164, normalise, phone_key, recipients
from mmsclient._reading.image_file import load
from tests.support.pictures import from_a_phone


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("+61400000000", "+61400000000"),
        ("61400000000", "+61400000000"),
        ("0400000000", "+61400000000"),
        ("0400 000 000", "+61400000000"),
        (" (04) 00-000-000 ", "+61400000000"),
        ("+61 400\u00a0000\u2011000", "+61400000000"),
        ("+61 2 9999 9999", "+61299999999"),
        ("0061 400 000 000", "+61400000000"),
        ("00 61 400000000", "+61400000000"),
        ("0011 61 400 000 000", "+61400000000"),
        ("(0)400 000 000", "+61400000000"),
        ("+44 7911 123456", "+447911123456"),
        ("+39 06 1234 5678", "+390612345678"),
        ("+225 01 23 45 67 89", "+2250123456789"),
        ("+64211234567", "+64211234567"),
        ("+1 (202) 555-0100", "+12025550100"),
        ("+1234567", "+1234567"),
    ],
)
def test_numbers_that_are_taken(written: str, sent: str) -> None:
    assert normalise(written) == sent


@pytest.mark.parametrize(
    "written",
    [
        "",
        "+",
        "0400",
        "0299999999",
        "400000000",
        "+6140000000",
        "+614000000000",
        "+61 (0)400 000 000",
        "+61 0400 000 000",
        "61 (0)400 000 000",
        "+610400000000",
        "+0061400000000",
        "00610400000000",
        "006140000000",
        "0061299999999",
        "0044 7911 123456",
        "0011 44 7911 123456",
        "+44 (0)7911 123456",
        "+44 ( 0 ) 7911 123456",
        "+44[0]7911 123456",
        "+44 (07911) 123456",
        "+44 07911 123456",
        "+39 (0)6 1234 5678",
        "0400 000 000 x12",
        "0400000000#12",
        "+0400000000",
        "+1234567890123456",
        "64211234567",
        "+61400.000.000",
        "+61400000000,+61400000001",
        "\u0660400000000",
        "\uff0b61400000000",
        "".join(chr(ord(character) + 0xFEE0) for character in "0400000000"),
        "+6140000000O",
        "call me",
        "+6140000\n0000",
        61400000000,
        None,
    ],
)
def test_numbers_that_are_refused(written: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"E\.164") as caught:
        normalise(written)
    assert caught.value.argument == "to"


@pytest.mark.parametrize(
    "tail", [" (2)", "(12)", " [1]", " ( 1 )", " (1", "-1", " - 1", " -23", "\u20131", "-\u00a02", " -1 "]
)
@pytest.mark.parametrize("number", ["+64 21 123 456", "+49 170 1234567", "0400 000 00", "+7 912 345-67-8"])
def test_digits_behind_a_number_do_not_make_it_another_phone(number: str, tail: str) -> None:
    with pytest.raises(InvalidRequestError, match="a number alone"):
        normalise(number + tail)


@pytest.mark.parametrize(
    "written", ["+7 (912) 345-67-89", "+7 912 345 - 67 - 89", "+375 29 491\u201319\u201311", "04-12-34-56-78"]
)
def test_a_number_may_end_in_pairs(written: str) -> None:
    assert normalise(written) in {"+79123456789", "+375294911911", "+61412345678"}


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("+44 (0)7911 123456", "without the 0 that is dialled inside the country"),
        ("+44 07911 123456", "without the 0 that is dialled inside the country"),
        ("+61 0400 000 000", "without the 0 that is dialled inside the country"),
        ("0044 7911 123456", r"with \+ for the 00"),
        ("0011 44 7911 123456", r"with \+ for the 00 or 0011"),
    ],
)
def test_a_zero_too_many_is_told(written: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        normalise(written)


def test_no_number_that_is_valid_anywhere_is_taken_for_one_with_a_zero_too_many() -> None:
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in phonenumbers.PhoneNumberType.values():
            example = phonenumbers.example_number_for_type(region, kind)
            number = "" if example is None else phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
            if len(number) >= 8 and not number.startswith("+61"):
                assert normalise(number) == number


COUNTRIES = st.sampled_from(["+44 ", "+61 ", "+49 ", "+1 ", "+39 ", "61 ", "0061 ", "0011 61 ", "0044 ", "", "+"])
TRUNKS = st.sampled_from(["", "0", "(0)", "(0) ", "[0]", "( 0 )", "(0", "00"])
SUBSCRIBERS = st.sampled_from(["400 000 000", "7911 123456", "(4)00-000-000", "400)000 000", "4000 000 000"])


@given(COUNTRIES, TRUNKS, SUBSCRIBERS, st.sampled_from(["+44", "+61", "+49", "+1"]))
def test_no_two_spellings_of_one_phone_are_two_phones(country: str, trunk: str, rest: str, home: str) -> None:
    """phonenumbers, which knows every country, takes all that is taken here for the same phone."""
    written = country + trunk + rest
    try:
        number = normalise(written)
    except InvalidRequestError:
        return
    region = phonenumbers.region_code_for_country_code(int(home[1:]))
    parsed = phonenumbers.parse(number, None)
    assert phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) == number
    if written.startswith("+") and phonenumbers.is_valid_number(parsed):
        elsewhere = phonenumbers.parse(written, region)
        assert phonenumbers.format_number(elsewhere, phonenumbers.PhoneNumberFormat.E164) == number


@given(st.text(max_size=20) | st.text("+0123456789 -()", max_size=20))
def test_a_number_is_sent_as_plus_and_digits_or_not_at_all(written: str) -> None:
    try:
        number = normalise(written)
    except InvalidRequestError:
        assert phone_key(written).isascii()
        return
    assert number[0] == "+"
    assert number[1:].isascii()
    assert number[1:].isdigit()
    assert 7 <= len(number[1:]) <= 15
    assert normalise(number) == number
    assert phone_key(written) == number[1:]
    assert e164(written) == e164(number) == number
    for spelling in (f" {number}", f"({number[:3]}) {number[3:]}", f"{number[:4]}-{number[4:]}"):
        assert normalise(spelling) == number


def test_the_same_phone_is_taken_once() -> None:
    found = recipients(["0400 000 000", "+61400000001", "+61400000000", "61400000000"])
    assert found.numbers == ("+61400000000", "+61400000001")
    assert found.duplicates == ("+61400000000", "61400000000")


def test_a_single_number_or_any_iterable() -> None:
    assert recipients("+61400000000").numbers == ("+61400000000",)
    assert recipients(f"+6140000000{i}" for i in range(3)).numbers[-1] == "+61400000002"


@pytest.mark.parametrize("to", [[], "", (), None, 61400000000, b"+61400000000"])
def test_wrong_recipients(to: Any) -> None:
    with pytest.raises(InvalidRequestError, match="to"):
        recipients(to)


def test_the_wrong_one_of_many_is_named() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        recipients(["+61400000000", "nonsense"])
    assert (caught.value.argument, caught.value.value) == ("to[1]", "nonsense")


def test_a_thousand_recipients_and_no_more() -> None:
    thousand = [f"+61400{i:06}" for i in range(1000)]
    assert len(recipients(thousand + thousand).numbers) == 1000
    with pytest.raises(InvalidRequestError, match="1000"):
        recipients([*thousand, "+61499999999"])


PICTURES = {
    "png": b"\x89PNG\r\n\x1a\n....",
    "gif": b"GIF89a....",
    "jpeg": b"\xff\xd8\xff\xe0....",
}


class AsyncFile:
    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self, size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@pytest.mark.parametrize("kind", PICTURES)
async def test_every_source_of_every_kind(kind: str, tmp_path: Path) -> None:
    data = PICTURES[kind]
    path = tmp_path / "picture.txt"  # the name does not matter
    path.write_bytes(data)
    with path.open("rb") as buffered, open(path, "rb", buffering=0) as unbuffered:  # noqa: ASYNC230
        sources: list[Any] = [
            str(path),
            path,
            data,
            bytearray(data),
            memoryview(data),
            io.BytesIO(data),
            buffered,
            unbuffered,
        ]
        for source in [*sources, AsyncFile(data[:3], data[3:])]:
            image = await load(source)
            assert (image.data, image.kind) == (data, kind)
    assert image.filename == f"image.{kind}"
    assert image.content_type == f"image/{kind}"
    assert data.decode("latin1") not in repr(image)


async def test_wrong_images(tmp_path: Path) -> None:
    released = memoryview(b"GIF89a")
    released.release()
    closed = io.BytesIO(b"GIF89a")
    closed.close()
    exhausted = io.BytesIO(b"GIF89a")
    exhausted.read()
    wrong: list[tuple[Any, str]] = [
        (tmp_path / "missing.gif", "No such file"),
        (tmp_path, "directory"),
        ("nul\0.gif", "null"),
        (closed, "closed"),
        (released, "released"),
        (exhausted, "no bytes"),
        (b"", "no bytes"),
        (io.StringIO("GIF89a"), "bytes"),
        (None, "file"),
        (7, "file"),
        (b"RIFF....WEBP", "PNG, GIF or JPEG"),
        (b"GIF89a" + bytes(MAX_BYTES), "380000 bytes"),
    ]
    for source, reason in wrong:
        with pytest.raises(InvalidRequestError, match=reason) as caught:
            await load(source)
        assert caught.value.argument == "image"


BY_HAND = "scale it down, to about 300x450 pixels, and save it as JPEG"
REMEDY = f"fit=True (--fit; extra `images`), or {BY_HAND}"


async def test_a_photograph_that_is_too_large_is_named_with_its_size_its_format_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(PICTURES["jpeg"] + bytes(3_000_000))
    said = f"image: expected at most 380000 bytes: {REMEDY}, got 'JPEG of 3000008 bytes, holiday.jpg'"
    for source in (path, str(path)):
        with pytest.raises(InvalidRequestError) as caught:
            await load(source)
        assert str(caught.value) == said
    with pytest.raises(InvalidRequestError) as caught:
        await load(path.read_bytes())
    assert str(caught.value) == said.replace(", holiday.jpg", "")
    with path.open("rb") as file, pytest.raises(InvalidRequestError, match=r"more than 380000 bytes, holiday\.jpg"):
        await load(file)


async def test_a_picture_that_leaves_no_room_for_the_text_says_so(tmp_path: Path) -> None:
    path = tmp_path / "sale.png"
    path.write_bytes(PICTURES["png"].ljust(MAX_BYTES - 5, b"."))
    with pytest.raises(InvalidRequestError) as caught:
        checks.checked_text("Hello!", await load(path))
    assert str(caught.value) == (
        f"image: expected at most 379994 bytes beside this text, 380000 in all: {REMEDY}, "
        "got 'PNG of 379995 bytes, sale.png'"
    )


@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (b"RIFF\x24\0\0\0WEBPVP8 ", "WebP"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"BM\x36\0\0\0", "BMP"),
        (b"II*\0\x08\0", "TIFF"),
        (b"MM\0*\0\x08", "TIFF"),
        (b"%PDF-1.7", "PDF"),
        (b"<html>", "unknown format"),
    ],
)
async def test_another_format_is_named(tmp_path: Path, beginning: bytes, name: str) -> None:
    path = tmp_path / "photo.jpg"  # as cameras and chats name them, whatever is in them
    path.write_bytes(beginning)
    with pytest.raises(InvalidRequestError) as caught:
        await load(path)
    assert str(caught.value) == (
        "image: expected a PNG, GIF or JPEG by its first bytes: convert it, to JPEG say, "
        f"got '{name} of {len(beginning)} bytes, photo.jpg'"
    )
    path.write_bytes(beginning + bytes(MAX_BYTES))
    remedy = re.escape(f": {REMEDY if name in FITTABLE else BY_HAND}")  # no PDF is made to fit
    with pytest.raises(InvalidRequestError, match=f"{remedy}, got '{name} of {len(beginning) + MAX_BYTES} bytes"):
        await load(path)


async def test_the_name_of_a_file_does_not_steer_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / ("a\x1b]0;owned\x07" + "b" * 100)
    path.write_bytes(b"BM")
    with pytest.raises(InvalidRequestError) as caught:
        await load(path)
    assert str(caught.value).isprintable()


async def test_an_endless_file_is_not_read_to_its_end() -> None:
    class Endless:
        taken = 0

        def read(self, size: int) -> bytes:
            self.taken += size
            return bytes(size)

    file = Endless()
    with pytest.raises(InvalidRequestError, match="380000"):
        await load(file)
    assert file.taken == MAX_BYTES + 1


@pytest.mark.parametrize("fit", [False, True])
async def test_a_picture_may_come_from_a_pipe(tmp_path: Path, fit: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    picture = from_a_phone(60, 40, 1)
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(picture,), daemon=True)
    writer.start()
    assert (await load(tmp_path / "pipe", fit=fit)).kind == "jpeg"
    writer.join()
    with pytest.raises(InvalidRequestError, match="it is no regular file"):
        await load(tmp_path / "pipe", fit=fit, only_regular=True)
