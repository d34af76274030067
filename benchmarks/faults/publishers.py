"""Who publishes: devices at QoS 1, which send again until the broker has it, and browsers by `POST /publish`."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, cast

import orjson

from benchmarks.faults.http_client import HttpClient, HttpError
from benchmarks.peers.speech import mqtt_connect, mqtt_publish

__all__ = ["Device", "Poster", "payload"]

WINDOW: Final = 50
"""Messages of a device that may be under way."""
POST_SECONDS: Final = 3.0
PUBACK: Final = 0x40


def payload(room: str, number: int, attempt: int, sent: float) -> bytes:
    """What is published: which message it is, and when it was to be sent."""
    return orjson.dumps({"room": room, "number": number, "attempt": attempt, "sent": sent})


class _Connection(asyncio.Protocol):
    def __init__(self, device: "Device") -> None:
        self._device = device
        self._data = b""
        self.lost = asyncio.Event()
        self.accepted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(mqtt_connect(self._device.name))

    def data_received(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= 4:  # CONNACK and PUBACK have as many bytes each
            first, identifier, self._data = self._data[0], int.from_bytes(self._data[2:4]), self._data[4:]
            if first == PUBACK:
                self._device.acknowledged(identifier)
            else:
                self.accepted = True
                self._device.send_again(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.accepted = False
        self.lost.set()


class Device:
    """An MQTT client with some topics, whose names are those of the rooms that they lead to."""

    def __init__(self, name: str, topics: Sequence[str], phases: dict[tuple[str, int], int]) -> None:
        self.name = name
        self.numbers = dict.fromkeys(topics, -1)
        """The newest message of each topic."""
        self._phases = phases
        self._connection: _Connection | None = None
        self._waiting: deque[tuple[str, int, float]] = deque()
        self._under_way: dict[int, tuple[str, int, float, int]] = {}
        """By packet identifier: topic, number, when it was to be sent, and the try."""
        self._identifier = 0
        self.acknowledged_count = 0

    @property
    def unacknowledged(self) -> int:
        """How many messages the broker isn't known to have."""
        return len(self._waiting) + len(self._under_way)

    async def stay(self, port: int) -> None:
        """Be connected, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(OSError):
                _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port)
                await connection.lost.wait()
            self._connection = None
            await asyncio.sleep(0.05)

    def publish(self, topic: str, phase: int) -> None:
        """Publish the topic's next message, as soon as may be."""
        self.numbers[topic] += 1
        self._phases[topic, self.numbers[topic]] = phase
        self._waiting.append((topic, self.numbers[topic], time.time()))
        self._send()

    def _send(self) -> None:
        while self._waiting and len(self._under_way) < WINDOW and self._connection and self._connection.accepted:
            self._send_one(*self._waiting.popleft(), 1)

    def _send_one(self, topic: str, number: int, sent: float, attempt: int) -> None:
        assert self._connection is not None
        self._identifier = self._identifier % 65_535 + 1
        self._under_way[self._identifier] = (topic, number, sent, attempt)
        packet = mqtt_publish(topic, payload(topic, number, attempt, sent), 1, self._identifier)
        self._connection.transport.write(packet)

    def send_again(self, connection: _Connection) -> None:
        """There is a connection: send what the last one was sent and didn't acknowledge, then what waits."""
        self._connection = connection
        again, self._under_way = self._under_way, {}
        for topic, number, sent, attempt in again.values():
            self._send_one(topic, number, sent, attempt + 1)
        self._send()

    def acknowledged(self, identifier: int) -> None:
        """The broker has a message."""
        del self._under_way[identifier]
        self.acknowledged_count += 1
        self._send()


class Poster:
    """A browser that publishes into one room, one message after the other. What isn't answered is left alone."""

    def __init__(self, room: str, source: str, phases: dict[tuple[str, int], int]) -> None:
        self.room = room
        self.number = -1
        self.acknowledged: set[int] = set()
        self.unanswered = 0
        """What it got no answer about, or another than that it is stored."""
        self._source, self._phases = source, phases
        self._client: HttpClient | None = None
        self._is_busy = False

    async def publish(self, port: int, phase: int) -> None:
        """Publish the room's next message, unless the last one is under way still."""
        if self._is_busy:
            return
        self._is_busy = True
        self.number += 1
        number = self.number
        self._phases[self.room, number] = phase
        try:
            if self._client is None:
                self._client = await HttpClient.connect(port, self._source)
            body = payload(self.room, number, 1, time.time())
            key = f"Idempotency-Key: {self.room.replace('/', '-')}-{number}"
            await self._client.ask("POST", f"/publish?room={self.room}", body, key, seconds=POST_SECONDS)
            self.acknowledged.add(number)
        except (OSError, TimeoutError, HttpError):
            self.unanswered += 1
            if self._client is not None:
                self._client.close()
            self._client = None
        finally:
            self._is_busy = False
