"""The MMS API, local: a server for tests and demos that behaves like the service, and fails on request.

    with Sandbox() as sandbox:
        ...                                # call sandbox.url with sandbox.app_key
        assert sandbox.carried_out("+61400000000") == 1

Needs the extra `sandbox`. The names below are loaded when first used, so that the pytest plugin costs nothing in a test
run that does not use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmsclient._extras import needed

if TYPE_CHECKING:
    from mmsclient.sandbox import faults
    from mmsclient.sandbox.clock import ManualClock
    from mmsclient.sandbox.magic import Ending
    from mmsclient.sandbox.outgoing import Outgoing
    from mmsclient.sandbox.records import Arrival, Callback, Message, OptOut, Reply, Send, Template
    from mmsclient.sandbox.server import Sandbox
    from mmsclient.sandbox.settings import Settings

__all__ = [
    "Arrival",
    "Callback",
    "Ending",
    "ManualClock",
    "Message",
    "OptOut",
    "Outgoing",
    "Reply",
    "Sandbox",
    "Send",
    "Settings",
    "Template",
    "faults",
]

_HOMES = {
    "Ending": "magic",
    "ManualClock": "clock",
    "Outgoing": "outgoing",
    "Sandbox": "server",
    "Settings": "settings",
    **dict.fromkeys(("Arrival", "Callback", "Message", "OptOut", "Reply", "Send", "Template"), "records"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needed("sandbox", "the sandbox"):
        module = import_module(f"{__name__}.{_HOMES.get(name, name)}")
    return getattr(module, name) if name in _HOMES else module
