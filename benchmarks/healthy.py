"""Clients that behave, beside those that attack: how long each message takes to them, and whether they get all."""

import asyncio
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.clients import EventStreamClient, RawClient, WebSocketClient
from tests.real import wait_until

__all__ = ["ROOM", "Healthy", "Publisher", "Window"]

ROOM: Final = "sites/bench/device/value"
TOPIC: Final = ROOM.replace("sites", "sensors")
PAYLOAD_BYTES: Final = 100
CLIENTS_PER_ADDRESS: Final = 50


@dataclass
class Window:
    """What came of one stretch of time."""

    latencies_seconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """So large a share of the messages took at most so many seconds."""
        ordered = sorted(self.latencies_seconds)
        return ordered[int(len(ordered) * share)] if ordered else float("inf")


class Healthy:
    """All healthy clients. Each must hear the numbers one after the other; which it misses are counted."""

    def __init__(self) -> None:
        self.window = Window()
        self.lost = 0
        """Messages that a client never heard, or that came twice or in another order."""
        self.gone = 0
        """Clients whose connection ended."""
        self._newest: list[int | None] = []
        self._clients: list[RawClient] = []

    async def connect(self, port: int, websockets: int, streams: int) -> None:
        """Connect them, from so many addresses that they are within the limits.

        Raises:
            OSError: there is no gateway.
            TimeoutError: it doesn't answer.
        """
        for number, kind in enumerate([WebSocketClient] * websockets + [EventStreamClient] * streams):
            self._newest.append(None)
            subscribed = asyncio.Event()
            client = await kind.connect(
                port,
                [ROOM],
                None,
                lambda said, number=number, subscribed=subscribed: self._hear(number, subscribed, said),
                self._lose,
                source=f"127.0.1.{1 + number // CLIENTS_PER_ADDRESS}",
            )
            self._clients.append(client)
            async with asyncio.timeout(10):
                await subscribed.wait()

    def _hear(self, number: int, subscribed: asyncio.Event, said: dict[str, Any]) -> None:
        if said["type"] == "message":
            data, newest = said["data"], self._newest[number]
            self.window.latencies_seconds.append(time.time() - data["sent"])
            if newest is not None:
                self.lost += abs(data["number"] - newest - 1)
            self._newest[number] = data["number"]
        elif said["type"] == "subscribed":
            subscribed.set()

    def _lose(self) -> None:
        self.gone += 1

    def behind(self, number: int) -> int:
        """How many messages up to this one haven't come."""
        return sum(number - (-1 if newest is None else newest) for newest in self._newest)

    async def caught_up(self, number: int, seconds: float = 10) -> None:
        """Wait until all have come up to this one; those that haven't by then are lost."""
        end = time.monotonic() + seconds
        while self.behind(number) and time.monotonic() < end:  # noqa: ASYNC110 - a benchmark may look again and again
            await asyncio.sleep(0.02)
        self.lost += max(0, self.behind(number))

    def leave(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.lost = lambda: None
            client.transport.abort()


class Publisher:
    """A device that numbers its messages, and says in each when it was sent."""

    def __init__(self, broker_port: int) -> None:
        self.newest = -1
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", broker_port)
        self._client.loop_start()
        wait_until(self._client.is_connected, "the broker is there")
        connection = self._client.socket()
        assert isinstance(connection, socket.socket)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its delay is not what is measured

    async def publish(self, rate: float, seconds: float) -> None:
        """Publish evenly, at QoS 1."""
        start = time.monotonic()
        for count in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, start + count / rate - time.monotonic()))
            self.newest += 1
            head = f'{{"number":{self.newest},"sent":{time.time():.6f},"pad":"'
            self._client.publish(TOPIC, head + "x" * (PAYLOAD_BYTES - len(head) - 2) + '"}', qos=1)

    def stop(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()
