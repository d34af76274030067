"""Clients without a library, cheap enough that hundreds of them leave the processors to the gateway."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlencode

import httptools
import orjson

__all__ = ["BINARY", "TEXT", "EventStreamClient", "FrameClient", "RawClient", "WebSocketClient"]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
"""Opcodes of frames (RFC 6455 §5.2)."""


class RawClient(asyncio.Protocol):
    """One connection: it says what it is subscribed to from where on, and hands on each object that it hears."""

    def __init__(
        self, rooms: list[str], since: str | None, heard: Callable[[Any], None], lost: Callable[[], None]
    ) -> None:
        self.rooms = rooms
        self.since = since
        self.heard = heard
        self.lost = lost
        self._buffer = b""

    @classmethod
    async def connect(cls, port: int, *args: Any, source: str | None = None) -> "RawClient":
        """Connect to a gateway of this machine, maybe from a certain address.

        Raises:
            OSError: there is none.
        """
        loop, local = asyncio.get_running_loop(), None if source is None else (source, 0)
        _, client = await loop.create_connection(lambda: cls(*args), "127.0.0.1", port, local_addr=local)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.hello())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost()

    def data_received(self, data: bytes) -> None:
        self._buffer = self.take(self._buffer + data if self._buffer else data)

    def hello(self) -> bytes:
        """What is sent first."""
        raise NotImplementedError

    def take(self, data: bytes) -> bytes:
        """Hand on what is complete; what isn't yet."""
        raise NotImplementedError


class FrameClient(RawClient):
    """Speaks WebSocket (RFC 6455), whatever is said by it."""

    path = "/ws"
    subprotocol: str | None = None
    _shaken = False

    def hello(self) -> bytes:
        """The handshake."""
        offered = "" if self.subprotocol is None else f"Sec-WebSocket-Protocol: {self.subprotocol}\r\n"
        return (
            f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offered}\r\n"
        ).encode()

    def opened(self) -> None:
        """The handshake is done."""

    def frame(self, opcode: int, payload: bytes) -> None:
        """Take a text or binary frame."""
        raise NotImplementedError

    def send(self, opcode: int, data: bytes) -> None:
        """Send a masked frame (§5.3)."""
        mask = os.urandom(4)
        size = len(data)
        head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2)
        padded = (mask * (size // 4 + 1))[:size]
        body = (int.from_bytes(data) ^ int.from_bytes(padded)).to_bytes(size)
        self.transport.write(head + mask + body)

    def take(self, data: bytes) -> bytes:
        """Frames of the server: unmasked text or bytes, pings, close."""
        if not self._shaken:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                return head
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self.transport.close()  # there is no gateway behind the proxy
                return b""
            self._shaken = True
            self.opened()
        at = 0
        while len(data) - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10]), at + 10
            if len(data) < start + size:
                break
            self._take_frame(data[at] & 0x0F, data[start : start + size])
            at = start + size
        return data[at:]

    def _take_frame(self, opcode: int, payload: bytes) -> None:
        if opcode in (TEXT, BINARY):
            self.frame(opcode, payload)
        elif opcode == PING:
            self.send(PONG, payload)  # §5.5.3
        elif opcode == CLOSE:
            self.send(CLOSE, payload[:2])  # §5.5.1


class WebSocketClient(FrameClient):
    """Speaks `tidegate.v1.json` over WebSocket."""

    subprotocol = "tidegate.v1.json"

    def opened(self) -> None:
        """Say what it is subscribed to."""
        request = {"type": "subscribe", "room": self.rooms}
        self.say(**request, **({} if self.since is None else {"since": self.since}))

    def say(self, **fields: Any) -> None:
        """Send an object."""
        self.send(TEXT, orjson.dumps(fields))

    def frame(self, opcode: int, payload: bytes) -> None:  # noqa: ARG002
        self.heard(orjson.loads(payload))


class EventStreamClient(RawClient):
    """Reads an event stream."""

    def hello(self) -> bytes:
        """The request, with the cursor as a browser sends it."""
        self._parser, self._events = httptools.HttpResponseParser(self), b""
        query = urlencode([("room", room) for room in self.rooms])
        seen = "" if self.since is None else f"Last-Event-ID: {self.since}\r\n"
        return f"GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\n{seen}\r\n".encode()

    def take(self, data: bytes) -> bytes:
        """Take the response apart: a proxy cuts it into chunks anywhere."""
        self._parser.feed_data(data)
        return b""

    def on_body(self, body: bytes) -> None:
        """Events end with an empty line."""
        *events, self._events = (self._events + body).split(b"\n\n")
        for event in events:
            at = event.find(b"data: ")
            if at >= 0:
                self.heard(orjson.loads(event[at + 6 :]))

    def on_message_complete(self) -> None:
        """The stream has ended, or it was an error."""
        self.transport.close()
