"""A gateway as one writes it on Starlette and aiomqtt (starlette_app.py)."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from benchmarks.generator import MARK, Step
from benchmarks.peers.peer import FedByMqtt, Started
from benchmarks.peers.speech import DATA, text, upgrade
from tests.real import Mosquitto, Running, free_port, wait_until

__all__ = ["StarlettePeer"]


class StarlettePeer(FedByMqtt):
    """One `send_text` for each subscriber."""

    product = "Starlette and aiomqtt"

    def version(self) -> str:
        """Its version."""
        return f"{version('starlette')}, uvicorn {version('uvicorn')}, aiomqtt {version('aiomqtt')}"

    @contextmanager
    def started(self, folder: Path, broker: Mosquitto) -> Iterator[Started]:
        """Start it."""
        port = free_port()
        module = "benchmarks.peers.starlette_app"
        with Running([sys.executable, "-m", module, str(port), str(broker.port)], folder / "starlette.log") as server:
            wait_until(lambda: "ready" in server.text, "it is ready")
            yield Started((server,), port, broker.port)

    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """Subscribe to topics."""
        return [*upgrade("/ws"), ("send", text({"rooms": list(topics)})), ("await", b'"subscribed"')]

    def browser(self) -> list[Step]:
        """Connect."""
        return upgrade("/ws")

    def order(self, number: int) -> bytes:
        """A publication at QoS 1."""
        return text({"publish": f"commands/bench/device-{number}", "id": MARK.decode(), "data": DATA})
