"""How the command ends: each exit status by the real command, and campaigns that drain on every way out."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mmsclient.bulk import Sending, read_report
from mmsclient.cli import main, stdio
from mmsclient.cli.bulk_output import SAME_AGAIN
from mmsclient.cli.sending import Printing
from mmsclient.cli.status import Status
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import CutConnection, Fault, Latency, Reject, Reset
from tests.support.command import COMMAND
from tests.support.held import Held
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such signals there")

SEND = ("bulk", "send", "list.csv", "--text", "Hi", "--image", "sale.png", "--journal", "spring.db")
SLOW = (*SEND, "--yes", "--batch-size", "10")
GO_ON = "mmsclient: to go on: mmsclient bulk resume spring.db"
HINT = f"{GO_ON} --batch-size 10\n"
"""Of `SLOW`."""
STOPPING = "mmsclient: stopping: waiting for the calls under way; once more ends it at once\n"


@pytest.fixture
def api() -> Iterator[Sandbox]:
    with Sandbox(rate=None) as api:
        yield api


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """With a list of 250 numbers."""
    write_list(250)
    return folder


def write_list(count: int, ending: str = "0000") -> None:
    numbers = [f"+61{n:05}{ending}" for n in range(40000, 40000 + count)]
    Path("list.csv").write_text("\n".join(["mobile", *numbers]), encoding="utf-8")


@contextmanager
def running(*arguments: str, first: str = "", **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process of its own that is killed at the end if need be. `first`: what a shell does before."""
    command = ["/bin/sh", "-c", f'{first}; exec "$@"', "sh", *COMMAND] if first else COMMAND
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen([*command, *arguments], text=True, encoding="utf-8", **streams) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.kill()


def ran(*arguments: str, **options: Any) -> tuple[int, str, str]:
    """Status, stdout and stderr of the command."""
    with running(*arguments, **options) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def counts() -> dict[str, int]:
    found = asyncio.run(read_report("spring.db")).counts
    return {str(state): count for state, count in found.items() if count}


def has_drained(api: Sandbox) -> bool:
    """The journal holds what was sent as accepted and the rest as pending. Then a resume sends the rest, none twice."""
    accepted = len(api.messages)
    assert counts() == {"accepted": accepted, "pending": 3000 - accepted}
    api.faults.clear()
    assert main(("bulk", "resume", "spring.db", "--yes")) == Status.DONE
    assert len(api.messages) == len({message.to for message in api.messages}) == 3000
    return 0 < accepted < 3000


@pytest.fixture
def slow(api: Sandbox) -> None:
    """A campaign of 300 calls of 0.2 s each."""
    write_list(3000)
    api.faults.add(Latency(0.2, carried_out=True), call="send-mms")


# The table ------------------------------------------------------------------------------------------------------------


def done(api: Sandbox) -> tuple[int, str, str]:
    return ran(*SEND, "--yes")


def failed(api: Sandbox) -> tuple[int, str, str]:
    api.faults.add(Reject("LEDGER_ERROR", "No credit"), call="send-mms")
    return ran(*SEND, "--yes")


def wrong_usage(api: Sandbox) -> tuple[int, str, str]:
    return ran(*SEND, "--yes", "--column", "phone")


def partly_accepted(api: Sandbox) -> tuple[int, str, str]:
    with Path("list.csv").open("a") as file:
        file.write("\n+61400009901\n")
    return ran(*SEND, "--yes")


def outcome_unknown(api: Sandbox) -> tuple[int, str, str]:
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    return ran(*SLOW)


def stopped(api: Sandbox) -> tuple[int, str, str]:
    api.faults.add(Reject("LEDGER_ERROR", "No credit"), call="send-mms", skip=6)
    return ran(*SLOW)


def signalled(number: int) -> Callable[[Sandbox], tuple[int, str, str]]:
    def run(api: Sandbox) -> tuple[int, str, str]:
        write_list(3000)
        api.faults.add(Latency(0.1, carried_out=True), call="send-mms")
        with running(*SLOW) as process:
            until(lambda: len(api.sends) > 3)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return run


def output_lost(api: Sandbox) -> tuple[int, str, str]:
    with open("/dev/full", "w") as full:
        return ran(*SEND, "--yes", stdout=full)


WAYS = {
    Status.DONE: done,
    Status.FAILED: failed,
    Status.WRONG_USAGE: wrong_usage,
    Status.PARTLY_ACCEPTED: partly_accepted,
    Status.OUTCOME_UNKNOWN: outcome_unknown,
    Status.STOPPED: stopped,
    Status.HANGUP: signalled(signal.SIGHUP),
    Status.INTERRUPTED: signalled(signal.SIGINT),
    Status.TERMINATED: signalled(signal.SIGTERM),
    Status.OUTPUT_LOST: output_lost,
}


