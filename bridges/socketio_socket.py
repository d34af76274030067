"""One Engine.IO connection: the library's socket, mended (docs/socketio.md says how).

It is read, written and ended here: bounded, in order, and so that nothing that comes can raise.
"""

import asyncio
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engineio import packet as library
from engineio.async_socket import AsyncSocket
from engineio.exceptions import EngineIOError

from bridges.socketio_client import Client
from bridges.socketio_outlet import Outlet
from bridges.socketio_packets import (
    CLOSE,
    MESSAGE,
    NOOP,
    PING,
    PONG,
    SEPARATOR,
    UPGRADE,
    Malformed,
    read_engine_packet,
)
from gateway.core.admission import Caller
from gateway.core.connections import Seat
from gateway.core.errors import TidegateError
from gateway.core.identity import Identity
from gateway.core.limits import Budget
from gateway.core.sink import CLOSE_GRACE_SECONDS

__all__ = ["Arrival", "EngineSocket"]


@dataclass(slots=True)
class Arrival:
    """Who opens a connection, as far as the handshake says."""

    caller: Caller
    seat: Seat
    budget: Budget
    """For what belongs to no session."""
    identity: Identity | None = None
    problem: TidegateError | None = None
    """Why nobody is let in with what was shown; it is told when the client connects to a namespace."""
    taken: bool = False
    """Whether there is a socket, which frees the seat."""


