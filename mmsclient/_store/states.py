"""The one table of how recipients move between states. Every update of a state is guarded by it.

| transition | from | to | when |
|---|---|---|---|
| `CLAIM` | pending, failed | sending | a call is about to leave; committed, and on the disk, before it can |
| `END` | sending | accepted, refused, failed, unknown | its answer |
| | sending | pending | it was refused whole, for a reason that has nothing to do with its recipients |
| `RELEASE` | sending | pending | it was taken back before it left |
| `SUPPRESS` | sending | excluded | it was found in the suppression list before its call left, or has no picture |
| `REOPEN` | excluded | pending | a new run: its picture may be made now |
| `LOSE` | sending | unknown | found when the journal is opened: the process died in between |
| `PROVE` | unknown | accepted | a delivery report or a reply proves that it was sent (`evidence`) |
| | pending, failed, excluded | accepted | the same of a call before the decision to send again; not while `sending` |
| `ANSWER` | refused | accepted | the late answer to a call before the decision to send again; else as `PROVE` |
| `LATE` | unknown | accepted, refused, failed, pending | the answer to a call whose sender had lost its lease |
| | unknown | excluded | as `SUPPRESS`, by such a sender |
| | pending | as from unknown | the same, where it was to be sent again and has not been claimed since |
| `EXCLUDE` | pending, failed | excluded | an exclusion that came later, or while they were unknown |
| `RESEND` | unknown | pending | only with `resend_unknown`; "silent" adds conditions |
"""

from __future__ import annotations

from attrs import frozen

from mmsclient._store.models import RecipientState as State

__all__ = [
    "ANSWER",
    "CLAIM",
    "END",
    "EXCLUDE",
    "LATE",
    "LOSE",
    "PROVE",
    "RELEASE",
    "REOPEN",
    "RESEND",
    "SUPPRESS",
    "Transition",
]


@frozen
class Transition:
    """A move that is allowed."""

    sources: frozenset[State]
    targets: frozenset[State]

    @property
    def guard(self) -> str:
        """The condition in SQL that a recipient may make it."""
        states = ", ".join(f"'{state}'" for state in sorted(self.sources))
        return f"state IN ({states})"


def _transition(*sources: State, to: tuple[State, ...]) -> Transition:
    return Transition(frozenset(sources), frozenset(to))


CLAIM = _transition(State.PENDING, State.FAILED, to=(State.SENDING,))
END = _transition(State.SENDING, to=(State.ACCEPTED, State.REFUSED, State.FAILED, State.UNKNOWN, State.PENDING))
RELEASE = _transition(State.SENDING, to=(State.PENDING,))
SUPPRESS = _transition(State.SENDING, to=(State.EXCLUDED,))
REOPEN = _transition(State.EXCLUDED, to=(State.PENDING,))
LOSE = _transition(State.SENDING, to=(State.UNKNOWN,))
PROVE = _transition(State.UNKNOWN, State.PENDING, State.FAILED, State.EXCLUDED, to=(State.ACCEPTED,))
ANSWER = _transition(State.REFUSED, *PROVE.sources, to=(State.ACCEPTED,))
LATE = _transition(
    State.UNKNOWN,
    State.PENDING,
    to=(State.ACCEPTED, State.REFUSED, State.FAILED, State.PENDING, State.EXCLUDED),
)
EXCLUDE = _transition(State.PENDING, State.FAILED, to=(State.EXCLUDED,))
RESEND = _transition(State.UNKNOWN, to=(State.PENDING,))
