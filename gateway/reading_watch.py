"""Whether a client takes the answer that it asked for: one that doesn't keeps its memory, however short the answer."""

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["ReadingWatch"]

PROGRESS_BYTES: Final = 16 * 1024
"""What a client has to take in each period; any connection that is of use brings much more."""


class ReadingWatch:
    """Gives up on who took less than `PROGRESS_BYTES` of what waits in so many seconds."""

    __slots__ = ("_loop", "_seconds", "_timer")

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport, give_up: Callable[[], None]) -> None:
        """More waits than the transport wants to hold."""
        self.stop()
        waiting_bytes = transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._seconds, self._look, transport, waiting_bytes, give_up)

    def stop(self) -> None:
        """The client has taken most of it, or left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, transport: asyncio.Transport, waiting_bytes: int, give_up: Callable[[], None]) -> None:
        self._timer = None
        if waiting_bytes - transport.get_write_buffer_size() < PROGRESS_BYTES:
            give_up()
        else:
            self.start(transport, give_up)
