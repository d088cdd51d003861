"""A campaign on real terminals: what is shown while it is sent, on narrow and poor ones, and at Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from mmsclient.bulk import Batch, Progress, RecipientState, read_report
from mmsclient.bulk.models import Counts
from mmsclient.cli.screens import FREE_LINES, Screen
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reject
from tests.conftest import Clock
from tests.support.command import started
from tests.support.held import Held
from tests.support.terminal import on_a_terminal
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such terminals there")

SEND = ("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", "--journal", "spring.db", "--yes")
TENS = (*SEND, "--batch-size", "10", "--timeout", "600")  # a held call is not given up
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-8][0-9;]*m")
HIDDEN_CURSOR = "\x1b[?25l"


@pytest.fixture
def api() -> Iterator[Sandbox]:
    with Sandbox(rate=None) as api:
        yield api


@pytest.fixture(autouse=True)
def folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a list of 30 numbers, the tenth of which is refused."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    numbers = [f"+61{n:05}0000" for n in range(40000, 40030)]
    numbers[9] = "+61400009901"
    (folder / "list.csv").write_text("\n".join(["mobile", *numbers]), encoding="utf-8")
    return folder


@pytest.fixture
def held(api: Sandbox) -> Held:
    """The first call is answered, and the others when the test says so."""
    api.faults.add(held := Held(), call="send-mms", skip=1)
    return held


def test_the_figures_of_a_campaign(api: Sandbox) -> None:
    api.faults.add(Reject("OVER_LIMIT"), call="send-mms", times=1)
    api.faults.add(held := Held(), call="send-mms", skip=2)
    with on_a_terminal(*TENS, "--max-credits", "50", columns=100) as (process, wait_for, _):
        shown = wait_for("10 of 30, 33%")
        held.answer.set()
        shown = wait_for("Sent ")
        assert process.wait(timeout=60) == 3
    assert "█" in shown
    assert "░" in shown
    for line in (
        r"Recipients +9 accepted, 1 refused, 0 unknown",
        r"Rate +[0-9.]+ of [0-9.]+ calls/s",
        r"Throttled +1 call\b",
        r"Credits used +9, [0-9]+ left to spend",
        r"Call 2 +9 of 10 accepted; refused: \*\*\*901",
        r"30 of 30, 100%",
        r"Recipients +29 accepted, 1 refused, 0 unknown",
        r"Accepted +29",
    ):
        assert re.search(line, shown), line
    assert "+61" not in shown


@contextmanager
def shown_at(held: Held, text: str, columns: int = 100, **variables: str) -> Iterator[str]:
    """All that a campaign shows that has come to `text` and is let go on."""
    with on_a_terminal(*TENS, columns=columns, rows=40, **variables) as (process, wait_for, _):
        wait_for(text)
        held.answer.set()
        wait_for("Sent")
        assert process.wait(timeout=60) == 3
        yield wait_for("")


def test_without_colours(held: Held) -> None:
    with shown_at(held, "33%", NO_COLOR="1") as shown:
        assert not COLOUR.search(shown)
        assert "██" in shown


def test_with_colours(held: Held) -> None:
    with shown_at(held, "33%") as shown:
        assert COLOUR.search(shown)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_utf_8(api: Sandbox, held: Held, encoding: str) -> None:
    api.faults.add(Reject("RECIPIENTS_ERROR", "Zu groß …"), call="send-mms", times=1)
    with on_a_terminal(*TENS, columns=100, PYTHONIOENCODING=encoding) as (process, wait_for, _):
        wait_for("33%")
        held.answer.set()
        shown = wait_for("Sent ")
        assert process.wait(timeout=60) == 3
    assert "#" in shown
    assert "Zu gro\\xdf \\u2026" in shown
    assert shown.isascii()


@pytest.mark.parametrize("columns", [20, 45])
def test_a_narrow_terminal(held: Held, columns: int) -> None:
    with shown_at(held, "33%", columns=columns) as shown:
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        lines = [line for line in re.split(r"[\r\n]+", plain) if not line.startswith("mmsclient: ")]
        assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("terminal", ["dumb", "unknown"])
def test_a_terminal_that_cannot_go_back_shows_lines(terminal: str, held: Held) -> None:
    with shown_at(held, "call 1: 9 of 10", TERM=terminal) as shown:
        assert "call 3: 10 of 10 accepted" in shown
        assert "█" not in shown
        assert "\x1b[1A" not in shown


def test_hours_that_are_waited_for_are_shown() -> None:
    later = ("--window", "09:00-20:00", "--zone", "Australia/Sydney", "--start-at", "2099-01-03T21:00")
    with on_a_terminal(*TENS, *later, columns=100) as (process, wait_for, terminal):
        wait_for("Goes on at")
        wait_for("0 of 30, 0%")
        shown = wait_for("2099-01-04 09:00:00 +1100\r\n")
        os.write(terminal, b"\x03")
        assert process.wait(timeout=60) == 130
    assert "mmsclient: waiting for its hours: it goes on at Sun 2099-01-04 09:00:00 +1100" in shown


# The size of a terminal that changes ----------------------------------------------------------------------------------


class Tmux:
    """A terminal that breaks its lines anew when its width changes, as most do."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")

    def __call__(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8", timeout=60).stdout  # noqa: S603

    def screen(self) -> list[str]:
        return self("capture-pane", "-p", "-t", "0").splitlines()

    def shows_figures_once(self, columns: int) -> bool:
        """The bar and the figures are there, each once."""
        screen = self.screen()
        text = " ".join(" ".join(screen).split())
        bars = [line for line in screen if "░" in line]
        names = ("Recipients", "Rate", "Throttled", "10 of 30, 33%")
        return len(bars) == 1 and len(bars[0]) <= columns and all(text.count(name) == 1 for name in names)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.parametrize("sizes", [[(40, 24)], [(20, 30)], [(33, 24), (90, 24)], [(60, 10), (25, 40), (120, 20)]])
def test_a_terminal_whose_size_changes(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[tuple[int, int]]
) -> None:
    """Nothing of what was shown before is left on it, and all of it is shown anew."""
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    tmux = Tmux(tmp_path)
    tmux("new-session", "-d", "-x", "100", "-y", "24", sys.executable, "-m", "mmsclient", *TENS)
    try:
        until(lambda: any("10 of 30, 33%" in line for line in tmux.screen()))
        for columns, rows in sizes:
            tmux("resize-window", "-t", "0", "-x", str(columns), "-y", str(rows))
            until(partial(tmux.shows_figures_once, columns))
        held.answer.set()
    finally:
        held.answer.set()
        tmux("kill-server")


# Ctrl-C ---------------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_what_is_under_way_and_says_so_once(api: Sandbox, held: Held) -> None:
    with on_a_terminal(*TENS, "--max-concurrency", "1", columns=100) as (process, wait_for, terminal):
        wait_for("33%")
        until(lambda: len(api.sends) > 1)
        os.write(terminal, b"\x03")
        wait_for("stopping: waiting for the calls under way; once more ends it at once\r\n")
        held.answer.set()
        wait_for("Sent ")
        shown = wait_for("mmsclient: to go on: mmsclient bulk resume spring.db")
        assert process.wait(timeout=60) == 130
        assert HIDDEN_CURSOR not in wait_for("")
    assert shown.count("stopping") == 1
    assert "Traceback" not in shown


def test_ctrl_c_twice_ends_it_at_once_and_leaves_the_terminal_as_it_was(api: Sandbox, held: Held) -> None:
    with on_a_terminal(*TENS, columns=120) as (process, wait_for, terminal):
        wait_for("33%")
        until(lambda: len(api.sends) > 1)
        attributes = termios.tcgetattr(terminal)
        attributes[3] |= termios.NOFLSH  # else each Ctrl-C takes back what is printed and not read yet
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)
        os.write(terminal, b"\x03")
        wait_for("stopping")

        def has_ended() -> bool:
            with suppress(OSError):  # it has ended
                os.write(terminal, b"\x03")  # what comes within a second is the same Ctrl-C
            return process.poll() is not None

        until(has_ended)
        assert process.returncode == -signal.SIGINT
        shown = wait_for("ended at once: what is under way becomes unknown; to go on: mmsclient bulk resume spring.db")
        assert shown.count("ended at once") == 1
        assert HIDDEN_CURSOR not in wait_for("")
        assert "Traceback" not in wait_for("33%")
    counts = asyncio.run(read_report("spring.db")).counts
    assert counts[RecipientState.SENDING] > 0  # which is unknown when it is resumed
    assert sum(counts.values()) == 30


