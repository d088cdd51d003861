"""The options of a campaign: their names, types, defaults and limits."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypedDict

from attrs import Attribute, field, frozen
from attrs.validators import optional

from mmsclient._api.checks import check_whole, checked_time
from mmsclient._api.phone_numbers import MAX_RECIPIENTS
from mmsclient._api.sms_fields import checked_sms_text
from mmsclient._api.types import Kind
from mmsclient._store.evidence import Silent
from mmsclient._store.stores import FALLBACK, LONGEST_NAME, JournalStore, is_place, shown_place, store_at
from mmsclient.bulk import launch_options as launch
from mmsclient.bulk.brake import MOST
from mmsclient.bulk.fallback_options import SMSFallback, fallback_of
from mmsclient.bulk.kind_options import check_kind
from mmsclient.bulk.models import Progress, Recipient
from mmsclient.bulk.opt_out_line import check_opt_out_line
from mmsclient.bulk.own_pictures import CampaignImage
from mmsclient.bulk.personal import checked_template_subject, with_line
from mmsclient.bulk.recipients import Recipients, Row
from mmsclient.bulk.suppression import SuppressionList
from mmsclient.bulk.template import MessageText, Template
from mmsclient.bulk.window import Window
from mmsclient.errors import InvalidRequestError

__all__ = ["ATTEMPTS", "STOP_AFTER", "CampaignOptions", "Options"]

STOP_AFTER = 3
"""Calls in a row that fail, or whose outcome is unknown, before a campaign stops, unless the caller says otherwise."""

ATTEMPTS = 4
"""How often a call is tried that was surely not carried out."""


class CampaignOptions(TypedDict, total=False):
    """The options of a campaign beside its message and its journal: see `Campaign`."""

    name: str | None
    kind: Kind
    sender: str | None
    source: str | None
    custom_string: str | None
    fallback: Literal["sms"] | SMSFallback | None
    fit: bool
    batch_size: int
    exclude: Recipients
    exclude_opt_outs: bool | None
    partial_opt_outs: bool
    suppress: SuppressionList | str | os.PathLike[str] | None
    opt_out_line: str | None
    window: Window | None
    start_at: datetime | None
    recipients_per_minute: int | None
    resend_unknown: bool | Literal["silent"]
    silent_after: timedelta | float
    check_account: bool
    check_balance: bool
    require_credit: bool
    max_credits: Decimal | float | None
    credits_per_message: Decimal | float
    test: str | Iterable[str | Row | Mapping[str, object]]
    test_timeout: timedelta | float
    approve_test: Callable[[Sequence[Recipient]], Awaitable[bool]] | None
    slow_start: int
    max_concurrency: int
    new_key: bool
    stop_after: int
    max_attempts: int
    timeout: float | None
    on_progress: Callable[[Progress], object] | None


def _whole(most: int | None = None) -> Callable[[Any, Attribute[int], int], None]:
    """A validator: a whole number from 1, up to `most`."""

    def check(_: Any, attribute: Attribute[int], value: int) -> None:
        check_whole(attribute.name, value, 1, most, error=InvalidRequestError)

    return check


def _resend(_: Any, __: Attribute[Any], value: object) -> None:
    if not (isinstance(value, bool) or value == "silent"):
        raise InvalidRequestError("resend_unknown", value, 'True, False or "silent"')


def _window(_: Any, __: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, Window):
        raise InvalidRequestError(
            "window", value, 'a Window, such as Window("09:00", "20:00", zone="Australia/Sydney")'
        )


def _start(_: Any, __: Attribute[Any], value: datetime | None) -> None:
    if value is not None:
        checked_time("start_at", value)


def _silent_after(value: timedelta | float) -> float:
    return launch.seconds("silent_after", value)


def _list_at(place: Any) -> SuppressionList:
    if not is_place(place):
        expected = "a SuppressionList, the path of its file, or the URL of a PostgreSQL database"
        raise InvalidRequestError("suppress", shown_place(place), expected)
    return SuppressionList(place)


@frozen(kw_only=True)
class Options:
    """What a campaign was asked for. Raises `InvalidRequestError` for a wrong option."""

    text: MessageText
    image: CampaignImage | None = None
    subject: MessageText | None = field(default=None, converter=checked_template_subject)
    journal: str | os.PathLike[str] | None = field(default=None, repr=False)
    name: str | None = None
    kind: Kind = "mms"
    sender: str | None = None
    source: str | None = None
    custom_string: str | None = None
    fallback: SMSFallback | None = field(default=None, converter=fallback_of)
    fit: bool = False
    batch_size: int = field(default=MAX_RECIPIENTS, validator=_whole(MAX_RECIPIENTS))
    exclude: Recipients = ()
    exclude_opt_outs: bool | None = None
    partial_opt_outs: bool = False
    suppress: SuppressionList | str | os.PathLike[str] | None = field(default=None, repr=False)
    opt_out_line: str | None = field(default=None, validator=check_opt_out_line)
    window: Window | None = field(default=None, validator=_window)
    start_at: datetime | None = field(default=None, validator=_start)
    recipients_per_minute: int | None = field(default=None, validator=optional(_whole()))
    resend_unknown: bool | Literal["silent"] = field(default=False, validator=_resend)
    silent_after: float = field(default=86400.0, converter=_silent_after)
    check_account: bool = True
    check_balance: bool = False
    require_credit: bool = False
    max_credits: Decimal | None = field(default=None, converter=launch.max_credits)
    credits_per_message: Decimal = field(default=Decimal(1), converter=launch.message_price)
    test: tuple[Row, ...] = field(default=(), converter=launch.test_rows, repr=False)
    test_timeout: float = field(default=600.0, converter=launch.test_timeout)
    approve_test: Callable[[Sequence[Recipient]], Awaitable[bool]] | None = field(
        default=None, validator=launch.check_callable
    )
    slow_start: int = field(default=1, validator=launch.check_not_negative)
    max_concurrency: int = field(default=MOST, validator=_whole())
    new_key: bool = False
    stop_after: int = field(default=STOP_AFTER, validator=_whole())
    max_attempts: int = field(default=ATTEMPTS, validator=_whole())
    timeout: float | None = None
    on_progress: Callable[[Progress], object] | None = None
    store: JournalStore | None = field(init=False)
    """Where its journal is, None for memory."""
    suppression: SuppressionList | None = field(init=False)
    """`suppress`, or the list at that place."""

    def __attrs_post_init__(self) -> None:
        check_kind(self)
        if self.journal is None and self.name is not None:
            raise InvalidRequestError("name", self.name, "a journal in PostgreSQL beside it")
        store = None if self.journal is None else store_at(self.journal, self.name)
        object.__setattr__(self, "store", store)
        if self.fallback is not None:
            self._check_fallback()
        is_list = self.suppress is None or isinstance(self.suppress, SuppressionList)
        object.__setattr__(self, "suppression", self.suppress if is_list else _list_at(self.suppress))

    def _check_fallback(self) -> None:
        if self.store is None:
            raise InvalidRequestError("fallback", "no journal", "a journal beside it: who got an SMS is kept there")
        if self.name is not None and len(self.name) > LONGEST_NAME - len(FALLBACK):
            expected = f"at most {LONGEST_NAME - len(FALLBACK)} characters where there is a fallback"
            raise InvalidRequestError("name", self.name, expected)
        text = self.text if self.fallback is None or self.fallback.text is None else self.fallback.text
        text = with_line(text, self.opt_out_line)
        if not isinstance(text, Template):
            checked_sms_text(text)

    @property
    def shown_name(self) -> str:
        """What observers are told of its journal: the name in the database, or the file's without its folder."""
        if self.name is not None or self.journal is None:
            return self.name or ""
        return os.path.basename(os.fspath(self.journal))

    @property
    def resend(self) -> bool | Silent:
        """`resend_unknown` as the journal takes it."""
        return Silent(self.silent_after) if self.resend_unknown == "silent" else bool(self.resend_unknown)

    @property
    def asks_opt_outs(self) -> bool:
        """The API is asked who has unsubscribed."""
        if self.exclude_opt_outs is None:
            return self.suppression is not None
        return self.exclude_opt_outs

    @property
    def owns_suppression(self) -> bool:
        """The suppression list was made here, and is closed here."""
        return self.suppression is not self.suppress
