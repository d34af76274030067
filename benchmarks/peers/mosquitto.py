"""mosquitto's own WebSocket listener: browsers speak MQTT."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.generator import Absent, Step
from benchmarks.peers.peer import FedByMqtt, Started
from benchmarks.peers.speech import binary, mqtt_connect, mqtt_subscribe, upgrade
from tests.real import Mosquitto, listens, mosquitto, wait_until

__all__ = ["QUIET", "MosquittoPeer"]

PROGRAM: Final = Path("/usr/sbin/mosquitto")
QUIET: Final = "set_tcp_nodelay true\nlog_type none"
"""What a broker is told so that its log and Nagle's algorithm aren't measured."""


class MosquittoPeer(FedByMqtt):
    """A broker of its own, so that no other's work counts."""

    product = "mosquitto"

    def version(self) -> str:
        """Its version."""
        if not PROGRAM.exists():
            raise Absent("expected Debian's package mosquitto")
        said = subprocess.run([PROGRAM, "-h"], capture_output=True, text=True, check=False).stdout  # noqa: S603
        return said.split()[2]

    @contextmanager
    def started(self, folder: Path, broker: Mosquitto) -> Iterator[Started]:  # noqa: ARG002
        """Start one."""
        (folder / "mosquitto").mkdir()
        with mosquitto(folder / "mosquitto", QUIET, websockets=True) as own:
            wait_until(lambda: listens(own.websocket_port), "it listens to WebSocket")
            yield Started((own.running,), own.websocket_port, own.port)

    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """Without a name: the broker gives each client one."""
        return [
            *upgrade("/mqtt", "mqtt"),
            ("send", binary(mqtt_connect(""))),
            ("await", b"\x20\x02\x00\x00"),
            ("send", binary(mqtt_subscribe(*topics))),
            ("await", b"\x90"),
        ]
