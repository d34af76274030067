"""The gateway itself, with everything on that is on by default, over WebSocket or Server-Sent Events."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from benchmarks.generator import MARK, Step
from benchmarks.peers.peer import FedByMqtt, Started, Transport, Unfit
from benchmarks.peers.speech import DATA, text, upgrade
from gateway import __version__
from tests.real import GatewayProcess, Mosquitto, configuration

__all__ = ["TidegatePeer"]

LIMITS: Final = {
    "connections": 20_000,
    "connections_per_address": 20_000,
    "handshakes_burst": 100_000,
    "messages_per_second": 1000,
    "messages_burst": 2000,
}
"""What would keep so many clients of one address out, and browsers from publishing so much."""


class TidegatePeer(FedByMqtt):
    """`tidegate run` with some `LIMITS` raised, and all else at its defaults."""

    product = "Tidegate"

    def __init__(self, transport: Transport = "WebSocket") -> None:
        self.transport = transport

    def version(self) -> str:
        """Its version."""
        return __version__

    @contextmanager
    def started(self, folder: Path, broker: Mosquitto) -> Iterator[Started]:
        """Start it behind the broker."""
        with GatewayProcess(folder / "tidegate", configuration(broker.port, limits=LIMITS)) as gateway:
            gateway.wait_until_ready()
            yield Started((gateway,), gateway.port, broker.port)

    def subscribe(self, topics: Sequence[str], since: str | None = None) -> list[Step]:
        """Subscribe to the rooms of these topics, in one request; over WebSocket maybe from a cursor on."""
        rooms = [topic.replace("sensors/", "sites/", 1) for topic in topics]
        if self.transport == "SSE":
            query = "&".join(f"room={quote(room)}" for room in rooms)
            head = f"GET /sse?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
            return [("send", head.encode()), *[("await", b"event: subscribed")] * len(rooms)]
        asked = text({"type": "subscribe", "room": rooms, **({} if since is None else {"since": since})})
        return [*self._connect(), ("send", asked), *[("await", b'"subscribed"')] * len(rooms)]

    def browser(self) -> list[Step]:
        """Connect."""
        if self.transport == "SSE":
            raise Unfit("event streams go one way only")
        return self._connect()

    def _connect(self) -> list[Step]:
        return [*upgrade("/ws", "tidegate.v1.json"), ("await", b'"welcome"')]

    def order(self, number: int) -> bytes:
        """A publication to a device; its ack has the same id, and comes after the broker's."""
        room = f"sites/bench/device-{number}/commands"
        return text({"type": "publish", "id": MARK.decode(), "room": room, "data": DATA})
