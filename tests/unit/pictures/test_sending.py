"""Pictures that are made to fit on their way out: by a client, with a key, by a campaign, and by the command."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mmsclient import AsyncMMSClient, InvalidRequestError, KeyReusedError
from mmsclient.bulk import JournalMismatchError, RecipientState, resume
from mmsclient.cli.status import Status
from mmsclient.pictures import FITS_ANY_TEXT, fit, fitting
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import Reset
from tests.support.command import Cli, in_this_process
from tests.support.pictures import encoded, from_a_phone, metadata_of, opened, photograph

ONE, TWO = "+61400000000", "+61400000001"
PHOTO = encoded(photograph(1500, 1000), "JPEG", quality=92, comment=b"SECRET")
FITTED = fit(PHOTO)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def images(api: Sandbox) -> list[str]:
    return [send.image_sha256 for send in api.sends]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "IMG_2041.JPG"
    path.write_bytes(PHOTO)
    return path


@pytest.fixture
async def mms(api: Sandbox, tmp_path: Path) -> AsyncIterator[AsyncMMSClient]:
    async with api.client(rate=None, ledger=tmp_path / "sends.db") as mms:
        yield mms


async def test_a_photograph_that_is_too_large_is_sent(api: Sandbox, mms: AsyncMMSClient, photo: Path) -> None:
    assert len(PHOTO) > 380_000
    with pytest.raises(InvalidRequestError, match=r"fit=True \(--fit; extra `images`\)"):
        await mms.send(to=ONE, text="Look", image=photo)
    text = "\U0001f600" * 999 + "!"  # as many bytes as a text can have
    await mms.send(to=ONE, text=text, image=photo, fit=True)
    assert images(api) == [sha256(FITTED.data)]
    assert api.sends[0].image_size == FITTED.size <= FITS_ANY_TEXT


async def test_what_was_fitted_before_is_sent_as_it_is(api: Sandbox, mms: AsyncMMSClient) -> None:
    for fits in (False, True):
        await mms.send(to=ONE, text="Look", image=FITTED, fit=fits)
    assert images(api) == [sha256(FITTED.data)] * 2


async def test_every_source_is_fitted(api: Sandbox, mms: AsyncMMSClient, photo: Path) -> None:
    class AsyncFile:
        def __init__(self) -> None:
            self.left = [PHOTO]

        async def read(self, size: int) -> bytes:
            return self.left.pop() if self.left else b""

    with photo.open("rb") as file:
        sources: list[Any] = [str(photo), PHOTO, bytearray(PHOTO), memoryview(PHOTO), file, AsyncFile()]
        for source in sources:
            await mms.send(to=ONE, text="Look", image=source, fit=True)
    assert set(images(api)) == {sha256(FITTED.data)}


@pytest.mark.parametrize("image", [b"", b"a text", PHOTO[:20_000], "missing.jpg", 7])
async def test_what_is_no_picture_is_refused_before_anything_is_sent(
    api: Sandbox, mms: AsyncMMSClient, image: Any
) -> None:
    for key in (None, "order-17"):
        with pytest.raises(InvalidRequestError) as caught:
            await mms.send(to=ONE, text="Look", image=image, fit=True, key=key)
        assert caught.value.argument == "image"
    assert not api.calls["send-mms"]


async def test_the_work_is_done_in_a_thread(mms: AsyncMMSClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time; the event loop goes on meanwhile."""
    started, may_end, lock = asyncio.Event(), threading.Event(), threading.Lock()
    own, under_way, most = threading.get_ident(), 0, 0
    loop, fit_file = asyncio.get_running_loop(), fitting.fit_file

    def slow(*arguments: Any) -> Any:
        nonlocal under_way, most
        assert threading.get_ident() != own
        with lock:
            under_way += 1
            most = max(most, under_way)
        loop.call_soon_threadsafe(started.set)
        assert may_end.wait(60)
        with lock:
            under_way -= 1
        return fit_file(*arguments)

    monkeypatch.setattr(fitting, "fit_file", slow)
    sends = [asyncio.create_task(mms.send(to=ONE, text="Look", image=PHOTO, fit=True)) for _ in range(5)]
    async with asyncio.timeout(60):
        await started.wait()
    may_end.set()
    assert [sent.accepted for sent in await asyncio.gather(*sends)] == [1] * 5
    assert most <= 2


# With a key -----------------------------------------------------------------------------------------------------------


async def test_a_key_knows_the_photograph_again_however_it_is_fitted(
    api: Sandbox, mms: AsyncMMSClient, monkeypatch: pytest.MonkeyPatch, photo: Path
) -> None:
    first = await mms.send(to=ONE, text="Look", image=photo, key="order-17", fit=True)
    monkeypatch.setattr("mmsclient.pictures._encoding.BEST_QUALITY", 70)  # as another version of Pillow might
    assert fit(PHOTO).data != FITTED.data
    again = await mms.send(to=ONE, text="Look", image=PHOTO, key="order-17", fit=True)
    of_fitted = await mms.send(to=ONE, text="Look", image=FITTED, key="order-17")
    assert (first.repeated, again.repeated, of_fitted.repeated) == (False, True, True)
    assert api.carried_out(ONE) == 1


