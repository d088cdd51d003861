"""Messages of their own: a template, the rows of a list, and what each of them gets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from mmsclient._api.checks import character_at, checked_subject, checked_text
from mmsclient._api.media import Image
from mmsclient._api.sms_fields import checked_sms_text
from mmsclient._store.models import Claim, ListEntry, Message, PersonalMessage
from mmsclient.bulk.opt_out_line import holds, with_line_below, with_opt_out_line
from mmsclient.bulk.recipients import Row, check
from mmsclient.bulk.template import MessageText, Template, escaped, filled
from mmsclient.errors import InvalidRequestError

__all__ = [
    "NO_IMAGE",
    "Outgoing",
    "Renderer",
    "checked_template_subject",
    "how_pictures_are_made",
    "message_of",
    "outgoing",
    "own_parts",
    "reason_of",
    "texts_of",
    "with_line",
]

NO_FIELDS: Mapping[str, object] = {}
NO_IMAGE = Image(b"", "none")
"""In place of the campaign's picture, where each recipient has one of its own."""


@frozen
class Outgoing:
    """What goes into a call."""

    text: str = field(repr=False)
    subject: str = field(repr=False)
    """Empty for none."""
    image: bytes = field(repr=False)


@frozen
class Renderer:
    """Makes of each row what its recipient gets, and checks that as `send` does."""

    text: MessageText
    subject: MessageText
    """Empty for none."""
    image: Image | None
    """None for an SMS."""

    def message(self, fields: Mapping[str, object]) -> PersonalMessage:
        """What a recipient with these fields gets. Raises `InvalidRequestError`."""
        text = _checked(_rendered(self.text, fields), self.image)
        if (nul := text.find("\0")) >= 0:
            raise InvalidRequestError("text", character_at(text, nul), "text without NUL")
        return PersonalMessage(text, checked_subject(_rendered(self.subject, fields)) or "")

    def entries(self, rows: Iterable[Row]) -> list[ListEntry]:
        """Rows, checked, each with what it gets or why it cannot get it. Never fails."""
        return [self._entry(row) for row in rows]

    def _entry(self, row: Row) -> ListEntry:
        entry = check(row)
        if entry.phone is None:
            return entry
        try:
            return evolve(entry, message=self.message(row.fields or NO_FIELDS))
        except InvalidRequestError as error:
            return evolve(entry, problem=reason_of(error))

    def check_names(self, rows: Sequence[Row]) -> None:
        """Raise `InvalidRequestError` for a field that none of `rows` has."""
        known = {name: None for row in rows for name in row.fields or ()}
        for argument, text in (("text", self.text), ("subject", self.subject)):
            for name in text.names if isinstance(text, Template) else ():
                if name not in known:
                    found = ", ".join(known) or "this one has numbers alone"
                    raise InvalidRequestError(argument, f"{{{name}}}", f"fields that the list has: {found}")


def reason_of(error: InvalidRequestError) -> str:
    """Why a row cannot have its message, as a journal holds it."""
    return f"{error.argument}: expected {error.expected}"


def checked_template_subject(subject: MessageText | None) -> MessageText | None:
    """The option `subject`: a template, or as `checked_subject`. Raises `InvalidRequestError`."""
    if not isinstance(subject, Template):
        return checked_subject(subject)
    checked_subject(subject.literal)
    return subject


def message_of(
    text: MessageText, subject: MessageText | None, image: Image | None, pictures: Mapping[str, object] | None = None
) -> tuple[Message, Renderer | None]:
    """What a campaign is about, and what makes everybody's own of it; None where all get the same.

    Args:
        text: Of the campaign.
        subject: Of the campaign.
        image: Of the campaign, or `NO_IMAGE`; None for an SMS.
        pictures: How each recipient's picture is made, None where all get the same.

    Raises:
        InvalidRequestError: The text is one that cannot go out, whatever its fields hold.
    """
    data = b"" if image is None else image.data
    if not isinstance(text, Template) and not isinstance(subject, Template) and pictures is None:
        return Message(_checked(text, image), subject or "", data), None
    if not isinstance(text, Template):
        text = _checked(text, image)
    elif text.literal.strip():
        _checked(text.literal, image)
    parts = {"text": _defaults(text), "subject": _defaults(subject or "")}
    template = json.dumps(parts if pictures is None else {**parts, "image": pictures}, sort_keys=True)
    return Message(_source(text), _source(subject or ""), data, template), Renderer(text, subject or "", image)


def how_pictures_are_made(message: Message) -> Mapping[str, Any] | None:
    """What was noted of it when the campaign was made; None where all get the same picture."""
    found: Mapping[str, Any] | None = json.loads(message.template).get("image") if message.template else None
    return found


def texts_of(message: Message) -> tuple[MessageText, MessageText | None]:
    """The text and the subject that a campaign was made with, of what its journal holds."""
    if not message.template:
        return message.text, message.subject or None
    defaults = json.loads(message.template)
    text, subject = (
        source if defaults[part] is None else Template(source, defaults=defaults[part])
        for part, source in (("text", message.text), ("subject", message.subject))
    )
    return text, subject or None


def with_line(text: MessageText, line: str | None) -> MessageText:
    """As `with_opt_out_line`, of a template too: the names of its fields are no part of its text."""
    if not isinstance(text, Template):
        return with_opt_out_line(text, line)
    if line is None or any(holds(literal, line) for literal, _ in text.parts()):
        return text
    return Template(with_line_below(text.source, escaped(line)), defaults=text.defaults)


def outgoing(message: Message, claim: Claim) -> Outgoing:
    """What those of `claim` get: their own, or what all get."""
    own = claim.message
    if own is None and message.template:  # no journal claims that; nobody may get a text with its fields open
        raise RuntimeError(f"the message of batch {claim.batch} is not known")
    if own is None:
        return Outgoing(message.text, message.subject, message.image)
    image = message.image if claim.image is None else claim.image
    if hashlib.sha256(image).hexdigest() != (own.picture or message.image_sha256):  # nobody may get another's
        raise RuntimeError(f"the picture of batch {claim.batch} is not the one that was noted")
    return Outgoing(own.text, own.subject, image)


def own_parts(claim: Claim) -> tuple[str, ...]:
    """The fields of the call of which others of the campaign may get other ones."""
    if claim.message is None:
        return ()
    texts = ("mms_text", "sms_text", "subject")
    return (*texts, "mms_file") if claim.message.picture else texts


def _checked(text: str, image: Image | None) -> str:
    return checked_sms_text(text) if image is None else checked_text(text, image)


def _rendered(text: MessageText, fields: Mapping[str, object]) -> str:
    return filled(text, fields) if isinstance(text, Template) else text


def _source(text: MessageText) -> str:
    return text.source if isinstance(text, Template) else text


def _defaults(text: MessageText) -> Mapping[str, str] | None:
    return text.defaults if isinstance(text, Template) else None
