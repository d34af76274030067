"""A WebSocket connection, laid open: the hub writes frames to it, and what comes goes to a receiver."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from websockets.frames import Frame
from websockets.protocol import State

from gateway.core.errors import InternalError, MessageTooLarge
from gateway.core.sink import CLOSE_GRACE_SECONDS, Flow, Framing, Receiver
from gateway.core.wire import encode_error
from gateway.handed import Handed
from gateway.heartbeats import Heartbeats
from gateway.pressure import Pressure
from gateway.websocket_handshake import COMPRESSION, HandshakeProtocol

__all__ = ["WebSocketProtocol"]

SMALL_FRAGMENT_BYTES: Final = 512
"""A fragment of a message below this size costs as much as a message: thousands of them would be one."""


class WebSocketProtocol(HandshakeProtocol):
    """A WebSocket connection, which is its own `Transport`: `write` takes whole frames (RFC 6455 §5.2)."""

    pressure: Pressure

    def __init__(self, *args: Any, heartbeats: Heartbeats, inflate: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        if inflate:
            self.conn.available_extensions = [COMPRESSION]
        self._heartbeats = heartbeats
        self._framing: Framing | None = None
        """How the client is told what is wrong, once its bridge has said that."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.pressure = Pressure(self.transport)

    @property
    def under_way(self) -> bool:
        """Whether its handshake is."""
        return not (self.handshake_complete or self.close_sent)

    def speak(self, framing: Framing | None) -> None:
        self._framing = framing

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

    def handle_parser_exception(self) -> None:
        """Say why, close, and let the client read that: cutting off while it still sends would reset the connection."""
        assert self.conn.close_sent is not None
        self.broken = True
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.pressure.forget()  # nothing may be written behind the close
        event: Any = {"type": "websocket.disconnect", "code": code, "reason": reason, "tidegate.broken": True}
        self.queue.put_nowait(event)
        farewell = self.conn.data_to_send()
        if code == MessageTooLarge.close_code and self._framing is not None:
            error = MessageTooLarge(f"expected at most {self.config.ws_max_size} bytes in a message")
            farewell.insert(0, self._framing("error", encode_error(None, error), None))
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
        if self.transport.is_closing() or self.close_sent or self.conn.state is not State.OPEN:
            return  # the last: the client's close was read together with what is being answered, and is next
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
