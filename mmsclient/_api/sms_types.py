"""What a caller hands in for SMS that is more than a text and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import field, frozen

__all__ = ["SMS", "TemplateRecipient"]


@frozen(kw_only=True)
class SMS:
    """One item of `send_sms_many`."""

    to: str | Iterable[str] = field(repr=False, hash=False)
    """A number or several, as for `send_sms`."""
    text: str = field(repr=False)
    sender: str | None = None
    custom_string: str | None = None
    source: str | None = None


@frozen(kw_only=True)
class TemplateRecipient:
    """A recipient of `send_sms_template`, and what the template may say of them. None is left out."""

    number: str = field(repr=False)
    first_name: str | None = field(default=None, repr=False)
    last_name: str | None = field(default=None, repr=False)
    gender: str | None = field(default=None, repr=False)
    post_code: str | None = field(default=None, repr=False)
    date_of_birth: str | None = field(default=None, repr=False)
    """As the API writes it; its form is not documented."""
    custom_values: Sequence[str] = field(default=(), repr=False, hash=False)
    """Up to three."""
    special: str | None = field(default=None, repr=False)
