"""The server: uvicorn with its connections laid open, so that the hub writes to them without a detour through ASGI.

Two small subclasses of uvicorn's protocols put a `gateway.core.sink.Transport` into `scope["extensions"]["tidegate"]`.
Under another ASGI server it isn't there, and the bridges use the server's `send`; only speed and the reach of a close
to clients that don't read are lost.
"""

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import Protocol as FrameParser

from bridges.websocket import SPEECHES
from gateway.core.errors import InternalError, MessageTooLarge, TidegateError
from gateway.core.plain_http import Place
from gateway.core.sink import CLOSE_GRACE_SECONDS, Flow, Receiver
from gateway.core.wire import encode_error
from gateway.entrance import HeadBounds
from gateway.gate import Gate, Keeper
from gateway.handed import Handed
from gateway.heartbeats import Heartbeats
from gateway.http_connection import HttpProtocol
from gateway.portions import PortionedWebSocketProtocol
from gateway.pressure import Pressure

__all__ = ["Server", "WebSocketProtocol", "bind"]

BACKLOG: Final = 2048
"""How many connections may wait until they are taken."""

SMALL_FRAGMENT_BYTES: Final = 512
"""A fragment of a message below this size costs as much as a message: thousands of them would be one."""


class WebSocketProtocol(PortionedWebSocketProtocol):
    """A WebSocket connection, which is its own `Transport`: `write` takes whole frames (RFC 6455 §5.2)."""

    pressure: Pressure
    speech = SPEECHES[None]
    receiver: Handed | None = None
    _head = b""
    """The answer to the handshake, until it is sent."""

    def __init__(self, *args: Any, heartbeats: Heartbeats, **options: Any) -> None:
        super().__init__(*args, **options)
        self._heartbeats = heartbeats

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.pressure = Pressure(self.transport)

    def begin(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Take a handshake that has been read; to read it once more would take longer than all else of it."""
        self.conn.parser.close()
        self.conn.parser = FrameParser.parse(self.conn)  # what follows the request
        next(self.conn.parser)
        self.handshake_initiated = True
        fields = Headers()
        for name, value in headers:
            fields[name.decode("latin-1")] = value.decode("latin-1")
        self.response = self.conn.accept(Request(target.decode("latin-1"), fields))
        if self.response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self.handshake_complete = self.close_sent = True
            self.conn.send_response(self.response)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
            return
        self.scope = self._scope_of(target, headers, fields)
        self.queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self.run_asgi())
        task.add_done_callback(self.on_task_complete)
        self.tasks.add(task)

    def _scope_of(self, target: bytes, headers: list[tuple[bytes, bytes]], fields: Headers) -> Any:
        raw_path, _, query = target.partition(b"?")
        offered = ",".join(fields.get_all("Sec-WebSocket-Protocol"))
        return {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": self.scheme,
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + unquote(raw_path.decode("latin-1")),
            "raw_path": self.root_path.encode() + raw_path,
            "query_string": query,
            "headers": headers,
            "subprotocols": [name.strip() for name in offered.split(",")] if offered else [],
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}, "tidegate": self},
        }

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.pressure.forget()

    def hand_over(self, receiver: Receiver) -> None:
        events, self.receiver = self.queue, Handed(receiver)
        self.queue = self.receiver  # type: ignore[assignment] # what would be put there is taken
        while not events.empty():
            event: Any = events.get_nowait()
            if event["type"] == "websocket.receive":
                self._receive(event["text"] if "text" in event else event["bytes"])
            else:
                self.receiver.put_nowait(event)
        self._flush()
        self.go_on()

    def _receive(self, message: str | bytes) -> None:
        assert self.receiver is not None
        if self.receiver.receive(message):
            self.pause_reading()
            task = self.loop.create_task(self._settle(self.receiver))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

    async def _settle(self, receiver: Handed) -> None:
        try:
            await receiver.settle()
        except Exception:
            self.logger.exception("what a client sent was lost to a fault")
            self.close(InternalError.close_code, InternalError.code)
        self.go_on()

    async def run_asgi(self) -> None:
        """As uvicorn does it, but that the connection may go on without the application."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        else:
            if not self.handshake_complete:
                self.logger.error("ASGI callable returned without completing handshake.")
                self.send_500_response()
            elif self.receiver is not None:
                return
        if self.close_timer is None:
            self.transport.close()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        # The scope leads back to this connection, and circles wait for a search for garbage.
        del self.scope, self.response

    async def send(self, message: Any) -> None:
        self._flush()
        if message["type"] == "websocket.accept" and not self.handshake_complete:
            self._accept(message)
            return
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # by a refusal; uvicorn would log each as an error of the application

    async def receive(self) -> Any:
        self._flush()
        return await super().receive()

    def _accept(self, message: Any) -> None:
        if self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        subprotocol = message.get("subprotocol")
        self.speech = SPEECHES.get(subprotocol, self.speech)
        if subprotocol is not None:
            self.response.headers["Sec-WebSocket-Protocol"] = subprotocol
        for name, value in message.get("headers", ()):
            self.response.headers[name.decode("latin-1")] = value.decode("latin-1")
        self.handshake_complete = True
        self.conn.send_response(self.response)
        self._head = b"".join(self.conn.data_to_send())
        self.start_keepalive()

    def _flush(self) -> None:
        """Send the answer to the handshake, if nothing has come that it can be sent together with."""
        head, self._head = self._head, b""
        if head:
            self.transport.write(head)

    def handle_parser_exception(self) -> None:
        """Say why, close, and let the client read that: cutting off while it still sends would reset the connection."""
        assert self.conn.close_sent is not None
        self.broken = True
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.pressure.forget()  # nothing may be written behind the close
        event: Any = {"type": "websocket.disconnect", "code": code, "reason": reason, "tidegate.broken": True}
        self.queue.put_nowait(event)
        farewell = self.conn.data_to_send()
        if code == MessageTooLarge.close_code:
            error = MessageTooLarge(f"expected at most {self.config.ws_max_size} bytes in a message")
            farewell.insert(0, self.speech.framing("error", encode_error(None, error), None))
        self.transport.write(b"".join(farewell))
        self.close_sent = True
        self.stop_keepalive()
        self.close_timer = self.loop.call_later(CLOSE_GRACE_SECONDS, self.transport.abort)

    def send_receive_event_to_app(self) -> None:
        frames, self.frames = self.frames, []
        if self.close_sent:
            return
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        try:
            message = data.decode() if self.curr_msg_data_type == "text" else data
        except UnicodeDecodeError:  # uvicorn would log a traceback, and so each client could fill the log
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        if self.receiver is not None:
            self._receive(message)
            return
        event: Any = {"type": "websocket.receive", self.curr_msg_data_type: message}
        self.queue.put_nowait(event)
        self.pause_reading()

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self.pressure.forget()  # nothing may be written behind the answer (RFC 6455 §5.5.1)

    def handle_ping(self) -> None:
        # The answer, which the library has written already, is a write like any other to a client that doesn't read.
        self.write(b"".join(self.conn.data_to_send()))
        self._spend(0)

    def handle_pong(self, event: Frame) -> None:
        if self.pending_ping_payload is None or bytes(event.data) != self.pending_ping_payload:
            self._spend(len(event.data))
            return
        self.pending_ping_payload = None
        self._heartbeats.answered(self)

    def handle_cont(self, event: Frame) -> None:
        if len(event.data) < SMALL_FRAGMENT_BYTES and not event.fin:
            self._spend(0)
        if event.data or event.fin:
            super().handle_cont(event)

    def _spend(self, size_bytes: int) -> None:
        """Account for a frame that the application never sees; a flood of them ends what is read."""
        self.pressure.aside(size_bytes)
        self.broken = self.broken or self.close_sent

    def write(self, data: bytes) -> None:
        if self.transport.is_closing() or self.close_sent:
            return
        if self.pressure.paused and not self.pressure.allows(len(data)):
            return
        if self._head:
            data, self._head = self._head + data, b""
        self.transport.write(data)

    @property
    def fan_out(self) -> Callable[[bytes], None]:
        return self.transport.write

    def close(self, code: int, reason: str) -> None:
        if self.transport.is_closing() or self.close_sent:
            return
        self._flush()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        self.go_on()
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

    def start_keepalive(self) -> None:
        self._heartbeats.begin(self)

    def stop_keepalive(self) -> None:
        self._heartbeats.end(self)

    def ping(self, payload: bytes) -> None:
        if not (self.close_sent or self.transport.is_closing()):
            self.pending_ping_payload = payload
            self.conn.send_ping(payload)
            self.transport.write(b"".join(self.conn.data_to_send()))

    def silent(self) -> None:
        super().keepalive_timeout()
        # Closing waits for what is unsent, and a peer that is gone takes nothing.
        self.loop.call_later(CLOSE_GRACE_SECONDS, self.transport.abort)


class Server(uvicorn.Server):
    """Serves an ASGI application until SIGINT or SIGTERM, then drains and returns."""

    def __init__(
        self,
        app: Any,
        *,
        message_bytes: int,
        heartbeats: Heartbeats,
        head: HeadBounds,
        drain_seconds: float,
        admit: Callable[[str], Place],
        refused: Callable[[TidegateError, str | None], None],
        drain: Callable[[], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(HttpProtocol, head=head, refused=refused),  # type: ignore[arg-type]
                ws=partial(WebSocketProtocol, heartbeats=heartbeats),  # type: ignore[arg-type]
                ws_max_size=message_bytes,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # anybody could say to come from anywhere, and so pass all limits per address
            )
        )
        self._drain = drain
        self.servers = []  # the gates are in their place
        self._gates: list[Gate] = []
        self._keeper = Keeper(admit, refused, self._protocol, tls, head.handshake_seconds)

    def end_on_signals(self, run: asyncio.Task[Any]) -> None:
        """From now on until the process ends, let SIGINT and SIGTERM end the server, or cancel `run` as it starts."""

        def end(number: int) -> None:
            starting = not (self.started or self.should_exit)
            self.handle_exit(number, None)
            if starting:
                run.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end, number)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not as uvicorn does it, whose handlers are gone before all has ended, and which raises the signal again."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. As uvicorn does it with sockets, but that a gate judges each connection first."""
        loop = asyncio.get_running_loop()
        self._gates = [Gate(listener, self._keeper, loop) for listener in sockets or ()]
        self.started = True

    def _protocol(self, place: Place) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, place=place
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, say goodbye to those there are, and wait for what is under way."""
        for gate in self._gates:
            gate.close()
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
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
