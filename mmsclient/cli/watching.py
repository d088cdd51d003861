"""Shows something that changes: in place on a terminal, a line at a time in a pipe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

from rich.console import Console, Group, RenderableType

from mmsclient.cli.live import LiveBlock, is_steerable
from mmsclient.cli.output import Facts, Form, printable, show_facts, to_json

T = TypeVar("T")


async def show_looks(
    looks: AsyncIterator[T],
    form: Form,
    *,
    facts: Callable[[T], dict[str, str]],
    line: Callable[[T], str],
    document: Callable[[T], Mapping[str, Any]],
    above: Callable[[T], RenderableType] | None = None,
) -> None:
    """Shows each look by `facts` on a terminal, by `document` for scripts, else by `line` where that is another one.

    `above`: what is shown above the facts.
    """
    if form is Form.TABLE and is_steerable(console := Console()):
        with LiveBlock(console) as block:
            async for found in looks:
                shown = Facts(facts(found))
                block.update(shown if above is None else Group(above(found), shown))
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
    else:
        show_facts(facts(found), form)
