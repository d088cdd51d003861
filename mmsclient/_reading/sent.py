"""What a caller may overlook in the result of a send, told in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from mmsclient.models import SentBatch, SentMany

log: logging.Logger = logging.getLogger(__name__)


def warn_of(call: str, sent: SentBatch) -> None:
    """Recipients that were refused without a word, and an answer that contradicts the call."""
    _warn_of_flaws(call, sent.flaws)
    if sent.is_partial and len(sent.messages) <= sent.accepted:  # else nobody knows
        log.warning("%s: %s; the API refused the others without a reason", call, sent)


def warn_of_many(call: str, sent: SentMany) -> None:
    """The same for each message, those that were refused or may have been sent, and what is about none of them."""
    _warn_of_flaws(call, sent.flaws)
    for outcome in sent:
        if outcome.sent is not None:
            warn_of(call, outcome.sent)
    if any(outcome.error is not None for outcome in sent):
        log.warning("%s: %s", call, sent)


def _warn_of_flaws(call: str, flaws: Iterable[str]) -> None:
    for flaw in flaws:
        log.warning("%s: the answer contradicts the call: %s", call, flaw)
