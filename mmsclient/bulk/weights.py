"""What the messages of a campaign count towards its credits: an MMS 1, an SMS the credits of its parts."""

from __future__ import annotations

from decimal import Decimal

from attrs import evolve

from mmsclient._api.sms_text import MOST_PARTS, Alphabet, parts
from mmsclient._store.models import PersonalMessage
from mmsclient._store.protocol import JournalReader
from mmsclient._store.spending import CallCost
from mmsclient.bulk.options import Options
from mmsclient.bulk.personal import with_line
from mmsclient.bulk.template import Template

__all__ = ["Weights"]

ONE = Decimal(1)

LONGEST = "x" * (MOST_PARTS * Alphabet.GSM.each)
"""A text of as many parts as there may be."""


class Weights:
    """The weights of one campaign's messages."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._is_sms = options.kind == "sms"
        text = with_line(options.text, options.opt_out_line)
        self._has_own = isinstance(text, Template)
        self._of_all = ONE if isinstance(text, Template) else self._of_text(text)
        self.heaviest: Decimal = self._of_all
        """Of all that is known of; see `ahead`."""
        self.are_equal: bool = not self._is_sms or not isinstance(text, Template)
        """All messages have the same one."""

    def of(self, message: PersonalMessage | None) -> Decimal:
        """Of what a recipient gets; None for what all get."""
        return self._of_all if message is None else self._of_text(message.text)

    def weighed(self, call: CallCost) -> CallCost:
        """A call, with the weight of its message."""
        if call.text is not None:
            return evolve(call, weight=self._of_text(call.text))
        is_untold = self._is_sms and self._has_own  # its recipients have gone into other calls since
        return evolve(call, weight=self._of_text(LONGEST) if is_untold else self._of_all)

    def ahead(self, reader: JournalReader) -> Decimal:
        """Of all messages that a run would send together; `heaviest` is that of any of them from now on.

        Walks through all recipients.
        """
        total = Decimal(0)
        for text, count in reader.texts_ahead():
            weight = self._of_all if text is None else self._of_text(text)
            self.heaviest = max(self.heaviest, weight)
            total += count * weight
        return total

    def _of_text(self, text: str) -> Decimal:
        return parts(text, sender=self._options.sender).credits if self._is_sms else ONE