async def test_a_key_tells_photographs_apart(api: Sandbox, mms: AsyncMMSClient) -> None:
    """Also two that become one picture: it is the caller's file that counts."""
    await mms.send(to=ONE, text="Look", image=PHOTO, key="order-17", fit=True)
    other = PHOTO.replace(b"SECRET", b"secret")
    assert fit(other).data == FITTED.data
    with pytest.raises(KeyReusedError) as caught:
        await mms.send(to=ONE, text="Look", image=other, key="order-17", fit=True)
    assert caught.value.differences == ("image",)
    assert api.carried_out(ONE) == 1


async def test_a_small_photograph_is_the_same_with_and_without_fitting(api: Sandbox, mms: AsyncMMSClient) -> None:
    small = from_a_phone(100, 80)
    await mms.send(to=ONE, text="Look", image=small, key="order-17")
    assert (await mms.send(to=ONE, text="Look", image=small, key="order-17", fit=True)).repeated
    assert api.carried_out(ONE) == 1


# Campaigns ------------------------------------------------------------------------------------------------------------


async def test_a_campaign_sends_one_fitted_picture_and_its_resumption_the_same(
    api: Sandbox, mms: AsyncMMSClient, photo: Path, place: tuple[str, str]
) -> None:
    options: Any = {"text": "Look", "image": photo, "fit": True, "journal": place[0], "name": place[1] or None}
    numbers = [f"+614{number:08}" for number in range(40)]
    async with mms.campaign(**options, batch_size=10) as campaign:
        await campaign.send_all(numbers[:20])
    async with mms.campaign(**options, batch_size=10) as campaign:
        report = await campaign.send_all(numbers)
    assert report.counts[RecipientState.ACCEPTED] == 40
    assert set(images(api)) == {sha256(FITTED.data)}
    photo.unlink()  # noqa: ASYNC240
    name: Any = {"name": place[1]} if place[1] else {}
    resumed = await resume(mms, place[0], fit=True, **name)
    async with resumed:
        assert (await resumed.send_all()).counts[RecipientState.ACCEPTED] == 40
    assert all(api.carried_out(number) == 1 for number in numbers)


async def test_a_journal_of_another_picture_is_refused(api: Sandbox, mms: AsyncMMSClient, tmp_path: Path) -> None:
    journal = tmp_path / "spring.db"
    async with mms.campaign(text="Look", image=PHOTO, fit=True, journal=journal) as campaign:
        await campaign.send_all([ONE])
    other = encoded(photograph(900, 700), "JPEG")
    async with mms.campaign(text="Look", image=other, fit=True, journal=journal) as campaign:
        with pytest.raises(JournalMismatchError):
            await campaign.send_all([ONE, TWO])
    assert api.calls["send-mms"] == 1


