"""The picture of a message: read once, known by its bytes (wire.md section 3, send-mms)."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable
from typing import Protocol

import anyio.to_thread
from attrs import field, frozen

from mmsclient.errors import InvalidRequestError

MAX_BYTES = 380_000
"""What image and text may weigh together. The vendor says 380 KB; taken as 380 000 bytes."""

EXPECTED = "a PNG, GIF or JPEG image"

_KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"GIF87a": "gif", b"GIF89a": "gif", b"\xff\xd8\xff": "jpeg"}


class ReadableFile(Protocol):
    """A file object open for reading bytes; its `read` may also be a coroutine."""

    def read(self, size: int, /) -> bytes | Awaitable[bytes]: ...


ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | ReadableFile
"""Where a picture comes from: a path, its bytes, or an open file."""


@frozen
class Image:
    """A picture, read and checked."""

    data: bytes = field(repr=False)
    kind: str
    """`png`, `gif` or `jpeg`."""

    @property
    def filename(self) -> str:
        """A name of our own; the caller's path stays here."""
        return f"image.{self.kind}"

    @property
    def content_type(self) -> str:
        return f"image/{self.kind}"


async def load(source: ImageSource) -> Image:
    """Read `source` once and find its kind by its first bytes. Nothing beyond the size limit is read.

    Raises `InvalidRequestError` for one that is missing, unreadable, empty, too large, or not PNG, GIF or JPEG.
    """
    data = await _read(source)
    if not data:
        raise InvalidRequestError("image", "no bytes", f"{EXPECTED}; a file object is read from where it stands")
    if len(data) > MAX_BYTES:
        raise InvalidRequestError("image", f"more than {MAX_BYTES} bytes", f"at most {MAX_BYTES} bytes")
    for signature, kind in _KINDS.items():
        if data.startswith(signature):
            return Image(data, kind)
    raise InvalidRequestError("image", data[:12], f"{EXPECTED} (by its first bytes)")


async def _read(source: ImageSource) -> bytes:
    try:
        if isinstance(source, bytes | bytearray | memoryview):
            return bytes(source)
        if isinstance(source, str | os.PathLike):
            return await anyio.to_thread.run_sync(_read_path, source)
        return await _read_file(source)
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


def _read_path(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_BYTES + 1)
