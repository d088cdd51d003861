"""The commands and their options."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from mmsclient import MMSError, __version__
from mmsclient.cli.connection import DEFAULT, Connection
from mmsclient.cli.output import OPT_OUTS, REPLIES, Form, show_account, show_listing, show_sent, show_stream
from mmsclient.cli.status import Status, UsageError, complain, of_error

HELP = """
Send MMS, and read replies, opt-outs and balances.

Try it without an account: `mmsclient demo`. The APPKEY comes from the environment variable `MMSCLIENT_APP_KEY` or from
`--app-key-file`.
"""

EXIT_STATUSES = """
Exit status: 0 done; 1 failed, nothing was sent; 2 wrong usage, nothing was sent; 3 sent, but some numbers were refused;
4 it may have been sent; 130 Ctrl-C; 141 done, but the output could not be written. Errors are one line on stderr.
"""

app = App(
    name="mmsclient",
    help=HELP,
    help_epilogue=EXIT_STATUSES,
    version=__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)

app.command("mmsclient.cli.bulk:app", name="bulk")

OneJSON = Annotated[bool, Parameter(help="Print one JSON object for scripts.", show_default=False)]
JSONLines = Annotated[bool, Parameter(help="Print a JSON object a line for scripts.", show_default=False)]


def run(arguments: Sequence[str]) -> int:
    """Run the command with `arguments` and answer its exit status; errors are told on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without emoji is no reason to fail
    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        _flush()
    except CycloptsError as error:
        complain(f"{error} See `mmsclient --help`.")
        return Status.WRONG_USAGE
    except (MMSError, UsageError, ModuleNotFoundError) as error:
        complain(str(error))
        return of_error(error)
    except OSError as error:
        return _output_lost(error)
    return Status.DONE if status is None else status


def _flush() -> None:
    if sys.stdout:
        sys.stdout.flush()


def _output_lost(error: OSError) -> Status:
    """Stdout cannot be written: a reader that has left is no news, anything else is told."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter fails on it at its end
    if not isinstance(error, BrokenPipeError):
        complain(f"the output could not be written: {error.strerror}")
    return Status.OUTPUT_LOST


@app.command
async def send(
    *,
    to: list[str],
    text: str,
    image: Path,
    subject: str | None = None,
    connection: Connection = DEFAULT,
    json: OneJSON = False,
) -> int:
    """Send a picture and a text. Costs credits.

    Parameters
    ----------
    to
        A number: E.164 (+61400000000) or an Australian mobile (0400 000 000). Repeat it for more, up to 1000.
    text
        At most 1000 characters.
    image
        PNG, GIF or JPEG file; at most 380 000 bytes with the text.
    subject
        One line of at most 40 characters.
    """
    async with connection.client() as mms:
        sent = await mms.send(to=to, text=text, image=image, subject=subject)
        show_sent(sent, Form.chosen(json))
    if not sent.is_partial:
        return Status.DONE
    return Status.PARTLY_ACCEPTED if sent.accepted else Status.FAILED


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
            await show_listing(mms.replies(kind=kind), REPLIES, form, "unread replies")


@app.command
async def listen(
    *,
    port: int = 8080,
    host: str = "127.0.0.1",
    token_file: Path | None = None,
    seen: Path | None = None,
    exec_: Annotated[str, Parameter(name="--exec")] = "",
    json: JSONLines = False,
) -> None:
    """Receive delivery reports and inbound messages as the provider posts them, and print them.

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
        SQLite file that remembers what was handled, so that nothing is handled twice after a restart.
    exec_
        Command to run for each event, with the event as a line of JSON on its stdin. No shell. If it fails, the sender
        is asked to post the event again.
    """
    from mmsclient.cli.listen import listen as receive  # noqa: PLC0415 -- needs the extra `sandbox`

    form = Form.chosen(json)
    await receive(host=host, port=port, token_file=token_file, seen=seen, command=exec_, form=form)


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
        await show_listing(listing, OPT_OUTS, Form.chosen(json), "opt-outs")


@app.command
def sandbox(
    *,
    port: int = 8015,
    tls: Annotated[bool, Parameter(negative="--no-tls")] = False,
    rate: int = 15,
    replies: int = 0,
    json: JSONLines = False,
) -> None:
    """Serve the API on this machine, to try things out: it costs nothing and reaches nobody.

    Shows the calls as they come, until Ctrl-C. With --json: an object with event "ready" (url, app_key, ca_file,
    endings), then one with event "call" or "send" for each.

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
    """
    from mmsclient.cli.serve import serve  # noqa: PLC0415 -- needs the extra `sandbox`

    serve(port=port, tls=tls, rate=rate, replies=replies, form=Form.chosen(json))


@app.command
async def demo(*, json: OneJSON = False) -> None:
    """Watch it work, without an account: a few seconds against a sandbox on this machine.

    With --json: only the summary.
    """
    from mmsclient.cli.demo import play  # noqa: PLC0415 -- needs the extra `sandbox`

    await play(Form.chosen(json))


def _aware(option: str, time: datetime | None) -> datetime | None:
    try:
        return time.astimezone() if time and time.tzinfo is None else time
    except (OverflowError, ValueError):
        raise UsageError(f"{option}: out of range: {time}") from None