async def test_a_campaign_without_a_journal(api: Sandbox, mms: AsyncMMSClient) -> None:
    report = await mms.send_bulk([ONE, TWO], text="Look", image=PHOTO, fit=True)
    assert report.counts[RecipientState.ACCEPTED] == 2
    assert images(api) == [sha256(FITTED.data)]


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cli(api: Sandbox, photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(photo.parent)
    monkeypatch.setenv("MMSCLIENT_APP_KEY", api.app_key)
    monkeypatch.setenv("MMSCLIENT_BASE_URL", api.url)
    monkeypatch.delenv("MMSCLIENT_LEDGER", raising=False)
    return in_this_process(api.app_key, capsys)


def test_send_fit(cli: Cli, api: Sandbox) -> None:
    arguments = ("send", "--to", ONE, "--text", "Look", "--image", "IMG_2041.JPG")
    without = cli(*arguments)
    assert without.status == Status.WRONG_USAGE
    assert "--fit" in without.error
    fitted = cli(*arguments, "--fit")
    assert fitted.status == 0
    told = f"JPEG 1500x1000, {len(PHOTO)} bytes -> JPEG 640x427, {FITTED.size} bytes, quality 90; removed: comment"
    assert fitted.out.splitlines()[0] == f"{told}; scaled down"
    keyed = ("--fit", "--json", "--key", "order-17", "--ledger", "sends.db")
    assert [cli(*arguments, *keyed).documents[0]["repeated"] for _ in range(2)] == [False, True]
    assert images(api) == [sha256(FITTED.data)] * 2


def test_bulk_send_fit_and_resume(cli: Cli, api: Sandbox) -> None:
    Path("list.csv").write_text("\n".join(["mobile", *(f"04{number:08}" for number in range(20))]))
    arguments = ("bulk", "send", "list.csv", "--text", "Look", "--image", "IMG_2041.JPG", "--journal", "spring.db")
    api.faults.add(Reset(carried_out=True), call="send-mms", times=1)
    first = cli(*arguments, "--fit", "--batch-size", "10")
    assert first.out.startswith(f"JPEG 1500x1000, {len(PHOTO)} bytes -> ")
    assert cli(*arguments, "--fit", "--batch-size", "10").status == Status.OUTCOME_UNKNOWN
    assert cli("bulk", "resume", "spring.db").status == Status.OUTCOME_UNKNOWN
    assert set(images(api)) == {sha256(FITTED.data)}
    assert cli(*arguments, "--dry-run").status == Status.WRONG_USAGE  # as it is, it is too large
    assert all(api.carried_out(f"+614{number:08}") == 1 for number in range(20))


def test_picture_fit_and_show(cli: Cli) -> None:
    shown = cli("picture", "show", "IMG_2041.JPG")
    assert shown.status == Status.FAILED
    assert "Pixels: 1500 x 1000" in shown.out
    assert "Metadata: comment" in shown.out
    assert f"the API does not take it: {len(PHOTO)} bytes" in shown.out
    fitted = cli("picture", "fit", "IMG_2041.JPG", "small.jpg", "--max-width", "300", "--max-bytes", "30000", "--json")
    assert fitted.documents[0]["size"] == Path("small.jpg").stat().st_size <= 30_000
    assert (fitted.documents[0]["width"], fitted.documents[0]["source_width"]) == (300, 1500)
    assert opened(Path("small.jpg").read_bytes()).size == (300, 200)
    assert metadata_of(Path("small.jpg").read_bytes()) == set()
    assert cli("picture", "show", "small.jpg").status == 0
    Path("phone.jpg").write_bytes(from_a_phone(900, 600, 6))
    told = cli("picture", "show", "phone.jpg", "--json").documents[0]
    assert (told["tells_place"], told["width"], told["height"]) == (True, 900, 600)
    assert "it says where it was taken" in cli("picture", "show", "phone.jpg").out


def test_a_picture_is_not_written_over(cli: Cli) -> None:
    os.link("IMG_2041.JPG", "other.jpg")
    for output in ("IMG_2041.JPG", "./IMG_2041.JPG", "other.jpg"):
        assert cli("picture", "fit", "IMG_2041.JPG", output).status == Status.WRONG_USAGE
    assert Path("IMG_2041.JPG").read_bytes() == PHOTO
    assert cli("picture", "fit", "missing.jpg", "out.jpg").status == Status.WRONG_USAGE
    assert not Path("out.jpg").exists()
    Path("spring.db").write_bytes(b"a journal")
    refused = cli("picture", "fit", "IMG_2041.JPG", "spring.db")
    assert (refused.status, Path("spring.db").read_bytes()) == (Status.WRONG_USAGE, b"a journal")
    assert "give --overwrite" in refused.err
    assert cli("picture", "fit", "IMG_2041.JPG", "spring.db", "--overwrite").status == 0


# Without the extra ----------------------------------------------------------------------------------------------------

WITHOUT = """
import asyncio, sys
sys.modules["PIL"] = None
from mmsclient import AsyncMMSClient, ConfigurationError, InvalidRequestError
from mmsclient.pictures import examine, fit
from mmsclient.sandbox import Sandbox

data = open(sys.argv[1], "rb").read()
async def main():
    with Sandbox(rate=None) as api:
        async with api.client(rate=None) as mms:
            for kind, options in ((InvalidRequestError, {}), (ConfigurationError, {"fit": True})):
                try:
                    await mms.send(to="+61400000000", text="Look", image=data, **options)
                except kind as error:
                    print(error)
            try:
                await mms.send_bulk(["+61400000000"], text="Look", image=data, fit=True)
            except ConfigurationError as error:
                print(error)
        assert not api.sends
asyncio.run(main())
print(examine(data).format)
"""


def test_without_pillow_it_is_told_what_to_install(photo: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", WITHOUT, str(photo)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603
    too_large, *missing, examined = ended.stdout.splitlines()
    assert "fit=True (--fit; extra `images`)" in too_large
    for line in missing:
        assert line.startswith("`fit` needs PIL; install the extra: pip install")
        assert "[images]" in line
    assert (len(missing), examined) == (2, "JPEG")


async def test_what_is_refused_for_another_reason_does_not_speak_of_fitting(mms: AsyncMMSClient) -> None:
    for image in (b"", b"a text", "missing.jpg"):
        with pytest.raises(InvalidRequestError) as caught:
            await mms.send(to=ONE, text="Look", image=image)
        assert "fit" not in str(caught.value)


def test_pillow_is_loaded_by_who_fits_alone() -> None:
    code = "import sys, mmsclient, mmsclient.bulk, mmsclient.pictures, mmsclient.cli.app; print('PIL' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    assert ended.stdout == "False\n"
