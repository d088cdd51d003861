"""The documentation: `python -m tools.site` writes what is generated and builds the site, without a warning.

`--generate` only writes. Generated are the reference's pages (from `__all__`), the page of the command (from the
command itself), the page of what was measured (from `docs/benchmarks.json`, which `python -m benchmarks --record`
writes), `llms.txt` and `llms-full.txt`; they are kept in the repository, and a test checks that they are current.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

MODELS = "models"
"""The page of the names of `mmsclient` that have no page of their own."""

REFERENCE = {
    "client": ("Client", "mmsclient", ("AsyncMMSClient", "Listing", "Stats", "CallResult", "Page")),
    MODELS: ("Models", "mmsclient", ()),
    "sms": ("SMS", "mmsclient.sms", ()),
    "errors": ("Errors", "mmsclient.errors", ()),
    "limiter": ("Limiters", "mmsclient.limiter", ()),
    "bulk": ("Campaigns", "mmsclient.bulk", ()),
    "pictures": ("Pictures", "mmsclient.pictures", ()),
    "outbox": ("Outbox", "mmsclient.outbox", ()),
    "webhooks": ("Callbacks", "mmsclient.webhooks", ()),
    "observe": ("Observing", "mmsclient.observe", ("Observer", "Event", "LogObserver")),
    "otel": ("OpenTelemetry", "mmsclient.observe.otel", ()),
    "prometheus": ("Prometheus", "mmsclient.observe.prometheus", ()),
    "sandbox": ("Sandbox", "mmsclient.sandbox", ()),
}
"""The pages of the reference: title, module, and the names that come first or, of `mmsclient`, alone."""

SUMMARY = """\
# mmsclient

> An async Python client for an MMS REST API (Cellcast v3). A send that may have been carried out is never repeated, the
> account's cap of 15 calls a second is kept as the server counts it, and every refusal, partial acceptance and unknown
> outcome is a typed error or a field.
"""


def generated() -> dict[Path, str]:
    """Every generated file and what it holds."""
    pages = {DOCS / "reference" / f"{page}.md": reference(page) for page in REFERENCE}
    pages[DOCS / "command.md"] = command()
    pages[DOCS / "performance.md"] = performance()
    pages[DOCS / "llms.txt"] = llms()
    pages[DOCS / "llms-full.txt"] = llms_full(pages)
    return pages


# The reference ------------------------------------------------------------------------------------------------------


def names(page: str) -> list[str]:
    """The public names on a page of the reference."""
    _, module, first = REFERENCE[page]
    public = [name for name in import_module(module).__all__ if not name.startswith("__")]
    if module == "mmsclient" and page != MODELS:
        return list(first)
    if page == MODELS:
        elsewhere = {name for other in REFERENCE if other != MODELS for name in names(other)}
        return [name for name in public if name not in elsewhere]
    return sorted(public, key=lambda name: name not in first)


def reference(page: str) -> str:
    """A page that mkdocstrings fills from the docstrings."""
    title, module, _ = REFERENCE[page]
    lines = [f"# {title}", "", "<!-- Written by `python -m tools.site`. -->", ""]
    for name in names(page):
        lines += [f"::: {module}.{name}", *_options(name), ""]
    return "\n".join(lines)


def _options(name: str) -> list[str]:
    options = []
    if name in ("AsyncMMSClient", "Outbox"):
        options += ["members_order: source", "inherited_members: true"]
    return ["    options:", *(f"      {option}" for option in options)] if options else []


# The command --------------------------------------------------------------------------------------------------------


def command() -> str:
    """The command's own help, as a page."""
    from mmsclient.cli.app import app  # noqa: PLC0415 - the reference alone needs no extra

    with patch.object(sys, "argv", ["mmsclient"]):  # the name of the program that runs gets into the usage
        text = app.generate_docs(output_format="markdown", include_hidden=False)
        completion = "`--install-completion`"  # the site and GitHub name its heading differently
        text = text.replace(f"[{completion}](#mmsclient-install-completion)", completion)
    text = text[text.index("**Commands**") :]
    text = re.sub(r"\n {4,}(?=\S)", " ", text)  # help of options that was wrapped
    told = " ".join(str(app.help_epilogue).split()).removeprefix("Exit status: ")
    statuses, rest = told.split(". ", 1)
    rows = "\n".join(f"| {number} | {what} |" for number, _, what in (s.partition(" ") for s in statuses.split("; ")))
    return f"""\
# The command

<!-- Written by `python -m tools.site`. -->

The extra `cli` brings `mmsclient`. The APPKEY comes from `MMSCLIENT_APP_KEY` or `--app-key-file`, never from an
argument that a process list shows.

```sh
mmsclient send --to 0400000000 --text 'Sale on now' --image sale.gif
mmsclient send --to 0400000000 --text 'Look' --image IMG_2041.JPG --fit    # any photograph, made to fit
mmsclient sms send --to 0400000000 --text 'Your parcel is here' --custom-string order-17
mmsclient sms parts 'Your parcel is here'   # its alphabet, its parts and what it costs
mmsclient picture show IMG_2041.JPG   # what it is, and whether it says where it was taken
mmsclient account --json
mmsclient replies --follow --take     # each is marked as read when it is printed; without --take all stay unread
mmsclient opt-outs --since 2026-01-01
mmsclient listen --port 8080 --json   # receives callbacks
mmsclient listen --exec './note.sh'   # runs a command for each, with the event as JSON on its stdin
mmsclient sandbox                     # a server on this machine to try it with
```

Campaigns: plan, send, go on after a stop, and see what became of everybody.

```sh
mmsclient bulk send list.csv --column mobile --text 'Sale on now' --image sale.gif --journal spring.db --dry-run
mmsclient bulk send list.csv --column mobile --text 'Sale on now' --image sale.gif --journal spring.db
mmsclient bulk resume spring.db
mmsclient bulk report spring.db --csv --state unknown
mmsclient bulk report spring.db --html spring.html   # a page to hand on
mmsclient bulk status spring.db --watch   # of one that another process sends; pause, continue and stop reach it
```

The outbox: a worker, and a look at what is there.

```sh
mmsclient outbox run outbox.db
mmsclient outbox status outbox.db
mmsclient outbox list outbox.db --state unknown
mmsclient outbox cancel outbox.db order-17
```

## Exit statuses

| status | what it means |
|---|---|
{rows}

{rest}

A signal during `send` or `sms send` takes back what has not left, and waits for the answer to what has: it is printed,
and the exit status is that of its end. 129, 130 and 143 then mean that nothing was sent, unless a second signal ended
it at once, which stderr says.

Those of `bulk send` and `bulk resume` speak of the whole campaign, earlier runs included, also where this run ended
before its first call: 0 where everything was accepted, whatever hindered the run. With `--fallback sms` that takes in
the SMS: a run that is ended early is not done where somebody is to get one, or may be by a delivery report that is to
come. Those of `bulk fallback` speak in the same way of the SMS alone, however many MMS are unknown or left to send.
Wrong usage is 2, and a journal that another campaign is sending with, or that is another one's, is 1, however it
stands.

## Times

Times are those of this computer (`TZ`), each with its offset from UTC. Those that the API tells, of replies, opt-outs,
templates and messages, are in the API's zone, with that offset; the hours of a campaign are in the zone that they were
given in.

## Commands

{text.removeprefix("**Commands**:").strip()}
"""


