"""A campaign from a CSV file, for cron, systemd or Kubernetes.

    python nightly_job.py customers.csv sale.gif spring.db

Run it again with the same arguments after a crash, a restart or a stop: nobody gets the message twice.
Exit status: 0 all done, 1 nothing or not all was sent (run it again), 2 some outcomes are unknown (look).
"""

import asyncio
import logging
import signal
import sys

from mmsclient import AsyncMMSClient, MMSError
from mmsclient.bulk import RecipientState, Report, Sending, read_csv

TEXT = "Sale on now"

log = logging.getLogger("nightly")


def stop_at_sigterm(sending: Sending) -> None:
    """Let SIGTERM end the campaign in good order: the calls on the wire end and are recorded."""
    try:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sending.stop)
    except NotImplementedError:  # Windows has no SIGTERM to wait for
        log.debug("no handler for SIGTERM on this system")


async def run(mms: AsyncMMSClient, customers: str, picture: str, journal: str) -> int:
    """Send or resume; the exit status."""
    campaign = mms.campaign(text=TEXT, image=picture, journal=journal, exclude_opt_outs=True)
    sending = campaign.send(read_csv(customers, "mobile"))
    stop_at_sigterm(sending)
    try:
        async for batch in sending:
            log.info("%s", batch)
    except MMSError as error:  # CampaignStoppedError: out of credit, too many failures in a row
        log.error("%s", error)  # noqa: TRY400 - the error says it all in a line
        return 1
    report = await campaign.report()
    log.info("%s", report)
    return status_of(report)


def status_of(report: Report) -> int:
    """0: everybody is settled. 1: some are left for the next run. 2: some may or may not have got it."""
    counts = report.counts
    if counts[RecipientState.UNKNOWN]:
        return 2
    return 1 if counts[RecipientState.PENDING] or counts[RecipientState.FAILED] or not report.list_read else 0


async def main(customers: str, picture: str, journal: str) -> int:
    """The job, with the key from MMSCLIENT_APP_KEY."""
    async with AsyncMMSClient() as mms:
        return await run(mms, customers, picture, journal)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request
    sys.exit(asyncio.run(main(*sys.argv[1:])))
