"""What a campaign asks of its journal, whichever engine keeps it. A type for each use; none may be used half."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from mmsclient._store.evidence import Silent
from mmsclient._store.figures import Figures
from mmsclient._store.heard import Heard
from mmsclient._store.models import (
    Claim,
    Exclusion,
    ListEntry,
    Message,
    OwnRow,
    PersonalMessage,
    Picked,
    Recipient,
    RecipientResult,
    RecipientState,
    Selection,
    Summary,
)
from mmsclient._store.spending import CallCost
from mmsclient._store.steering import Orders, SenderSteering, Standing

__all__ = ["JournalReader", "ReportRecorder", "SenderJournal"]


class JournalReader(Protocol):
    """Reads a journal; several may, also while a campaign writes it."""

    @property
    def path(self) -> str:
        """The journal's file, "" for one in memory."""
        ...

    @property
    def is_current(self) -> bool:
        """What is read here is what whoever opens the journal now finds. Raises `JournalError` where none can tell."""
        ...

    def message(self) -> Message:
        """The message that the journal belongs to."""
        ...

    def summary(self) -> Summary:
        """Counts, credits and times. Walks through all recipients."""
        ...

    def figures(self) -> Figures:
        """What became of the campaign, in time and by reasons. Walks through all recipients."""
        ...

    def orders(self) -> Orders:
        """What operators have asked of the sender so far."""
        ...

    def standing(self) -> Standing:
        """How the campaign stands at this moment. Walks through all recipients."""
        ...

    def calls_ahead(self, batch_size: int) -> tuple[int, int]:
        """Different messages that a run would send, and the calls that takes. Walks through all recipients."""
        ...

    def texts_ahead(self) -> list[tuple[str | None, int]]:
        """What a run would send, None for what all get, and to how many. Walks through all recipients."""
        ...

    def first_messages(self, most: int) -> list[tuple[int, PersonalMessage]]:
        """The phones that a run would send messages of their own to, the first of the list, with what they get."""
        ...

    def recipients(self, state: RecipientState | None, after: int) -> list[tuple[int, Recipient]]:
        """A page of recipients beyond the id `after`, with their ids."""
        ...

    def messages_of(self, phones: Sequence[int]) -> dict[int, PersonalMessage]:
        """What those of `phones` get who have a message of their own."""
        ...

    def upcoming(self, after: tuple[int, int], limit: int) -> Picked:
        """Those who come next after a position, all of one message, where each has one of its own. Claims nobody."""
        ...

    def own_rows(self, ids: Sequence[int]) -> dict[int, OwnRow]:
        """Of what the pictures of these recipients are made, by their ids."""
        ...

    def recipients_of(self, phones: Sequence[int]) -> list[tuple[int, Recipient]]:
        """Those of `phones` that are in the journal, with their ids."""
        ...

    def sent_again(self, after: int) -> list[tuple[int, Recipient]]:
        """A page of the accepted recipients beyond the id `after` whom an earlier call had left unknown."""
        ...

    def reached_before(self, phones: Sequence[int]) -> dict[int, str]:
        """Those of `phones` who may have got the message by an earlier call, which had left them unknown.

        Something is heard of it that may be of that call (`evidence`), and no report says that it did not arrive. With
        each the final status that was reported of it, "" as long as there is none.
        """
        ...

    def excluded_among(self, phones: Sequence[int]) -> dict[int, Exclusion]:
        """Those of `phones` who are excluded, also where something was sent to them before."""
        ...

    def call_costs(self) -> list[CallCost]:
        """What each call cost, or may have. Walks through all recipients."""
        ...

    def rejected_rows(self, after: tuple[int, str]) -> list[Recipient]:
        """A page of the list's rows that are no phone of their own, beyond the line and number `after`."""
        ...

    def close(self) -> None:
        """Close it. May be called again."""
        ...


