"""Answers that come late, in the evidence: to calls whose recipients or orders were to be sent to again before.

An answer is noted at the very moment at which its call began: nothing else can be heard then, so that no other call may
have caused it, and by this it is told from a report or a reply, whose word counts for less.
"""

from __future__ import annotations

__all__ = ["ANSWER_COUNTS", "IS_ANSWER", "named_by", "unnamed"]

# One by one, as in `evidence`.
IS_ANSWER = """
(SELECT true FROM recipient WHERE recipient.phone = evidence.phone AND (
    SELECT true FROM former_call
    WHERE former_call.campaign = recipient.campaign AND former_call.recipient = recipient.id AND (
        SELECT started FROM batch WHERE batch.campaign = former_call.campaign AND batch.id = former_call.batch LIMIT 1
    ) = evidence.heard LIMIT 1
) LIMIT 1) IS NOT NULL OR (SELECT true FROM outbox_recipient AS ordered WHERE ordered.phone = evidence.phone AND (
    SELECT doubted FROM outbox WHERE outbox.id = ordered.outbox LIMIT 1
) = evidence.heard LIMIT 1) IS NOT NULL
"""
"""A row of `evidence` is an answer."""
ANSWER_COUNTS = "ON CONFLICT (phone, message_id) DO UPDATE SET heard = excluded.heard, kind = excluded.kind"
"""Whatever a report or a reply has told before."""

_UNNAMED = "accepted without a message id: "


def unnamed(call: str) -> str:
    """What stands for the message id where the answer to this call names none."""
    return _UNNAMED + call


def named_by(message_id: str) -> str | None:
    """The message id that an answer, a report or a reply named, if any."""
    return None if message_id.startswith(_UNNAMED) else message_id
