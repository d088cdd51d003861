"""The command that is told where a campaign has not come to everybody: a shell reads it as it was given."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmsclient.cli.bulk_output import SAME_AGAIN
from mmsclient.cli.words import quoted, words_of
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject
from tests.support.command import Cli, write_authority

SEND = ("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", "--batch-size", "1", "--journal")

WORDS = [
    "Two\nlines\r\nand a\ttab",
    "two  blanks, and one at the end ",
    'it\'s 100 % \\n "quoted" $HOME `id` !x\a',
    "no\u00a0break, zero\u200bwidth, \x1b[31mred, é 二 😀",
    "not UTF-8: \udcff",
    "x\n" * 2000,
    "",
]

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@pytest.fixture
def folder(folder: Path) -> Path:
    """With a list of three numbers."""
    (folder / "list.csv").write_text("\n".join(["mobile", *(f"04{n:08}" for n in range(3))]), encoding="utf-8")
    return folder


def read_by_a_shell(line: str) -> list[str]:
    """The arguments of `mmsclient` in a line that is pasted."""
    script = f'mmsclient() {{ printf "%s\\0" "$@"; }}\n{line}\n'
    shown = subprocess.run(["bash"], input=os.fsencode(script), capture_output=True, check=True)  # noqa: S607
    return os.fsdecode(shown.stdout).split("\0")[:-1]


def told(err: str) -> list[str]:
    """The arguments of the command to go on, which is the last line of stderr."""
    return read_by_a_shell(err.splitlines()[-1].split(": ", 2)[2])


@needs_bash
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_words_are_quoted_for_a_shell(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    stderr = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stderr", stderr)
    line = quoted(["mmsclient", *WORDS])
    monkeypatch.undo()
    assert line.isprintable()
    assert line.encode(encoding).decode(encoding) == line
    if encoding != "latin-1":  # which is what the shell would have to speak
        assert read_by_a_shell(line) == WORDS


def test_a_value_that_looks_like_an_option_is_none() -> None:
    assert words_of({"--text": "-50 %", "--rate": 2.5}) == ["--text=-50 %", "--rate", "2.5"]


@needs_bash
@pytest.mark.parametrize("text", [*WORDS[:4], "-50 % today", "x \n" * 300])
def test_a_campaign_goes_on_with_the_same_text_and_files(cli: Cli, api: Sandbox, text: str) -> None:
    api.faults.add(Reject("LEDGER_ERROR", "No credit."), call="send-mms", skip=1)
    journal = "./-a \n  \x1b é.db"
    options = [f"--fallback-text={text}"] if text.startswith("-") else ["--fallback-text", text]
    options = ["--fallback", "sms", *options, "--fallback-wait", "0"]
    stopped = cli(*SEND, journal, *options)
    assert (stopped.status, len(api.messages)) == (5, 1)
    words = told(stopped.err)
    assert words == ["bulk", "resume", journal, *options, "--batch-size", "1"]
    api.faults.clear()
    assert (cli(*words).status, len(api.messages)) == (0, 3)


def write_another_list(folder: Path) -> tuple[str, ...]:
    """The command that sends to it, and leaves the third of the first list out."""
    (folder / "list.csv").write_text("\n".join(["mobile", *(f"04{n:08}" for n in range(4))]), encoding="utf-8")
    (folder / "new.csv").write_text("mobile\n0400000002\n", encoding="utf-8")
    return (*SEND, "spring.db", "--exclude", "new.csv")


@pytest.mark.parametrize("before", [1, 2, 3], ids="{} were sent to".format)
@pytest.mark.parametrize("fails", ["preflight", "opt-outs"])
def test_a_run_that_has_not_begun_goes_on_with_its_own_list_and_exclusions(
    cli: Cli, api: Sandbox, folder: Path, before: int, fails: str
) -> None:
    assert cli(*SEND, "spring.db", "--max-credits", str(before)).status == (0 if before == 3 else 5)
    again = write_another_list(folder)
    call, options = ("account", ()) if fails == "preflight" else ("get-optout", ("--exclude-opt-outs", "--yes"))
    api.faults.add(Reject("AUTH_FAILED", "No such key."), call=call)
    failed = cli(*again, *options)
    assert (failed.status, len(api.messages)) == (5, before)
    assert failed.err.splitlines()[-1] == f"mmsclient: to go on: {SAME_AGAIN}"
    assert "Nothing is left" not in failed.out
    api.faults.clear()
    assert cli(*again, *options).status == 0
    assert [api.carried_out(f"+614{n:08}") for n in range(4)] == [1, 1, int(before == 3), 1]


def test_exclusions_that_cannot_be_read_leave_no_new_journal(cli: Cli, folder: Path) -> None:
    (folder / "new.csv").write_text("mobile\nhello\n", encoding="utf-8")
    failed = cli(*SEND, "spring.db", "--exclude", "new.csv", "--yes")
    assert (failed.status, failed.error[:16]) == (2, "exclude, line 2:")
    assert not (folder / "spring.db").exists()


@needs_bash
def test_a_file_that_looks_like_an_option_is_none(cli: Cli, api: Sandbox) -> None:
    Path("list.csv").rename("-list.csv")
    send = ("bulk", "send", *SEND[3:-1], "--max-credits", "1", "--journal=-j.db", "--", "-list.csv")
    stopped = cli(*send)
    assert (stopped.status, len(api.messages)) == (5, 1)
    words = told(stopped.err)
    assert words[:3] == ["bulk", "resume", "./-j.db"]
    assert cli(*(word.replace("CREDITS", "9") for word in words)).status == 0
    assert len(api.messages) == 3


@needs_bash
def test_a_campaign_goes_on_at_the_same_place(cli: Cli, mms_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMSCLIENT_APP_KEY")
    monkeypatch.delenv("MMSCLIENT_BASE_URL")
    write_authority(mms_sandbox, Path("its ca.pem"))
    Path("-key").write_text(mms_sandbox.app_key)
    mms_sandbox.faults.add(Reject("LEDGER_ERROR", "No credit."), call="send-mms", skip=1)
    place = ("--base-url", mms_sandbox.url, "--app-key-file", "./-key", "--ca-file", "its ca.pem", "--timeout", "20")
    stopped = cli(*SEND, "spring.db", *place)
    assert stopped.status == 5
    assert mms_sandbox.app_key not in stopped.err
    words = told(stopped.err)
    mms_sandbox.faults.clear()
    assert cli(*words).status == 0
    assert len(mms_sandbox.messages) == 3
