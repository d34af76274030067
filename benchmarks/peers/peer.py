"""What the comparison knows of each server."""

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.generator import Absent, Step
from benchmarks.peers.speech import mqtt_connect, mqtt_publish
from tests.real import Mosquitto, Running

__all__ = ["FedByMqtt", "Peer", "Started", "Transport", "Unfit", "debian_version"]

Transport = Literal["WebSocket", "SSE"]


class Unfit(Exception):
    """A server doesn't take this load, and why not."""


@dataclass(frozen=True)
class Started:
    """A server that runs."""

    processes: tuple[Running, ...]
    port: int
    """Where subscribers connect."""
    publish_port: int

    def cpu_seconds(self) -> float:
        """What all its processes have used of the processors."""
        return sum(cpu for cpu, _ in self._states())

    def resident_bytes(self) -> int:
        """The memory that all its processes hold."""
        return sum(size for _, size in self._states())

    def _states(self) -> Iterator[tuple[float, int]]:
        waiting = [process.process.pid for process in self.processes]
        while waiting:
            pid = waiting.pop()
            with suppress(FileNotFoundError, ProcessLookupError):  # a child that has ended meanwhile
                yield _state(pid)
                for task in Path(f"/proc/{pid}/task").iterdir():
                    waiting += map(int, (task / "children").read_text().split())


def _state(pid: int) -> tuple[float, int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


class Peer(ABC):
    """A server. What it doesn't take raises `Unfit`."""

    product: str
    transport: Transport = "WebSocket"

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.product} ({self.transport})"

    @abstractmethod
    def version(self) -> str:
        """Its version.

        Raises:
            Absent: it isn't on this machine.
        """

    @abstractmethod
    def started(self, folder: Path, broker: Mosquitto) -> AbstractContextManager[Started]:
        """Start it; `broker` is there for those that are fed by MQTT."""

    @abstractmethod
    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """What a subscriber says first."""

    def introduce(self) -> list[Step]:
        """What a publisher says first."""
        return []

    @abstractmethod
    def message(self, topic: str, payload: bytes, qos: int, number: int) -> bytes:
        """What it says for each message; `number` tells it from those sent shortly before."""

    def browser(self) -> list[Step]:
        """What a browser that publishes says first."""
        raise Unfit("nothing that it says to a browser names the message that it has taken")

    def order(self, number: int) -> bytes:
        """What browser `number` says to publish, with a mark by which the server's ack names it."""
        raise NotImplementedError


class FedByMqtt(Peer):
    """A server that takes its messages from a broker."""

    def introduce(self) -> list[Step]:
        """Connect to the broker."""
        return [("send", mqtt_connect("publisher")), ("await", b"\x20\x02\x00\x00")]

    def message(self, topic: str, payload: bytes, qos: int, number: int) -> bytes:
        """A PUBLISH."""
        return mqtt_publish(topic, payload, qos, number)


def debian_version(package: str) -> str:
    """Of an installed package.

    Raises:
        Absent: it isn't installed.
    """
    asked = ["dpkg-query", "-W", "-f", "${Version}", package]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise Absent(f"expected Debian's package {package}: this machine has no dpkg") from None
    if done.returncode or not done.stdout:
        raise Absent(f"expected Debian's package {package}")
    return done.stdout
