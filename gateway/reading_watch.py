"""Whether a client takes the answer that it asked for: one that doesn't keeps its memory, however short the answer."""

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["ReadingWatch"]

CYCLE_BYTES: Final = 48 * 1024
"""About what a client takes from one pause to the end of it: what asyncio lets wait, less what it wants to be left."""
DUE_BYTES: Final = 1024 * 1024
"""What a client has to take in as many seconds as it may take nothing."""


class ReadingWatch:
    """Gives up on who takes nothing of an answer for so many seconds, or less than `DUE_BYTES` in as many.

    A client has patience, which is used up while more waits than may, and comes back with what it takes.
    """

    __slots__ = ("_began_at", "_loop", "_patience_seconds", "_seconds", "_timer")

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = self._patience_seconds = seconds
        self._loop = loop
        self._began_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, give_up: Callable[[], None]) -> None:
        """More waits than the connection wants to hold; `give_up` is called if that lasts too long."""
        if self._timer is None:
            self._began_at = self._loop.time()
            self._timer = self._loop.call_later(max(0.0, self._patience_seconds), give_up)

    def stop(self) -> None:
        """The client has taken most of it, or left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            used_seconds = self._loop.time() - self._began_at
            earned_seconds = self._seconds * CYCLE_BYTES / DUE_BYTES
            self._patience_seconds = min(self._seconds, self._patience_seconds - used_seconds + earned_seconds)

    def renew(self) -> None:
        """The answer is told to its end: the next one has all patience."""
        self._patience_seconds = self._seconds
