"""A server under load: who subscribes, who publishes, and what is read off afterwards.

Figures are named with their unit; all that a round measures stands in one `Result`, as JSON has it too.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.generator import Figures, Generator, Plan, generator
from benchmarks.peers.peer import Peer, Started
from benchmarks.peers.speech import json_payload
from tests.real import Mosquitto

__all__ = ["FULL", "REFUSAL", "SHORT", "TOPIC", "Bench", "Result", "Size", "Stage", "figures_of", "machine_cpu_seconds"]

TOPIC: Final = "sensors/bench/device/value"
REFUSAL: Final = b'"type":"error"'

Result = dict[str, float]


@dataclass(frozen=True)
class Size:
    """How much of a workload is run: all of it, or enough to see that it works."""

    share: float
    """Of its clients."""
    seconds: float
    warm_up_seconds: float
    pause_seconds: float
    """How long clients that are told nothing are watched: longer than heartbeats take to come round."""
    step: float
    """What a rate is multiplied by while the highest is looked for."""
    slowest_p99_ms: float
    """Up to which latency a rate is sustained."""

    def count(self, full: int) -> int:
        """So many clients of so many, always a multiple of ten."""
        return max(10, round(full * self.share / 10) * 10)


FULL: Final = Size(share=1, seconds=5, warm_up_seconds=1, pause_seconds=30, step=1.25, slowest_p99_ms=50)
SHORT: Final = Size(share=0.02, seconds=0.2, warm_up_seconds=0.1, pause_seconds=0.2, step=3, slowest_p99_ms=5000)
"""To see that it works, on a machine that does other things too: how fast that is, is not what is seen."""


class Bench:
    """One server with its clients."""

    def __init__(self, peer: Peer, server: Started, broker: Started, generator: Generator, size: Size) -> None:
        self._peer, self._server, self._broker = peer, server, broker
        self._generator, self._size = generator, size
        self._plan = Plan()
        self._plan.refusal(REFUSAL)

    def subscribe(self, count: int, *audiences: Sequence[str]) -> Result:
        """Connect so many subscribers, the same number to each audience's topics.

        Raises:
            RuntimeError: the server didn't serve them all.
            Unfit: it doesn't take such subscribers.
        """
        before_bytes = self._server.resident_bytes()
        self._plan.turn_to(self._server.port)
        for audience in audiences:
            self._plan.clients(count // len(audiences), self._plan.script(*self._peer.subscribe(audience)))
        cpu = self._server.cpu_seconds()
        seconds = self._connect(count, "subscribers")
        return {
            "connects_per_second": count / seconds,
            "connect_cpu_microseconds": (self._server.cpu_seconds() - cpu) / count * 1e6,
            "connection_kib": (self._server.resident_bytes() - before_bytes) / count / 1024,
        }

    def publish(self, rate: float, *, burst: int = 1, among: Sequence[str] = (TOPIC,), qos: int = 0) -> None:
        """Have a publisher with a connection of its own, which sends to these topics in turn."""
        payload = json_payload()
        messages = [self._peer.message(topic, payload, qos, number) for number, topic in enumerate(among, 1)]
        self._plan.turn_to(self._server.publish_port)
        self._plan.publisher(self._plan.script(*self._peer.introduce()), messages, rate, burst)
        self._connect(1, "publishers")

    def publish_from_browsers(self, count: int, rate: float) -> None:
        """Have browsers that publish, each at a rate, and want to know that it was taken."""
        script = self._peer.browser()
        self._plan.turn_to(self._server.port)
        for number in range(count):
            self._plan.publisher(self._plan.script(*script), [self._peer.order(number)], rate)
        self._connect(count, "browsers")

    def _connect(self, count: int, whom: str) -> float:
        done = self._generator.connect(self._plan)
        if done.ready < count:
            raise RuntimeError(f"{count - done.ready} of {count} {whom} were not served")
        return done.seconds

    def measure(self, receivers: float, *, seconds: float | None = None, pace: float = 1.0) -> Result:
        """Publish for a time; each message should come back `receivers` times."""
        self._generator.go(self._size.warm_up_seconds, receivers, pace)
        before = self._used()
        found = self._generator.go(self._size.seconds if seconds is None else seconds, receivers, pace)
        return self._read(found, receivers, *(after - was for after, was in zip(self._used(), before, strict=True)))

    def _used(self) -> tuple[float, float, float]:
        """Seconds of the processors that the server has had, the broker that feeds it, and the machine in all."""
        return self._server.cpu_seconds(), self._broker.cpu_seconds(), machine_cpu_seconds()

    def _read(self, found: Figures, receivers: float, cpu_seconds: float, broker: float, machine: float) -> Result:
        others = machine - cpu_seconds - broker - found.cpu_seconds
        return {
            **figures_of(found, receivers, cpu_seconds),
            "broker_cpu_share": broker / found.seconds,
            "others_cpu_share": max(0.0, others) / found.seconds,
            "resident_mib": self._server.resident_bytes() / 2**20,
        }

    def rest(self) -> Result:
        """Say nothing for a while."""
        cpu, begun = self._server.cpu_seconds(), time.monotonic()
        found = self._generator.go(self._size.pause_seconds, 0)
        share = (self._server.cpu_seconds() - cpu) / (time.monotonic() - begun)
        return {"idle_cpu_share": share, "disconnected": found.dead}


def figures_of(found: Figures, receivers: float, cpu_seconds: float) -> Result:
    """What a time of publishing says of servers that have used so many seconds of the processors."""
    expected = max(1.0, found.published * receivers)
    received = max(0, found.received - found.refused)  # what is refused comes back too, with its mark
    return {
        "deliveries_per_cpu_second": received / max(cpu_seconds, 0.01),
        "deliveries_per_second": received / found.seconds,
        "lost_share": 1 - received / expected,
        "refused": found.refused,
        "disconnected": found.dead,
        "p50_ms": found.p50 * 1000,
        "p99_ms": found.p99 * 1000,
        "p999_ms": found.p999 * 1000,
        "max_ms": found.max * 1000,
        "cpu_share": cpu_seconds / found.seconds,
        "cpu_microseconds_per_message": cpu_seconds / max(1, found.published) * 1e6,
        "cpu_microseconds_per_delivery": cpu_seconds / max(1, received) * 1e6,
        "bytes_per_delivery": found.bytes / max(1, received),
        "generator_cpu_share": found.cpu_seconds / found.seconds,
        "generator_late_share": found.late,
    }


def machine_cpu_seconds() -> float:
    """What all processes have used of all processors."""
    name, *fields = Path("/proc/stat").read_text().partition("\n")[0].split()
    assert name == "cpu"
    return sum(map(int, fields[:3])) / os.sysconf("SC_CLK_TCK")  # interrupts count with what they interrupt already


class Stage:
    """Where one server is put under load; each bench starts it anew."""

    def __init__(self, peer: Peer, program: Path, broker: Mosquitto, size: Size) -> None:
        self._peer, self._program, self._broker = peer, program, broker
        self.size = size

    @contextmanager
    def bench(self) -> Iterator[Bench]:
        """The server and a load generator, both started."""
        with (
            tempfile.TemporaryDirectory() as folder,
            self._peer.started(Path(folder), self._broker) as server,
            generator(self._program) as load,
        ):
            yield Bench(self._peer, server, Started((self._broker.running,), 0, 0), load, self.size)
