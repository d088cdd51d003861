"""HEIC, as phones make it. Runs where `pillow-heif` is installed."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from mmsclient import InvalidRequestError
from mmsclient.pictures import examine, fit
from tests.support.pictures import CORNERS, corners, exif, metadata_of, opened, with_corners

NOT_THERE = "the package pillow-heif is not installed"


def heic(orientation: int = 1) -> bytes:
    pillow_heif: Any = pytest.importorskip("pillow_heif", reason=NOT_THERE)
    made = pillow_heif.from_pillow(with_corners(900, 600))
    file = io.BytesIO()
    made.save(file, quality=80, exif=exif(orientation).tobytes(), xmp=b"SECRET")
    return file.getvalue()


def test_a_heic_becomes_a_jpeg_without_metadata() -> None:
    data = heic()
    facts = examine(data)
    assert (facts.format, facts.width, facts.height) == ("HEIC", 900, 600)
    assert facts.tells_place
    assert {"EXIF", "GPS", "camera", "XMP"} <= set(facts.metadata)
    assert "it is a HEIC" in facts.objection
    picture = fit(data)
    assert (picture.format, picture.width, picture.height) == ("JPEG", 640, 427)
    assert metadata_of(picture.data) == set()
    assert corners(opened(picture.data)) == list(CORNERS)


def test_it_is_turned_once() -> None:
    """Its decoder turns it as the file itself says; what EXIF says beside that does not count."""
    pillow_heif: Any = pytest.importorskip("pillow_heif", reason=NOT_THERE)
    image = with_corners(900, 600)
    image.info["exif"] = exif(6).tobytes()
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=80)
    data = file.getvalue()
    decoded = pillow_heif.open_heif(io.BytesIO(data)).to_pillow()
    picture = fit(data)
    assert corners(opened(picture.data)) == corners(decoded)
    assert (picture.width > picture.height) is (decoded.width > decoded.height)


def test_a_heic_that_is_cut_short_is_refused() -> None:
    data = heic()
    for share in (0.05, 0.5, 0.95):
        with pytest.raises(InvalidRequestError):
            fit(data[: int(len(data) * share)])


def test_without_the_package_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InvalidRequestError, match="a HEIC where the package pillow-heif is installed"):
        fit(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
