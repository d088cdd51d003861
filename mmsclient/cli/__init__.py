"""The command `mmsclient`. Needs the extra: `pip install 'mmsclient[cli]'`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

_NEEDED = ("cyclopts", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (those of the process if left out) and answer its exit status."""
    try:
        from mmsclient.cli.app import run  # noqa: PLC0415 -- without the extra, say how to install it

        return run(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _NEEDED:
            raise
        print(f"mmsclient: the command needs {package}: pip install 'mmsclient[cli]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