# What was measured --------------------------------------------------------------------------------------------------

MEASURED = {
    "cap": "Calls refused, and share of the cap used",
    "shared": "The same for four processes",
    "overhead": "Processor time a call, beside HTTP libraries alone",
    "import": "What importing costs",
    "queue": "Callers in the queue",
    "listing": "A listing of many pages",
    "bulk": "Campaigns",
    "receive": "Callbacks",
}


def performance() -> str:
    """The tables and verdicts of the benchmarks, as they were last recorded."""
    kept = json.loads(_read(DOCS / "benchmarks.json"))
    lines = [
        "# Performance",
        "",
        "<!-- Written by `python -m tools.site` from benchmarks.json. -->",
        "",
        "The cap is the limit, not the client: 15 calls of up to 1000 recipients a second. Each section is what its",
        "command printed (extra `bench`; `--full` for the long form). The machines are shared: ratios tell more than",
        "times.",
    ]
    for name, title in MEASURED.items():
        if (measured := kept.get(name)) is not None:
            lines += ["", f"## {title}", "", *_measured(measured)]
    return "\n".join(lines) + "\n"


def _measured(measured: dict[str, Any]) -> Iterator[str]:
    yield f"`{measured['command']}`, {measured['date']}, Python {measured['python']}, {measured['cores']} cores."
    for table in measured["tables"]:
        yield from ("", table["title"].rstrip(".:") + ":", "")
        yield f"| {' | '.join(table['header'])} |"
        yield f"|---|{'---:|' * (len(table['header']) - 1)}"
        yield from (f"| {' | '.join(row)} |" for row in table["rows"])
    for note in measured["notes"]:
        yield from ("", note)
    if measured["goals"]:
        yield from ("", "| goal | measured | |", "|---|---|---|")
        for goal in measured["goals"]:
            yield f"| {goal['text']} | {goal['figure']} | {'met' if goal['met'] else '**missed**'} |"


# For language models ------------------------------------------------------------------------------------------------


def sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The site's navigation: each section with its pages, as (title, path)."""
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    alone: list[tuple[str, str]] = []
    for entry in nav:
        ((title, content),) = entry.items()
        if isinstance(content, str):
            alone.append((title, content))
        else:
            yield title, [next(iter(page.items())) for page in content]
    yield "Other pages", alone


def llms() -> str:
    """An index of the site for language models (llmstxt.org)."""
    lines = [SUMMARY]
    for title, pages in sections():
        lines += [f"## {title}", "", *(f"- [{name}]({path})" for name, path in pages), ""]
    return "\n".join(lines)


def llms_full(pages: dict[Path, str]) -> str:
    """The site's pages in one file, without the reference, which stands in the docstrings."""
    texts = [SUMMARY]
    for title, entries in sections():
        if title != "Reference":
            texts += [expanded(pages.get(DOCS / path) or _read(DOCS / path)) for _, path in entries]
    return "\n".join(texts)


def expanded(page: str) -> str:
    """`page` with the files that it includes."""

    def included(match: re.Match[str]) -> str:
        found = [folder / match[1] for folder in (DOCS, ROOT) if (folder / match[1]).is_file()]
        return _read(found[0]).rstrip("\n")

    return re.sub(r'^--8<-- "(.+)"$', included, page, flags=re.MULTILINE)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def main(arguments: Any = None) -> int:
    """Write what is generated; build the site, unless told to write only."""
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
    if "--generate" in (sys.argv[1:] if arguments is None else arguments):
        return 0
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(build, cwd=ROOT, check=False).returncode  # noqa: S603 - our own command


if __name__ == "__main__":
    raise SystemExit(main())
