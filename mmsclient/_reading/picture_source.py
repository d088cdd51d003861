"""Where the caller has a picture: a path, its bytes, or an open file."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Protocol

from mmsclient.errors import InvalidRequestError

__all__ = ["PictureSource", "ReadableFile", "name_of", "read_here", "read_path", "told_as_unreadable"]


class ReadableFile(Protocol):
    """A file object open for reading bytes; its `read` may also be a coroutine."""

    def read(self, size: int, /) -> bytes | Awaitable[bytes]: ...


class OpenFile(Protocol):
    """A file object open for reading bytes."""

    def read(self, size: int, /) -> bytes: ...


PictureSource = str | os.PathLike[str] | bytes | bytearray | memoryview | OpenFile
"""Where a picture comes from: a path, its bytes, or an open file that is read at once."""


def name_of(source: object) -> str:
    """The file's name without its folders; empty where there is none."""
    path = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    try:
        return os.path.basename(os.fsdecode(path))  # type: ignore[arg-type]
    except TypeError:
        return ""


@contextmanager
def told_as_unreadable(source: object) -> Iterator[None]:
    """What goes wrong while `source` is read becomes an `InvalidRequestError`."""
    try:
        yield
        return
    except (OSError, ValueError) as error:  # ValueError: a closed file, or a path with a NUL
        if isinstance(error, InvalidRequestError):
            raise
        reason = str(error)
    except (AttributeError, TypeError):
        reason = "it is not a file open for reading bytes"
    shown = os.fspath(source) if isinstance(source, os.PathLike) else source
    raise InvalidRequestError("image", shown, f"a path, bytes or an open file that can be read ({reason})")


def read_path(path: str | os.PathLike[str], most: int, only_regular: bool = False) -> tuple[bytes, int]:
    """One byte more than `most` of a file, and how many it has in all.

    With `only_regular`, `OSError` for what is no regular file: a pipe may wait for ever for somebody to write into it.
    """
    with open(path, "rb", opener=_without_waiting if only_regular else None) as file:
        if only_regular and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is no regular file")
        data = file.read(most + 1)
        return data, max(len(data), os.fstat(file.fileno()).st_size)  # a pipe has no size


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # which a pipe without a writer would have to


def read_here(source: PictureSource, most: int) -> tuple[bytes, int]:
    """As `read_path`, of any source. Raises `InvalidRequestError` for one that cannot be read."""
    with told_as_unreadable(source):
        if isinstance(source, str | os.PathLike):
            return read_path(source, most)
        if isinstance(source, bytes | bytearray | memoryview):
            size = memoryview(source).nbytes
            return bytes(memoryview(source).cast("B")[: most + 1]) if size else b"", size
        data = bytearray()
        while len(data) <= most and (piece := source.read(most + 1 - len(data))):
            data += piece  # TypeError for text
        return bytes(data), len(data)
