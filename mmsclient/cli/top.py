"""`mmsclient top`: a cap that several processes share, live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from attrs import asdict
from cyclopts import Parameter
from cyclopts.validators import Number

from mmsclient import _environment
from mmsclient._base_client import RATE
from mmsclient._words import counted
from mmsclient.cli.output import Form
from mmsclient.cli.status import Status, UsageError, complain
from mmsclient.cli.watching import show, show_looks
from mmsclient.errors import LimiterUnavailableError
from mmsclient.limiter.redis.watching import CapFigures, CapWatch

LOOK_AGAIN = 0.5
"""Seconds between two looks: a call leaves a trace in Redis for a second."""


async def top(
    redis: str | None = None,
    *,
    account: str | None = None,
    rate: Annotated[float, Parameter(validator=Number(gt=0))] = RATE,
    once: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    json: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> int:
    """Show a cap that processes share through Redis, until Ctrl-C. Takes no part in it, and calls no API.

    Parameters
    ----------
    redis
        URL of the Redis. Left out: MMSCLIENT_REDIS. Give a password there.
    account
        Name under which they share it. Left out: MMSCLIENT_ACCOUNT.
    rate
        Calls a second that the cap allows: Redis does not hold it.
    once
        Look for a second, print that and end.
    json
        Print a JSON object a line for scripts.
    """
    url = _environment.setting(_environment.REDIS) if redis is None else redis
    name = _environment.setting(_environment.ACCOUNT) if account is None else account
    if url is None:
        raise UsageError(f"REDIS: needs the URL of one, or {_environment.REDIS}")
    if name is None:
        raise UsageError(f"--account: needs the name of the account, or {_environment.ACCOUNT}")
    form = Form.chosen(json)
    async with aclosing(CapWatch(url, account=name, rate=rate)) as cap:
        if once:
            for _ in range(2):
                await cap.look()
                await asyncio.sleep(LOOK_AGAIN)
            show(await cap.look(), form, facts_of, document_of)
        else:
            await show_looks(_looks(cap), form, facts=facts_of, line=line_of, document=document_of)
    return Status.DONE


async def _looks(cap: CapWatch) -> AsyncIterator[CapFigures]:
    """The cap, again and again. A Redis that is away is waited for, if it was there at first."""
    yield await cap.look()
    is_away = False
    while True:
        await asyncio.sleep(LOOK_AGAIN)
        try:
            found = await cap.look()
        except LimiterUnavailableError as error:
            if not is_away:
                complain(str(error))
            is_away = True
        else:
            is_away = False
            yield found


def facts_of(found: CapFigures) -> dict[str, str]:
    """What is told of it, line by line."""
    if not found.is_known:
        return {"Cap": "no process has shared it for a day, by this name"}
    slowed = f" (slowed down, of {found.full_rate:g})" if found.rate < found.full_rate else ""
    facts = {"Cap": f"{found.rate:.3g} calls/s{slowed}"}
    if found.paused_for:
        facts["Paused"] = f"for {found.paused_for:.1f} s more, after a throttling"
    if found.calls_per_second is not None:
        facts["Rate"] = f"{found.calls_per_second:.1f} calls/s"
    taken = found.under_way + found.counted + found.kept_free
    facts["Slots in use"] = f"{taken} of {found.slots}"
    facts["Under way"] = str(found.under_way)
    facts["Still counted"] = str(found.counted)
    if found.kept_free:
        facts["Kept free"] = f"{found.kept_free}, since Redis has lost what it knew, was away, or misses a process"
    facts["Processes"] = str(len(found.processes))
    facts["Of these in line"] = str(found.waiting)
    facts["Queue"] = _queue(found)
    facts["Throttlings"] = f"{found.throttlings} since the first look"
    for process in found.processes:
        callers = "" if process.queue is None else f" with {counted(process.queue, 'caller')}"
        in_line = f", in line{callers}" if process.waits else ""
        facts[process.process] = f"{process.under_way} under way, {process.counted} still counted{in_line}"
    return facts


def _queue(found: CapFigures) -> str:
    """How many callers wait in all, or at least."""
    if found.queue is not None:
        return counted(found.queue, "caller")
    told = [process.queue for process in found.processes if process.queue is not None]
    silent = len(found.processes) - len(told)
    return f"at least {counted(sum(told) + silent, 'caller')}; processes in line without a number: {silent}"


def line_of(found: CapFigures) -> str:
    """The same in one line."""
    return "; ".join(f"{title}: {value}" for title, value in facts_of(found).items())


def document_of(found: CapFigures) -> dict[str, Any]:
    """The same for scripts."""
    facts = asdict(found)
    rounded = {name: round(value, 3) for name, value in facts.items() if isinstance(value, float)}
    return {"event": "cap", **facts, **rounded, "waiting": found.waiting, "queue": found.queue}
