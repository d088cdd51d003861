"""How long a listing takes at the cap, against the time that the cap itself takes."""

from __future__ import annotations

import asyncio
import time
from statistics import median

from benchmarks.contenders import APP_KEY
from benchmarks.report import Goal, Options, Report, Table
from benchmarks.server import Server, Setting
from mmsclient import AsyncMMSClient
from mmsclient._reading.listing import PREFETCH
from tests.support.counting import CAP, log_of_the_last_second

PAGES = {False: 100, True: 400}
"""In the short form and in full."""
ROUND_TRIP = 0.1
GOAL = 1.05
"""Seconds that the listing takes, as a multiple of `pages / 15`."""


def run(options: Options) -> Report:
    pages = PAGES[options.full]
    report = Report("listing", figures={"pages": pages, "seconds": {}})
    rows = []
    for prefetch in (0, PREFETCH):
        seconds, refused = [], 0
        for _ in range(options.rounds):
            setting = Setting("none", way=ROUND_TRIP / 2, work=(0, 0), pages=pages)
            with Server(setting) as server:
                seconds.append(asyncio.run(_list(server, pages, prefetch)))
                refused += log_of_the_last_second(server.seen().arrivals)
        multiple = median(seconds) / (pages / CAP)
        report.figures["seconds"][prefetch] = seconds
        rows.append([f"prefetch={prefetch}", f"{median(seconds):.2f} s", f"{multiple:.3f}", str(refused)])
        if prefetch and options.full:  # in few pages the first round trip weighs too much
            text = f"with prefetch at most {GOAL} of pages / {CAP}"
            report.goals.append(Goal(text, f"{multiple:.3f}", multiple <= GOAL))
    title = f"{pages} pages at {1000 * ROUND_TRIP:.0f} ms round trip; at the cap {pages / CAP:.2f} s"
    report.tables.append(Table(title, ["", "took", f"of pages / {CAP}", "refused by the log"], rows))
    return report


async def _list(server: Server, pages: int, prefetch: int) -> float:
    tls = server.certificate.for_client()
    async with AsyncMMSClient(APP_KEY, base_url=server.url, verify=tls) as mms:
        began = time.perf_counter()
        items = [item.id async for item in mms.templates(prefetch=prefetch)]
        took = time.perf_counter() - began
    assert len(items) == 25 * pages
    return took
