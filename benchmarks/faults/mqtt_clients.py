"""Clients of MQTT over WebSocket: with cursors (MQTT 5), and with nothing but a kept session (3.1.1).

A session that is kept lives in one gateway. Who is led to another is told so (`Session Present` 0); of MQTT 5 it comes
back by cursor then, of 3.1.1 it has no way to say what it knows.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import orjson

from benchmarks.clients import BINARY, FrameClient
from benchmarks.faults.transports import Visitor, hold
from bridges.mqtt_websocket_answers import packet
from bridges.mqtt_websocket_fields import Property, Reader
from tests.mqtt_speech import PINGREQ, connect, subscribe

__all__ = ["mqtt_3", "mqtt_5"]

PING_SECONDS: Final = 20.0
KNOWN: Final = frozenset(Property)


class MqttClient(FrameClient):
    """Subscribes at QoS 1, and acknowledges all."""

    path = "/mqtt"
    subprotocol = "mqtt"
    version = 5
    visitor: Visitor

    def opened(self) -> None:
        clean = self.version == 5
        self._stream = b""
        self._say(connect(self.version, self.visitor.memory["client_id"], clean=clean, keep_alive_seconds=60))
        self._ping = asyncio.get_running_loop().call_later(PING_SECONDS, self._keep_alive)

    def _say(self, data: bytes) -> None:
        self.send(BINARY, data)

    def _keep_alive(self) -> None:
        if not self.transport.is_closing():
            self._say(PINGREQ)
            self._ping = asyncio.get_running_loop().call_later(PING_SECONDS, self._keep_alive)

    def frame(self, opcode: int, payload: bytes) -> None:  # noqa: ARG002
        self._stream += payload
        while (whole := _whole(self._stream)) is not None:
            start, end = whole
            first, body, self._stream = self._stream[0], self._stream[start:end], self._stream[end:]
            self._packet(first, Reader(body))

    def _packet(self, first: int, body: Reader) -> None:
        match first >> 4:
            case 2:
                self._connected(body)
            case 3:
                self._published(first, body)
            case 9:
                self._subscribed(body)
            case 14:  # DISCONNECT of MQTT 5
                self.transport.close()

    def _connected(self, body: Reader) -> None:
        present, reason = body.byte(), body.byte()
        memory = self.visitor.memory
        if reason:
            self.transport.close()
            return
        if "connected" in memory:
            name = "present" if present else "absent"
            memory[name] = memory.get(name, 0) + 1
        if present:
            self.visitor.listener.arrive()
            return
        if self.version != 5 or "connected" not in memory:
            self.visitor.listener.begin_unaided()
        memory["connected"] = True
        cursor = self.visitor.cursor
        properties = {} if cursor is None or self.version != 5 else {Property.USER_PROPERTY: [("since", cursor)]}
        filters = ((name, 1) for name in self.visitor.filters)
        self._say(subscribe(1, *filters, version=self.version, properties=properties))

    def _subscribed(self, body: Reader) -> None:
        body.packet_id()
        if self.version == 5 and self.visitor.cursor is None:
            self.visitor.cursor = dict(body.properties(KNOWN)[Property.USER_PROPERTY])["cursor"]
        self.visitor.listener.arrive()

    def _published(self, first: int, body: Reader) -> None:
        room = body.text()
        identifier = body.packet_id() if first & 0x06 else 0
        pairs: list[tuple[str, str]] = []
        if self.version == 5:
            pairs = body.properties(KNOWN).get(Property.USER_PROPERTY, [])
        said: dict[str, Any] = {"type": "message", "room": room, "data": orjson.loads(body.rest()), **dict(pairs)}
        if "recovered" in said:
            self.visitor.listener.hear({"type": "subscribed", "room": room, "recovered": False, "last": [said]})
        else:
            self.visitor.listener.hear({**said, "again": bool(first & 0x08)})
        if identifier:
            self._say(packet(0x40, identifier.to_bytes(2)))


def _whole(data: bytes) -> tuple[int, int] | None:
    """Where the body of the first packet begins and ends, if it is whole."""
    size, at = 0, 1
    while at < len(data):
        size |= (data[at] & 0x7F) << (7 * (at - 1))
        at += 1
        if data[at - 1] < 0x80:
            return (at, at + size) if len(data) >= at + size else None
    return None


class OldMqttClient(MqttClient):
    """The same in MQTT 3.1.1, with a session that the gateway keeps."""

    version = 4


async def _stay(kind: type[MqttClient], visitor: Visitor, port: int) -> None:
    def make(lost: Callable[[], None]) -> MqttClient:
        client = kind(visitor.filters, None, lambda _: None, lost)
        client.visitor = visitor
        return client

    await hold(make, visitor, port)


async def mqtt_5(visitor: Visitor, port: int) -> None:
    """With cursors."""
    await _stay(MqttClient, visitor, port)


async def mqtt_3(visitor: Visitor, port: int) -> None:
    """With a session that is kept."""
    await _stay(OldMqttClient, visitor, port)
