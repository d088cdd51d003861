"""README and docs: their Python runs against the sandbox, their tables are what the code says, their links lead on."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import mmsclient
from mmsclient import bulk, errors, outbox
from mmsclient.bulk import RecipientState
from mmsclient.sandbox import Ending, Sandbox
from mmsclient.webhooks import CallbackReceiver, new_token
from tests.conftest import PNG
from tests.support.pictures import from_a_phone
from tools import site

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
MODULES = (
    "mmsclient",
    "mmsclient.bulk",
    "mmsclient.pictures",
    "mmsclient.outbox",
    "mmsclient.webhooks",
    "mmsclient.sandbox",
    "mmsclient.sms",
    "mmsclient.limiter",
    "mmsclient.observe",
    "mmsclient.observe.otel",
    "mmsclient.observe.prometheus",
)


def text_of(page: str | Path) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


LIMITERS = "mmsclient.limiter"
README = text_of(ROOT / "README.md")


def blocks() -> Iterator[Any]:
    """Every Python block, but those that are files of their own: tests/project/test_cookbook.py runs these."""
    for page in PAGES:
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)):
            if not block.startswith("--8<--"):
                yield pytest.param(block, id=f"{page.relative_to(ROOT)} {number + 1}")


BLOCKS = list(blocks())
PHOTO = from_a_phone(1600, 1200, 6)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_python_blocks_run(block: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sale.gif").write_bytes(PNG)
    (tmp_path / "IMG_2041.JPG").write_bytes(PHOTO)
    monkeypatch.chdir(tmp_path)
    if "(mms_sandbox)" in block:
        run_under_pytest(block, tmp_path)
        return
    with Sandbox(tls=True) as sandbox:
        sandbox.add_replies(30)
        sandbox.add_template("Sale", "Sale on now")
        monkeypatch.setenv("MMSCLIENT_APP_KEY", sandbox.app_key)
        monkeypatch.setenv("MMSCLIENT_CALLBACK_TOKEN", new_token())

        class LocalClient(mmsclient.AsyncMMSClient):
            """The pages speak of the service; here it is the sandbox."""

            def __init__(self, *args: Any, **options: Any) -> None:
                verify = {} if {"http_client", "base_url"} & set(options) else {"verify": sandbox.ssl_context}
                super().__init__(*args, **{"base_url": sandbox.url, **verify, **options})

        monkeypatch.setattr(mmsclient, "AsyncMMSClient", LocalClient)
        code = compile(block, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names: dict[str, Any] = {}
        if not code.co_flags & inspect.CO_COROUTINE:
            exec(code, names)  # noqa: S102

        async def main() -> None:
            if code.co_flags & inspect.CO_COROUTINE:
                async with LocalClient() as names["mms"]:
                    await eval(code, names)  # noqa: S307
            for value in names.values():
                if isinstance(value, CallbackReceiver):
                    await value.aclose()

        asyncio.run(main())
        assert sandbox.errors == []


def run_under_pytest(block: str, folder: Path) -> None:
    (folder / "test_block.py").write_text(block, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_block.py"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 25


# Links and pictures -------------------------------------------------------------------------------------------------


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as the site and GitHub make them."""
    without_code = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.is_file(), f"{target} of {page.name}"
        if page.is_relative_to(DOCS):
            assert there.resolve().is_relative_to(DOCS), f"{target} of {page.name} is not on the site"
        if anchor:
            assert anchor in anchors(text_of(there)), f"{target} of {page.name}"


def test_every_page_is_on_the_site_and_every_picture_is_shown() -> None:
    listed = {path for _, pages in site.sections() for _, path in pages}
    assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    everything = "".join(map(text_of, PAGES))
    for picture in DOCS.glob("pictures/*"):
        assert f"pictures/{picture.name})" in everything
        ElementTree.parse(picture)  # noqa: S314 - our own file


def test_no_page_is_empty_and_every_table_is_whole() -> None:
    for page in PAGES:
        rows: list[int] = []
        for line in [*text_of(page).splitlines(), ""]:
            if line.startswith("|"):
                rows.append(len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line))))
                continue
            assert len(set(rows)) <= 1, f"{page.name}: the table before {line!r}"
            rows = []


