"""A campaign from beginning to end, killed in the middle, and every message accounted for. Costs nothing.

    python demonstration.py [FOLDER] [--recipients 3000] [--rate 15]

Makes a list of customers and a photograph of 3 MB, and serves the API on this machine. A process of its own sends to
each customer a text of their own with the photograph, within good hours, a budget and a suppression list. It is killed
with SIGKILL when two fifths are sent, and started again. Delivery reports are recorded meanwhile; they settle those of
whom the killed process did not hear. At the end every row of the list is compared with what the server got, and
FOLDER/report.html is written.

Needs: pip install 'mmsclient[all]'
"""

import argparse
import asyncio
import contextlib
import csv
import io
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import uvicorn
from PIL import Image

from mmsclient import AsyncMMSClient
from mmsclient.bulk import (
    Campaign,
    Recipient,
    RecipientState,
    Report,
    SuppressionList,
    Template,
    Window,
    html_report,
    read_csv,
    read_report,
)
from mmsclient.sandbox import Sandbox
from mmsclient.webhooks import CallbackReceiver, new_token

ZONE = "Australia/Sydney"
TEXT = Template("Hi {first_name}, your voucher is {voucher}. See you at the spring sale!")
SILENT = 2.0
"""Seconds of silence after which those are sent to again whose call never arrived: a day, in earnest."""


# The sender, in a process of its own ----------------------------------------------------------------------------------


def campaign_in(folder: Path, mms: AsyncMMSClient, *, send_to_the_silent: bool) -> Campaign:
    """The campaign; the same each time that it is begun or resumed."""
    now = datetime.now(ZoneInfo(ZONE))
    return mms.campaign(
        text=TEXT,
        image=folder / "photograph.jpg",
        fit=True,
        journal=folder / "spring.db",
        suppress=folder / "stop.db",
        opt_out_line="Reply STOP to opt out",
        window=Window(f"{now:%H:%M}", f"{now + timedelta(hours=12):%H:%M}", zone=ZONE),
        max_credits=len(rows_of(folder)),
        check_balance=True,
        resend_unknown="silent" if send_to_the_silent else False,
        silent_after=SILENT,
    )


async def send(folder: Path, rate: int, *, send_to_the_silent: bool) -> None:
    """Send or resume."""
    async with AsyncMMSClient(rate=rate) as mms:
        campaign = campaign_in(folder, mms, send_to_the_silent=send_to_the_silent)
        async for batch in campaign.send(read_csv(folder / "customers.csv", "mobile")):
            if batch.number % 100 == 0:
                print(f"    call {batch.number}: {batch.progress.counts}", flush=True)


# What is sent, and to whom --------------------------------------------------------------------------------------------


def write_customers(path: Path, count: int) -> None:
    """A list as they are: a few have given no name, some stand in it twice, some numbers are none."""
    numbers = [f"+6140{n // 9000:03}{n % 9000:04}" for n in range(count)]
    rows = [[f"Customer{n}", number, f"SPRING-{n:05}"] for n, number in enumerate(numbers)]
    for place in range(7, count, 100):
        rows[place][1] = f"+614{place:04}9911"  # is accepted, and fails later
    for place in range(31, count, 150):
        rows[place][1] = f"+614{place:04}9901"  # is refused by the API
    for place in range(11, count, 120):
        rows[place][0] = ""  # has no name: no message can be made
    for place in range(43, count, 130):
        rows[place][1] = f"04{place:03}"  # is no number
    for place in range(67, count, 140):
        rows[place][1] = rows[place - 1][1]  # comes twice
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["first_name", "mobile", "voucher"], *rows])


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The list."""
    with (folder / "customers.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_photograph(path: Path) -> None:
    """A JPEG of about 3 MB."""
    chance = random.Random(1)  # noqa: S311 - a picture
    sky = Image.linear_gradient("L").resize((2400, 1800))
    grain = Image.frombytes("L", (1200, 900), chance.randbytes(1200 * 900)).resize((2400, 1800))
    picture = Image.merge("RGB", [Image.blend(sky, grain, share) for share in (0.6, 0.5, 0.4)])
    data = io.BytesIO()
    for quality in range(80, 100):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality)
        if data.tell() >= 3_000_000:
            break
    path.write_bytes(data.getvalue())


async def write_stop_list(folder: Path, api: Sandbox) -> None:
    """Some have asked for no more messages in the shop, some at the API."""
    rows = rows_of(folder)
    async with SuppressionList(folder / "stop.db") as suppression:
        await suppression.add_all([row["mobile"] for row in rows[3::90]], "asked in the shop")
    for row in rows[5::110]:
        api.add_opt_out(row["mobile"])


# The stage ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def receiving(journal: Path) -> Iterator[str]:
    """Records delivery reports into the journal; the URL to post them to."""
    token = new_token()
    receiver = CallbackReceiver(token=token)
    receiver.record_into(journal)
    server = uvicorn.Server(uvicorn.Config(receiver, port=0, lifespan="on", log_level="error", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/{token}"
    finally:
        server.should_exit = True
        thread.join()


def wait_until(condition: object, seconds: float = 60.0) -> None:
    """Wait for something that says of itself whether it is so."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def sender(folder: Path, api: Sandbox, rate: int, *options: str) -> subprocess.Popen[bytes]:
    """A process that sends or resumes."""
    environment = os.environ | {"MMSCLIENT_APP_KEY": api.app_key, "MMSCLIENT_BASE_URL": api.url}
    command = [sys.executable, __file__, str(folder), "--rate", str(rate), "--send", *options]
    return subprocess.Popen(command, env=environment)  # noqa: S603 - this very file


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a sender's end."""
    if process.wait() != 0:
        raise SystemExit(f"the sender ended with status {process.returncode}")