class EngineSocket(AsyncSocket):  # type: ignore[misc] # the library has no types
    """One connection, over whichever transport; the `Flow` of all clients that it carries."""

    def __init__(self, server: Any, sid: str, arrival: Arrival) -> None:
        super().__init__(server, sid)
        self.connected = self.closed = False
        self.arrival = arrival
        self.clients: dict[str, Client] = {}
        """By the paths of their namespaces."""
        self.frame: str | bytes = b""
        """What came last, as the client sent it."""
        self.asked = False
        """Whether it is to answer a ping."""
        self.outlet = Outlet(server.write_buffer_bytes, self, server.frames)
        self._parked = self._posting = False
        self._extension: Any = None
        self._deadline: asyncio.Timeout | None = None

    async def handle_get_request(self, environ: Any) -> Any:
        """Answer a poll, or go on over WebSocket."""
        if environ["asgi.scope"]["type"] == "websocket":
            self._extension = (environ["asgi.scope"].get("extensions") or {}).get("tidegate")
            return await self._upgrade_websocket(environ)
        if self.upgrading or self.upgraded:
            return [library.Packet(library.NOOP)]
        return await self.poll(environ["asgi.receive"])

    async def poll(self, receive: Callable[[], Any] | None = None) -> list[Any]:
        """What waits for the client, once something does; nothing if the client doesn't wait for it."""
        if self._parked:
            raise EngineIOError("overlapping polls")
        self._parked = True
        try:
            if receive is not None and await self._left(receive):
                self.shut(self.server.reason.TRANSPORT_ERROR)
        finally:
            self._parked = False
        if self.sid in self.server.leaving:
            return [_Prepared(self.server.last_words(self))]
        waiting = self.outlet.take()
        self.outlet.relieve()
        return [_Prepared(waiting[:-1])] if waiting else [library.Packet(library.NOOP)]

    async def _left(self, receive: Callable[[], Any]) -> bool:
        """Wait for something to send; whether the client has gone before."""
        waiting = asyncio.ensure_future(self.outlet.wait())
        leaving = asyncio.ensure_future(receive())
        try:
            await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
            return not waiting.done()
        finally:
            waiting.cancel()
            leaving.cancel()

    async def handle_post_request(self, environ: Any) -> None:
        """Take the packets of a payload."""
        if self._posting:
            raise EngineIOError("overlapping requests with data")
        self._posting = True
        try:
            await self._take_all(await environ["wsgi.input"].read())
        finally:
            self._posting = False

    async def _take_all(self, body: bytes) -> None:
        for packet in body.decode(errors="replace").split(SEPARATOR.decode()):
            if self.closed:
                break  # it may be for what has come already
            await self.take(packet)

    async def take(self, packet: str | bytes) -> None:
        """Take one packet; end the connection of one who sends what is none."""
        try:
            kind, data = read_engine_packet(packet)
            if kind == MESSAGE:
                await self.server._trigger_event("message", self.sid, data, run_async=False)
            elif kind == PONG and self.asked:
                self.server.answered(self)
            elif kind == CLOSE:
                self.shut(self.server.reason.CLIENT_DISCONNECT)
            elif kind in (PONG, NOOP) and self.clients:
                self.aside(len(packet))
            else:
                raise Malformed("expected a message, or the answer to a ping")  # noqa: TRY301 - refused as all else
        except Malformed as malformed:
            self.broken(str(malformed))

    def broken(self, why: str) -> None:
        """What came is against the protocol."""
        self.server.refused(why)
        self.arrival.seat.offend()
        self.shut("parse error", 1002)

    async def _websocket_handler(self, ws: Any) -> None:
        if not self.connected:
            self.connected = self.upgraded = True
        elif not await self._upgrade(ws):
            return
        try:
            if self._extension is not None:
                self.outlet.lay_open(self._extension)
                await self._listen(ws)
            else:
                await self._serve_buffered(ws)
        finally:
            self.shut(self.server.reason.TRANSPORT_CLOSE)

    async def _serve_buffered(self, ws: Any) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(self._send_from(ws))
                await self._listen(ws)
                self.shut(self.server.reason.TRANSPORT_CLOSE)
                sender.cancel()
        except* TimeoutError:
            pass  # it doesn't read; the server ends the connection as this returns

    async def _listen(self, ws: Any) -> None:
        while (event := await ws.asgi_receive())["type"] == "websocket.receive":
            text = event.get("text")
            if not self.closed:
                await self.take(event["bytes"] if text is None else text)
        if "tidegate.broken" in event:
            self.arrival.seat.offend()

    async def _send_from(self, ws: Any) -> None:
        async with asyncio.timeout(None) as self._deadline:
            ended = False
            while not ended:
                await self.outlet.wait()
                ended = self.outlet.closed is not None
                for piece in filter(None, self.outlet.take().split(SEPARATOR)):
                    await ws.send(b64decode(piece[1:]) if piece[:1] == b"b" else piece.decode())
                self.outlet.relieve()
            code, reason = self.outlet.closed or (1000, "")
            with suppress(OSError, RuntimeError):  # the client has closed it meanwhile
                await ws.asgi_send({"type": "websocket.close", "code": code, "reason": reason})

    async def _upgrade(self, ws: Any) -> bool:
        """Go over to WebSocket as soon as the client has seen that this gets through; whether it has."""
        self.upgrading = True
        try:
            async with asyncio.timeout(self.server.times.handshake_seconds):
                if await ws.wait() == f"{PING}probe":
                    await ws.send(f"{PONG}probe")
                    if self._parked:
                        self.outlet.write(b"%d" % NOOP + SEPARATOR)  # the poll under way ends
                    self.upgraded = await ws.wait() == str(UPGRADE) and not self.closed
        except (OSError, TimeoutError):
            pass
        finally:
            self.upgrading = False
        if not self.upgraded:
            await ws.close()
        return bool(self.upgraded)

    async def close(self, *_: Any, reason: str | None = None, **__: Any) -> None:
        """End it, as the library asks for."""
        self.shut(reason or self.server.reason.SERVER_DISCONNECT)

    async def send(self, pkt: Any) -> None:
        """Send a packet of the library's."""
        self.outlet.write(pkt.encode(b64=True).encode() + SEPARATOR)

    def leave(self, path: str) -> None:
        """A client has left a namespace; a connection without any isn't kept for long."""
        self.clients.pop(path, None)
        if not self.clients and not self.closed:
            self.server.wait_for_client(self)

    def shut(self, reason: str, code: int = 1000) -> None:
        """End it, for whatever reason; clients that haven't left their namespaces may come back."""
        if self.closed:
            return
        self.closed = self.closing = True
        for client in tuple(self.clients.values()):
            client.leave(comes_back=reason != "parse error")
        self.server.forget(self)
        self.arrival.seat.free()
        if not self.upgraded and reason != self.server.reason.CLIENT_DISCONNECT:
            self.server.linger(self)
        self.outlet.close(code, reason)
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + CLOSE_GRACE_SECONDS)

    def pause(self) -> None:
        """The client takes no more for now."""
        for client in tuple(self.clients.values()):
            client.pausing()

    def resume(self) -> None:
        """The client has taken what waited."""
        for client in tuple(self.clients.values()):
            client.session.resume()

    def overflow(self) -> None:
        """The client asks on and on without reading the answers."""
        for client in tuple(self.clients.values()):
            client.session.overflow()
        self.shut(self.server.reason.TRANSPORT_ERROR)

    def gone(self) -> None:
        """The connection is lost."""
        self.outlet.lost()
        self.shut(self.server.reason.TRANSPORT_CLOSE)

    def aside(self, size_bytes: int) -> None:
        """Account for what is no message."""
        for client in tuple(self.clients.values())[:1]:
            client.session.aside(size_bytes)


class _Prepared:
    """What the library takes for a packet: a piece of payload that is encoded already."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def encode(self, b64: bool = False) -> str:  # noqa: ARG002 - as the library's
        """As it is."""
        return self._payload.decode()