# What is generated --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "text"), site.generated().items(), ids=lambda part: getattr(part, "name", ""))
def test_what_is_generated_is_current(path: Path, text: str) -> None:
    assert text_of(path) == text, "run: python -m tools.site --generate"


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference_and_has_a_docstring(module: str) -> None:
    reference = "".join(map(text_of, DOCS.glob("reference/*.md")))
    for name in import_module(module).__all__:
        if name.startswith("__"):
            continue
        value = getattr(import_module(module), name)
        assert re.search(rf"^::: mmsclient[.\w]*\.{name}$", reference, re.MULTILINE), f"{module}.{name}"
        if isinstance(value, type):
            assert not undocumented(value), f"{module}.{name}"


def undocumented(cls: type) -> list[str]:
    """Public methods and properties of `cls` that have no docstring, here or in the protocol that they fulfil."""
    fulfilled = {*vars(mmsclient.Limiter), *vars(mmsclient.Grant)} if cls.__module__.startswith(LIMITERS) else set()
    own = {name: value for name, value in vars(cls).items() if not name.startswith("_")}
    return [
        name
        for name, value in own.items()
        if name not in fulfilled
        and (inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod))
        and not inspect.getdoc(getattr(cls, name))
    ]


def test_the_readme_is_short_and_names_its_two_commands() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    for extra in ("[all]", "[dev]"):
        assert next(line for line in lines if extra in line).startswith("python3 -m venv")


# The tables ---------------------------------------------------------------------------------------------------------


def test_every_promise_names_a_test_that_exists() -> None:
    table = README[README.index("## Promises") : README.index("## What it is not")]
    rows = re.findall(r"^\| \*\*.*$", table, re.MULTILINE)
    assert len(rows) >= 8
    for row in rows:
        named = re.findall(r"`(test_\w+)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(f"{file}.py"))
            assert re.search(rf"^\s*(async )?def {test}\(", source, re.MULTILINE), f"{file}::{test}"


def test_the_table_of_endings_is_the_codes() -> None:
    rows = dict(re.findall(r"^\| (\d{4}) \| (.*?) \|$", text_of("testing.md"), re.MULTILINE))
    assert rows == {ending.value: ending.description for ending in Ending}


def test_every_error_stands_in_the_table() -> None:
    page = text_of("errors.md")
    table = page[page.index("## Was it sent?") : page.index("## What is repeated")]
    named = set(re.findall(r"`(\w+Error)`", table))
    assert set(errors.__all__) - {"MMSError"} <= named
    assert {name for name in (*bulk.__all__, *outbox.__all__) if name.endswith("Error")} <= named


def test_every_state_of_a_recipient_is_explained_and_drawn() -> None:
    states = {state.value for state in RecipientState}
    page = text_of("campaigns.md")
    table = page[page.index("## The states of a recipient") : page.index("## If the process dies")]
    assert set(re.findall(r"^\| `(\w+)` ", table, re.MULTILINE)) == states
    assert states <= set(re.findall(r">(\w+)</text>", text_of("pictures/states.svg")))


def test_the_numbers_in_the_text_are_the_codes() -> None:
    from mmsclient import _base_client as base  # noqa: PLC0415
    from mmsclient._transport import retry  # noqa: PLC0415
    from mmsclient.limiter import feedback  # noqa: PLC0415

    assert (base.MAX_ATTEMPTS, base.MAX_IN_FLIGHT, base.RATE, base.TIMEOUT) == (4, 64, 15, 30)
    assert (retry.FIRST_WAIT, retry.LONGEST_WAIT, retry.TOTAL) == (0.5, 8, 120)
    assert feedback.LONGEST_RETRY_AFTER == 60
    for text in ("At most four attempts", "two minutes", "from 0.5 to 8 seconds", "a minute"):
        assert text in text_of("errors.md")
    assert "`max_in_flight=` (64)" in text_of("cap.md")
    assert "end of its answer (30)" in text_of("sending.md")


def test_the_commands_name_the_plain_package_first() -> None:
    """Else an older pip tries versions of the extras for minutes before it says that Python is too old."""
    assert "pip install -q . '.[all]'" in README
    assert "pip install -q -e . -e '.[dev]'" in README
