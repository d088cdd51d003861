"""`mmsclient bulk status`, `pause`, `continue` and `stop`: a campaign that another process sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Annotated, Any

from attrs import asdict
from cyclopts import Parameter
from cyclopts.validators import Number

from mmsclient import bulk
from mmsclient._words import counted
from mmsclient.bulk import Activity, CampaignStatus, JournalUnavailableError
from mmsclient.cli.bulk_output import gone_pictures
from mmsclient.cli.output import Form, OneJSON, duration, local_if_any, printable, to_json, with_local_times
from mmsclient.cli.screens import Bar
from mmsclient.cli.status import Status, complain
from mmsclient.cli.watching import show, show_looks

LOOK_AGAIN = 0.2
"""Seconds between two looks whether a sender has noticed an order."""
NOTICED_WITHIN = 15.0
"""Seconds after which it is told that it has not."""
IDLE_FOR_ONE = 10
"""How many times as long as a look takes is waited before the next: it reads all recipients."""


async def status(
    journal: str,
    *,
    name: str | None = None,
    watch: Annotated[bool, Parameter(show_default=False)] = False,
    interval: Annotated[float, Parameter(validator=Number(gt=0))] = 1.0,
    json: Annotated[bool, Parameter(show_default=False)] = False,
) -> int:
    """Show who sends a campaign, how far it is, and why it waits. Calls no API, and writes nothing.

    Parameters
    ----------
    journal
        File of the campaign, or the URL of a PostgreSQL database.
    name
        What the campaign is called in the database.
    watch
        Go on until the campaign is over, or until Ctrl-C.
    interval
        With --watch: seconds between two looks, more where a look takes long.
    json
        Print a JSON object for scripts; with --watch one a line.
    """
    form = Form.chosen(json)
    if watch:
        looks = _looks(journal, name, interval)
        await show_looks(looks, form, facts=facts_of, line=line_of, document=document_of, above=_bar_of)
    else:
        show(await bulk.read_status(journal, name), form, facts_of, document_of)
    return Status.DONE


async def pause(journal: str, *, name: str | None = None, json: OneJSON = False) -> int:
    """Pause a campaign, whichever process sends it. What is on the wire ends; nothing new starts until `continue`.

    It stays paused if that process dies: who resumes it waits, and says so.

    Parameters
    ----------
    journal
        File of the campaign, or the URL of a PostgreSQL database.
    name
        What the campaign is called in the database.
    """
    found = await _noticed(await bulk.pause(journal, name), journal, name, _has_paused)
    is_pausing = any(part.activity is Activity.PAUSING for part in _parts(found))
    done = "nothing starts any more, and calls that had left are still under way" if is_pausing else "paused"
    if found.fallback is not None and found.fallback.paused_at is not None:
        done += ", of the SMS too"
    return _show_order(found, json, done, is_pausing or _has_paused(found), "whoever begins finds it paused")


async def continue_(journal: str, *, name: str | None = None, json: OneJSON = False) -> int:
    """End the pause of a campaign.

    Parameters
    ----------
    journal
        File of the campaign, or the URL of a PostgreSQL database.
    name
        What the campaign is called in the database.
    """
    found = await _noticed(await bulk.unpause(journal, name), journal, name, _has_continued)
    return _show_order(found, json, "continued", _has_continued(found), "the next one sends")


async def stop(journal: str, *, name: str | None = None, json: OneJSON = False) -> int:
    """End the run of a campaign, whichever process sends it. What is on the wire ends. `resume` goes on with it.

    Parameters
    ----------
    journal
        File of the campaign, or the URL of a PostgreSQL database.
    name
        What the campaign is called in the database.
    """
    before = await bulk.read_status(journal, name)  # it may have stopped before anybody has looked again
    found = await bulk.stop(journal, name)
    if not _is_sent(before):
        return _show_order(found, json, "nothing to stop", True, "the next one sends")

    def has_stopped(found: CampaignStatus) -> bool:
        return all(
            not _has_sender(now) or now.sender not in (None, was.sender)  # None: it is closing
            for was, now in zip(_parts(before), _parts(found), strict=False)
            if _has_sender(was)
        )

    found = await _noticed(found, journal, name, has_stopped)
    done = "stopped" if _has_sender(before) else "stopped the SMS to those whose MMS did not arrive"
    return _show_order(found, json, done, has_stopped(found), "the next one sends")


# Orders ---------------------------------------------------------------------------------------------------------------


def _parts(found: CampaignStatus) -> list[CampaignStatus]:
    """The campaign, and the one that sends SMS to those whose MMS did not arrive."""
    return [found] if found.fallback is None else [found, found.fallback]


def _has_sender(found: CampaignStatus) -> bool:
    return found.activity not in (Activity.IDLE, Activity.LOST)


def _is_sent(found: CampaignStatus) -> bool:
    return any(map(_has_sender, _parts(found)))


def _has_paused(found: CampaignStatus) -> bool:
    return all(part.activity is Activity.PAUSED or not _has_sender(part) for part in _parts(found))


def _has_continued(found: CampaignStatus) -> bool:
    return all(part.activity not in (Activity.PAUSING, Activity.PAUSED) for part in _parts(found))


async def _noticed(
    found: CampaignStatus, journal: str, name: str | None, has_noticed: Callable[[CampaignStatus], bool]
) -> CampaignStatus:
    """How the campaign stands when its sender has heeded an order, or has not for long."""
    give_up_at = time.monotonic() + NOTICED_WITHIN
    while not has_noticed(found) and time.monotonic() < give_up_at:
        await asyncio.sleep(LOOK_AGAIN)
        found = await bulk.read_status(journal, name)
    return found


def _show_order(found: CampaignStatus, as_json: bool, done: str, is_noticed: bool, without_sender: str) -> Status:
    """Show what came of an order; `FAILED` where its sender has not heeded it."""
    sender = next((part.sender for part in _parts(found) if _has_sender(part)), None)
    if not is_noticed:
        complain(f"recorded, but after {NOTICED_WITHIN:g} s the sender has not done it yet: {sender}")
    if as_json:
        print(to_json(document_of(found)))
    elif not _is_sent(found):
        print(printable(f"{done}; nobody is sending: {without_sender}"))
    else:
        print(printable(f"{done if is_noticed else 'recorded'}; sender: {sender}"))
    return Status.DONE if is_noticed else Status.FAILED


# Looks ----------------------------------------------------------------------------------------------------------------


async def _looks(journal: str, name: str | None, interval: float) -> AsyncIterator[CampaignStatus]:
    """How the campaign stands, again and again, until it is over. A store that is away is waited for."""
    is_away = False
    while True:
        began = time.monotonic()
        try:
            found = await bulk.read_status(journal, name)
            is_away = False
        except JournalUnavailableError as error:
            if not is_away:
                complain(str(error))
            is_away = True
        else:
            yield found
            if found.is_over:
                return
        await asyncio.sleep(max(interval, IDLE_FOR_ONE * (time.monotonic() - began)))


def facts_of(found: CampaignStatus) -> dict[str, str]:
    """What is told of it, line by line."""
    facts = {"Now": f"{found.activity}: {with_local_times(found.why)}" if found.why else str(found.activity)}
    if found.sender is not None:
        facts["Sender"] = f"{found.sender}, since {local_if_any(found.sender_since)}"
    if found.is_pause_unnoticed:
        facts["Paused"] = f"since {local_if_any(found.paused_at)} by {found.paused_by}"
    total = sum(found.counts.values())
    facts["Recipients"] = f"{total}" if found.list_read else f"{total}, and the list was not read to its end"
    facts |= {state.capitalize(): str(count) for state, count in found.counts.items() if count}
    facts |= gone_pictures(found)
    facts["Calls"] = str(found.calls)
    if found.calls_per_second:
        facts["Rate"] = f"{found.calls_per_second:.1f} calls/s, {found.recipients_per_second:.0f} recipients/s"
    if found.seconds_left is not None:
        facts["Time left"] = duration(found.seconds_left)
    facts["Credits used"] = str(found.credits_used)
    facts["Throttled"] = counted(found.throttled, "call")
    if found.fallback is not None:
        facts["By SMS"] = str(found.fallback)
    if found.last_error is not None:
        facts["Last error"] = f"{local_if_any(found.last_error_at)} {found.last_error}"
    return facts | {f"Call {each.batch}": str(each) for each in found.last_failures}


def _bar_of(found: CampaignStatus) -> Bar:
    return Bar.of(found.counts, is_whole=found.list_read)


def line_of(found: CampaignStatus) -> str:
    """The same in one line."""
    rate = [f"{found.calls_per_second:.1f} calls/s"] if found.calls_per_second else []
    left = [] if found.seconds_left is None else [f"{found.seconds_left:.0f} s left"]
    return "; ".join([with_local_times(str(found)), ", ".join([*rate, counted(found.credits_used, "credit"), *left])])


def document_of(found: CampaignStatus) -> dict[str, Any]:
    """The same for scripts."""
    facts = asdict(found, recurse=False)
    times = {name: local_if_any(value) for name, value in facts.items() if isinstance(value, datetime)}
    rounded = {name: round(value, 3) for name, value in facts.items() if isinstance(value, float)}
    told = {**facts, **times, **rounded, "why": with_local_times(found.why)}
    fallback = None if found.fallback is None else document_of(found.fallback)
    return {"event": "status", **told, "is_over": found.is_over, "fallback": fallback}
