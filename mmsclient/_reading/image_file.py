"""Reading a picture from where the caller has it: a path, its bytes, or an open file."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable
from typing import Protocol

import anyio.to_thread

from mmsclient._api.media import MAX_BYTES, Image, image_of
from mmsclient.errors import InvalidRequestError


class ReadableFile(Protocol):
    """A file object open for reading bytes; its `read` may also be a coroutine."""

    def read(self, size: int, /) -> bytes | Awaitable[bytes]: ...


ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | ReadableFile
"""Where a picture comes from: a path, its bytes, or an open file."""


async def load(source: ImageSource) -> Image:
    """Read `source` once, no further than the size limit, and find its kind by its first bytes.

    Raises `InvalidRequestError` for one that is missing, unreadable, empty, too large, or not PNG, GIF or JPEG.
    """
    data, size = await _read(source)
    return image_of(data, size, _name_of(source))


def _name_of(source: object) -> str:
    """The file's name without its folders; empty where there is none."""
    path = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    try:
        return os.path.basename(os.fsdecode(path))  # type: ignore[arg-type]
    except TypeError:
        return ""


async def _read(source: ImageSource) -> tuple[bytes, int]:
    """The bytes, one more than may be at most, and how many there are in all as far as that can be told."""
    try:
        if isinstance(source, bytes | bytearray | memoryview):
            data = bytes(source)
            return data, len(data)
        if isinstance(source, str | os.PathLike):
            return await anyio.to_thread.run_sync(_read_path, source)
        data = await _read_file(source)
        return data, len(data)
    except (OSError, ValueError) as error:  # ValueError: a closed file, or a path with a NUL
        reason = str(error)
    except (AttributeError, TypeError):
        reason = "it is not a file open for reading bytes"
    shown = os.fspath(source) if isinstance(source, os.PathLike) else source
    raise InvalidRequestError("image", shown, f"a path, bytes or an open file that can be read ({reason})")


async def _read_file(file: ReadableFile) -> bytes:
    data = bytearray()
    while len(data) <= MAX_BYTES:
        chunk = file.read(MAX_BYTES + 1 - len(data))
        piece = await chunk if inspect.isawaitable(chunk) else chunk
        data += piece  # TypeError for text
        if not piece:
            break
    return bytes(data)


def _read_path(path: str | os.PathLike[str]) -> tuple[bytes, int]:
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
        return data, max(len(data), os.fstat(file.fileno()).st_size)  # a pipe has no size
