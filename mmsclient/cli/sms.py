"""`mmsclient sms`: sends texts, and counts what they cost."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from cyclopts import App, Parameter

from mmsclient.cli.connection import DEFAULT, Connection
from mmsclient.cli.keyed import NO_KEY, Keyed
from mmsclient.cli.output import Form, OneJSON, show_facts, show_sent, to_json
from mmsclient.cli.status import Status, UsageError, of_sent
from mmsclient.cli.whole import WHOLE
from mmsclient.sms import Parts
from mmsclient.sms import parts as count_parts

app: App = App(name="sms", default_parameter=Parameter(negative=()))


@app.command
async def send(
    *,
    to: Annotated[list[str], Parameter(consume_multiple=True)],
    text: str,
    sender: str | None = None,
    custom_string: str | None = None,
    source: str | None = None,
    schedule_at: datetime | None = None,
    delay: Annotated[int | None, WHOLE] = None,
    keyed: Keyed = NO_KEY,
    connection: Connection = DEFAULT,
    json: OneJSON = False,
) -> int:
    """Send a text. Costs credits.

    Parameters
    ----------
    to
        Numbers, up to 1000: E.164 (+61400000000) or Australian mobiles ("0400 000 000").
    text
        At most six parts: `mmsclient sms parts` counts them.
    sender
        A number of at most 16 digits, or a registered id of at most 11 letters, digits, spaces and dashes.
    custom_string
        Letters, digits and dashes, which come back in delivery reports and replies.
    source
        One line, which comes back in delivery reports.
    schedule_at
        When the API is to send it, with an offset (2026-12-01T09:00+11:00).
    delay
        Minutes from 1 to 1440 after which the API is to send it.
    """
    if schedule_at is not None and schedule_at.tzinfo is None:
        raise UsageError(f"--schedule-at: needs an offset, such as {schedule_at.isoformat()}+11:00")
    async with connection.sender(keyed) as (mms, one):
        sending = mms.send_sms(
            to=to,
            text=text,
            sender=sender,
            custom_string=custom_string,
            source=source,
            schedule_at=schedule_at,
            delay=delay,
            key=keyed.key,
            retry_refused=keyed.retry_refused,
        )
        sent = await one.run(mms, sending)
        show_sent(sent, Form.chosen(json))
    return of_sent(sent)


@app.command
def parts(text: str, /, *, sender: str | None = None, json: OneJSON = False) -> int:
    """Show how a text is counted: its alphabet, its parts and what it costs. Exit status 1 if it is too long.

    Parameters
    ----------
    text
        The text as it is to go out.
    sender
        Whom it is to come from: an alphanumeric one costs a third more.
    """
    counted = count_parts(text, sender=sender)
    _show(counted, Form.chosen(json))
    return Status.DONE if counted.fits else Status.FAILED


def _show(counted: Parts, form: Form) -> None:
    if form is Form.JSON:
        print(to_json(counted))
        return
    foreign = " ".join(f"{each!r}" for each in counted.unicode_because)
    facts = {
        "Alphabet": f"{counted.alphabet}{f', because of {foreign}' if foreign else ''}",
        "Length": str(counted.length),
        "Parts": f"{counted.count}, room for {counted.left} more" if counted.fits else f"{counted.count}: too many",
        "Credits": f"{counted.credits} for each recipient",
    }
    show_facts(facts, form)
