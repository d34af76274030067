"""A response, laid open: the hub writes chunks to it without a detour through ASGI, or answers it later."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.core.sink import CLOSE_GRACE_SECONDS, Flow, Parked
from gateway.pressure import Pressure

__all__ = ["ResponseTransport"]


class ResponseTransport:
    """A response as a `Transport`, where `write` takes whole chunks (RFC 9112 §7.1), and as a `ParkingTransport`."""

    __slots__ = ("_completed", "_cycle", "_loop", "_parked", "_watched", "pressure")

    def __init__(self, cycle: RequestResponseCycle, loop: asyncio.AbstractEventLoop) -> None:
        self._cycle = cycle
        self._loop = loop
        self._watched = False
        self._parked: Parked | None = None
        self._completed: Callable[[], None] | None = None
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

    @property
    def parked(self) -> bool:
        """Whether the answer comes later."""
        return self._parked is not None

    def watch(self, limit_bytes: int, flow: Flow) -> None:
        self._watched = True
        self.pressure.watch(limit_bytes, flow)

    def park(self, parked: Parked) -> None:
        cycle = self._cycle
        if cycle.disconnected or cycle.transport.is_closing():
            parked.left()
            return
        self._parked, self._completed = parked, cycle.on_response
        cycle.disconnected = True  # from its application, which may return then with nothing said
        self._loop.call_soon(self._forget_request, cycle.scope)

    @staticmethod
    def _forget_request(scope: Any) -> None:
        """Keep nothing of a request whose application has returned: its headers cost more than all else of it."""
        scope.get("headers", []).clear()
        scope.clear()

    def answer(self, body: bytes) -> None:
        cycle, completed = self._cycle, self._completed
        self._parked = self._completed = None
        if completed is None or cycle.transport.is_closing():
            return
        text = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if cycle.chunked_encoding else body
        cycle.transport.write(text)
        cycle.response_complete = True
        if not cycle.keep_alive:
            cycle.transport.close()
        completed()

    def hurry(self) -> None:
        """The client sends something more, which has its turn behind the answer."""
        if self._parked is not None:
            self._parked.finish()

    def release(self) -> None:
        """Let go of the way from the scope to here: circles wait for a search for garbage."""
        self._cycle.scope.get("extensions", {}).pop("tidegate", None)

    def lost(self) -> None:
        """The client has left: tell whoever waits for that, though later requests wait behind this one."""
        if not self._cycle.response_complete:
            self._cycle.disconnected = True
        self._cycle.message_event.set()
        self.pressure.forget()
        parked, self._parked, self._completed = self._parked, None, None
        if parked is not None:
            parked.left()
