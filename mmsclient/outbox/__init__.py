"""The outbox: orders that are handed over, within your own transaction if you like, and sent once at most."""

from mmsclient._store.postgres.outbox_rows import Statement
from mmsclient.outbox.errors import OutboxBusyError, OutboxError, OutboxStoppedError, OutboxUnavailableError
from mmsclient.outbox.models import OutboxCounts, OutboxRecipient, OutboxResult, OutboxState
from mmsclient.outbox.outbox import Outbox

__all__ = [
    "Outbox",
    "OutboxBusyError",
    "OutboxCounts",
    "OutboxError",
    "OutboxRecipient",
    "OutboxResult",
    "OutboxState",
    "OutboxStoppedError",
    "OutboxUnavailableError",
    "Statement",
]
