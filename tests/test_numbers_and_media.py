"""Recipients and pictures: what is taken, what is refused, and that it is said why."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import InvalidRequestError
from mmsclient.media import MAX_BYTES, load
from mmsclient.numbers import normalise, phone_key, recipients


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
        "0061400000000",
        "+0400000000",
        "+1234567890123456",
        "64211234567",
        "+61400.000.000",
        "+61400000000,+61400000001",
        "\u0660400000000",
        "\uff0b61400000000",
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
        (b"%PDF-1.7", "PNG, GIF or JPEG"),
        (b"GIF89a" + bytes(MAX_BYTES), "380000 bytes"),
    ]
    for source, reason in wrong:
        with pytest.raises(InvalidRequestError, match=reason) as caught:
            await load(source)
        assert caught.value.argument == "image"


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