def press_ctrl_c(process: subprocess.Popen[bytes], terminal: int) -> None:
    """Until the process ends: it may fall between the question and the read, where a person's does not."""
    while process.poll() is None:
        os.write(terminal, b"\x03")
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)


def test_ctrl_c_at_the_question_says_that_nothing_was_sent(api: Sandbox) -> None:
    numbers = [f"+61{n:09}" for n in range(400000000, 400000101)]
    Path("list.csv").write_text("\n".join(["mobile", *numbers]), encoding="utf-8")
    options = [each for each in TENS if each != "--yes"]
    with on_a_terminal(*options, columns=100) as (process, wait_for, terminal):
        wait_for("[y/N] ")
        press_ctrl_c(process, terminal)
        shown = wait_for("mmsclient: nothing was sent\r\n")
        assert process.returncode == 130
    assert "Traceback" not in shown
    assert not api.messages


def test_ctrl_c_at_the_question_after_a_test_says_how_to_go_on(api: Sandbox) -> None:
    options = [each for each in TENS if each != "--yes"]
    with on_a_terminal(*options, "--test", "+61411111111", columns=100) as (process, wait_for, terminal):
        wait_for("[y/N] ")
        press_ctrl_c(process, terminal)
        shown = wait_for("to go on all the same: mmsclient bulk resume")
        assert process.returncode == 130
    assert "Traceback" not in shown
    assert len(api.messages) == 1


