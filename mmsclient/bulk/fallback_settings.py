"""With which text and options the SMS of a fallback are sent, and what they and the campaign may cost together."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal

from mmsclient._store.models import FALLBACK, Message, number_of
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.stores import JournalStore
from mmsclient._threads import STORES
from mmsclient.bulk.budget import Budget
from mmsclient.bulk.fallback_options import SMSFallback
from mmsclient.bulk.kind_options import SMS_OPTIONS, options_of
from mmsclient.bulk.options import CampaignOptions, Options
from mmsclient.bulk.personal import texts_of, with_line
from mmsclient.bulk.preparation import Preparation
from mmsclient.bulk.template import MessageText, Template
from mmsclient.bulk.weights import Weights

__all__ = ["settings_of", "spent_by_fallback"]

OWN_TEXT = Template("{text}")
"""Each gets the text that its MMS had."""

_SHARED = (
    "batch_size",
    "exclude_opt_outs",
    "partial_opt_outs",
    "window",
    "start_at",
    "recipients_per_minute",
    "resend_unknown",
    "silent_after",
    "check_account",
    "check_balance",
    "require_credit",
    "slow_start",
    "max_concurrency",
    "new_key",
    "stop_after",
    "max_attempts",
    "timeout",
    "on_progress",
)
"""Options that are the same for both."""


async def settings_of(
    preparation: Preparation, fallback: SMSFallback, held: Message | None
) -> tuple[MessageText, CampaignOptions]:
    """The text and the options of the campaign that sends the SMS. `held`: what its journal holds, and is meant."""
    options = preparation.options
    given: CampaignOptions = {name: getattr(options, name) for name in _SHARED}  # type: ignore[assignment]
    given |= {
        "kind": "sms",
        "name": None if options.name is None else f"{options.name}{FALLBACK}",
        "exclude": [number_of(phone) for phone in await preparation.excluded()],
        "suppress": options.suppress,
        "max_credits": await _most(options, fallback),
    }
    if held is not None:
        text, _ = texts_of(held)
        return text, {**given, **options_of(held)}  # type: ignore[typeddict-item]
    fields = {name: getattr(fallback, name) for name in SMS_OPTIONS}
    text = _text(options, fallback)
    return text, {**given, **fields}  # type: ignore[typeddict-item]


def _text(options: Options, fallback: SMSFallback) -> MessageText:
    if fallback.text is None and isinstance(options.text, Template):
        return OWN_TEXT
    text = options.text if fallback.text is None else fallback.text
    if fallback.text is None and isinstance(text, str):
        text = text.replace("\r\n", "\n")  # as a journal gives that of an MMS
    return with_line(text, options.opt_out_line)


async def _most(options: Options, fallback: SMSFallback) -> Decimal | None:
    if fallback.max_credits is not None or options.max_credits is None:
        return fallback.max_credits
    assert options.store is not None  # noqa: S101 - the options were checked
    return max(Decimal(0), options.max_credits - await _spent(options.store, options))


async def spent_by_fallback(options: Options) -> Decimal:
    """Credits that the SMS have cost, or may have, where `max_credits` is for both together; else 0."""
    fallback, store = options.fallback, options.store
    if fallback is None or store is None or fallback.max_credits is not None:
        return Decimal(0)
    if not await STORES.run(store.fallback.exists):
        return Decimal(0)
    return await _spent(store.fallback, None)


async def _spent(store: JournalStore, options: Options | None) -> Decimal:
    """Credits that a campaign has cost, or may have. `options`: its own; None for those that its journal tells."""

    def read() -> Decimal:
        with translated_errors(store.shown), closing(store.open_reader()) as reader:
            found = options or _told(reader.message())
            budget = Budget(None, found.credits_per_message, Weights(found))
            budget.add(reader.call_costs())
            return budget.spent

    return await STORES.run(read)


def _told(message: Message) -> Options:
    text, _ = texts_of(message)
    return Options(text=text, kind="sms", sender=options_of(message).get("sender"))
