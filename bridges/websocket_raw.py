"""WebSocket without a protocol: `GET /ws/raw?room=…`, where frames are payloads, both ways.

For microcontrollers and command lines. Who speaks no protocol can't be told of an error but by the close of the
connection: so whatever is refused closes it, but for rates, which close it only at the end of the client's patience.
"""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from bridges.carrier_frames import whole_frames
from bridges.carrier_serving import Client, Serving, deny, send_close
from bridges.websocket_payloads import compressing, payload_frames, read_payload
from gateway.core.admission import Admission, Caller
from gateway.core.counters import Counters
from gateway.core.errors import BadMessage, InternalError, TidegateError, error_table
from gateway.core.limit_errors import RateLimited, RoomRateLimited
from gateway.core.namespace import Namespace
from gateway.core.presence_wire import read_member_query
from gateway.core.publishing import Sending
from gateway.core.session import Session
from gateway.core.sink import BufferSink, TransportSink, WebSocketTransport
from gateway.core.stream_query import StreamQuery, read_query, read_stream
from gateway.core.topics import has_wildcard
from gateway.core.wire import SUBPROTOCOL
from gateway.core.wire_msgpack import SUBPROTOCOL as MSGPACK

__all__ = ["RawBridge", "RawClient", "close_code"]

logger = logging.getLogger(__name__)

POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013
NORMAL: Final = 1000

_CLOSE_CODES: Final[Mapping[str, int]] = {
    error.code: TRY_AGAIN_LATER if error.retry or error.http_status >= 500 else POLICY_VIOLATION
    for error in error_table()
    if error.close_code is None
}
"""With what a connection is closed for an error that closes no other one."""


def close_code(code: int, reason: str) -> int:
    """The code to close with, where a session ends with this one and the code of an error."""
    return _CLOSE_CODES.get(reason, code) if code == NORMAL else code


class RawClient:
    """A `Receiver` that publishes what comes.

    Args:
        room: Where that goes; None if the client named several, or a pattern.
    """

    __slots__ = ("_counters", "_namespace", "_room", "_session")
    waits = False

    def __init__(self, session: Session, namespace: Namespace, counters: Counters, room: str | None) -> None:
        self._session = session
        self._namespace = namespace
        self._counters = counters
        self._room = room

    def receive(self, frame: str | bytes) -> None:
        """Publish one payload."""
        if self._session.ended:
            return
        try:
            self._spend(frame)
            self._namespace.follow(self._session)
            if not self._session.ended:
                self._publish(frame)
        except TidegateError as error:
            self._refuse(error)
        except Exception:
            logger.exception("a payload of session %s failed", self._session.id)
            self._session.end(InternalError("the gateway failed to handle a message; its log says why"))
        else:
            self._session.budget.accept()

    async def settle(self) -> None:
        """Nothing waits."""

    def closed(self, *, offended: bool) -> None:
        """The client is gone, or broke the rules of WebSocket."""
        seat = self._session.seat
        if offended and seat is not None:
            seat.offend()
        self._session.end()
        if seat is not None:
            seat.free()

    def _spend(self, frame: str | bytes) -> None:
        size_bytes = len(frame.encode()) if isinstance(frame, str) else len(frame)
        self._counters.received_bytes["raw"] += size_bytes
        self._session.budget.spend(size_bytes)

    def _publish(self, frame: str | bytes) -> None:
        if self._room is None:
            raise BadMessage("room: expected exactly one, and no pattern, in the address of who sends")
        routes = self._namespace.routing.topics_for(self._room)
        data, binary = read_payload(frame, {route.spec.payload for route, _ in routes})
        sending = Sending.by(self._session, self._room, data, binary=binary)
        self._namespace.publish(sending, self._published, self._session.grants)
        self._counters.published["raw"] += 1

    def _published(self, error: TidegateError | None) -> None:
        if error is not None and not self._session.ended:
            self._refuse(error)

    def _refuse(self, error: TidegateError) -> None:
        """Close the connection; but what comes too fast is dropped, until it has been too often in a row."""
        self._counters.refuse(error)
        if isinstance(error, (RateLimited, RoomRateLimited)):
            self._session.over_limit(error)
        else:
            self._session.end(error)


class RawBridge:
    """The ASGI application behind `/ws/raw`."""

    def __init__(
        self, namespace: Namespace, admission: Admission, counters: Counters, compress_from_bytes: int | None
    ) -> None:
        self._namespace = namespace
        self._admission = admission
        self._counters = counters
        self._serving = Serving(namespace, "raw")
        self._compressing = payload_frames if compress_from_bytes is None else compressing(compress_from_bytes)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection: from handshake to close, or until the server goes on by itself."""
        await receive()  # websocket.connect
        try:
            with self._admission.counted(), ExitStack() as held:
                caller = Caller.of(scope)
                seat = held.enter_context(self._admission.connection(caller))
                identity = await self._admission.require(caller)
                seat.identify(identity)
                grants = self._namespace.access.of(identity)
                query = read_query(scope["query_string"])
                stream = read_stream(query, "/ws/raw")
                self._namespace.check_rooms(stream.rooms, grants)
                client = Client(grants, read_member_query(query), seat)
                await send({"type": "websocket.accept", "subprotocol": _choose(scope["subprotocols"])})
                transport: WebSocketTransport | None = scope.get("extensions", {}).get("tidegate")
                begin = partial(self._begin, stream=stream)
                if transport is not None:
                    self._serving.hand_over(transport, self._sink(transport), client, begin)
                    held.pop_all()
                else:
                    sink = BufferSink(payload_frames, self._namespace.limits.write_buffer_bytes)
                    await self._serving.buffered(sink, client, begin, receive, partial(_send_from, sink, send))
        except TidegateError as error:
            await deny(scope, send, error)

    def _sink(self, transport: WebSocketTransport) -> TransportSink:
        sink = TransportSink(transport, self._compressing if transport.inflates else payload_frames)
        sink.close = lambda code, reason: transport.close(close_code(code, reason), reason)
        return sink

    def _begin(self, session: Session, stream: StreamQuery) -> RawClient:
        """Let the last values be the first frames, or what came since."""
        if stream.bytes_per_second is not None:
            self._namespace.recovery.limit_bandwidth(session, stream.bytes_per_second)
        (room,) = stream.rooms if len(stream.rooms) == 1 else (None,)
        client = RawClient(
            session, self._namespace, self._counters, None if room is None or has_wildcard(room) else room
        )
        try:
            if not session.ended:
                self._namespace.subscribe(session, *stream.requests)
        except TidegateError as error:  # the rules have changed since it was let in
            session.end(error)
        return client


def _choose(offered: list[str]) -> str | None:
    """The first subprotocol that isn't the gateway's own: what payloads mean is a matter of those who send them."""
    return next((each for each in offered if each not in (SUBPROTOCOL, MSGPACK)), None)


async def _send_from(sink: BufferSink, send: Any) -> None:
    async def send_each(data: bytes) -> None:
        for is_text, payload in whole_frames(data):
            await send({"type": "websocket.send", **({"text": payload.decode()} if is_text else {"bytes": payload})})

    code, reason = await sink.pump(send_each)
    await send_close(send, close_code(code, reason), reason)
