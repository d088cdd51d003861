"""Optional packages: one kind of error for each that is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any
from urllib.parse import unquote, urlsplit

from mmsclient.errors import ConfigurationError


@contextmanager
def needed(extra: str, by: str) -> Iterator[None]:
    """Around imports: a missing package becomes a `ConfigurationError` that names it, what it is needed by, and how to
    install `extra`."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "mmsclient"):
            raise
        raise ConfigurationError(f"{by} needs {package}; install the extra: {install_command(extra)}") from None


def install_command(extra: str) -> str:
    """What installs `extra` from where this package came from: a folder, a repository, an archive or an index."""
    origin = _origin()
    url, vcs = origin.get("url", ""), origin.get("vcs_info", {})
    if origin.get("dir_info", {}).get("editable"):
        return f"pip install -e '{unquote(urlsplit(url).path)}[{extra}]'"
    if vcs:
        url = f"{vcs.get('vcs')}+{url}@{vcs.get('commit_id')}"
    return f"pip install 'mmsclient[{extra}]{f' @ {url}' if url else ''}'"


def _origin() -> dict[str, Any]:
    """What the installer noted (PEP 610); empty where the package came from an index."""
    try:
        noted = json.loads(distribution("mmsclient").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}
