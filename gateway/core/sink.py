"""Where a session's bytes go.

A bridge offers one of two ways: a transport that takes bytes at once, or a buffer that a task empties. Both are
bounded, never block and never raise; they tell the session when its client doesn't take more, and when it does again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

__all__ = [
    "CLOSE_GRACE_SECONDS",
    "BufferSink",
    "Flow",
    "Framing",
    "Parked",
    "ParkingTransport",
    "Receiver",
    "Sink",
    "Transport",
    "TransportSink",
    "WebSocketTransport",
]

CLOSE_GRACE_SECONDS: Final = 2.0
"""How long a client has to take what was sent before a close; then the connection is cut."""

Framing = Callable[[str, bytes, str | None], bytes]
"""Turns an object of the wire protocol into a transport's bytes: `(type, JSON text, cursor)` to a frame or event.

All sessions with the same framing share the bytes: a message is framed once, however many get it.
"""


class Flow(Protocol):
    """Who is told how fast a client takes what is written."""

    def pause(self) -> None:
        """As much waits as may: write no more until `resume`. What is written all the same is still sent."""
        ...

    def resume(self) -> None:
        """The client has taken most of it."""
        ...

    def overflow(self) -> None:
        """As much again was written after `pause`."""
        ...

    def gone(self) -> None:
        """The connection is lost: nothing may be written to it any more."""
        ...

    def aside(self, size_bytes: int) -> None:
        """The client sent something that is no message, such as a ping: it costs as much as one."""
        ...


class Sink(Protocol):
    """One client's way out."""

    @property
    def paused(self) -> bool:
        """Whether as much waits as may."""
        ...

    @property
    def framing(self) -> Framing:
        """How its bytes are framed."""
        ...

    def write(self, data: bytes) -> None:
        """Send framed bytes. What is written after the end goes nowhere."""
        ...

    @property
    def joins(self) -> bool:
        """Whether several frames may be written as one piece."""
        ...

    @property
    def fan_out(self) -> Callable[[bytes], None]:
        """As `write`, and cheaper, for as long as the client is there, isn't paused and isn't closed."""
        ...

    def close(self, code: int, reason: str) -> None:
        """End the connection once all that was written is sent, or after a while if it can't be."""
        ...


class Transport(Protocol):
    """What a server can offer in `scope["extensions"]["tidegate"]`: its connection, without a detour through ASGI."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are, if the connection is still there."""
        ...

    @property
    def fan_out(self) -> Callable[[bytes], None]:
        """As `write`, without looking whether the connection is there: what writes says so to who watches."""
        ...

    def close(self, code: int, reason: str) -> None:
        """End the connection in its protocol's terms; by force if the client doesn't read."""
        ...

    @property
    def paused(self) -> bool:
        """Whether as much waits as may."""
        ...

    def watch(self, limit_bytes: int, flow: Flow) -> None:
        """Tell `flow` of the client's pace; at most so many bytes may wait, besides the one write that goes over."""
        ...


class Receiver(Protocol):
    """Who takes what a client sends, one frame after the other."""

    def receive(self, frame: str | bytes) -> None:
        """Take a frame."""
        ...

    @property
    def waits(self) -> bool:
        """Whether the last frame isn't dealt with yet: `settle` is to be awaited before the next."""
        ...

    async def settle(self) -> None:
        """Deal with the last frame."""
        ...

    def closed(self, *, offended: bool) -> None:
        """Nothing comes any more; whether that is because the client broke the rules of its protocol."""
        ...


class WebSocketTransport(Transport, Protocol):
    """A WebSocket connection, which goes on without its application once it has a receiver."""

    @property
    def inflates(self) -> bool:
        """Whether the client takes messages that are compressed, each by itself (RFC 7692)."""
        ...

    def speak(self, framing: Framing | None) -> None:
        """Say by this framing what the server itself has to say, such as that a message is too large; None for nothing.

        Until then the server says nothing.
        """
        ...

    def hand_over(self, receiver: Receiver) -> None:
        """Give a receiver what comes from now on. The application may return: that closes nothing then."""
        ...


class Parked(Protocol):
    """What waits to be answered, though its application has returned."""

    def finish(self) -> None:
        """Answer now: the client asks for something else."""
        ...

    def left(self) -> None:
        """The client is gone."""
        ...


class ParkingTransport(Protocol):
    """An HTTP connection whose answer comes later, by no application: what waits costs little more than a socket."""

    def park(self, parked: Parked) -> None:
        """Wait for `answer`, the head of which is sent; the application may return."""
        ...

    def answer(self, body: bytes) -> None:
        """Send all of the body. The connection is ready for the next request then."""
        ...


class TransportSink:
    """Writes to the transport itself: a frame that was built once costs one call for each session."""

    __slots__ = ("_transport", "close", "fan_out", "framing", "write")
    joins = True

    def __init__(self, transport: Transport, framing: Framing) -> None:
        self._transport = transport
        self.framing = framing
        self.write = transport.write
        self.fan_out = transport.fan_out
        self.close = transport.close

    @property
    def paused(self) -> bool:
        """Whether as much waits as may."""
        return self._transport.paused


class BufferSink:
    """Collects what is to be sent for a task that awaits the server's `send`."""

    __slots__ = (
        "_blocked",
        "_closing",
        "_deadline",
        "_flow",
        "_limit_bytes",
        "_queue",
        "_size_bytes",
        "_wake",
        "framing",
        "paused",
    )
    joins = False
    """The server frames each write."""

    def __init__(self, framing: Framing, limit_bytes: int) -> None:
        self.framing = framing
        self.paused = False
        self._blocked = False
        self._limit_bytes = limit_bytes
        self._queue: deque[bytes] = deque()
        self._size_bytes = 0
        self._flow: Flow | None = None
        self._closing: tuple[int, str] | None = None
        self._wake = asyncio.Event()
        self._deadline: asyncio.Timeout | None = None

    def watch(self, flow: Flow) -> None:
        """Tell `flow` of the client's pace: a pause at half the limit, the oldest write not counted."""
        self._flow = flow

    def write(self, data: bytes) -> None:
        """Queue framed bytes."""
        if self._closing is not None:
            return
        self._enqueue(data)
        waiting_bytes = self._size_bytes - len(self._queue[0])  # one large write is no sign of a slow client
        if self._flow is None or 2 * waiting_bytes <= self._limit_bytes:
            return
        if not self.paused:
            self.paused = True
            self._flow.pause()
        elif self._blocked and waiting_bytes > self._limit_bytes:
            flow, self._flow = self._flow, None
            flow.overflow()

    def fan_out(self, data: bytes) -> None:
        """As `write`; but what comes in one burst, before any of it could be sent, is no sign of a slow client."""
        if self._blocked or self._closing is not None:
            self.write(data)
        else:
            self._enqueue(data)

    def _enqueue(self, data: bytes) -> None:
        self._queue.append(data)
        self._size_bytes += len(data)
        self._wake.set()

    def _relieve(self) -> None:
        if self.paused and 8 * self._size_bytes <= self._limit_bytes and self._closing is None:
            self.paused = False
            if self._flow is not None:
                self._flow.resume()

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
                    self._blocked = True  # for whoever has a turn while it isn't sent
                    await send(data)
                    self._blocked = False
                    self._relieve()
                if self._closing is not None:
                    return self._closing
                await self._wake.wait()