class ReportRecorder(Protocol):
    """Notes delivery reports and replies in a journal, also while a campaign writes it."""

    @property
    def is_current(self) -> bool:
        """What is recorded here is found by whoever opens the journal now."""
        ...

    def record(self, heard: Sequence[Heard]) -> None:
        """Note what was heard, in one transaction, and act on what that proves of an unknown recipient (`evidence`).

        A final status stays, unless the message is delivered after all; the same may come again.
        """
        ...

    def close(self) -> None:
        """Close it. May be called again."""
        ...


class SenderJournal(Protocol):
    """The journal of the one campaign that is sent with it. Not for several threads at once."""

    counts: Counter[RecipientState]
    """Recipients in each state."""
    credits_used: Decimal
    list_read: bool
    """The list was read to its end."""
    ready: int
    """Recipients that `claim` has not come to yet."""

    @property
    def path(self) -> str:
        """The journal's file, "" for one in memory."""
        ...

    @property
    def may_send(self) -> bool:
        """No other sender can have taken over, so that a call that was claimed may leave now. For any thread."""
        ...

    @property
    def reader(self) -> JournalReader:
        """Reads what is written here. Closed with it."""
        ...

    @property
    def recorder(self) -> ReportRecorder:
        """Notes reports here. Closed with it."""
        ...

    @property
    def steering(self) -> SenderSteering:
        """What operators ask for. Closed with it."""
        ...

    def begin_run(self, *, resend_unknown: bool | Silent) -> None:
        """Begin a new run.

        What an earlier one was sending is `unknown`, unless there is proof (`evidence`), and what it left pending or
        failed is sent. Where silence means nothing, `Silent` sends nothing again, and the log says why.
        """
        ...

    def note_balance(self, balance: Decimal, *, is_after: bool) -> None:
        """Note the account's balance before the first or after the last call of the run."""
        ...

    def exclude(self, phones: Iterable[int], why: Exclusion) -> None:
        """Never send to `phones`, in this run or a later one."""
        ...

    def begin_list(self) -> None:
        """Note that a list is about to be read."""
        ...

    def add(self, entries: Iterable[ListEntry]) -> None:
        """Take in rows of the list. A phone that is known from an earlier run keeps its state."""
        ...

    def add_unlisted(self, entries: Sequence[ListEntry]) -> None:
        """Take in recipients that stand in no list, in no run. One that is known stays as it is.

        A row of the list that comes with such a phone later is the recipient's, and no duplicate.
        """
        ...

    def end_list(self) -> None:
        """Note that the list was read to its end.

        One that is shorter than what was read of a list cut short is not that list.
        """
        ...

    def claim(self, limit: int, selection: Selection | None = None) -> Claim | None:
        """Set the next recipients to `sending`, at most `limit`, and return them; None if there are none at present.

        All of them get the same message: `Claim.message`, or that of the campaign. With a `selection` they are those of
        it that can still be claimed.

        When this returns, it is on the disk.
        """
        ...

    def claim_again(self, ids: Sequence[int]) -> Claim | None:
        """Set these recipients, which are surely not sent, to `sending` in a call of their own.

        Those of whom evidence, or a late answer, has told meanwhile that an earlier call went out are left out; None if
        nobody is left.
        """
        ...

    def count(self) -> None:
        """Count anew what there is: after claims out of turn, of which some were not carried out."""
        ...

    def reopened(self) -> bool:
        """Whether a sender that this one took over from has ended calls since the run began.

        Some of their recipients may be pending or failed, though `claim` has passed them. They are in `counts` then.
        """
        ...

    def finish(
        self,
        claim: Claim,
        results: Sequence[RecipientResult],
        *,
        accepted: int | None,
        credits_used: Decimal | None,
        error: str | None,
    ) -> None:
        """Record what became of a call and of each of its recipients, and act on what proves more.

        `accepted`: how many the API accepted, None where the outcome of the call is unknown.
        """
        ...

    def release(self, claim: Claim) -> None:
        """Undo a claim: the call never left."""
        ...

    def suppress(self, claim: Claim, reasons: Mapping[int, str], why: Exclusion = Exclusion.SUPPRESSED) -> None:
        """Exclude some of a claim whose call has not left: by their phones, which are in it, the reasons."""
        ...

    def close(self) -> None:
        """Close the journal and let others write it. May be called again."""
        ...
