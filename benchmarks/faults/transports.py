"""One client over each transport: what it says first, and how what it hears becomes the objects of the wire protocol.

A `Stay` is one connection, or one chain of polls, from its beginning to its loss. What a client knows beyond that is in
`Visitor`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urlencode

import orjson
import ormsgpack

from benchmarks.clients import BINARY, EventStreamClient, FrameClient, RawClient, WebSocketClient
from benchmarks.faults.http_client import HttpClient

__all__ = ["Listener", "Stay", "Visitor", "event_stream", "hold", "long_polling", "msgpack", "raw", "websocket"]

SUBSCRIBED_SECONDS: Final = 20.0


class Listener(Protocol):
    """Takes what a client hears."""

    def hear(self, said: Any) -> None:
        """An object of the wire protocol; of `/ws/raw`, a payload."""
        ...

    def arrive(self) -> None:
        """The client is subscribed; where nothing is said about that."""
        ...

    def begin_unaided(self) -> None:
        """A connection has begun that is told nothing of what was missed before it."""
        ...


@dataclass
class Visitor:
    """A client, across all its connections."""

    listener: Listener
    filters: list[str]
    source: str
    """The address that it comes from."""
    cursor: str | None = None
    connection: asyncio.Transport | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    """What its transport remembers from one connection to the next."""
    added: list[str] = field(default_factory=list)
    """Rooms that it wants as well, of which it hasn't heard `subscribed`."""
    subscribe: Callable[[str], None] | None = None
    """Subscribes to a room while others are subscribed, where there is a way to do that."""


Stay: TypeAlias = Callable[[Visitor, int], Awaitable[None]]
"""Connects to a port, hands on all that is heard, and returns once the connection is lost.

Raises:
    OSError, TimeoutError, HttpError: it can't be had.
"""


async def hold(make: Callable[[Callable[[], None]], RawClient], visitor: Visitor, port: int) -> None:
    """Stay for as long as a connection lasts, which is told when it is lost."""
    lost = asyncio.Event()
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: make(lost.set), "127.0.0.1", port, local_addr=(visitor.source, 0))
    visitor.connection = client.transport
    await lost.wait()


class RestlessClient(WebSocketClient):
    """Subscribes to more rooms later."""

    visitor: Visitor

    def opened(self) -> None:
        super().opened()
        for room in self.visitor.added:
            self.subscribe(room)
        self.visitor.subscribe = self.subscribe

    def subscribe(self, room: str) -> None:
        """Subscribe to one more room."""
        self.say(type="subscribe", room=room)

    def connection_lost(self, exc: Exception | None) -> None:
        self.visitor.subscribe = None
        super().connection_lost(exc)


async def websocket(visitor: Visitor, port: int) -> None:
    """`tidegate.v1.json`."""

    def make(lost: Callable[[], None]) -> RestlessClient:
        client = RestlessClient(visitor.filters, visitor.cursor, visitor.listener.hear, lost)
        client.visitor = visitor
        return client

    await hold(make, visitor, port)


class MsgpackClient(WebSocketClient):
    """Speaks `tidegate.v1.msgpack`."""

    subprotocol = "tidegate.v1.msgpack"

    def say(self, **fields: Any) -> None:
        """Send an object."""
        self.send(BINARY, ormsgpack.packb(fields))

    def frame(self, opcode: int, payload: bytes) -> None:  # noqa: ARG002
        self.heard(ormsgpack.unpackb(payload))


async def msgpack(visitor: Visitor, port: int) -> None:
    """`tidegate.v1.msgpack`."""
    await hold(partial(MsgpackClient, visitor.filters, visitor.cursor, visitor.listener.hear), visitor, port)


async def event_stream(visitor: Visitor, port: int) -> None:
    """Server-Sent Events, with the last event's id."""
    await hold(partial(EventStreamClient, visitor.filters, visitor.cursor, visitor.listener.hear), visitor, port)


class PayloadClient(FrameClient):
    """Hears payloads and nothing else."""

    visitor: Visitor

    def hello(self) -> bytes:
        self.path = "/ws/raw?" + urlencode([("room", room) for room in self.rooms])
        return super().hello()

    def opened(self) -> None:
        """From now on all comes, the last values first."""
        self.visitor.listener.begin_unaided()
        self.visitor.listener.arrive()

    def frame(self, opcode: int, payload: bytes) -> None:  # noqa: ARG002
        data = orjson.loads(payload)
        self.visitor.listener.hear({"type": "message", "room": data["room"], "data": data})


async def raw(visitor: Visitor, port: int) -> None:
    """WebSocket without a protocol."""

    def make(lost: Callable[[], None]) -> PayloadClient:
        client = PayloadClient(visitor.filters, None, lambda _: None, lost)
        client.visitor = visitor
        return client

    await hold(make, visitor, port)


async def long_polling(visitor: Visitor, port: int) -> None:
    """One poll after the other, each with the cursor of the one before."""
    with closing(await HttpClient.connect(port, visitor.source)) as client:
        visitor.connection = client.transport
        query = urlencode([("room", room) for room in visitor.filters])
        while True:
            since = "" if visitor.cursor is None else f"&since={visitor.cursor}"
            answer = orjson.loads(await client.ask("GET", f"/poll?{query}&wait=20{since}"))
            for room in answer["lacking"]:
                visitor.listener.hear({"type": "subscribed", "room": room, "recovered": False, "last": answer["last"]})
            for message in answer["messages"]:
                visitor.listener.hear(message)
            visitor.cursor = answer["cursor"]
            visitor.listener.arrive()
