"""Shows something that changes: in place on a terminal, a line at a time in a pipe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

from rich.console import Console
from rich.live import Live

from mmsclient.cli.output import Form, facts_table, printable, to_json

T = TypeVar("T")


async def show_looks(
    looks: AsyncIterator[T],
    form: Form,
    *,
    facts: Callable[[T], dict[str, str]],
    line: Callable[[T], str],
    document: Callable[[T], Mapping[str, Any]],
) -> None:
    """Shows each look by `facts` on a terminal, by `document` for scripts, else by `line` where that is another one."""
    if form is Form.TABLE:
        with Live(auto_refresh=False, console=Console()) as live:
            async for found in looks:
                live.update(facts_table(facts(found)), refresh=True)
        return
    before = ""
    async for found in looks:
        text = to_json(document(found)) if form is Form.JSON else printable(line(found))
        if form is Form.JSON or text != before:
            print(text, flush=True)
        before = text


def show(
    found: T, form: Form, facts: Callable[[T], dict[str, str]], document: Callable[[T], Mapping[str, Any]]
) -> None:
    """Shows one look."""
    if form is Form.JSON:
        print(to_json(document(found)))
    elif form is Form.TABLE:
        Console().print(facts_table(facts(found)))
    else:
        print("\n".join(f"{title}: {printable(value)}" for title, value in facts(found).items()))
