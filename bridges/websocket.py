"""WebSocket clients: `GET /ws` with the subprotocol `tidegate.v1.json` or `tidegate.v1.msgpack` (RFC 6455).

The thin shell around `gateway.core.conversation`: it accepts or refuses the handshake, carries frames, and makes sure
that the session ends. Heartbeats are the server's pings.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs

from bridges.carrier_frames import binary_frame, compressed, text_frame
from bridges.carrier_serving import Client, Serving, deny, send_close
from gateway.core import wire_msgpack as msgpack
from gateway.core.admission import Admission, Caller
from gateway.core.conversation import Conversation, Parse
from gateway.core.counters import Counters
from gateway.core.errors import TidegateError, WrongSubprotocol
from gateway.core.namespace import Namespace
from gateway.core.presence_wire import read_member_query
from gateway.core.session import Session
from gateway.core.sink import BufferSink, Framing, TransportSink, WebSocketTransport
from gateway.core.wire import SUBPROTOCOL
from gateway.core.wire_requests import parse

__all__ = ["SPEECHES", "WebSocketBridge"]


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
        self._serving = Serving(namespace, "websocket")
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
                speech, client = SPEECHES[subprotocol], Client(grants, member, seat)
                if transport is not None:
                    framing = self._compressing[speech] if transport.inflates else speech.framing
                    sink = TransportSink(transport, framing)
                    self._serving.hand_over(transport, sink, client, partial(self._greet, speech=speech))
                    held.pop_all()
                else:
                    await self._serve_buffered(speech, receive, send, client)
        except TidegateError as error:
            await deny(scope, send, error)

    async def _serve_buffered(self, speech: Speech, receive: Any, send: Any, client: Client) -> None:
        sink = BufferSink(speech.plain, self._namespace.limits.write_buffer_bytes)
        send_all = partial(_send_from, sink, send, text=speech.text)
        await self._serving.buffered(sink, client, partial(self._greet, speech=speech), receive, send_all)

    def _greet(self, session: Session, speech: Speech) -> Conversation:
        conversation = Conversation(
            session, self._namespace, self._counters, self._admission.authentication, speech.parse
        )
        conversation.greet(self._heartbeat_seconds)
        return conversation


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

    await send_close(send, *await sink.pump(send_one))
