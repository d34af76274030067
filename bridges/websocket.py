"""WebSocket clients: `GET /ws` with the subprotocol `tidegate.v1.json` (RFC 6455).

The thin shell around `gateway.core.conversation`: it accepts or refuses the handshake, carries frames, and makes sure
that the session ends. Heartbeats are the server's pings.
"""

import asyncio
import struct
from typing import Any
from urllib.parse import parse_qs

from gateway.core.access import Grants
from gateway.core.admission import Admission, Caller
from gateway.core.connections import Seat
from gateway.core.conversation import Conversation
from gateway.core.counters import Counters
from gateway.core.errors import TidegateError, WrongSubprotocol
from gateway.core.namespace import Namespace
from gateway.core.presence_wire import read_member_query
from gateway.core.problem import problem
from gateway.core.session import Session
from gateway.core.sink import CLOSE_GRACE_SECONDS, BufferSink, Transport, TransportSink
from gateway.core.wire import SUBPROTOCOL

__all__ = ["WebSocketBridge", "deny", "text_frame"]


def text_frame(kind: str, text: bytes, cursor: str | None = None) -> bytes:  # noqa: ARG001 - a `Framing`
    """A server's text frame: final, unmasked (RFC 6455 §5.2), so that all clients can share its bytes."""
    size = len(text)
    if size < 126:
        return bytes((0x81, size)) + text
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + text
    return struct.pack("!BBQ", 0x81, 127, size) + text


def plain_text(kind: str, text: bytes, cursor: str | None = None) -> bytes:  # noqa: ARG001 - a `Framing`
    """The text alone, where the server makes the frame."""
    return text


class WebSocketBridge:
    """The ASGI application behind `/ws`."""

    def __init__(
        self, namespace: Namespace, admission: Admission, counters: Counters, heartbeat_seconds: float
    ) -> None:
        self._namespace = namespace
        self._admission = admission
        self._counters = counters
        self._heartbeat_seconds = heartbeat_seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection from handshake to close."""
        await receive()  # websocket.connect
        try:
            caller = Caller.of(scope)
            with self._admission.counted(), self._admission.connection(caller) as seat:
                identity = await self._admission.identify(caller)
                seat.identify(identity)
                grants = self._namespace.access.of(identity)
                subprotocol = _choose(scope["subprotocols"])
                query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
                member = read_member_query(query)
                await send({"type": "websocket.accept", "subprotocol": subprotocol})
                transport: Transport | None = scope.get("extensions", {}).get("tidegate")
                if transport is not None:
                    await self._serve(transport, receive, grants, member, seat)
                else:
                    await self._serve_buffered(receive, send, grants, member, seat)
        except TidegateError as error:
            await deny(scope, send, error)

    async def _serve(self, transport: Transport, receive: Any, grants: Grants, member: str | None, seat: Seat) -> None:
        sink = TransportSink(transport, text_frame)
        session = self._namespace.open("websocket", sink, grants, member=member, seat=seat)
        transport.watch(self._namespace.limits.write_buffer_bytes, session)
        await self._converse(session, receive)

    async def _serve_buffered(self, receive: Any, send: Any, grants: Grants, member: str | None, seat: Seat) -> None:
        sink = BufferSink(plain_text, self._namespace.limits.write_buffer_bytes)
        session = self._namespace.open("websocket", sink, grants, member=member, seat=seat)
        sink.watch(session)
        try:
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(_send_from(sink, send))
                await self._converse(session, receive)
                sender.cancel()
        except* TimeoutError:
            pass  # it doesn't read; the server ends the connection as this returns

    async def _converse(self, session: Session, receive: Any) -> None:
        conversation = Conversation(session, self._namespace, self._counters, self._admission.authentication)
        try:
            conversation.greet(self._heartbeat_seconds)
            while (event := await receive())["type"] != "websocket.disconnect":
                text = event.get("text")
                conversation.receive(event["bytes"] if text is None else text)
                if conversation.waits:
                    await conversation.settle()
            if event.get("tidegate.broken") and session.seat is not None:  # by the gateway's own server, as it judges
                session.seat.offend()
        finally:
            session.end()


def _choose(offered: list[str]) -> str | None:
    if offered and SUBPROTOCOL not in offered:
        raise WrongSubprotocol(f"expected the subprotocol {SUBPROTOCOL}, or none")
    return SUBPROTOCOL if offered else None


async def _send_from(sink: BufferSink, send: Any) -> None:
    async def send_text(text: bytes) -> None:
        await send({"type": "websocket.send", "text": text.decode()})

    code, reason = await sink.pump(send_text)
    async with asyncio.timeout(CLOSE_GRACE_SECONDS):
        await send({"type": "websocket.close", "code": code, "reason": reason})


async def deny(scope: Any, send: Any, error: TidegateError) -> None:
    """Refuse the handshake with problem details, or with a bare 403 where the server can't say more."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    status, headers, body = problem(error)
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
