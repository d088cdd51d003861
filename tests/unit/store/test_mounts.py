"""Files that are mounted by themselves, as a container may do with one: refused before they are written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmsclient import ConfigurationError, DeliveryStatus, LedgerUnavailableError, bulk
from mmsclient._store import mounts
from mmsclient._store.errors import JournalError, SuppressionListError
from mmsclient._store.heard import Reported
from mmsclient._store.models import Message
from mmsclient._store.mounts import is_mounted_alone
from mmsclient._store.sqlite_events import events_in_file
from mmsclient._store.sqlite_opening import open_journal, settle_journal
from mmsclient._store.sqlite_outbox import SQLiteOutbox
from mmsclient._store.sqlite_recorder import SQLiteRecorder
from mmsclient._store.sqlite_suppression import SQLiteSuppression
from mmsclient._store.suppression import Entry, Request
from tests.support.keyed import ledger

MESSAGE = Message("Hi", "Sale", b"GIF89a")


def write_outbox(path: Path) -> None:
    SQLiteOutbox(path).figures()


def write_suppression(path: Path) -> None:
    SQLiteSuppression(path).commit([Request(lambda tables: tables.add([Entry(1, "", 0.0)]))])


def write_journal(path: Path) -> None:
    open_journal(path, MESSAGE).close()


def record(path: Path) -> None:
    SQLiteRecorder.open(path).record([Reported("A", 0, DeliveryStatus.DELIVERED)])


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path at which a file would be mounted, as the system says."""
    path = tmp_path / "the spring.db"
    lines = [
        "22 27 0:21 / /proc rw,relatime - proc proc rw",
        f"23 27 8:1 /spring.db {str(path).replace(' ', chr(92) + '040')} rw - ext4 /dev/sda1 rw",
        "",
    ]
    listed = tmp_path / "mountinfo"
    listed.write_text("\n".join(lines))
    monkeypatch.setattr(mounts, "_MOUNTS", listed)
    return path


def test_a_file_that_is_mounted_is_told_from_others(
    mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(mounted)
    assert is_mounted_alone(mounted)
    assert is_mounted_alone(link)
    assert not is_mounted_alone(tmp_path)
    assert not is_mounted_alone(tmp_path / "mountinfo")
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "none")  # as on other systems
    assert not is_mounted_alone(tmp_path / "mountinfo")
    assert not is_mounted_alone(tmp_path / "nothing.db")


@pytest.mark.parametrize(
    ("make", "write", "error"),
    [
        (write_journal, write_journal, JournalError),
        (write_journal, record, JournalError),
        (write_journal, settle_journal, JournalError),
        (write_outbox, write_outbox, JournalError),
        (ledger, ledger, LedgerUnavailableError),
        (write_suppression, write_suppression, SuppressionListError),
        (events_in_file, events_in_file, ConfigurationError),
    ],
)
def test_what_is_mounted_alone_is_not_written(
    mounted: Path,
    tmp_path: Path,
    make: Callable[[Path], object],
    write: Callable[[Path], object],
    error: type[Exception],
) -> None:
    folder = tmp_path / "host"
    folder.mkdir()
    make(folder / "spring.db")
    shutil.copy(folder / "spring.db", mounted)
    before = mounted.read_bytes()
    with pytest.raises(error, match=r"the file itself is mounted, .*; mount the folder that it is in"):
        write(mounted)
    assert mounted.read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if name.endswith(("-lock", "-worker"))]


async def test_orders_to_a_campaign_whose_file_is_mounted_alone_are_refused(mounted: Path, tmp_path: Path) -> None:
    write_journal(tmp_path / "spring.db")
    shutil.copy(tmp_path / "spring.db", mounted)
    with pytest.raises(JournalError, match="the file itself is mounted"):
        await bulk.pause(mounted)
    assert (await bulk.read_report(mounted)).total == 0  # reading is allowed


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("unshare"), reason="no namespaces here")
def test_a_file_that_is_mounted(tmp_path: Path) -> None:
    """In a namespace of its own, where that may be made."""
    host, box = tmp_path / "host", tmp_path / "box"
    for folder in (host, box):
        folder.mkdir()
    write_journal(host / "spring.db")
    (box / "spring.db").touch()
    mount = ["unshare", "--mount", "--map-root-user"] if os.getuid() else ["unshare", "--mount"]
    script = 'mount --bind "$1" "$2" && exec "$3" -c "$4" "$2"'
    code = "import sys; from mmsclient._store.mounts import is_mounted_alone; print(is_mounted_alone(sys.argv[1]))"
    command = [*mount, "sh", "-c", script, "sh", str(host / "spring.db"), str(box / "spring.db"), sys.executable, code]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode and not done.stdout:
        pytest.skip(f"no mount can be made here: {done.stderr[-200:]}")
    assert done.stdout == "True\n"
    assert not is_mounted_alone(box / "spring.db")
