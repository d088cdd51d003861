"""How long the text of an SMS is: its alphabet, its parts, and what they cost (api-notes.md section 3, SMS).

The alphabet is that of 3GPP TS 23.038 (GSM 03.38), sections 6.2.1 and 6.2.1.1: the default table and its extension.
National tables are left out: nobody says that the API uses one. No package is used for it: those that split texts have
not been kept up for years, and what remains of one that is kept up would be these two tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

from attrs import frozen

from mmsclient._api.checks import encoded
from mmsclient._api.sms_sender import checked_sender, is_custom_id
from mmsclient.errors import InvalidRequestError

__all__ = ["MOST_PARTS", "Alphabet", "Parts", "credits_of", "parts"]

MOST_PARTS = 6
"""Parts of a text at most: 918 characters of GSM, or 402 of Unicode."""

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ"
    " !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
"""What takes two septets: an escape and itself."""

_CUSTOM_ID = Decimal(4) / 3
"""What a message with an alphanumeric sender costs, by one without."""


class Alphabet(StrEnum):
    """How a text is written on the air."""

    GSM = "GSM"
    """The 7-bit alphabet of GSM 03.38."""
    UNICODE = "Unicode"
    """UCS-2."""

    @property
    def alone(self) -> int:
        """Characters of a text in one part."""
        return 160 if self is Alphabet.GSM else 70

    @property
    def each(self) -> int:
        """Characters of each part of several: the rest of it says which part it is."""
        return 153 if self is Alphabet.GSM else 67


@frozen(kw_only=True)
class Parts:
    """What `parts` tells of a text."""

    alphabet: Alphabet
    length: int
    """Characters as they are counted: in GSM `^ { } [ ] ~ \\ | €` and the form feed count two, in Unicode what lies
    beyond the basic plane does, such as an emoji."""
    count: int
    """Parts that it goes out in; 0 for an empty text."""
    left: int
    """Characters that still fit into the last part."""
    credits: Decimal
    """What it costs for each recipient: a credit a part, and a third more with an alphanumeric sender, in hundredths.
    What the account really pays is in `SentBatch.credits_used`."""
    unicode_because: tuple[str, ...]
    """The characters that GSM does not have, each once, in their order; empty where it is GSM."""

    @property
    def fits(self) -> bool:
        """The API takes it: it has at most 918 characters of GSM, or 402 of Unicode."""
        return self.length <= MOST_PARTS * self.alphabet.each


def parts(text: str, *, sender: str | None = None) -> Parts:
    """How `text` is counted and sent as an SMS. Asks nobody.

    One character outside GSM 03.38 makes the whole text Unicode, in which a part holds less than half as much. What
    counts two is never divided between two parts.

    Args:
        text: The text as it goes out. A new line counts one, CR LF two.
        sender: Whom it comes from: an alphanumeric one costs a third more.

    Raises:
        InvalidRequestError: `text` is no text or holds half of a character (a lone surrogate), or `sender` is none.
    """
    if not isinstance(text, str):
        raise InvalidRequestError("text", type(text).__name__, "a text")
    encoded(text, "text")
    if sender is not None:
        checked_sender(sender)
    foreign = tuple(dict.fromkeys(each for each in text if each not in _BASIC and each not in _EXTENSION))
    alphabet = Alphabet.UNICODE if foreign else Alphabet.GSM
    widths = [_width(each, alphabet) for each in text]
    length = sum(widths)
    filled = [length] if length <= alphabet.alone else list(_filled(widths, alphabet.each))
    count = len(filled) if text else 0
    room = alphabet.alone if len(filled) == 1 else alphabet.each
    return Parts(
        alphabet=alphabet,
        length=length,
        count=count,
        left=room - filled[-1],
        credits=credits_of(count, sender),
        unicode_because=foreign,
    )


def credits_of(count: int, sender: str | None) -> Decimal:
    """What so many parts cost for each recipient."""
    return (count * _CUSTOM_ID).quantize(Decimal("0.01")) if is_custom_id(sender) else Decimal(count)


def _width(character: str, alphabet: Alphabet) -> int:
    return 2 if (character in _EXTENSION if alphabet is Alphabet.GSM else character > "\uffff") else 1


def _filled(widths: Iterable[int], room: int) -> Iterable[int]:
    """How much stands in each part, each filled as far as it goes."""
    filled = 0
    for width in widths:
        if filled + width > room:
            yield filled
            filled = 0
        filled += width
    yield filled
