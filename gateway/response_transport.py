"""A streaming response, laid open: the hub writes chunks to it without a detour through ASGI."""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.core.sink import CLOSE_GRACE_SECONDS, Flow
from gateway.pressure import Pressure

__all__ = ["ResponseTransport"]


class ResponseTransport:
    """A streaming response as a `Transport`: `write` takes whole chunks (RFC 9112 §7.1)."""

    __slots__ = ("_cycle", "_loop", "_watched", "pressure")

    def __init__(self, cycle: RequestResponseCycle, loop: asyncio.AbstractEventLoop) -> None:
        self._cycle = cycle
        self._loop = loop
        self._watched = False
        self.pressure = Pressure(cycle.transport)

    def write(self, data: bytes) -> None:
        cycle = self._cycle
        if cycle.disconnected or cycle.response_complete or cycle.transport.is_closing():
            return
        if self.pressure.paused and not self.pressure.allows(len(data)):
            return
        cycle.transport.write(data)

    @property
    def fan_out(self) -> Callable[[bytes], None]:
        return self._cycle.transport.write

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002 - a stream has said both in its last event
        cycle = self._cycle
        if cycle.disconnected or cycle.response_complete or cycle.transport.is_closing():
            return
        cycle.transport.write(b"0\r\n\r\n")
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.transport.close()
        self._loop.call_later(CLOSE_GRACE_SECONDS, cycle.transport.abort)

    @property
    def paused(self) -> bool:
        return self.pressure.paused

    @property
    def endless(self) -> bool:
        """Whether this is a stream, which goes on until the client or the gateway leaves."""
        return self._watched and not self._cycle.response_complete

    def watch(self, limit_bytes: int, flow: Flow) -> None:
        self._watched = True
        self.pressure.watch(limit_bytes, flow)

    def release(self) -> None:
        """Let go of the way from the scope to here: circles wait for a search for garbage."""
        self._cycle.scope.get("extensions", {}).pop("tidegate", None)

    def lost(self) -> None:
        """The client has left: tell whoever waits for that, though later requests wait behind this one."""
        if not self._cycle.response_complete:
            self._cycle.disconnected = True
        self._cycle.message_event.set()
        self.pressure.forget()
