"""Whether a file is mounted by itself, as containers do with a volume that is a file."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["MOUNTED", "is_mounted_alone"]

MOUNTED = (
    "the file itself is mounted, without its log and its lock, which others would not see and which go with this"
    " container; mount the folder that it is in"
)

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def is_mounted_alone(path: str | os.PathLike[str]) -> bool:
    """The file is a mount point, so what SQLite puts beside it is not where the file is."""
    real = os.path.realpath(path)
    try:
        mounts = _MOUNTS.read_bytes().splitlines()
    except OSError:  # no Linux
        return os.path.isfile(real) and os.path.ismount(real)
    points = (mount.split(b" ", 5)[4] for mount in mounts if mount.count(b" ") > 4)
    return os.fsencode(real) in {_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), point) for point in points}
