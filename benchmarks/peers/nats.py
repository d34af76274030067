"""nats-server with its WebSocket listener."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.generator import Absent, Step
from benchmarks.peers.peer import Peer, Started, Unfit
from benchmarks.peers.speech import binary, upgrade
from tests.real import Mosquitto, Running, free_port, listens, wait_until

__all__ = ["NatsPeer"]

HELLO: Final = b'CONNECT {"verbose":false,"pedantic":false,"protocol":1}\r\n'
CONFIG: Final = """\
host: 127.0.0.1
port: %d
max_connections: 100000
websocket { host: 127.0.0.1, port: %d, no_tls: true }
"""


class NatsPeer(Peer):
    """Topics are subjects."""

    product = "nats-server"

    def version(self) -> str:
        """Its version."""
        program = shutil.which("nats-server")
        if program is None:
            raise Absent("expected Debian's package nats-server")
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
        return said.stdout.split()[-1]

    @contextmanager
    def started(self, folder: Path, broker: Mosquitto) -> Iterator[Started]:  # noqa: ARG002
        """Start it."""
        port, own = free_port(), free_port()
        config = folder / "nats.conf"
        config.write_text(CONFIG % (own, port))
        with Running(["nats-server", "-c", config], folder / "nats.log") as server:
            wait_until(lambda: listens(port) and listens(own), "nats-server listens")
            yield Started((server,), port, own)

    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """Subscribe to the subjects, and answer heartbeats."""
        asked = b"".join(b"SUB %s %d\r\n" % (_subject(topic).encode(), at) for at, topic in enumerate(topics, 1))
        return [
            *upgrade("/"),
            ("send", binary(HELLO + asked + b"PING\r\n")),
            ("await", b"PONG"),
            ("answer", b"PING\r\n", binary(b"PONG\r\n")),
        ]

    def introduce(self) -> list[Step]:
        """Publishers speak NATS over TCP."""
        return [("send", HELLO + b"PING\r\n"), ("await", b"PONG"), ("answer", b"PING\r\n", b"PONG\r\n")]

    def message(self, topic: str, payload: bytes, qos: int, number: int) -> bytes:  # noqa: ARG002
        """A PUB, which nothing answers."""
        if qos:
            raise Unfit("it acknowledges nothing without JetStream, which stores all")
        return b"PUB %s %d\r\n%b\r\n" % (_subject(topic).encode(), len(payload), payload)


def _subject(topic: str) -> str:
    return topic.replace("/", ".")
