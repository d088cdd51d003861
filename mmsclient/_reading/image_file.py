"""Reading a picture from where the caller has it, and making it fit where that is asked for."""

from __future__ import annotations

import inspect
import os

from mmsclient._api.fitted_picture import MAX_SOURCE_BYTES, FittedPicture
from mmsclient._api.media import MAX_BYTES, Image, image_of
from mmsclient._reading.picture_source import PictureSource, ReadableFile, name_of, read_path, told_as_unreadable
from mmsclient._threads import Threads

__all__ = ["ImageSource", "load"]

ImageSource = PictureSource | ReadableFile | FittedPicture
"""Where a picture comes from: a path, its bytes, an open file, or what `mmsclient.pictures.fit` made."""

FITTING = Threads(2)
"""For pictures that are made to fit: each may take some hundred megabytes."""

READING = Threads()
"""For files that are read."""


async def load(source: ImageSource, *, fit: bool = False, only_regular: bool = False) -> Image:
    """Read `source` once, no further than the size limit, and find its kind by its first bytes.

    With `fit` it is made to fit, in a thread. Raises `InvalidRequestError` for one that is missing, unreadable, empty,
    too large, or not PNG, GIF or JPEG; with `only_regular` also for a path that leads to a pipe or a device.
    """
    if not isinstance(source, FittedPicture):
        if not fit:
            data, size = await _read(source, MAX_BYTES, only_regular)
            return image_of(data, size, name_of(source))
        source = await _fitted(source, only_regular)
    return Image(source.data, source.format.lower(), digest=source.source_digest)


async def _fitted(source: PictureSource | ReadableFile, only_regular: bool) -> FittedPicture:
    data, size = await _read(source, MAX_SOURCE_BYTES, only_regular)
    return await FITTING.run_or_here(_fit, data, size, name_of(source))


def _fit(data: bytes, size: int, name: str) -> FittedPicture:
    from mmsclient.pictures.fitting import fit_file  # noqa: PLC0415 - in the thread, which it does not hold up

    return fit_file(data, size, name)


async def _read(source: PictureSource | ReadableFile, most: int, only_regular: bool) -> tuple[bytes, int]:
    """The bytes, one more than may be at most, and how many there are in all as far as that can be told."""
    with told_as_unreadable(source):
        if isinstance(source, bytes | bytearray | memoryview):
            data = bytes(source)
            return data, len(data)
        if isinstance(source, str | os.PathLike):
            return await READING.run_or_here(read_path, source, most, only_regular)
        data = await _read_file(source, most)
        return data, len(data)


async def _read_file(file: ReadableFile, most: int) -> bytes:
    data = bytearray()
    while len(data) <= most:
        chunk = file.read(most + 1 - len(data))
        piece = await chunk if inspect.isawaitable(chunk) else chunk
        data += piece  # TypeError for text
        if not piece:
            break
    return bytes(data)
