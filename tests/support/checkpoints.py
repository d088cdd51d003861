"""Files of SQLite as a process leaves them that is killed while it writes its log into them."""

from __future__ import annotations

import shutil
from pathlib import Path

HEADER, FRAME = 32, 24
"""Bytes before the log's first frame, and before the page that each holds."""


def killed_at_its_checkpoint(path: Path, folder: Path) -> Path:
    """A copy in `folder` of the open database at `path`, its first page alone written as the log has it."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", folder)
    copy = folder / path.name
    log = Path(f"{copy}-wal").read_bytes()
    size = int.from_bytes(log[8:12], "big")
    frames = (log[start : start + FRAME + size] for start in range(HEADER, len(log), FRAME + size))
    *_, first = (frame[FRAME:] for frame in frames if int.from_bytes(frame[:4], "big") == 1)
    content = copy.read_bytes()
    assert int.from_bytes(first[28:32], "big") * size > len(content)  # it grows by pages that are in the log alone
    copy.write_bytes(first + content[size:])
    return copy
