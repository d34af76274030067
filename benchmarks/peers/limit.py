"""What the machine can do: a server in C that only writes (load/limit.c)."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.generator import Absent, Step, compiled
from benchmarks.peers.peer import Peer, Started, Unfit
from benchmarks.peers.speech import text, upgrade
from tests.real import Mosquitto, Running, free_port, listens, wait_until

__all__ = ["LimitPeer"]


class LimitPeer(Peer):
    """One topic: all are subscribed to all."""

    product = "C, send() alone"

    def version(self) -> str:
        """The compiler's version."""
        compiler = shutil.which("cc")
        if compiler is None:
            raise Absent("expected a C compiler")
        said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
        return said.stdout.splitlines()[0]

    @contextmanager
    def started(self, folder: Path, broker: Mosquitto) -> Iterator[Started]:  # noqa: ARG002
        """Compile and start it."""
        program, port = compiled("limit", folder), free_port()
        with Running([program, str(port)], folder / "limit.log") as server:
            wait_until(lambda: listens(port), "it listens")
            yield Started((server,), port, port)

    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """Say anything."""
        if len(topics) > 1:
            raise Unfit("it has no topics")
        return [*upgrade("/"), ("send", text("hello")), ("await", b'"subscribed"')]

    def message(self, topic: str, payload: bytes, qos: int, number: int) -> bytes:  # noqa: ARG002
        """A line, as long as the gateway's messages."""
        if qos:
            raise Unfit("it takes no MQTT")
        room = topic.replace("sensors", "sites", 1).encode()
        names = b'"room":"%b","topic":"%b"' % (room, topic.encode())
        return b'{"type":"message",%b,"data":%b,"cursor":"0000000000-12345","time":1764000000.123}\n' % (names, payload)
