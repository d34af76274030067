"""Gateways as one writes them on node: with ws, and with Socket.IO; mqtt.js brings the messages."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson

from benchmarks.generator import MARK, Absent, Step
from benchmarks.peers.peer import FedByMqtt, Started
from benchmarks.peers.speech import DATA, text, upgrade
from tests.real import Mosquitto, Running, free_port, wait_until

__all__ = ["SocketIoPeer", "WsPeer"]

SCRIPTS: Final = Path(__file__).parent / "node"


class _NodePeer(FedByMqtt):
    script: str
    package: str

    def version(self) -> str:
        """The package's version and node's, once npm has installed it (`scripts/bench-peers`)."""
        node = shutil.which("node")
        if node is None:
            raise Absent("expected node: Debian's package nodejs")
        installed = SCRIPTS / "node_modules" / self.package / "package.json"
        if not installed.exists():
            raise Absent(f"expected npm's package {self.package}: scripts/bench-peers installs it")
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
        return f"{orjson.loads(installed.read_bytes())['version']}, node {said.stdout.strip()}"

    @contextmanager
    def started(self, folder: Path, broker: Mosquitto) -> Iterator[Started]:
        """Start it."""
        port = free_port()
        with Running(["node", SCRIPTS / self.script, str(port), str(broker.port)], folder / "node.log") as server:
            wait_until(lambda: "ready" in server.text, f"{self.script} is ready")
            yield Started((server,), port, broker.port)


class WsPeer(_NodePeer):
    """Rooms are sets of sockets."""

    product = "ws on node"
    script = "ws.js"
    package = "ws"

    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """Subscribe to topics."""
        return [*upgrade("/"), ("send", text({"rooms": list(topics)})), ("await", b'"subscribed"')]

    def browser(self) -> list[Step]:
        """Connect."""
        return upgrade("/")

    def order(self, number: int) -> bytes:
        """A publication at QoS 1."""
        return text({"publish": f"commands/bench/device-{number}", "id": MARK.decode(), "data": DATA})


class SocketIoPeer(_NodePeer):
    """Rooms of Socket.IO, over its WebSocket transport."""

    product = "Socket.IO on node"
    script = "socketio.js"
    package = "socket.io"

    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """Connect, then subscribe."""
        asked = "42" + orjson.dumps(["subscribe", list(topics)]).decode()
        return [*self.browser(), ("send", text(asked)), ("await", b"subscribed")]

    def browser(self) -> list[Step]:
        """Connect (Engine.IO 4), join the default namespace, and answer heartbeats."""
        return [
            *upgrade("/socket.io/?EIO=4&transport=websocket"),
            ("await", b"0{"),
            ("send", text("40")),
            ("await", b"40{"),
            ("answer", b"\x81\x012", text("3")),
        ]

    def order(self, number: int) -> bytes:
        """A publication at QoS 1 that asks for an ack; all of one client have the same number, which nobody minds."""
        sent = ["publish", f"commands/bench/device-{number}", MARK.decode(), DATA]
        return text("421" + orjson.dumps(sent).decode())
