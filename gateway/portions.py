"""How much of what one WebSocket client sends is looked at: so little in one turn of the loop that others have theirs.

A subclass of uvicorn's protocol, which would look at all that one read brought, 40,000 frames if they are small. What
is left waits, and meanwhile nothing more is read: a client that floods is held up by TCP. After a close of ours only
its answer is still looked for; who goes on sending is no longer read.
"""

from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["MAXIMUM_IGNORED_BYTES", "PortionedWebSocketProtocol"]

PORTION_BYTES: Final = 1024
"""What is looked at before the frames in it are counted."""

FRAMES_PER_TURN: Final = 32
"""Frames of one client after which the others have their turn."""

BYTES_AFTER_CLOSE: Final = 4 * 1024
"""What is looked through for the client's answer to a close (RFC 6455 §5.5.1)."""

MAXIMUM_IGNORED_BYTES: Final = 1024 * 1024
"""What is read and thrown away, so that a client that sends first and reads then hears why it is refused."""


class PortionedWebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket connection that takes what comes in portions."""

    broken = False
    """Whether what comes is no longer looked at."""
    _waiting = b""
    """What has come and is to be looked at in the next turn; nothing more is read until then."""
    _due = False
    _ignored_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the parser, which holds what holds it: circles wait for a search for garbage."""
        super().connection_lost(exc)
        self.broken, self._waiting = True, b""
        self.conn.parser.close()

    def data_received(self, data: bytes) -> None:
        """Take what has come, now or, if there is much, little by little."""
        if self.broken:
            self._ignore(len(data), MAXIMUM_IGNORED_BYTES)
            return
        self._waiting += data
        if not self._due:
            self._take()

    async def receive(self) -> Any:
        """The next event, for the application."""
        message = await self.queue.get()
        self.go_on()
        return message

    def go_on(self) -> None:
        """Take more of what has come, or read more, once the application has what there was."""
        if self.transport.is_closing() or not (self.queue.empty() or self.close_sent):
            return
        if self._waiting:
            self._take_soon()
        elif self.read_paused and not self.broken:
            self.read_paused = False
            self.transport.resume_reading()

    def pause_reading(self) -> None:
        """Read nothing more until `go_on`."""
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _take_soon(self) -> None:
        self.pause_reading()
        if not self._due:
            self._due = True
            self.loop.call_soon(self._take)

    def _take(self) -> None:
        self._due = False
        frames, at, data = 0, 0, self._waiting
        while at < len(data) and frames < FRAMES_PER_TURN and not self.broken:
            portion = data[at : at + PORTION_BYTES]
            at += len(portion)
            frames += self._parse(portion)
        self._waiting = b"" if self.broken else data[at:]
        self.go_on()

    def _parse(self, data: bytes) -> int:
        """Look at a portion; how many frames were in it."""
        if self.close_sent:
            self._ignore(len(data), BYTES_AFTER_CLOSE)
        self.conn.receive_data(data)
        if self.conn.parser_exc is not None:
            self.handle_parser_exception()
            return 0
        frames = len(self.conn.events)
        self.handle_events()
        return frames

    def _ignore(self, size_bytes: int, most_bytes: int) -> None:
        """Account for what nobody wants. Of a client that goes on sending it nothing is read until it is cut off."""
        self._ignored_bytes += size_bytes
        if self._ignored_bytes > most_bytes and not self.transport.is_closing():
            self.broken = True
            self.transport.pause_reading()