@pytest.mark.parametrize("status", Status)
def test_each_exit_status(api: Sandbox, status: Status) -> None:
    ended, _, err = WAYS[status](api)
    assert ended == status
    assert (GO_ON in err) == (status in (1, 5, 129, 130, 143))
    if status is not Status.WRONG_USAGE:
        assert bool(counts().get("pending")) == (GO_ON in err)
    if status in (Status.FAILED, Status.WRONG_USAGE):
        assert not api.sends


def test_the_help_holds_the_table() -> None:
    words = " ".join(ran("bulk", "--help")[1].split())
    assert f"Exit status: {Status.in_words()}.".replace("`", "") in words
    for status in Status:
        assert status.meaning


def test_a_campaign_that_is_done_when_the_signal_comes_was_not_ended_by_it(api: Sandbox) -> None:
    api.faults.add(held := Held(), call="send-mms")
    with running(*SEND, "--yes") as process:
        until(lambda: api.sends)
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        assert process.stderr.readline() == STOPPING
        held.answer.set()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "Accepted: 250" in out


def test_a_busy_journal_is_no_unknown_outcome(api: Sandbox) -> None:
    api.faults.add(Latency(3600.0, carried_out=True), call="send-mms")
    with running(*SEND, "--yes"):
        until(lambda: api.sends)
        status, out, err = ran(*SEND, "--yes")
    assert (status, out) == (Status.FAILED, "")
    assert "a campaign is being sent with it" in err
    assert len(api.messages) == 250


def test_a_signal_before_anything_was_sent(api: Sandbox, tmp_path: Path) -> None:
    """The list is read, and its end is not in sight: opt-outs are asked for first."""
    api.faults.add(held := Held(), call="get-optout")
    with running(*SLOW, "--exclude-opt-outs") as process:
        until(lambda: api.arrivals)
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        assert process.stderr.readline() == STOPPING
        held.answer.set()
        _, err = process.communicate(timeout=60)
    assert process.returncode == Status.TERMINATED
    assert err == f"mmsclient: to go on: {SAME_AGAIN}\n"
    assert ran(*SLOW, "--exclude-opt-outs")[0] == Status.DONE
    assert len(api.messages) == 250


def test_a_journal_that_vanished_after_calls_were_made_is_no_failure_without_a_send(api: Sandbox) -> None:
    write_list(3000)
    api.faults.add(Latency(0.1, carried_out=True), call="send-mms")
    with running(*SLOW) as process:
        until(lambda: len(api.sends) > 3)
        os.rename("spring.db", "away.db")
        _, err = process.communicate(timeout=60)
    assert process.returncode == Status.OUTCOME_UNKNOWN
    assert "removed or replaced" in err


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no /proc here")
def test_an_input_that_cannot_be_read_is_no_lost_output(api: Sandbox) -> None:
    status, out, err = ran("bulk", "send", "/proc/self/mem", *SEND[3:], "--yes")
    assert (status, out) == (Status.WRONG_USAGE, "")
    assert "Input/output error" in err
    assert not api.sends


# Every way out --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_drains(api: Sandbox, slow: None, number: signal.Signals) -> None:
    with running(*SLOW) as process:
        until(lambda: len(api.sends) > 3)
        process.send_signal(number)
        process.send_signal(number)  # as `timeout` and shells do
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err == STOPPING + HINT
    assert f"Accepted: {len(api.messages)}" in out
    assert has_drained(api)


