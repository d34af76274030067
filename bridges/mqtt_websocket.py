"""Clients of MQTT in browsers: `GET /mqtt`, a WebSocket with the subprotocol `mqtt` (MQTT 5 §6, and 3.1.1).

The thin shell: it accepts or refuses the handshake and carries frames. What they say is `mqtt_websocket_connection`'s.
Nothing goes through unseen: topics are rooms here, with the access rules, limits and the log that all clients have.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from bridges.carrier_frames import binary_frame
from bridges.carrier_serving import deny, exchange, send_close
from bridges.mqtt_websocket_connection import Connection
from bridges.mqtt_websocket_frames import Framings
from bridges.mqtt_websocket_handshake import choose_subprotocol
from bridges.mqtt_websocket_served import MqttOptions, Served
from bridges.mqtt_websocket_sessions import ClientSessions
from bridges.mqtt_websocket_topics import Topics
from gateway.core.admission import Admission, Caller
from gateway.core.clock import Clock
from gateway.core.connections import Seat
from gateway.core.counters import Counters
from gateway.core.errors import TidegateError
from gateway.core.identity import Identity
from gateway.core.namespace import Namespace
from gateway.core.sink import BufferSink, Sink, TransportSink, WebSocketTransport
from gateway.core.wheel import Wheel

__all__ = ["MqttOptions", "MqttWebSocketBridge"]


def _as_it_is(packet: bytes) -> bytes:
    return packet


class MqttWebSocketBridge:
    """The ASGI application behind `/mqtt`."""

    def __init__(
        self,
        namespace: Namespace,
        admission: Admission,
        counters: Counters,
        clock: Clock,
        options: MqttOptions,
    ) -> None:
        self._namespace = namespace
        self._admission = admission
        wheel: Wheel[Connection] = Wheel(clock, Connection.look)
        topics = Topics(namespace.routing)
        wraps: dict[bool, Callable[[bytes], bytes]] = {True: binary_frame, False: _as_it_is}
        framings = {
            (version, direct): Framings(version, topics, wrap) for version in (4, 5) for direct, wrap in wraps.items()
        }
        self.sessions = ClientSessions(options.sessions, clock, counters)
        self._served = Served(namespace, admission, counters, clock, options, topics, self.sessions, framings, wheel)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection: from handshake to close, or until the server goes on by itself."""
        await receive()  # websocket.connect
        try:
            with self._admission.counted(), ExitStack() as held:
                caller = Caller.of(scope)
                seat = held.enter_context(self._admission.connection(caller))
                identity = await self._admission.identify(caller)
                if identity is not None and identity.user is not None:
                    seat.identify(identity)
                await send({"type": "websocket.accept", "subprotocol": choose_subprotocol(scope["subprotocols"])})
                transport: WebSocketTransport | None = scope.get("extensions", {}).get("tidegate")
                if transport is not None:
                    self._hand_over(transport, caller, seat, identity)
                    held.pop_all()
                else:
                    await self._serve_buffered(receive, send, caller, seat, identity)
        except TidegateError as error:
            await deny(scope, send, error)

    def connection(
        self, caller: Caller, seat: Seat, shown: Identity | None, inner: Sink, *, direct: bool
    ) -> Connection:
        """A connection whose frames are to be fed to it; `direct` if it makes those itself that it sends."""
        return Connection(self._served, caller, seat, shown, inner, direct=direct)

    def _hand_over(self, transport: WebSocketTransport, caller: Caller, seat: Seat, shown: Identity | None) -> None:
        framing = self._served.framings[4, True].frame
        connection = self.connection(caller, seat, shown, TransportSink(transport, framing), direct=True)
        try:
            transport.watch(self._namespace.limits.write_buffer_bytes, connection.sink)
            transport.speak(None)  # no packet says it before the close
            transport.hand_over(connection)
        except BaseException:
            connection.closed(offended=False)
            raise

    async def _serve_buffered(
        self, receive: Any, send: Any, caller: Caller, seat: Seat, shown: Identity | None
    ) -> None:
        inner = BufferSink(self._served.framings[4, False].frame, self._namespace.limits.write_buffer_bytes)
        connection = self.connection(caller, seat, shown, inner, direct=False)
        inner.watch(connection.sink)
        try:
            await exchange(connection, receive, partial(_send_from, inner, send))
        finally:
            connection.closed(offended=False)


async def _send_from(sink: BufferSink, send: Any) -> None:
    async def send_one(packet: bytes) -> None:
        await send({"type": "websocket.send", "bytes": packet})

    await send_close(send, *await sink.pump(send_one))