# In a pipe ------------------------------------------------------------------------------------------------------------


def batch(number: int, accepted: int = 10) -> Batch:
    counts = Counts(dict.fromkeys(RecipientState, 0))
    progress = Progress(
        counts=counts,
        list_read=True,
        calls=number,
        calls_per_second=14.9,
        credits_used=Decimal(number),
        seconds_left=None,
        throttled=2,
        concurrency=3,
    )
    refused = tuple(f"+6140000{n:04}" for n in range(10 - accepted))
    recipients = ("+61400000000",) * 10
    return Batch(
        number=number,
        recipients=recipients,
        accepted=accepted,
        refused=refused,
        error=None,
        sent=None,
        progress=progress,
    )


def test_a_long_campaign_prints_few_lines_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    screen = Screen(clock)
    hour = 3600 * 15
    for number in range(1, hour + 1):
        screen.show(batch(number, accepted=5 if number == hour - 1 else 10))
        clock.now += 1 / 15
    screen.stop()
    lines = capsys.readouterr().out.splitlines()
    assert FREE_LINES < len(lines) < 200
    assert lines[0] == "call 1: 10 of 10 accepted; 14.9 calls/s, 2 throttled, 1 credit"
    assert re.fullmatch(
        rf"call {hour}: 10 of 10 accepted; .*; [0-9]+ calls before it, 1 of them not accepted in full", lines[-1]
    )


def test_a_line_names_a_few_refused_numbers_by_their_ends(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().show(batch(1, accepted=2))
    assert "call 1: 2 of 10 accepted; refused: ***000, ***001, ***002, ...;" in capsys.readouterr().out


# Watching -------------------------------------------------------------------------------------------------------------


def test_a_campaign_that_another_process_sends(api: Sandbox, held: Held) -> None:
    watch = ("bulk", "status", "spring.db", "--watch", "--interval", "0.1")
    with started(*TENS) as sender:
        until(lambda: len(api.sends) > 1)
        with on_a_terminal(*watch, columns=100) as (process, wait_for, _):
            shown = wait_for("33%")
            wait_for("Throttled")
            held.answer.set()
            assert sender.wait(timeout=60) == 3
            assert process.wait(timeout=60) == 0
            shown = wait_for("30 of 30, 100%")
    assert re.search(r"Call 1 +9 of 10 accepted", shown)
    assert "░" in shown


def test_a_reader_that_leaves_ends_the_watch(api: Sandbox, held: Held) -> None:
    watch = ("bulk", "status", "spring.db", "--watch", "--json", "--interval", "0.05")
    with started(*TENS):
        until(lambda: len(api.sends) > 1)
        with started(*watch) as process:
            assert process.stdout
            assert process.stderr
            assert json.loads(process.stdout.readline())["throttled"] == 0
            process.stdout.close()
            assert process.wait(timeout=60) == 141
            assert process.stderr.read() == ""
