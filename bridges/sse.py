"""Server-Sent Events: `GET /sse?room=…&room=…` (HTML Living Standard, §9.2 Server-sent events).

Messages are unnamed events, whose id is the cursor; all else is named by its type. The data of each event is the same
object as over WebSocket.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from bridges.carrier_requests import refuse
from gateway.core.access import Grants
from gateway.core.admission import Admission, Caller
from gateway.core.connections import Seat
from gateway.core.conversation import Conversation
from gateway.core.counters import Counters
from gateway.core.errors import MethodNotAllowed, TidegateError
from gateway.core.namespace import Namespace
from gateway.core.presence_wire import read_member_query
from gateway.core.session import Session
from gateway.core.sink import CLOSE_GRACE_SECONDS, BufferSink, Sink, Transport, TransportSink
from gateway.core.stream_query import StreamQuery, read_query, read_stream

__all__ = ["SseBridge", "chunk", "event"]

RETRY_MILLISECONDS: Final = 2000
"""How long an EventSource waits before it connects again."""

SEEN_IN_QUERY: Final = ("lastEventId", "lastEventID")
"""What `event-source-polyfill` and Mercure's clients call the last event's id, in the address."""

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


def event(kind: str, text: bytes, cursor: str | None = None) -> bytes:
    """One event: a `Framing`."""
    name = b"" if kind == "message" else b"event: " + kind.encode() + b"\n"
    identifier = b"" if cursor is None else b"id: " + cursor.encode() + b"\n"
    return b"".join((name, identifier, b"data: ", text, b"\n\n"))


def chunk(kind: str, text: bytes, cursor: str | None = None) -> bytes:
    """One event as one chunk of the response (RFC 9112 §7.1): a `Framing`."""
    return _chunked(event(kind, text, cursor))


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a stream's address asks for."""

    stream: StreamQuery
    member: str | None
    grants: Grants


class SseBridge:
    """The ASGI application behind `/sse`."""

    def __init__(
        self, namespace: Namespace, admission: Admission, counters: Counters, heartbeat_seconds: float
    ) -> None:
        self._namespace = namespace
        self._admission = admission
        self._counters = counters
        self._heartbeat_seconds = heartbeat_seconds
        self._sinks: dict[Sink, bytes] = {}
        """Every client's sink, with its heartbeat."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one stream."""
        try:
            with self._admission.counted():
                await self._admit(scope, receive, send)
        except TidegateError as error:
            await refuse(send, error)

    async def _admit(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] != "GET":
            raise MethodNotAllowed(f"{scope['method']} is not served here: expected GET", allowed=["GET"])
        caller = Caller.of(scope)
        with self._admission.connection(caller) as seat:  # before all else, so that each attempt counts
            identity = await self._admission.require(caller)
            asked = self._asked(scope, self._namespace.access.of(identity))
            seat.identify(identity)
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            transport: Transport | None = (scope.get("extensions") or {}).get("tidegate")
            if transport is not None:
                await self._serve(transport, asked, receive, seat)
            else:
                await self._serve_buffered(asked, receive, send, seat)

    def _asked(self, scope: Any, grants: Grants) -> _Asked:
        """What the stream is to be subscribed to, and what its client calls itself.

        A browser that comes back by itself says where it was, in `Last-Event-ID`; what stands in for it, in the query.
        """
        query = read_query(scope["query_string"])
        seen = [value.decode("latin-1") for name, value in scope["headers"] if name == b"last-event-id"]
        seen += [value for name in SEEN_IN_QUERY for value in query.get(name, [])]
        stream = read_stream(query, "/sse", seen[0] if seen else None)
        self._namespace.check_rooms(stream.rooms, grants)
        return _Asked(stream, read_member_query(query), grants)

    async def _serve(self, transport: Transport, asked: _Asked, receive: Any, seat: Seat) -> None:
        sink = TransportSink(transport, chunk)
        session = self._namespace.open("sse", sink, asked.grants, member=asked.member, seat=seat)
        transport.watch(self._namespace.limits.write_buffer_bytes, session)
        sink.write(_chunked(b"retry: %d\n" % RETRY_MILLISECONDS))
        await self._stream(session, _chunked(b":\n"), asked, receive)

    async def _serve_buffered(self, asked: _Asked, receive: Any, send: Any, seat: Seat) -> None:
        sink = BufferSink(event, self._namespace.limits.write_buffer_bytes)
        session = self._namespace.open("sse", sink, asked.grants, member=asked.member, seat=seat)
        sink.watch(session)
        sink.write(b"retry: %d\n" % RETRY_MILLISECONDS)
        try:
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(_send_from(sink, send))
                await self._stream(session, b":\n", asked, receive)
                sender.cancel()
        except* TimeoutError:
            pass  # it doesn't read; the server ends the connection as this returns

    async def _stream(self, session: Session, heartbeat: bytes, asked: _Asked, receive: Any) -> None:
        conversation = Conversation(session, self._namespace, self._counters)
        if asked.stream.bytes_per_second is not None:
            self._namespace.recovery.limit_bandwidth(session, asked.stream.bytes_per_second)
        self._sinks[session.sink] = heartbeat
        try:
            conversation.greet(self._heartbeat_seconds)
            self._subscribe(session, asked)
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            del self._sinks[session.sink]
            session.end()

    def _subscribe(self, session: Session, asked: _Asked) -> None:
        try:
            if not session.ended:
                self._namespace.subscribe(session, *asked.stream.requests)
        except TidegateError as error:  # the rules have changed since it was let in
            session.end(error)

    async def beat(self) -> None:
        """Send every client a comment each `heartbeat_seconds`, so that proxies keep the stream; never returns."""
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            for sink, heartbeat in tuple(self._sinks.items()):
                sink.write(heartbeat)


async def _send_from(sink: BufferSink, send: Any) -> None:
    async def send_event(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    await sink.pump(send_event)
    async with asyncio.timeout(CLOSE_GRACE_SECONDS):
        await send({"type": "http.response.body", "body": b"", "more_body": False})
