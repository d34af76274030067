"""The library's Engine.IO server with our sockets: it takes requests apart and finds the socket that each is for.

Pings hang on a wheel, not on a task each, and nothing runs beside the requests.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import engineio
import orjson
from engineio import packet as library

from bridges.socketio_framing import Frames
from bridges.socketio_packets import CLOSE, PING, SEPARATOR
from bridges.socketio_socket import Arrival, EngineSocket
from gateway.core.clock import Clock
from gateway.core.sink import CLOSE_GRACE_SECONDS
from gateway.core.wheel import Wheel

__all__ = ["ARRIVAL", "EngineServer", "EngineTimes"]

ARRIVAL: Final = "tidegate.socketio"
"""Where a handshake's `Arrival` stands in its scope."""

NO_STORE: Final = ("Cache-Control", "no-store")


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """How long what may take."""

    ping_interval_seconds: float
    ping_timeout_seconds: float
    handshake_seconds: float


class EngineServer(engineio.AsyncServer):  # type: ignore[misc] # the library has no types
    """The library's server with these sockets."""

    def __init__(
        self,
        *,
        clock: Clock,
        times: EngineTimes,
        frames: Frames,
        write_buffer_bytes: int,
        largest_message_bytes: int,
        refused: Callable[[str], None],
        forgotten: Callable[[str], None],
        **options: Any,
    ) -> None:
        super().__init__(
            async_mode="asgi",
            logger=logging.Logger("socketio", logging.CRITICAL),  # noqa: LOG001 - what it says is for its developers
            monitor_clients=False,
            http_compression=False,
            cors_allowed_origins=[],
            max_http_buffer_size=largest_message_bytes,
            **options,
        )
        self.times = times
        self.write_buffer_bytes = write_buffer_bytes
        self.refused = refused
        self._forgotten = forgotten
        self.frames = frames
        self.leaving: dict[str, EngineSocket] = {}
        """Connections that are over, but for what was said last."""
        self._lingering: Wheel[EngineSocket] = Wheel(clock, self._drop)
        self._resting: Wheel[EngineSocket] = Wheel(clock, self._ask)
        self._asked: Wheel[EngineSocket] = Wheel(clock, lambda socket: socket.shut(self.reason.PING_TIMEOUT))
        self._idle: Wheel[EngineSocket] = Wheel(clock, self._look)

    async def _handle_connect(self, environ: Any, transport: str, jsonp_index: int | None = None) -> Any:
        arrival: Arrival = environ["asgi.scope"][ARRIVAL]
        sid = self.generate_id()
        socket = self.sockets[sid] = EngineSocket(self, sid, arrival)
        arrival.taken = True
        handshake = {
            "sid": sid,
            "upgrades": self._upgrades(sid, transport),
            "pingInterval": int(self.times.ping_interval_seconds * 1000),
            "pingTimeout": int(self.times.ping_timeout_seconds * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        await socket.send(library.Packet(library.OPEN, orjson.dumps(handshake).decode()))
        self._resting.add(socket, self.times.ping_interval_seconds)
        self.wait_for_client(socket)
        if transport == "websocket":
            return await socket.handle_get_request(environ)
        socket.connected = True
        return self._ok(await socket.poll(), jsonp_index=jsonp_index)

    def wait_for_client(self, socket: EngineSocket) -> None:
        """End a connection unless a client connects to a namespace over it."""
        self._idle.add(socket, self.times.handshake_seconds)

    def _look(self, socket: EngineSocket) -> None:
        if not socket.clients:
            socket.shut(self.reason.SERVER_DISCONNECT)

    def _ask(self, socket: EngineSocket) -> None:
        socket.asked = True
        socket.outlet.write(b"%d" % PING + SEPARATOR)
        self._asked.add(socket, self.times.ping_timeout_seconds)

    def answered(self, socket: EngineSocket) -> None:
        """A client has answered a ping."""
        socket.asked = False
        self._asked.discard(socket)
        self._resting.add(socket, self.times.ping_interval_seconds)

    def forget(self, socket: EngineSocket) -> None:
        """A connection is over."""
        self.sockets.pop(socket.sid, None)
        self._forgotten(socket.sid)
        for wheel in (self._resting, self._asked, self._idle):
            wheel.discard(socket)

    def linger(self, socket: EngineSocket) -> None:
        """Keep what a client that polls has still to be told of the end, for a moment."""
        self.leaving[socket.sid] = socket
        self._lingering.add(socket, CLOSE_GRACE_SECONDS)

    def _drop(self, socket: EngineSocket) -> None:
        self.leaving.pop(socket.sid, None)

    def last_words(self, socket: EngineSocket) -> bytes:
        """What one that lingers has still to be told, as the body of an answer.

        That it is over comes by itself, behind all else: a client forgets what came together with it.
        """
        words = socket.outlet.take()[:-1]
        if not words:
            self.leaving.pop(socket.sid, None)
            self._lingering.discard(socket)
        return words or b"%d" % CLOSE

    def _ok(self, packets: Any = None, headers: Any = None, jsonp_index: int | None = None) -> Any:
        return super()._ok(packets, [*(headers or ()), NO_STORE], jsonp_index)

    def _bad_request(self, message: str | None = None) -> Any:  # noqa: ARG002 - the reference has these words
        body = orjson.dumps({"code": 3, "message": "Bad request"})
        return {"status": "400 BAD REQUEST", "headers": [("Content-Type", "application/json")], "response": body}
