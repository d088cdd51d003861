"""The commands and their options."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter

from mmsclient import AsyncMMSClient, MessageStatus, MMSError, SentBatch, __version__
from mmsclient._extras import needed
from mmsclient.cli.connection import DEFAULT, Connection
from mmsclient.cli.keyed import NO_KEY, Keyed
from mmsclient.cli.monitoring import NONE, Monitoring
from mmsclient.cli.output import (
    MESSAGES,
    OPT_OUTS,
    REPLIES,
    TEMPLATES,
    Form,
    OneJSON,
    show_account,
    show_deliveries,
    show_listing,
    show_sent,
    show_stream,
)
from mmsclient.cli.picture import fitted
from mmsclient.cli.signals import SignalledError
from mmsclient.cli.status import Status, UsageError, complain, of_error, of_sent, output_lost
from mmsclient.cli.stdio import OutputLostError
from mmsclient.cli.top import top
from mmsclient.cli.whole import WHOLE
from mmsclient.cli.words import named_as_given

HELP = """
Send MMS and SMS, and read replies, opt-outs and balances.

Try it without an account: `mmsclient demo`. The APPKEY comes from the environment variable `MMSCLIENT_APP_KEY` or from
`--app-key-file`; `MMSCLIENT_BASE_URL` and `MMSCLIENT_CA_FILE` lead to another server, such as `mmsclient sandbox`.
"""

EXIT_STATUSES = f"Exit status: {Status.in_words()}. Errors are lines on stderr."

app: App = App(
    name="mmsclient",
    help=HELP,
    help_epilogue=EXIT_STATUSES,
    version=__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)

app.register_install_completion_command(help="Let the shell complete commands and options.")
app.command(
    "mmsclient.cli.bulk:app",
    name="bulk",
    help="Campaigns: one message to any number of recipients, none of them twice, also after a crash.",
)
app.command(
    "mmsclient.cli.outbox:app",
    name="outbox",
    help="The outbox: send what programs have put, each order once at most.",
)
app.command(
    "mmsclient.cli.store:app",
    name="store",
    help="The tables in PostgreSQL that campaigns and the outbox share.",
)
app.command(
    "mmsclient.cli.suppress:app",
    name="suppress",
    help="Suppression lists: who must get no message, kept over campaigns.",
)
app.command(top)
app.command("mmsclient.cli.sms:app", name="sms", help="SMS: send texts, and see what they cost.")
app.command("mmsclient.cli.picture:app", name="picture", help="Make pictures fit, and see what they are and give away.")

JSONLines = Annotated[bool, Parameter(help="Print a JSON object a line for scripts.", show_default=False)]


def run(arguments: Sequence[str]) -> int:
    """Run the command with `arguments` and answer its exit status; errors are told on stderr."""
    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        complain(f"{_in_words(error)} See `{' '.join(('mmsclient', *(error.command_chain or ())))} --help`.")
        return Status.WRONG_USAGE
    except OutputLostError as error:
        return output_lost(error)
    except SignalledError as error:
        return Status.of_signal(error.number)
    except (MMSError, UsageError, OSError) as error:
        complain(named_as_given(error), error.command if isinstance(error, UsageError) else "")
        return of_error(error)
    return Status.DONE if status is None else status


def _in_words(error: CycloptsError) -> str:
    """What is wrong with the arguments."""
    if not isinstance(error, MissingArgumentError) or error.argument is None:
        return str(error)
    if error.keyword is not None:
        return f"{error.keyword} needs a value."
    if any(token.startswith("-") for token in error.unused_tokens or ()):
        return str(error)  # it asks whether that is the missing one, misspelt
    name, is_positional = error.argument.name, error.argument.field_info.is_positional
    return f"{name.removeprefix('--').upper() if is_positional else name} is missing."


@app.command
async def send(
    *,
    to: Annotated[list[str], Parameter(consume_multiple=True)],
    text: str,
    image: Path,
    subject: str | None = None,
    wait: Annotated[bool, Parameter(show_default=False)] = False,
    wait_seconds: float = 300.0,
    fit: Annotated[bool, Parameter(show_default=False)] = False,
    keyed: Keyed = NO_KEY,
    connection: Connection = DEFAULT,
    json: OneJSON = False,
) -> int:
    """Send a picture and a text. Costs credits.

    Parameters
    ----------
    to
        Numbers, up to 1000: E.164 (+61400000000) or Australian mobiles ("0400 000 000").
    text
        At most 1000 characters.
    image
        PNG, GIF or JPEG file; at most 380 000 bytes with the text.
    subject
        One line of at most 40 characters.
    wait
        Wait until it is known what became of each message, and print that: with --json as a second object. Whether
        the API takes the ids of MMS there is not known. It does not change the exit status.
    wait_seconds
        Seconds to wait at most.
    fit
        Make the picture fit first: any photograph, scaled down and without its metadata. Needs the extra images.
    """
    form = Form.chosen(json)
    async with connection.sender(keyed) as (mms, one):
        picture = await fitted(image, form) if fit else image
        sending = mms.send(
            to=to, text=text, image=picture, subject=subject, key=keyed.key, retry_refused=keyed.retry_refused
        )
        sent = await one.run(mms, sending)
        show_sent(sent, form)
        if wait:
            await _show_deliveries(mms, sent, wait_seconds, form)
    return of_sent(sent)


async def _show_deliveries(mms: AsyncMMSClient, sent: SentBatch, seconds: float, form: Form) -> None:
    sys.stdout.flush()  # who waits has read what was sent
    try:
        statuses = await mms.wait_delivered(sent, timeout=seconds)
    except MMSError as error:
        complain(f"it was sent, but what became of it could not be asked: {error}")
    else:
        show_deliveries(statuses, form)


@app.command(name="status")
async def status_of(ids: list[str], /, *, connection: Connection = DEFAULT, json: JSONLines = False) -> int:
    """Show how far messages got, by the ids that `send` printed.

    Whether the API takes the ids of MMS here is not known. Exit status 1 if it does not know one of them.

    Parameters
    ----------
    ids
        Ids of messages.
    """
    form = Form.chosen(json)
    unknown: list[str] = []

    async def found(mms: AsyncMMSClient) -> AsyncGenerator[MessageStatus, None]:
        for each in ids:
            message = await mms.message(each)
            if message is None:
                unknown.append(each)
            else:
                yield message
                for other in message.others:
                    yield other

    async with connection.client() as mms:
        await show_stream(found(mms), MESSAGES, form)
    for each in unknown:
        complain(f"the API knows no message {each}")
    return Status.FAILED if unknown else Status.DONE


@app.command
async def templates(*, connection: Connection = DEFAULT, json: JSONLines = False) -> None:
    """List the texts that are stored with the account."""
    async with connection.client() as mms:
        await show_listing(mms.templates(), TEMPLATES, Form.chosen(json), "template")


@app.command
async def account(*, connection: Connection = DEFAULT, json: OneJSON = False) -> None:
    """Show the account and its balances in credits."""
    async with connection.client() as mms:
        show_account(await mms.account(), Form.chosen(json))


@app.command
async def replies(
    *,
    kind: Literal["mms", "sms"] = "mms",
    take: bool = False,
    follow: bool = False,
    interval: float = 15.0,
    connection: Connection = DEFAULT,
    json: JSONLines = False,
) -> None:
    """List the unread replies. They stay unread, unless you take them.

    Parameters
    ----------
    kind
        Replies to MMS or to SMS.
    take
        Mark each as read once it is printed.
    follow
        Go on and print new ones as they come, until Ctrl-C.
    interval
        Seconds between two looks for new ones.
    """
    form = Form.chosen(json)
    async with connection.client() as mms:
        if follow:
            await show_stream(mms.watch_replies(kind=kind, interval=interval, mark=take), REPLIES, form)
        elif take:
            await show_stream(mms.take_replies(kind=kind), REPLIES, form)
        else:
            await show_listing(mms.replies(kind=kind), REPLIES, form, "unread reply")


@app.command
async def listen(
    *,
    port: Annotated[int, WHOLE] = 8080,
    host: str = "127.0.0.1",
    token_file: Path | None = None,
    seen: str | None = None,
    exec_: Annotated[str, Parameter(name="--exec")] = "",
    monitoring: Monitoring = NONE,
    json: JSONLines = False,
) -> None:
    """Receive delivery reports and inbound messages as the provider posts them, and print them.

    To try it: `mmsclient sandbox --callback-url` with the URL that it shows.

    The provider posts to an address that ends in a token nobody can guess. It comes from --token-file or the
    environment variable `MMSCLIENT_CALLBACK_TOKEN`; without either a new one is made and shown. With --json: an object
    with event "ready" (url), then one with event "delivery_report" or "inbound_message" for each.

    Parameters
    ----------
    port
        Port to listen on; 0 for a free one.
    host
        Address to listen on. Callbacks come over HTTPS: put a proxy with a certificate before it.
    token_file
        File that holds the token.
    seen
        SQLite file, or URL of a PostgreSQL database, that remembers what was handled, so that nothing is handled twice
        after a restart, or on two machines. Give a password in PGPASSWORD.
    exec_
        Command to run for each event, with the event as a line of JSON on its stdin. No shell. If it fails, the sender
        is asked to post the event again.
    """
    with needed("sandbox", "`mmsclient listen`"):
        from mmsclient.cli.listen import listen as receive  # noqa: PLC0415

    form = Form.chosen(json)
    await receive(
        host=host,
        port=port,
        token_file=token_file,
        seen=seen,
        command=exec_,
        form=form,
        monitoring=monitoring,
    )


@app.command
async def opt_outs(
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    connection: Connection = DEFAULT,
    json: JSONLines = False,
) -> None:
    """List the numbers that unsubscribed.

    Parameters
    ----------
    since
        From this date or time on (2026-01-31, 2026-01-31T09:00, 2026-01-31T09:00+11:00). Without an offset: in this
        computer's time zone.
    until
        Up to this time.
    """
    async with connection.client() as mms:
        listing = mms.opt_outs(since=_aware("--since", since), until=_aware("--until", until))
        await show_listing(listing, OPT_OUTS, Form.chosen(json), "opt-out")


@app.command
def sandbox(
    *,
    port: Annotated[int, WHOLE] = 8015,
    tls: Annotated[bool, Parameter(negative="--no-tls")] = False,
    rate: Annotated[int, WHOLE] = 15,
    replies: Annotated[int, WHOLE] = 0,
    balance: str = "1000000",
    no_magic: Annotated[bool, Parameter(show_default=False)] = False,
    callback_url: str | None = None,
    json: JSONLines = False,
) -> None:
    """Serve the API on this machine, to try things out: it costs nothing and reaches nobody.

    Shows the calls as they come, until Ctrl-C. With --json: an object with event "ready" (url, app_key, ca_file,
    endings), then one with event "call", "send" or "callback" for each.

    Parameters
    ----------
    port
        Port of 127.0.0.1; 0 for a free one.
    tls
        Serve HTTPS, with a certificate authority of its own in a temporary file.
    rate
        Calls a second that it allows.
    replies
        Unread replies to begin with.
    balance
        Credits to begin with, of either kind; an MMS costs 1, and so does a part of an SMS.
    no_magic
        Treat all numbers alike: no endings with a meaning of their own, for the rehearsal of a real list.
    callback_url
        Where delivery reports and replies are posted, such as the one that `mmsclient listen` shows.
    """
    from mmsclient.cli.serve import serve  # noqa: PLC0415 -- needs the extra `sandbox`

    serve(
        port=port,
        tls=tls,
        rate=rate,
        replies=replies,
        balance=balance,
        magic=not no_magic,
        callback_url=callback_url,
        form=Form.chosen(json),
    )


@app.command
async def demo(*, json: OneJSON = False) -> None:
    """Watch it work, without an account: a few seconds against a sandbox on this machine.

    With --json: only the summary.
    """
    from mmsclient.cli.demo import play  # noqa: PLC0415 -- needs the extra `sandbox`

    await play(Form.chosen(json))


def _aware(option: str, time: datetime | None) -> datetime | None:
    """`time`, a local one unless it says its zone. Of two readings the one that asks for more.

    There are two in the hours that are repeated or left out when daylight saving changes.
    """
    choose = max if option == "--until" else min
    try:
        return choose(time.replace(fold=fold).astimezone() for fold in (0, 1)) if time and time.tzinfo is None else time
    except (OverflowError, ValueError):
        raise UsageError(f"{option}: out of range: {time}") from None
