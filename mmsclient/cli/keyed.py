"""The options of a send with a key, which is carried out once at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from mmsclient import _environment
from mmsclient.cli.status import UsageError


@Parameter(name="*", group=Group("Once at most"))
@dataclass(frozen=True, kw_only=True)
class Keyed:
    """What the send is for, and what remembers that."""

    key: str | None = None
    """What this send is for, such as the number of an order: with the same key it is carried out once at most. Sent
    before, what came of it is printed again."""
    ledger: str | None = None
    """What remembers the keys: a file on a local disk, which is made if it is not there, or the URL of a PostgreSQL
    database (postgresql://user@host/database). Left out: MMSCLIENT_LEDGER."""
    retry_refused: Annotated[bool, Parameter(show_default=False)] = False
    """With --key: send again what was refused before for the message's or the recipients' sake."""
    new_key: Annotated[bool, Parameter(show_default=False)] = False
    """With --key: the account of the ledger is the same, and its APPKEY was changed."""

    def chosen_ledger(self) -> str | None:
        """The ledger; None without a key. Raises `UsageError` where one of the options lacks another."""
        if self.key is None:
            self._check_without_key()
            return None
        ledger = _environment.setting(_environment.LEDGER) if self.ledger is None else self.ledger
        if ledger is None:
            raise UsageError(f"--key: needs --ledger FILE|URL, or {_environment.LEDGER}")
        return ledger

    def _check_without_key(self) -> None:
        if self.retry_refused:
            raise UsageError("--retry-refused: needs --key KEY, which names what was refused; nothing was sent")
        for option, is_given in (("--ledger", self.ledger is not None), ("--new-key", self.new_key)):
            if is_given:
                raise UsageError(f"{option}: it is for sends with --key; nothing was sent")


NO_KEY = Keyed()
