"""Clients without a library, cheap enough that hundreds of them leave the processors to the gateway."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlencode

import orjson

__all__ = ["EventStreamClient", "RawClient", "WebSocketClient"]


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


class WebSocketClient(RawClient):
    """Speaks `tidegate.v1.json` over WebSocket (RFC 6455)."""

    _shaken = False

    def hello(self) -> bytes:
        """The handshake."""
        return (
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: tidegate.v1.json\r\n\r\n"
        )

    def say(self, **fields: Any) -> None:
        """Send an object in a masked frame (§5.3)."""
        text = orjson.dumps(fields)
        mask = os.urandom(4)
        size = len(text)
        head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2)
        padded = (mask * (size // 4 + 1))[:size]
        body = (int.from_bytes(text) ^ int.from_bytes(padded)).to_bytes(size)
        self.transport.write(head + mask + body)

    def take(self, data: bytes) -> bytes:
        """Frames of the server: unmasked text, pings, close."""
        if not self._shaken:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                return head
            self._shaken = True
            request = {"type": "subscribe", "room": self.rooms}
            self.say(**request, **({} if self.since is None else {"since": self.since}))
        at = 0
        while len(data) - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10]), at + 10
            if len(data) < start + size:
                break
            if data[at] == 0x81:
                self.heard(orjson.loads(data[start : start + size]))
            elif data[at] == 0x89:
                self.transport.write(bytes((0x8A, 0x80 | size, 0, 0, 0, 0)) + data[start : start + size])  # §5.5.3
            at = start + size
        return data[at:]


class EventStreamClient(RawClient):
    """Reads an event stream; the response is taken as it comes, chunked."""

    def hello(self) -> bytes:
        """The request, with the cursor as a browser sends it."""
        query = urlencode([("room", room) for room in self.rooms])
        seen = "" if self.since is None else f"Last-Event-ID: {self.since}\r\n"
        return f"GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\n{seen}\r\n".encode()

    def take(self, data: bytes) -> bytes:
        """Events end with an empty line; the sizes of chunks stand on lines of their own and say nothing to us."""
        *events, rest = data.split(b"\n\n")
        for event in events:
            at = event.find(b"data: ")
            if at >= 0:
                self.heard(orjson.loads(event[at + 6 :]))
        return rest
