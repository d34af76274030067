"""The server: uvicorn with its connections laid open, so that the hub writes to them without a detour through ASGI.

Two small subclasses of uvicorn's protocols put a `gateway.core.sink.Transport` into `scope["extensions"]["tidegate"]`.
Under another ASGI server it isn't there, and the bridges use the server's `send`; only speed and the reach of a close
to clients that don't read are lost.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from bridges.websocket import text_frame
from gateway.core.errors import MessageTooLarge
from gateway.core.sink import CLOSE_GRACE_SECONDS, Flow
from gateway.core.wire import encode_error

__all__ = ["HttpProtocol", "Server", "WebSocketProtocol", "bind"]


class _Pressure:
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

    def pause(self) -> None:
        self.paused = True
        self._left_bytes = self._allowance_bytes
        if self._flow is not None:
            self._flow.pause()

    def resume(self) -> None:
        self.paused = False
        if self._flow is not None:
            self._flow.resume()

    def allows(self, size_bytes: int) -> bool:
        """Whether a write during a pause may still be; the first that may not ends the session."""
        self._left_bytes -= size_bytes
        if self._left_bytes >= 0 or self._flow is None:
            return True
        flow, self._flow = self._flow, None
        flow.overflow()
        return False


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket connection, which is its own `Transport`: `write` takes whole frames (RFC 6455 §5.2)."""

    pressure: _Pressure
    broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.pressure = _Pressure(self.transport)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            extensions: dict[str, Any] = {**(self.scope["extensions"] or {}), "tidegate": self}
            self.scope["extensions"] = extensions

    def data_received(self, data: bytes) -> None:
        if not self.broken:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """Say why, close, and let the client read that: cutting off while it still sends would reset the connection."""
        assert self.conn.close_sent is not None
        self.broken = True
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        farewell = self.conn.data_to_send()
        if code == MessageTooLarge.close_code:
            error = MessageTooLarge(f"expected at most {self.config.ws_max_size} bytes in a message")
            farewell.insert(0, text_frame("error", encode_error(None, error)))
        self.transport.write(b"".join(farewell))
        self.close_sent = True
        self.stop_keepalive()
        self.close_timer = self.loop.call_later(CLOSE_GRACE_SECONDS, self.transport.abort)

    def write(self, data: bytes) -> None:
        if self.transport.is_closing() or self.close_sent:
            return
        if self.pressure.paused and not self.pressure.allows(len(data)):
            return
        self.transport.write(data)

    def close(self, code: int, reason: str) -> None:
        if self.transport.is_closing() or self.close_sent:
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_GRACE_SECONDS, self.transport.abort)

    @property
    def paused(self) -> bool:
        return self.pressure.paused

    def watch(self, limit_bytes: int, flow: Flow) -> None:
        self.pressure.watch(limit_bytes, flow)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.pressure.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.pressure.resume()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # Closing waits for what is unsent, and a peer that is gone takes nothing.
        self.loop.call_later(CLOSE_GRACE_SECONDS, self.transport.abort)


class _ResponseTransport:
    """A streaming response as a `Transport`: `write` takes whole chunks (RFC 9112 §7.1)."""

    __slots__ = ("_cycle", "_loop", "_watched", "pressure")

    def __init__(self, cycle: RequestResponseCycle, loop: asyncio.AbstractEventLoop) -> None:
        self._cycle = cycle
        self._loop = loop
        self._watched = False
        self.pressure = _Pressure(cycle.transport)

    def write(self, data: bytes) -> None:
        cycle = self._cycle
        if cycle.disconnected or cycle.response_complete or cycle.transport.is_closing():
            return
        if self.pressure.paused and not self.pressure.allows(len(data)):
            return
        cycle.transport.write(data)

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

    def lost(self) -> None:
        """The client has left: tell whoever waits for that, though later requests wait behind this one."""
        if not self._cycle.response_complete:
            self._cycle.disconnected = True
        self._cycle.message_event.set()


class HttpProtocol(HttpToolsProtocol):
    """An HTTP connection that offers each response's transport."""

    _response: _ResponseTransport | None = None

    def data_received(self, data: bytes) -> None:
        # What is asked behind a stream is never answered. To keep it would stop reading, and hide that the client left.
        if self._response is None or not self._response.endless:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response is not None:
            self._response.lost()  # uvicorn tells only the newest request
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if "path" not in self.scope:
            return  # an upgrade to WebSocket
        if self.scope["http_version"] == "1.1" and not self.pipeline:
            self._response = _ResponseTransport(self.cycle, self.loop)
            extensions: dict[str, Any] = {"tidegate": self._response}
            self.scope["extensions"] = extensions

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._response is not None:
            self._response.pressure.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._response is not None:
            self._response.pressure.resume()


class Server(uvicorn.Server):
    """Serves an ASGI application until SIGINT or SIGTERM, then drains and returns."""

    def __init__(
        self,
        app: Any,
        *,
        message_bytes: int,
        heartbeat_seconds: float,
        heartbeat_timeout_seconds: float,
        drain_seconds: float,
        drain: Callable[[], None],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=HttpProtocol,
                ws=WebSocketProtocol,
                ws_max_size=message_bytes,
                ws_ping_interval=heartbeat_seconds,
                ws_ping_timeout=heartbeat_timeout_seconds,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )
        self._drain = drain

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in good order, exit code 0; uvicorn's own way raises the signal again after all is done."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, say goodbye to those there are, and wait for what is under way."""
        for server in self.servers:
            server.close()
        self._drain()
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the address can't be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
