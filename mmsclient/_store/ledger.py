"""What keyed sends ask of their ledger, whichever engine keeps it.

A key is in one of these states, and moves only as this table says:

| from | to | when |
|---|---|---|
| nothing, failed | sending | it is claimed; committed, and on the disk, before anything leaves |
| refused | sending | likewise, where the caller asks for it |
| sending | accepted, refused, failed, unknown | its call has ended |
| sending | unknown | its sender has died, or has given up recording the end; or its lease has run out |
| unknown | accepted | evidence proves that its call was carried out (`call_evidence`); looked up when asked for |
| unknown, accepted by evidence | accepted, refused, failed | the end comes late, from the sender itself |

A key that is `accepted` or `unknown` is never claimed again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Protocol

import attrs
from attrs import field, frozen

from mmsclient._api.media import digest_of
from mmsclient._store.heard import Heard
from mmsclient._store.models import Owner

__all__ = [
    "DIED",
    "PURGE_EVERY",
    "SMS",
    "Fingerprint",
    "KeyClaim",
    "KeyedSend",
    "Ledger",
    "SendEnd",
    "SendState",
    "may_claim",
    "objection_to",
]

PURGE_EVERY = 3600.0
"""Seconds between two looks for keys that are old enough to be forgotten."""

DIED: Mapping[str, Any] = {"description": "the process that sent it ended, or could not record the end"}
"""The result of a send that became unknown as its sender was gone."""


class SendState(StrEnum):
    """What became of a keyed send."""

    SENDING = "sending"
    """Its call is under way."""
    ACCEPTED = "accepted"
    """The API took it."""
    REFUSED = "refused"
    """The API refused the message or its recipients."""
    FAILED = "failed"
    """Surely not sent, for a reason that has nothing to do with the message or its recipients."""
    UNKNOWN = "unknown"
    """It may have been sent."""


SMS = "sms "
"""Begins what a fingerprint of an SMS has in place of the image."""


@frozen
class Fingerprint:
    """What tells a message and its recipients from others: a digest of each part."""

    text: str
    subject: str
    image: str
    """Of an SMS: `SMS`, and a digest of what it has beside its text."""
    recipients: str

    @classmethod
    def of(cls, text: str, subject: str, image: bytes | str, numbers: Iterable[str]) -> Fingerprint:
        """The fingerprint of what goes out; the order of the recipients does not count.

        `image` is its bytes, or the digest of the file that it was made of: what makes it may change, the file not.
        """
        return cls(
            digest_of(text.encode()),
            digest_of(subject.encode()),
            image if isinstance(image, str) else digest_of(image),
            digest_of(",".join(sorted(numbers)).encode()),
        )

    def differences(self, other: Fingerprint) -> tuple[str, ...]:
        """The names of the parts that differ: `kind` where one is an MMS, and one an SMS."""
        names = tuple(part.name for part in attrs.fields(Fingerprint) if _differ(part.name, self, other))
        if self.is_sms != other.is_sms:
            return ("kind", *(name for name in names if name != "image"))
        return tuple("options" if name == "image" and self.is_sms else name for name in names)

    @property
    def is_sms(self) -> bool:
        """It is that of an SMS."""
        return self.image.startswith(SMS)


def _differ(part: str, one: Fingerprint, other: Fingerprint) -> bool:
    return bool(getattr(one, part) != getattr(other, part))


@frozen
class KeyClaim:
    """The right to send with a key, once."""

    key: str
    id: str = field(factory=lambda: secrets.token_hex(12))
    """Of no other claim, whatever its key."""
    phones: tuple[int, ...] = field(default=(), eq=False, repr=False)
    """To whom is to be sent."""


@frozen
class SendEnd:
    """How a keyed send ended."""

    state: SendState
    result: Mapping[str, Any]
    """What is to be told again, as JSON can hold it."""
    messages: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    """The ids that the answer named, each with its phone, 0 where it named none."""


@frozen
class KeyedSend:
    """What the ledger holds for a key."""

    fingerprint: Fingerprint
    state: SendState
    sent_at: float
    """Unix seconds at which it was claimed."""
    result: Mapping[str, Any]
    """As in `SendEnd`; empty while it is sending."""


def may_claim(held: KeyedSend | None, fingerprint: Fingerprint, *, retry_refused: bool) -> bool:
    """The key may be sent with: nothing that was sent with it before may have been carried out."""
    if held is None:
        return True
    if held.fingerprint != fingerprint:
        return False
    return held.state is SendState.FAILED or (retry_refused and held.state is SendState.REFUSED)


def objection_to(owner: Owner, base_url: str | None, salt: bytes, fingerprint: str | None, *, another: str) -> str:
    """Why a ledger that was begun with these is not `owner`'s; "" where it is. `another`: what else there could be."""
    if base_url != owner.base_url:
        return f"it belongs to sends at {base_url}, and this client calls {owner.base_url}"
    if owner.is_new_key or owner.fingerprint(salt) == fingerprint:
        return ""
    return (
        f"it belongs to sends with another APPKEY; use {another}, or ledger_new_key=True (--new-key) where the"
        " account is the same and its key was changed"
    )


class Ledger(Protocol):
    """Remembers what was sent with which key.

    Its methods raise `LedgerUnavailableError`, and then nothing is recorded.
    """

    async def claim(self, claim: KeyClaim, fingerprint: Fingerprint, *, retry_refused: bool) -> KeyedSend | None:
        """Claim a key where `may_claim` lets it, else return what is held for it. None: it is claimed, on the disk.

        A send of a dead sender is `unknown` first. A caller asks only for a key of which it has no call under way
        itself; cancelled, it does not know whether it has claimed the key, and may `finish` the claim all the same.
        """
        ...

    def may_leave(self, claim: KeyClaim) -> bool:
        """Nobody can have taken the sender of a claim for dead, so that its call may leave now."""
        ...

    async def finish(self, claim: KeyClaim, end: SendEnd) -> bool:
        """Record how a claim ended; on the disk when this returns. False where there is no such claim.

        May be called again with the same end, where it is not known whether it was recorded.
        """
        ...

    async def record(self, heard: Heard) -> None:
        """Note what a callback says of a message; it may prove that an unknown send was carried out."""
        ...

    async def aclose(self) -> None:
        """Close it. What is still sending is then that of a dead sender."""
        ...
