"""What one Engine.IO connection is sent, bounded: a queue for a client that polls, its connection for one that doesn't.

The library's queue has no end. Here a client that takes too little has its sessions taken out of the fan-out.
"""

import asyncio
from collections import deque

from bridges.socketio_framing import Frames
from gateway.core.sink import Flow, WebSocketTransport

__all__ = ["Outlet"]


class Outlet:
    """Takes pieces of payload.

    Args:
        limit_bytes: How much may wait; at half of it the flow is told to pause.
        flow: Who is told of the client's pace.
        frames: Makes frames of pieces, where a connection takes them as they are.
    """

    __slots__ = (
        "_closed",
        "_flow",
        "_frames",
        "_limit_bytes",
        "_paused",
        "_pieces",
        "_size_bytes",
        "_transport",
        "_wake",
    )

    def __init__(self, limit_bytes: int, flow: Flow, frames: Frames) -> None:
        self._limit_bytes = limit_bytes
        self._flow: Flow | None = flow
        self._frames = frames
        self._transport: WebSocketTransport | None = None
        self._pieces: deque[bytes] = deque()
        self._size_bytes = 0
        self._paused = False
        self._closed: tuple[int, str] | None = None
        self._wake = asyncio.Event()

    @property
    def paused(self) -> bool:
        """Whether as much waits as may."""
        return self._paused or (self._transport is not None and self._transport.paused)

    def write(self, piece: bytes) -> None:
        """Send a piece. What is written after the end goes nowhere."""
        if self._transport is not None:
            self._transport.write(self._frames.of(piece))
            return
        if self._closed is not None:
            return
        self._pieces.append(piece)
        self._size_bytes += len(piece)
        self._wake.set()
        self._press()

    def _press(self) -> None:
        waiting_bytes = self._size_bytes - len(self._pieces[0])  # one large write is no sign of a slow client
        if self._flow is None or 2 * waiting_bytes <= self._limit_bytes:
            return
        if not self._paused:
            self._paused = True
            self._flow.pause()
        elif waiting_bytes > self._limit_bytes:
            flow, self._flow = self._flow, None
            flow.overflow()

    def lay_open(self, transport: WebSocketTransport) -> None:
        """Write to the connection itself from now on, and what waits before all else."""
        waiting = self.take()
        if self._flow is None:
            transport.close(*(self._closed or (1008, "")))  # it was too much before
            return
        transport.watch(self._limit_bytes, self._flow)
        transport.speak(self._frames.frame)
        self._transport = transport
        if waiting:
            self.write(waiting)
        self.relieve()

    async def wait(self) -> None:
        """Until something waits, or the end."""
        await self._wake.wait()

    def take(self) -> bytes:
        """All that waits, for who is about to send it and then calls `relieve`."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self._size_bytes = 0
        if self._closed is None:
            self._wake.clear()
        return taken

    def relieve(self) -> None:
        """What was taken is sent."""
        if self._paused and self._closed is None and not self._size_bytes:
            self._paused = False
            if self._flow is not None:
                self._flow.resume()

    @property
    def closed(self) -> tuple[int, str] | None:
        """The code and reason of the end."""
        return self._closed

    def lost(self) -> None:
        """The connection is gone, and is to be written to no more."""
        self._transport = None
        self._pieces.clear()
        self.close(1006, "")

    def close(self, code: int, reason: str) -> None:
        """Take nothing more; what waits may still be taken."""
        if self._closed is None:
            self._closed = (code, reason)
            self._flow = None
            self._wake.set()
            if self._transport is not None:
                self._transport.close(code, reason)
