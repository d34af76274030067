"""How much waits for one client, and who is told of it."""

import asyncio

from gateway.core.sink import Flow

__all__ = ["Pressure"]


class Pressure:
    """Notices a client that doesn't read: by asyncio's flow control, so that a write costs nothing more until then."""

    __slots__ = ("_allowance_bytes", "_flow", "_left_bytes", "_transport", "paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._flow: Flow | None = None
        self._allowance_bytes = 0
        self._left_bytes = 0
        self.paused = False

    def watch(self, limit_bytes: int, flow: Flow) -> None:
        """Pause at half the limit; the other half is for what has to be said all the same."""
        self._flow = flow
        self._allowance_bytes = limit_bytes // 2
        self._transport.set_write_buffer_limits(high=limit_bytes - self._allowance_bytes)

    def forget(self) -> None:
        """The connection is gone: nobody is told any more."""
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.gone()

    def pause(self) -> None:
        self.paused = True
        self._left_bytes = self._allowance_bytes
        if self._flow is not None:
            self._flow.pause()

    def resume(self) -> None:
        self.paused = False
        if self._flow is not None:
            self._flow.resume()

    def aside(self, size_bytes: int) -> None:
        """The client sent something that no message is, such as a ping."""
        if self._flow is not None:
            self._flow.aside(size_bytes)

    def allows(self, size_bytes: int) -> bool:
        """Whether a write during a pause may still be; the first that may not ends the session."""
        self._left_bytes -= size_bytes
        if self._left_bytes >= 0 or self._flow is None:
            return True
        flow, self._flow = self._flow, None
        flow.overflow()
        return False
