"""Several nodes under load: who subscribes at which, where messages come in, and what nodes and Redis use.

Nodes are numbered from 0. Figures are those of one server (benchmarks.bench), and each node's and Redis' own.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import REFUSAL, Result, Size, figures_of, machine_cpu_seconds
from benchmarks.generator import Generator, Plan, Step, generator
from benchmarks.peers.clusters import ClusterPeer, Nodes
from benchmarks.peers.speech import json_payload
from tests.real import Mosquitto
from tests.redis import redis_server

__all__ = ["ClusterBench", "ClusterStage", "waiting_seconds"]


@dataclass(frozen=True)
class _Used:
    """Seconds of the processors that each has had so far."""

    nodes: tuple[float, ...]
    redis: float
    broker: float
    machine: float
    waiting: float
    """For how long some process has waited for a core; 0 where the kernel doesn't tell."""

    def since(self, before: "_Used") -> "_Used":
        """Those after `before`."""
        nodes = tuple(after - was for after, was in zip(self.nodes, before.nodes, strict=True))
        waiting = self.waiting - before.waiting
        return _Used(
            nodes, self.redis - before.redis, self.broker - before.broker, self.machine - before.machine, waiting
        )


class ClusterBench:
    """Nodes with their clients."""

    def __init__(self, peer: ClusterPeer, nodes: Nodes, load: Generator, size: Size) -> None:
        self._peer, self._nodes, self._load, self._size = peer, nodes, load, size
        self._plan = Plan()
        self._plan.refusal(REFUSAL)

    @property
    def size(self) -> Size:
        """How much of a load is run."""
        return self._size

    def subscribe(self, node: int, count: int, *audiences: Sequence[str]) -> Result:
        """Connect so many subscribers to a node, the same number to each audience's topics; see `connect`."""
        return self.connect(node, count, [self._peer.subscribe(audience) for audience in audiences])

    def connect(self, node: int, count: int, scripts: Sequence[Sequence[Step]], settle_seconds: float = 0) -> Result:
        """Connect so many clients, the same number with each script, and maybe let all that follows come to an end.

        Raises:
            RuntimeError: the node didn't serve them all.
        """
        server, before = self._nodes.each[node], self._used()
        before_bytes = server.resident_bytes()
        self._plan.turn_to(server.port)
        for steps in scripts:
            self._plan.clients(count // len(scripts), self._plan.script(*steps))
        count = count // len(scripts) * len(scripts)
        seconds = self._connect(count, "subscribers")
        if settle_seconds:
            self._load.go(settle_seconds, 0, 1e-9)  # who publishes does so once
        used = self._used().since(before)
        return {
            "connects_per_second": count / seconds,
            "connect_cpu_microseconds": used.nodes[node] / count * 1e6,
            "connect_redis_microseconds": used.redis / count * 1e6,
            "connection_kib": (server.resident_bytes() - before_bytes) / count / 1024,
        }

    def come_back(self, node: int, topics: Sequence[str]) -> list[Step]:
        """What a subscriber says who is to be told all that comes from now on, whenever it says so."""
        return self._peer.come_back(topics, self._nodes.each[node])

    def publish(self, node: int, rate: float, among: Sequence[str], burst: int = 1) -> None:
        """Have a client of a node that publishes to these topics in turn."""
        messages = [self._peer.message(topic, json_payload()) for topic in among]
        self._plan.turn_to(self._nodes.each[node].port)
        self._plan.publisher(self._plan.script(*self._peer.introduce()), messages, rate, burst)
        self._connect(1, "publishers")

    def publish_at_broker(self, rate: float, among: Sequence[str], burst: int = 1) -> None:
        """Have a device that publishes to these topics in turn."""
        messages = [self._peer.message_of_device(topic, json_payload()) for topic in among]
        self._plan.turn_to(self._nodes.broker.port)
        self._plan.publisher(self._plan.script(*self._peer.introduce_to_broker()), messages, rate, burst)
        self._connect(1, "devices")

    def _connect(self, count: int, whom: str) -> float:
        done = self._load.connect(self._plan)
        if done.ready < count:
            raise RuntimeError(f"{count - done.ready} of {count} {whom} were not served")
        return done.seconds

    def measure(self, receivers: float, *, seconds: float | None = None, pace: float = 1.0) -> Result:
        """Publish for a time; each message should come back `receivers` times."""
        self._load.go(self._size.warm_up_seconds, receivers, pace)
        before = self._used()
        found = self._load.go(self._size.seconds if seconds is None else seconds, receivers, pace)
        used = self._used().since(before)
        known = sum(used.nodes) + used.redis + used.broker + found.cpu_seconds
        messages = max(1, found.published)
        return {
            **figures_of(found, receivers, sum(used.nodes)),
            **{f"node_{at}_cpu_share": cpu / found.seconds for at, cpu in enumerate(used.nodes)},
            **{
                f"node_{number}_microseconds_per_message": cpu / messages * 1e6 for number, cpu in enumerate(used.nodes)
            },
            "busiest_node_cpu_share": max(used.nodes) / found.seconds,
            "redis_cpu_share": used.redis / found.seconds,
            "redis_microseconds_per_message": used.redis / messages * 1e6,
            "broker_cpu_share": used.broker / found.seconds,
            "machine_cpu_share": max(known, used.machine) / found.seconds / (os.cpu_count() or 1),
            "waiting_share": used.waiting / found.seconds,
            "others_cpu_share": max(0.0, used.machine - known) / found.seconds,
        }

    def _used(self) -> _Used:
        nodes = tuple(node.cpu_seconds() for node in self._nodes.each)
        redis, broker = self._nodes.redis_cpu_seconds(), self._nodes.broker_cpu_seconds()
        return _Used(nodes, redis, broker, machine_cpu_seconds(), waiting_seconds())


def waiting_seconds() -> float:
    """For how long at least one process has waited for a core (pressure stall information)."""
    told = Path("/proc/pressure/cpu")
    try:
        some = told.read_text().partition("\n")[0]
    except OSError:  # this kernel doesn't measure it
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


@dataclass(frozen=True)
class ClusterStage:
    """Where so many nodes of a server are put under load; each bench starts them anew."""

    peer: ClusterPeer
    nodes: int
    """0 for one that is alone, without Redis."""
    program: Path
    broker: Mosquitto
    size: Size

    @contextmanager
    def bench(self, nodes: int | None = None) -> Iterator[ClusterBench]:
        """The nodes, their Redis and a load generator, all started; or another number of nodes."""
        count = self.nodes if nodes is None else nodes
        with ExitStack() as started:
            folder = Path(started.enter_context(tempfile.TemporaryDirectory()))
            redis = started.enter_context(redis_server(folder)) if count else None
            running = started.enter_context(self.peer.started(folder, max(1, count), redis, self.broker))
            yield ClusterBench(self.peer, running, started.enter_context(generator(self.program)), self.size)
