"""Orders of the outbox as PostgreSQL holds them: what puts one, and what finds it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from attrs import field, frozen

from mmsclient._store.models import RecipientState
from mmsclient._store.outbox import HeldOrder, HeldRecipient, Order, OutboxState
from mmsclient.errors import InvalidRequestError

__all__ = ["CHANNEL", "Placeholders", "Statement", "held", "put_statement", "select"]

CHANNEL = "mmsclient_outbox"
"""What is notified, with the name of the schema, when an order was put or has ended."""

Placeholders = Literal["pyformat", "named", "numeric"]
"""`%(key)s` (psycopg, psycopg2, Django), `:key` (SQLAlchemy's `text`) or `$1` (asyncpg)."""

_TYPES = {
    "key": "text",
    "text": "text",
    "subject": "text",
    "picture": "bytea",
    "sha256": "text",
    "message": "text",
    "phones": "bigint[]",
    "not_before": "timestamptz",
    "strict": "boolean",
}
_FORMS = {"pyformat": "%({name})s", "named": ":{name}", "numeric": "${place}"}


@frozen
class Statement:
    """One statement in SQL that puts an order, for any driver: within your own transaction."""

    sql: str
    parameters: Mapping[str, Any] | Sequence[Any] = field(repr=False)
    """By their names; in order for `numeric`."""


def put_statement(order: Order, schema: str, placeholders: Placeholders, *, strict: bool) -> Statement:
    """What puts an order. `strict`: another order with the key is an error of the database's."""
    if placeholders not in _FORMS:
        raise InvalidRequestError("placeholders", placeholders, "'pyformat', 'named' or 'numeric'")
    values = {
        "key": order.key,
        "text": order.text,
        "subject": order.subject,
        "picture": order.picture,
        "sha256": order.picture_sha256,
        "message": order.message,
        "phones": list(order.phones),
        "not_before": None if order.not_before is None else datetime.fromtimestamp(order.not_before, UTC),
        "strict": strict,
    }
    form = _FORMS[placeholders]
    places = ((form.format(name=name, place=place), name) for place, name in enumerate(values, 1))
    arguments = ", ".join(f"CAST({place} AS {_TYPES[name]})" for place, name in places)
    sql = f'SELECT "{schema}".outbox_put({arguments})'
    return Statement(sql, tuple(values.values()) if placeholders == "numeric" else values)


def select(condition: str, schema: str | None = None) -> str:
    """A query for orders, as `held` reads them."""
    prefix = "" if schema is None else f'"{schema}".'
    of_each = f"FROM {prefix}outbox_recipient AS r WHERE r.outbox = o.id"
    times = ", ".join(f"extract(epoch FROM {name})" for name in ("put", "not_before", "claimed", "ended"))
    lists = ", ".join(
        f"(SELECT array_agg(r.{name} ORDER BY position) {of_each})"
        for name in ("phone", "state", "message_id", "proven")
    )
    columns = f"id, key, text, subject, picture, state, {times}, attempts, number, result, {lists}"
    return f"SELECT {columns} FROM {prefix}outbox AS o WHERE {condition}"  # noqa: S608


def held(row: Sequence[Any]) -> HeldOrder:
    """An order from a row of `select`."""
    id_, key, text, subject, picture, state, *times, attempts, number, result, phones, states, message_ids, proven = row
    put, not_before, claimed, ended = (None if time is None else float(time) for time in times)
    recipients = tuple(
        HeldRecipient(phone, None if of_it is None else RecipientState(of_it), message_id, is_proven)
        for phone, of_it, message_id, is_proven in zip(phones, states, message_ids, proven, strict=True)
    )
    return HeldOrder(
        id=id_,
        key=key,
        text=text,
        subject=subject,
        picture_sha256=picture,
        recipients=recipients,
        state=OutboxState(state),
        put_at=put or 0.0,
        not_before=not_before,
        claimed_at=claimed,
        ended_at=ended,
        attempts=attempts,
        number=number,
        result={} if result is None else json.loads(result),
    )
