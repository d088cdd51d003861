"""Reads a page as a browser does, and asks a browser itself where there is one."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)

VOID = ("meta", "link", "br", "img", "hr")


class PageReader(HTMLParser):
    """Elements, texts and the rows of tables. What is not closed, or in the wrong place, is an error."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.is_whole = False
        self._open: list[str] = []
        self._cells: list[str] | None = None
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.rows and any(tag in self._open for tag in ("td", "th")):
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """The other cells of the first row that begins so."""
        return next(row[1:] for row in self.rows if row[:1] == [first])


def browsed(page: Path, *options: str) -> str:
    """What Chromium prints of a page, opened from the disk with these options. It reaches no network."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--proxy-server=127.0.0.1:9",
        f"--user-data-dir={page.parent / 'profile'}",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8", timeout=300).stdout  # noqa: S603
