"""Recipients a minute, spread evenly. Pure: times are handed in."""

from __future__ import annotations

__all__ = ["Drip"]


class Drip:
    """Batches of the same size, the same time apart: never more than so many recipients in any minute.

    A batch is what a second has room for, one recipient at least, so that nothing comes in bursts; half of that at the
    least where it divides the minute better. Time that was lost is not made up for.

    Args:
        per_minute: Recipients.
        most: Recipients that a batch may have.
    """

    def __init__(self, per_minute: int, most: int) -> None:
        most = max(1, min(most, per_minute // 60))
        self.size: int = min(range(most, most // 2, -1), key=lambda size: per_minute % size)
        """Recipients of a batch."""
        self.spacing: float = 60 / (per_minute // self.size)
        """Seconds between the beginnings of two."""
        self._for_each = 60 / (per_minute - self.size if self.size > 1 else per_minute)
        self.next_at: float = 0.0
        """Before then none begins."""

    def began_uneven(self, now: float, recipients: int) -> None:
        """A batch begins in a campaign whose batches differ: the time until the next is that of its recipients.

        With a little more for each, since a minute may hold a whole batch beyond those whose time it holds.
        """
        self.next_at = now + recipients * self._for_each

    def began(self, now: float, ago: float = 0.0) -> None:
        """A batch begins, or did so many seconds ago."""
        self.next_at = now + min(self.spacing, max(0.0, self.spacing - ago))
