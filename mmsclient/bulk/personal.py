"""Messages of their own: a template, the rows of a list, and what each of them gets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from attrs import evolve, frozen

from mmsclient._api.checks import character_at, checked_subject, checked_text
from mmsclient._api.media import Image
from mmsclient._store.models import Claim, ListEntry, Message, PersonalMessage
from mmsclient.bulk.opt_out_line import with_opt_out_line
from mmsclient.bulk.recipients import Row, check
from mmsclient.bulk.template import MessageText, Template, escaped, filled
from mmsclient.errors import InvalidRequestError

__all__ = ["Renderer", "checked_template_subject", "message_of", "outgoing", "texts_of", "with_line"]

NO_FIELDS: Mapping[str, object] = {}


@frozen
class Renderer:
    """Makes of each row what its recipient gets, and checks that as `send` does."""

    text: MessageText
    subject: MessageText
    """Empty for none."""
    image: Image

    def message(self, fields: Mapping[str, object]) -> PersonalMessage:
        """What a recipient with these fields gets. Raises `InvalidRequestError`."""
        text = checked_text(_rendered(self.text, fields), self.image)
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
            return evolve(entry, problem=f"{error.argument}: expected {error.expected}")

    def check_names(self, rows: Sequence[Row]) -> None:
        """Raise `InvalidRequestError` for a field that none of `rows` has."""
        known = {name: None for row in rows for name in row.fields or ()}
        for argument, text in (("text", self.text), ("subject", self.subject)):
            for name in text.names if isinstance(text, Template) else ():
                if name not in known:
                    found = ", ".join(known) or "this one has numbers alone"
                    raise InvalidRequestError(argument, f"{{{name}}}", f"fields that the list has: {found}")


def checked_template_subject(subject: MessageText | None) -> MessageText | None:
    """The option `subject`: a template, or as `checked_subject`. Raises `InvalidRequestError`."""
    if not isinstance(subject, Template):
        return checked_subject(subject)
    checked_subject(subject.literal)
    return subject


def message_of(text: MessageText, subject: MessageText | None, image: Image) -> tuple[Message, Renderer | None]:
    """What a campaign is about, and what makes everybody's own of it; None where all get the same.

    Raises:
        InvalidRequestError: The text is one that cannot go out, whatever its fields hold.
    """
    if not isinstance(text, Template) and not isinstance(subject, Template):
        return Message(checked_text(text, image), subject or "", image.data), None
    if not isinstance(text, Template):
        text = checked_text(text, image)
    elif text.literal.strip():
        checked_text(text.literal, image)
    template = json.dumps({"text": _defaults(text), "subject": _defaults(subject or "")}, sort_keys=True)
    return Message(_source(text), _source(subject or ""), image.data, template), Renderer(text, subject or "", image)


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
    """As `with_opt_out_line`, of a template too."""
    if not isinstance(text, Template):
        return with_opt_out_line(text, line)
    return Template(with_opt_out_line(text.source, None if line is None else escaped(line)), defaults=text.defaults)


def outgoing(message: Message, claim: Claim) -> PersonalMessage:
    """What those of `claim` get: their own, or what all get."""
    if claim.message is not None:
        return claim.message
    if message.template:  # no journal claims that; nobody may get a text with its fields open
        raise RuntimeError(f"the message of batch {claim.batch} is not known")
    return PersonalMessage(message.text, message.subject)


def _rendered(text: MessageText, fields: Mapping[str, object]) -> str:
    return filled(text, fields) if isinstance(text, Template) else text


def _source(text: MessageText) -> str:
    return text.source if isinstance(text, Template) else text


def _defaults(text: MessageText) -> Mapping[str, str] | None:
    return text.defaults if isinstance(text, Template) else None
