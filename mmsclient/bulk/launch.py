"""What a run does once, right before its first call: the account, the credit, and the test messages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal

from mmsclient._api.envelope import is_of_the_api
from mmsclient.bulk.batches import BatchSender, RunParts
from mmsclient.bulk.control import Stop
from mmsclient.bulk.errors import BalanceTooLowError
from mmsclient.bulk.fallback_settings import spent_by_fallback
from mmsclient.bulk.journal_thread import JournalThread
from mmsclient.bulk.kinds import balance_of
from mmsclient.bulk.preparation import Preparation
from mmsclient.bulk.trial import Trial
from mmsclient.errors import (
    APIError,
    AuthenticationError,
    MMSError,
    RateLimitError,
    ServerError,
    UnknownCallError,
    in_words,
)
from mmsclient.models import Account

__all__ = ["Launch"]

log: logging.Logger = logging.getLogger(__name__)

WHEN = "before its first call"

_SERIOUS = (AuthenticationError, UnknownCallError, ServerError)


class Launch:
    """Clears one run for its first call. Whatever speaks against it ends the run by its `Control`.

    Args:
        preparation: Of the campaign.
        thread: The journal.
        parts: Of the run.
        is_list_read: Whether the list was read to its end.
    """

    def __init__(
        self, preparation: Preparation, thread: JournalThread, parts: RunParts, is_list_read: Callable[[], bool]
    ) -> None:
        self._preparation = preparation
        self._thread = thread
        self._parts = parts
        self._is_list_read = is_list_read
        self._balance: Decimal | None = None
        self._spent_before = Decimal(0)
        self._is_checked = False
        self._phones: list[int] = []  # of the test numbers
        self.is_over: bool = False
        """It has cleared the run, or ended it."""

    async def run(self, sender: BatchSender) -> None:
        """Look at everything. Nobody is at stake before it is over, but for the test numbers.

        Where the hours end before these were sent to, it is not over, and is called again.
        """
        options, control = self._parts.options, self._parts.control
        if not self._is_checked:
            self._is_checked = True
            if options.max_credits is not None or options.require_credit:
                self._parts.budget.add(await self._thread.run(self._thread.journal.reader.call_costs))
                self._parts.budget.spend(await spent_by_fallback(options))
            self._spent_before = self._parts.budget.spent
            self._phones = await self._preparation.add_tests(self._thread)
            await self._weight()
            await self._check_account()
        if self._phones and not control.is_stopping:
            self.is_over = await Trial(self._thread, self._parts, self._phones).run(sender)
        else:
            self.is_over = True

    async def _check_account(self) -> None:
        options = self._parts.options
        if not options.check_account and not options.require_credit:
            await self._preparation.note_balance(self._thread, is_after=False)
            return
        account = await self._account()
        if account is not None:
            await self._preparation.note(self._thread, account, is_after=False)
            self._balance = balance_of(account, options.kind)
        if options.require_credit:
            await self._require_credit()
        else:
            await self.warn_of_credit()

    async def _account(self) -> Account | None:
        """The account; None where the API does not tell of it, or the run is to stop."""
        control = self._parts.control
        try:
            return await control.unless_stopped(self._preparation.client.account())
        except MMSError as error:
            if not is_harmless(error):
                control.fail(Stop(error, WHEN))
                return None
            what = "the balance was not noted" if self._parts.options.check_balance else "the account was not checked"
            log.warning("%s: %s", what, in_words(error))
        return None

    async def _require_credit(self) -> None:
        """Wait until it is known what the list needs, and stop the run where the balance is less, or not known."""
        control = self._parts.control
        while not self._is_list_read() and not control.is_stopping:
            await control.wait_for_change(None)
        needed = await self._needed()
        if not control.is_stopping and (self._balance is None or self._balance < needed):
            control.fail(Stop(BalanceTooLowError(needed, self._balance), WHEN))

    async def warn_of_credit(self) -> None:
        """Warn, once the list was read and the balance is known, where that seems too small."""
        if self._parts.options.require_credit or not self._is_list_read() or self._balance is None:
            return
        if self._balance < (needed := await self._needed()):
            log.warning("%s", BalanceTooLowError(needed, self._balance))

    async def _needed(self) -> Decimal:
        """Credits that this run needs, what it has spent by now included."""
        budget, weight = self._parts.budget, await self._weight()
        spent = budget.spent - self._spent_before
        needed = budget.price * weight
        return spent + (needed if budget.left is None else min(needed, budget.left))

    async def _weight(self) -> Decimal:
        """Of all messages that are still to be sent; from now on that of the heaviest is known."""
        weights, journal = self._parts.budget.weights, self._thread.journal
        if weights.are_equal:
            return journal.ready * weights.heaviest
        return await self._thread.run(lambda: weights.ahead(journal.reader))


def is_harmless(error: MMSError) -> bool:
    """The API itself answered the account call, and took the APPKEY: what it refuses is this call alone, maybe."""
    if isinstance(error, RateLimitError):
        return True
    return isinstance(error, APIError) and is_of_the_api(error) and not isinstance(error, _SERIOUS)
