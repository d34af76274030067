"""Several nodes of one server, joined by Redis: the gateway's, and Socket.IO's with its Redis adapter.

What is published at a node is said by a WebSocket client there, in a room that has nothing to do with devices; what is
published at the broker comes into the cluster by its first node, which starts first.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import orjson

from benchmarks.generator import Step
from benchmarks.peers.node_servers import SCRIPTS, SocketIoPeer
from benchmarks.peers.peer import Started, Unfit
from benchmarks.peers.speech import mqtt_connect, mqtt_publish, text
from benchmarks.peers.tidegate import LIMITS, TidegatePeer
from tests.real import GatewayProcess, Mosquitto, Running, configuration, free_port, wait_until
from tests.redis import RedisServer

__all__ = ["ClusterPeer", "Nodes", "SocketIoCluster", "TidegateCluster", "every_cluster"]

GENEROUS: Final = {
    **LIMITS,
    "messages_per_second": 100_000,
    "messages_burst": 100_000,
    "bytes_per_second": "1 GB",
    "bytes_burst": "1 GB",
    "publishes_per_room_per_second": 100_000,
    "publishes_per_room_burst": 100_000,
}
"""One client speaks for all who publish."""


@dataclass(frozen=True)
class Nodes:
    """The nodes that run, and what joins them."""

    each: tuple[Started, ...]
    broker: Mosquitto
    redis: RedisServer | None
    """None for a single node that is alone."""

    def redis_cpu_seconds(self) -> float:
        """What Redis has used of the processors, in microseconds' steps where /proc has hundredths of seconds."""
        if self.redis is None:
            return 0.0
        with self.redis.client() as client:
            said = client.info("cpu")
        return float(said["used_cpu_user"]) + float(said["used_cpu_sys"])

    def broker_cpu_seconds(self) -> float:
        """What the broker has used."""
        return self.broker.running.cpu_seconds()

    def cpu_seconds(self) -> list[float]:
        """What each node has used."""
        return [node.cpu_seconds() for node in self.each]


class ClusterPeer(ABC):
    """A server of which several are one."""

    name: str

    @abstractmethod
    def version(self) -> str:
        """Its version.

        Raises:
            Absent: it isn't on this machine.
        """

    @abstractmethod
    def node(
        self, folder: Path, number: int, redis: RedisServer | None, broker: Mosquitto
    ) -> AbstractContextManager[Started]:
        """Start node `number`, of which the first is 0."""

    @abstractmethod
    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """What a subscriber says first."""

    def come_back(self, topics: Sequence[str], node: Started) -> list[Step]:  # noqa: ARG002
        """What a subscriber says who is to be told all that will come from now on."""
        raise Unfit("its adapter has no recovery")

    @abstractmethod
    def introduce(self) -> list[Step]:
        """What a client that publishes at a node says first."""

    @abstractmethod
    def message(self, topic: str, payload: bytes) -> bytes:
        """What it says for each message."""

    def introduce_to_broker(self) -> list[Step]:
        """What a device says first."""
        return [("send", mqtt_connect("publisher")), ("await", b"\x20\x02\x00\x00")]

    def message_of_device(self, topic: str, payload: bytes) -> bytes:
        """What it says for each message."""
        return mqtt_publish(topic, payload)

    @contextmanager
    def started(self, folder: Path, count: int, redis: RedisServer | None, broker: Mosquitto) -> Iterator[Nodes]:
        """Start so many, one after the other."""
        with ExitStack() as running:
            each = tuple(running.enter_context(self.node(folder, number, redis, broker)) for number in range(count))
            yield Nodes(each, broker, redis)


class TidegateCluster(ClusterPeer):
    """Gateways with one Redis; alone with the engine in memory."""

    name = "Tidegate"

    def __init__(self) -> None:
        self._peer = TidegatePeer()

    def version(self) -> str:
        """Its version."""
        return self._peer.version()

    @contextmanager
    def node(self, folder: Path, number: int, redis: RedisServer | None, broker: Mosquitto) -> Iterator[Started]:
        """Start it behind the broker."""
        joined = {} if redis is None else {"engine": {"url": redis.url}, "cluster": {"node": f"node-{number}"}}
        config = configuration(broker.port, limits=GENEROUS, **joined)
        with GatewayProcess(folder / f"tidegate-{number}", config) as gateway:
            gateway.wait_until_ready()
            yield Started((gateway,), gateway.port, broker.port)

    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """Subscribe to the rooms of these topics, in one request."""
        return self._peer.subscribe(topics)

    def come_back(self, topics: Sequence[str], node: Started) -> list[Step]:
        """Subscribe to them from the newest message that the node knows of now."""
        answer = httpx.get(f"http://127.0.0.1:{node.port}/last", params={"room": "bench/cursor"}).raise_for_status()
        return self._peer.subscribe(topics, answer.json()["cursor"])

    def introduce(self) -> list[Step]:
        """Connect."""
        return self._peer.browser()

    def message(self, topic: str, payload: bytes) -> bytes:
        """A publication that asks for no ack."""
        return text({"type": "publish", "room": topic, "data": orjson.loads(payload)})


class SocketIoCluster(ClusterPeer):
    """Socket.IO's servers with `@socket.io/redis-adapter`; alone without."""

    name = "Socket.IO on node"

    def __init__(self) -> None:
        self._peer = SocketIoPeer()
        self._adapter = SocketIoPeer()
        self._adapter.package = "@socket.io/redis-adapter"

    def version(self) -> str:
        """Its version, the adapter's, and node's."""
        adapter = self._adapter.version().partition(",")[0]
        return f"{self._peer.version()}, @socket.io/redis-adapter {adapter}"

    @contextmanager
    def node(self, folder: Path, number: int, redis: RedisServer | None, broker: Mosquitto) -> Iterator[Started]:
        """Start it; the first one is fed by the broker."""
        port, redis_port = free_port(), 0 if redis is None else redis.port
        words = (port, redis_port, broker.port if number == 0 else 0)
        with Running(["node", SCRIPTS / "socketio_cluster.js", *map(str, words)], folder / f"node-{number}.log") as one:
            wait_until(lambda: "ready" in one.text, f"node {number} of Socket.IO is ready: {one.text}")
            yield Started((one,), port, broker.port)

    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """Connect, then subscribe."""
        return self._peer.subscribe(topics)

    def introduce(self) -> list[Step]:
        """Connect."""
        return self._peer.browser()

    def message(self, topic: str, payload: bytes) -> bytes:
        """An event that the node tells the room."""
        return text("42" + orjson.dumps(["publish", topic, orjson.loads(payload)]).decode())


def every_cluster() -> list[ClusterPeer]:
    """The gateway's first."""
    return [TidegateCluster(), SocketIoCluster()]