def test_a_reader_that_leaves_drains(api: Sandbox, slow: None) -> None:
    with running(*SLOW) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (Status.STOPPED, HINT)
    assert has_drained(api)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_drains(api: Sandbox, slow: None, monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        status, _, err = ran(*SLOW, stdout=full)
    assert (status, err) == (
        Status.STOPPED,
        HINT + "mmsclient: the output could not be written: No space left on device\n",
    )
    assert has_drained(api)


def test_each_line_is_written_at_once(api: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # which keeps the writes apart
    with ours, theirs:
        with running("sms", "parts", "Hi", stdout=theirs, stderr=theirs) as process:
            assert process.wait(timeout=60) == 0
        with running("bulk", "status", "nowhere.db", stdout=theirs, stderr=theirs) as process:
            assert process.wait(timeout=60) == Status.FAILED
        writes = [ours.recv(65536), ours.recv(65536)]
    assert writes[0].startswith(b"Alphabet: ")
    assert writes[0].endswith(b" for each recipient\n")
    assert writes[1] == b"mmsclient: journal nowhere.db: there is no such file\n"


def test_a_terminal_that_is_hung_up_drains(api: Sandbox, slow: None) -> None:
    ours, theirs = pty.openpty()
    with running(*SLOW, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        until(lambda: len(api.sends) > 3)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == Status.HANGUP
    assert has_drained(api)


def test_a_hangup_that_is_ignored_stays_so(api: Sandbox) -> None:
    api.faults.add(Latency(0.1, carried_out=True), call="send-mms")
    with running(*SLOW, first="trap '' HUP") as process:
        until(lambda: len(api.sends) > 3)
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (Status.DONE, "")


def test_a_later_signal_ends_it_at_once(api: Sandbox) -> None:
    api.faults.add(Latency(60, carried_out=True), call="send-mms")
    with running(*SLOW) as process:
        until(lambda: api.sends)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert process.stderr.readline() == STOPPING
        end = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < end:
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        err = process.stderr.read()
    assert process.returncode == -signal.SIGINT
    assert err == f"mmsclient: ended at once: what is under way becomes unknown; {HINT.removeprefix('mmsclient: ')}"
    assert counts() == {"pending": 240, "sending": 10}


ONE = ("--to", "+61400000000", "--text", "Hi", "--json")
ONE_STOPPING = "mmsclient: stopping: waiting for the answer if it has left; once more ends it at once, sent or not\n"
COMMANDS = [("send", "--image", "sale.png"), ("sms", "send"), ("sms", "send", "--key", "order-17", "--ledger", "l.db")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_during_one_send_waits_for_its_answer_and_prints_it(
    api: Sandbox, command: tuple[str, ...], number: signal.Signals
) -> None:
    api.faults.add(held := Held())
    with running(*command, *ONE) as process:
        until(lambda: api.sends or api.sms.sends)
        process.send_signal(number)
        assert process.stderr
        assert process.stderr.readline() == ONE_STOPPING
        held.answer.set()
        out, err = process.communicate(timeout=60)
    (message,) = json.loads(out)["messages"]
    assert message["to"] == "+61400000000"
    assert (process.returncode, err) == (Status.DONE, "")


@pytest.mark.parametrize(
    ("fault", "status"), [(Reject("FIELD_INVALID"), Status.FAILED), (CutConnection(), Status.OUTCOME_UNKNOWN)]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_during_one_send_leaves_it_the_status_of_its_end(
    api: Sandbox, command: tuple[str, ...], fault: Fault, status: Status
) -> None:
    api.faults.add(held := Held())
    api.faults.add(fault)
    with running(*command, *ONE) as process:
        until(lambda: api.arrivals)
        until(lambda: isinstance(fault, Reject) or api.sends or api.sms.sends)
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        assert process.stderr.readline() == ONE_STOPPING
        held.answer.set()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    assert err.startswith("mmsclient: send-")
    assert "nothing was sent" not in err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_before_one_send_has_left_ends_it_and_says_that_nothing_was_sent(
    api: Sandbox, command: tuple[str, ...]
) -> None:
    api.faults.add(Reject("OVER_LIMIT"))
    with running(*command, *ONE) as process:
        until(lambda: any(each.status for each in api.arrivals))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (
        Status.TERMINATED,
        "",
        f"{ONE_STOPPING}mmsclient: nothing was sent\n",
    )
    assert not api.sends
    assert not api.sms.sends


def test_a_signal_while_the_delivery_is_waited_for_leaves_it_the_status_of_the_send(api: Sandbox) -> None:
    api.faults.add(Reject("OVER_LIMIT"), call="get-sms")
    with running("send", "--image", "sale.png", *ONE, "--wait") as process:
        assert process.stdout
        sent = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert sent["accepted"] == 1
    assert (process.returncode, out, err) == (Status.DONE, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_later_signal_during_one_send_ends_it_at_once(api: Sandbox, number: signal.Signals) -> None:
    api.faults.add(Held(), call="send-sms")
    with running("sms", "send", "--to", "+61400000000", "--text", "Hi") as process:
        until(lambda: api.sms.sends)

        def has_ended() -> bool:
            process.send_signal(number)  # what comes within a second is the same signal
            return process.poll() is not None

        until(has_ended)
        assert process.returncode == -number
        assert process.stderr
        assert "ended at once: if it had left, nobody knows" in process.stderr.readlines()[-1]


def test_a_later_signal_ends_it_though_nobody_reads_its_stderr(api: Sandbox) -> None:
    api.faults.add(Latency(60, carried_out=True), call="send-mms")
    reading, writing = full_pipe()
    with running(*SLOW, stderr=writing) as process:
        os.close(writing)
        until(lambda: api.sends)

        def has_ended() -> bool:
            process.send_signal(signal.SIGTERM)  # what comes within a second is the same signal
            return process.poll() is not None

        until(has_ended)
    os.close(reading)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_though_nobody_reads_its_stderr(api: Sandbox, slow: None, number: signal.Signals) -> None:
    """A pipe that is full: what is said there waits, and the campaign does not."""
    reading, writing = full_pipe()
    with running(*SLOW, stderr=writing) as process:
        os.close(writing)
        until(lambda: len(api.sends) > 3)
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
    os.close(reading)
    assert has_drained(api)


def test_a_signal_stops_it_though_its_stderr_is_closed(api: Sandbox, slow: None) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with running(*SLOW, stderr=writing) as process:
        os.close(writing)
        until(lambda: len(api.sends) > 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == Status.TERMINATED
    assert has_drained(api)


def test_warnings_that_nobody_reads_do_not_hold_it_up(api: Sandbox) -> None:
    write_list(250, ending="9901")
    with Path("list.csv").open("a") as file:
        file.writelines(f"\n+61{n:09}" for n in range(450000000, 450000250))
    reading, writing = full_pipe()
    with running(*SEND, "--yes", "--batch-size", "300", stderr=writing) as process:
        os.close(writing)
        until(lambda: len(api.messages) == 250)
        until(lambda: counts() == {"accepted": 250, "refused": 250})
        assert process.poll() is None  # it has something to say yet
        with os.fdopen(reading) as unread:
            drained = unread.read()
    assert drained.count("recipients accepted; the API refused the others") == 1


def test_a_signal_stops_it_though_nobody_reads_its_output(api: Sandbox, slow: None) -> None:
    reading, writing = full_pipe()
    with running(*SLOW, stdout=writing) as process:
        os.close(writing)
        until(lambda: len(api.sends) > 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == Status.TERMINATED
        assert process.stderr
        assert process.stderr.read() == STOPPING + HINT
    os.close(reading)
    assert has_drained(api)


async def test_after_a_signal_nothing_that_waits_to_be_printed_holds_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result of a call, and a look at how far the campaign is, which comes while that waits for the reader."""
    monkeypatch.setattr(stdio, "STDOUT", stdio.Outlet())
    monkeypatch.setattr(stdio, "GRACE", 0.1)
    is_read, printing = threading.Event(), Printing()
    both = [asyncio.create_task(printing.do(is_read.wait)) for _ in range(2)]
    try:
        await asyncio.sleep(0)  # both have begun
        printing.hurry()
        assert await asyncio.wait_for(asyncio.gather(*both), 60) == [False, False]
    finally:
        is_read.set()


@contextmanager
def reading_a_silent_pipe(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command with a list that comes from a pipe and does not end; it waits for more."""
    arguments = tuple("/dev/stdin" if each == "list.csv" else each for each in arguments)
    with running(*arguments, stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write("mobile\n" + "".join(f"+614{n:08}\n" for n in range(20_000)))  # no multiple of a piece
        process.stdin.flush()
        until(lambda: not waiting_in(process.stdin))
        yield process


def waiting_in(pipe: Any) -> int:
    """Bytes that nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_its_list_comes_from_a_silent_pipe(api: Sandbox, number: signal.Signals) -> None:
    with reading_a_silent_pipe(*SLOW) as process:
        until(lambda: len(api.sends) > 3)
        process.send_signal(number)
        assert process.wait(timeout=60) == Status.of_signal(number)
        assert process.stderr
        assert process.stderr.read() == STOPPING + HINT.replace("spring.db", "spring.db /dev/stdin")
    found = counts()
    assert found["accepted"] == len(api.messages)
    assert found.keys() == {"accepted", "pending"}


def test_ctrl_c_ends_the_check_of_a_list_that_comes_from_a_silent_pipe(api: Sandbox) -> None:
    """Without --yes the whole list is read before anything is asked or sent."""
    with reading_a_silent_pipe(*SEND) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == Status.INTERRUPTED
    assert not api.sends


def full_pipe() -> tuple[int, int]:
    """A pipe that takes no more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for size in (65536, 1):
        try:
            while True:
                os.write(writing, b"\n" * size)
        except BlockingIOError:
            pass
    os.set_blocking(writing, True)
    return reading, writing


# In a program of one's own --------------------------------------------------------------------------------------------


def test_a_program_of_ones_own_drains_at_sigterm(api: Sandbox, slow: None) -> None:
    """The example in the docstring, as it stands there."""
    assert Sending.stop.__doc__
    _, example, _ = Sending.stop.__doc__.split("```")
    code = f"""
import asyncio
import signal
from mmsclient import AsyncMMSClient
from mmsclient.bulk import read_csv

async def main():
    async with AsyncMMSClient({api.app_key!r}, base_url={api.url!r}) as mms:
        campaign = mms.campaign(text="Hi", image="sale.png", journal="spring.db", batch_size=10)
{textwrap.indent(textwrap.dedent(example.removeprefix("python")), " " * 8)}

asyncio.run(main())
"""
    with subprocess.Popen([*COMMAND[:-2], "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603
        until(lambda: len(api.sends) > 3)
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert f"{len(api.messages)} accepted".encode() in out.splitlines()[-1]
    assert has_drained(api)
