"""No limit: for an upstream that limits already."""

from __future__ import annotations


class NoLimit:
    """Grants every token at once."""

    async def acquire(self) -> NoLimit:
        return self

    def sent(self) -> None:
        pass

    def answered(self) -> None:
        pass

    def release(self, *, throttled: bool = False, retry_after: float | None = None) -> None:
        pass
