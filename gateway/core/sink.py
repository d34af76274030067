"""Where a session's bytes go.

A bridge offers one of two ways: a transport that takes bytes at once, or a buffer that a task empties. Both are
bounded, never block and never raise; what becomes of a client that doesn't read is the session's concern.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

__all__ = ["CLOSE_GRACE_SECONDS", "BufferSink", "Framing", "Sink", "Transport", "TransportSink"]

CLOSE_GRACE_SECONDS: Final = 2.0
"""How long a client has to take what was sent before a close; then the connection is cut."""

Framing = Callable[[str, bytes, str | None], bytes]
"""Turns an object of the wire protocol into a transport's bytes: `(type, JSON text, cursor)` to a frame or event.

All sessions with the same framing share the bytes: a message is framed once, however many get it.
"""


class Sink(Protocol):
    """One client's way out."""

    @property
    def framing(self) -> Framing:
        """How its bytes are framed."""
        ...

    def write(self, data: bytes) -> None:
        """Send framed bytes. What is written after the end goes nowhere."""
        ...

    def close(self, code: int, reason: str) -> None:
        """End the connection once all that was written is sent, or after a while if it can't be."""
        ...


class Transport(Protocol):
    """What a server can offer in `scope["extensions"]["tidegate"]`: its connection, without a detour through ASGI."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are, if the connection is still there."""
        ...

    def close(self, code: int, reason: str) -> None:
        """End the connection in its protocol's terms; by force if the client doesn't read."""
        ...

    def on_overflow(self, limit_bytes: int, callback: Callable[[], None]) -> None:
        """Call back once when more than so many bytes wait to be sent, the largest single write not counted."""
        ...


class TransportSink:
    """Writes to the transport itself: a frame that was built once costs one call for each session."""

    __slots__ = ("close", "framing", "write")

    def __init__(self, transport: Transport, framing: Framing) -> None:
        self.framing = framing
        self.write = transport.write
        self.close = transport.close


class BufferSink:
    """Collects what is to be sent for a task that awaits the server's `send`."""

    __slots__ = (
        "_closing",
        "_deadline",
        "_limit_bytes",
        "_on_overflow",
        "_queue",
        "_size_bytes",
        "_wake",
        "framing",
    )

    def __init__(self, framing: Framing, limit_bytes: int) -> None:
        self.framing = framing
        self._limit_bytes = limit_bytes
        self._queue: deque[bytes] = deque()
        self._size_bytes = 0
        self._on_overflow: Callable[[], None] | None = None
        self._closing: tuple[int, str] | None = None
        self._wake = asyncio.Event()
        self._deadline: asyncio.Timeout | None = None

    def on_overflow(self, callback: Callable[[], None]) -> None:
        """Call back once when more than the limit waits to be sent, the oldest write not counted."""
        self._on_overflow = callback

    def write(self, data: bytes) -> None:
        """Queue framed bytes."""
        if self._closing is not None:
            return
        self._queue.append(data)
        self._size_bytes += len(data)
        self._wake.set()
        waiting_bytes = self._size_bytes - len(self._queue[0])  # one large write is no sign of a slow client
        if waiting_bytes > self._limit_bytes and self._on_overflow is not None:
            callback, self._on_overflow = self._on_overflow, None
            callback()

    def close(self, code: int, reason: str) -> None:
        """Let `pump` return after what is queued."""
        if self._closing is None:
            self._closing = (code, reason)
            self._wake.set()
            if self._deadline is not None:
                self._deadline.reschedule(asyncio.get_running_loop().time() + CLOSE_GRACE_SECONDS)

    async def pump(self, send: Callable[[bytes], Awaitable[None]]) -> tuple[int, str]:
        """Send what is written until the sink is closed; the code and reason of that.

        Raises:
            TimeoutError: what was queued could not be sent within the grace after the close.
        """
        async with asyncio.timeout(None) as self._deadline:
            while True:
                self._wake.clear()
                while self._queue:
                    data = self._queue.popleft()
                    self._size_bytes -= len(data)
                    await send(data)
                if self._closing is not None:
                    return self._closing
                await self._wake.wait()
