"""WebSocket clients: `GET /ws` with the subprotocol `tidegate.v1.json` or `tidegate.v1.msgpack` (RFC 6455).

The thin shell around `gateway.core.conversation`: it accepts or refuses the handshake, carries frames, and makes sure
that the session ends. Heartbeats are the server's pings.
"""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from bridges.websocket_frames import binary_frame, compressed, text_frame
from gateway.core import wire_msgpack as msgpack
from gateway.core.access import Grants
from gateway.core.admission import Admission, Caller
from gateway.core.connections import Seat
from gateway.core.conversation import Conversation, Parse
from gateway.core.counters import Counters
from gateway.core.errors import TidegateError, WrongSubprotocol
from gateway.core.namespace import Namespace
from gateway.core.presence_wire import read_member_query
from gateway.core.problem import problem
from gateway.core.session import Session
from gateway.core.sink import CLOSE_GRACE_SECONDS, BufferSink, Framing, Sink, TransportSink, WebSocketTransport
from gateway.core.wire import SUBPROTOCOL
from gateway.core.wire_requests import parse

__all__ = ["SPEECHES", "Speech", "WebSocketBridge", "deny"]


def json_frame(kind: str, text: bytes, cursor: str | None = None) -> bytes:  # noqa: ARG001 - a `Framing`
    """An object of the protocol in a text frame."""
    return text_frame(text)


def msgpack_frame(kind: str, text: bytes, cursor: str | None = None) -> bytes:
    """An object of the protocol, packed, in a binary frame."""
    return binary_frame(msgpack.pack(kind, text, cursor))


def plain_text(kind: str, text: bytes, cursor: str | None = None) -> bytes:  # noqa: ARG001 - a `Framing`
    """The text alone, where the server makes the frame."""
    return text


@dataclass(frozen=True, slots=True)
class Speech:
    """One subprotocol: how objects become frames, or payloads where the server makes the frames, and the way back."""

    framing: Framing
    plain: Framing
    parse: Parse
    text: bool

    def compressing(self, from_bytes: int) -> Framing:
        """A framing that compresses what has so many bytes: once, for all who have it."""

        def frame(kind: str, text: bytes, cursor: str | None = None) -> bytes:
            payload = self.plain(kind, text, cursor)
            if len(payload) < from_bytes:
                return text_frame(payload) if self.text else binary_frame(payload)
            return compressed(payload, text=self.text)

        return frame


JSON: Final = Speech(json_frame, plain_text, parse, True)
SPEECHES: Final[Mapping[str | None, Speech]] = {
    None: JSON,
    SUBPROTOCOL: JSON,
    msgpack.SUBPROTOCOL: Speech(msgpack_frame, msgpack.pack, msgpack.parse, False),
}


class WebSocketBridge:
    """The ASGI application behind `/ws`."""

    def __init__(
        self,
        namespace: Namespace,
        admission: Admission,
        counters: Counters,
        heartbeat_seconds: float,
        compress_from_bytes: int | None,
    ) -> None:
        self._namespace = namespace
        self._admission = admission
        self._counters = counters
        self._heartbeat_seconds = heartbeat_seconds
        self._compressing = (
            {}
            if compress_from_bytes is None
            else {speech: speech.compressing(compress_from_bytes) for speech in {*SPEECHES.values()}}
        )
        """How to frame for clients that have agreed to compression: one framing for all who speak the same."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection: from handshake to close, or until the server goes on by itself."""
        await receive()  # websocket.connect
        try:
            with self._admission.counted(), ExitStack() as held:
                caller = Caller.of(scope)
                seat = held.enter_context(self._admission.connection(caller))
                identity = await self._admission.identify(caller)
                seat.identify(identity)
                grants = self._namespace.access.of(identity)
                subprotocol = _choose(scope["subprotocols"])
                query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
                member = read_member_query(query)
                await send({"type": "websocket.accept", "subprotocol": subprotocol})
                transport: WebSocketTransport | None = scope.get("extensions", {}).get("tidegate")
                speech, client = SPEECHES[subprotocol], _Client(grants, member, seat)
                if transport is not None:
                    self._hand_over(transport, speech, client)
                    held.pop_all()
                else:
                    await self._serve_buffered(speech, receive, send, client)
        except TidegateError as error:
            await deny(scope, send, error)

    def _hand_over(self, transport: WebSocketTransport, speech: Speech, client: "_Client") -> None:
        framing = self._compressing[speech] if transport.inflates else speech.framing
        session = self._open(TransportSink(transport, framing), client)
        try:
            transport.watch(self._namespace.limits.write_buffer_bytes, session)
            conversation = self._greet(session, speech)
            transport.hand_over(conversation)
        except BaseException:
            session.end()
            raise

    async def _serve_buffered(self, speech: Speech, receive: Any, send: Any, client: "_Client") -> None:
        sink = BufferSink(speech.plain, self._namespace.limits.write_buffer_bytes)
        session = self._open(sink, client)
        sink.watch(session)
        try:
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(_send_from(sink, send, text=speech.text))
                await self._converse(session, speech, receive)
                sender.cancel()
        except* TimeoutError:
            pass  # it doesn't read; the server ends the connection as this returns

    def _open(self, sink: Sink, client: "_Client") -> Session:
        return self._namespace.open("websocket", sink, client.grants, member=client.member, seat=client.seat)

    def _greet(self, session: Session, speech: Speech) -> Conversation:
        conversation = Conversation(
            session, self._namespace, self._counters, self._admission.authentication, speech.parse
        )
        conversation.greet(self._heartbeat_seconds)
        return conversation

    async def _converse(self, session: Session, speech: Speech, receive: Any) -> None:
        try:
            conversation = self._greet(session, speech)
            while (event := await receive())["type"] != "websocket.disconnect":
                text = event.get("text")
                conversation.receive(event["bytes"] if text is None else text)
                if conversation.waits:
                    await conversation.settle()
        finally:
            session.end()


@dataclass(frozen=True, slots=True)
class _Client:
    """Who has come, as far as the handshake says."""

    grants: Grants
    member: str | None
    seat: Seat


def _choose(offered: list[str]) -> str | None:
    """The first subprotocol that is known; none if none is offered."""
    for subprotocol in offered:
        if subprotocol in SPEECHES:
            return subprotocol
    if offered:
        raise WrongSubprotocol(f"expected the subprotocol {SUBPROTOCOL} or {msgpack.SUBPROTOCOL}, or none")
    return None


async def _send_from(sink: BufferSink, send: Any, *, text: bool) -> None:
    async def send_one(payload: bytes) -> None:
        await send({"type": "websocket.send", **({"text": payload.decode()} if text else {"bytes": payload})})

    code, reason = await sink.pump(send_one)
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