def run(folder: Path, recipients: int, rate: int) -> dict[str, int]:
    """All of it; what the figures were."""
    write_customers(folder / "customers.csv", recipients)
    write_photograph(folder / "photograph.jpg")
    size = (folder / "photograph.jpg").stat().st_size
    print(f"{recipients} customers, and a photograph of {size} bytes, in {folder}")
    with receiving(folder / "spring.db") as url, Sandbox(rate=rate, callback_url=url) as api:
        asyncio.run(write_stop_list(folder, api))
        print(f"A server on this machine allows {rate} calls a second. A process begins to send")
        first = sender(folder, api, rate)
        wait_until(lambda: len(api.sends) >= recipients * 2 // 5 or first.poll() is not None, 3600)
        first.kill()
        first.wait()
        print(f"It is killed when {len(api.sends)} messages are out, and started again")
        finish(sender(folder, api, rate))
        wait_until(lambda: not api.callbacks_open, 600)
        time.sleep(SILENT)
        print("Once more, for those of whom neither an answer nor a report was heard")
        finish(sender(folder, api, rate, "--silent"))
        wait_until(lambda: not api.callbacks_open, 600)
        return asyncio.run(compare(folder, api))


# At the end -----------------------------------------------------------------------------------------------------------


async def compare(folder: Path, api: Sandbox) -> dict[str, int]:
    """Compare the report, recipient for recipient, with what the server got."""
    report = await read_report(folder / "spring.db")
    found = [recipient async for recipient in report.recipients()]
    got = Counter(number for each in api.sends for number in each.recipients)
    check("every row of the list is in the report", len(found) == len(rows_of(folder)))
    check("nobody got two", max(got.values()) == 1)
    accepted = {each.number for each in found if each.state is RecipientState.ACCEPTED}
    check("the accepted ones, and nobody else, got one", accepted == got.keys())
    check("those on the suppression list got none", not any(each.number in got for each in suppressed(found)))
    check("each got a text of their own", len({each.text for each in api.sends}) == len(got))
    check("the photograph fits", all(each.image_size <= 376_000 for each in api.sends))
    figures = figures_of(report)
    check("all states add up to the list", figures["rows"] == sum(report.counts.values()))
    check("nothing is left open", not any(report.counts[state] for state in OPEN))
    charged = len(got)  # the sandbox takes a credit a message
    check("credits add up", figures["credits named"] + figures["credits unnamed"] == charged)
    check("every report of delivery is counted", sum(report.deliveries.values()) == charged)
    (folder / "report.html").write_text(await html_report(folder / "spring.db"), encoding="utf-8")
    print("\n".join(f"  {name:24}{value:>7}" for name, value in figures.items()))
    print(f"The report: {folder / 'report.html'}")
    return figures


OPEN = (RecipientState.PENDING, RecipientState.SENDING, RecipientState.FAILED, RecipientState.UNKNOWN)


def suppressed(found: list[Recipient]) -> list[Recipient]:
    """Those who got nothing because they had asked for that."""
    return [each for each in found if each.exclusion in ("suppressed", "opted out")]


def figures_of(report: Report) -> dict[str, int]:
    """What is told at the end."""
    return {
        "rows": report.total,
        **{str(state): count for state, count in report.counts.items()},
        **{str(why): count for why, count in report.exclusions.items() if count},
        "settled by evidence": report.unknown.proven,
        **{f"reported {status}": count for status, count in report.deliveries.items()},
        "calls": report.calls,
        "credits named": int(report.credits_used),
        "credits unnamed": int(report.unknown.unaccounted_credits or 0),
    }


def check(what: str, is_so: bool) -> None:
    """Say that something is so, or end."""
    if not is_so:
        raise SystemExit(f"not so: {what}")
    print(f"  {what}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where everything is kept; left out: a new one")
    parser.add_argument("--recipients", type=int, default=3000)
    parser.add_argument("--rate", type=int, default=15, help="calls a second")
    parser.add_argument("--send", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--silent", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.send:
        asyncio.run(send(given.folder, given.rate, send_to_the_silent=given.silent))
        return
    folder = given.folder or Path(tempfile.mkdtemp(prefix="demonstration-"))
    folder.mkdir(parents=True, exist_ok=True)
    run(folder, given.recipients, given.rate)


if __name__ == "__main__":
    main()
