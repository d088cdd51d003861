"""`mmsclient bulk report` and `reconcile`: what became of a campaign, and what evidence settles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mmsclient import bulk
from mmsclient.bulk import RecipientState, html_report, read_report
from mmsclient.cli.bulk_output import Commands, invalid_in, print_csv, show_reconciliation, show_report, write_page
from mmsclient.cli.output import Form, OneJSON
from mmsclient.cli.status import Status, UsageError


async def report(
    journal: str,
    *,
    name: str | None = None,
    json: OneJSON = False,
    as_csv: Annotated[
        bool, Parameter(name="--csv", help="Print every recipient as a line of CSV.", show_default=False)
    ] = False,
    state: RecipientState | None = None,
    html: Path | None = None,
) -> int:
    """Show what became of a campaign, also while it is being sent. Calls no API.

    Parameters
    ----------
    journal
        File of the campaign, or the URL of a PostgreSQL database.
    name
        What the campaign is called in the database.
    state
        With --csv: only the recipients in this state.
    html
        Write it into this file, as a page for people: figures, reasons, deliveries over time; no phone numbers. The
        file is for its owner's eyes alone.
    """
    if json + as_csv + (html is not None) > 1:
        raise UsageError("--json, --csv and --html: choose one")
    if state is not None and not as_csv:
        raise UsageError("--state chooses among the lines of --csv: give that too")
    if html is not None:
        return write_page(await html_report(journal, name), html)
    found = await read_report(journal, name)
    if as_csv:
        await print_csv(found, state)
    else:
        show_report(found, Form.chosen(json), await invalid_in(found), Commands.of(journal, name))
    return Status.DONE


async def reconcile(journal: str, *, name: str | None = None, json: OneJSON = False) -> int:
    """Settle those of whom no answer tells whether they got it, by the reports and replies that came. Calls no API.

    Parameters
    ----------
    journal
        File of the campaign, which is not being sent, or the URL of a PostgreSQL database.
    name
        What the campaign is called in the database.
    """
    done = await bulk.reconcile(journal, name)
    show_reconciliation(done, Form.chosen(json))
    return Status.OUTCOME_UNKNOWN if done.report.unknown.count else Status.DONE
