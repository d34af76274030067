"""Centrifuge, the library under Centrifugo, in a small program of its own (go/main.go)."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.generator import Absent, Step
from benchmarks.peers.peer import Peer, Started, Unfit, debian_version
from benchmarks.peers.speech import http_post, text, upgrade
from tests.real import Mosquitto, Running, free_port, listens, wait_until

__all__ = ["CentrifugePeer"]

GOPATH: Final = Path("/usr/share/gocode")
SOURCE: Final = Path(__file__).parent / "go" / "main.go"
SUBSCRIBE: Final = 1
"""The method, in its JSON protocol."""


class CentrifugePeer(Peer):
    """Its JSON protocol over WebSocket; messages come in by HTTP."""

    product = "Centrifuge"

    def version(self) -> str:
        """Its version, of Debian's package."""
        if shutil.which("go") is None:
            raise Absent("expected Go: Debian's package golang-go")
        return debian_version("golang-github-centrifugal-centrifuge-dev")

    @contextmanager
    def started(self, folder: Path, broker: Mosquitto) -> Iterator[Started]:  # noqa: ARG002
        """Build and start it."""
        program, port = folder / "centrifuge", free_port()
        environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": ""}
        subprocess.run(["go", "build", "-o", program, SOURCE], check=True, env=environment)  # noqa: S603, S607
        with Running([program, str(port)], folder / "centrifuge.log") as server:
            wait_until(lambda: listens(port), "it listens")
            yield Started((server,), port, port)

    def subscribe(self, topics: Sequence[str]) -> list[Step]:
        """Connect, then subscribe to each channel."""
        steps: list[Step] = [*upgrade("/ws"), ("send", text({"id": 1, "params": {}})), ("await", b'"client"')]
        for number, topic in enumerate(topics, 2):
            asked = {"id": number, "method": SUBSCRIBE, "params": {"channel": topic}}
            steps += [("send", text(asked)), ("await", b'"id":%d' % number)]
        return steps

    def message(self, topic: str, payload: bytes, qos: int, number: int) -> bytes:  # noqa: ARG002
        """A POST, the next one without waiting for the answer."""
        if qos:
            raise Unfit("it takes no MQTT")
        return http_post(f"/publish?channel={topic}", payload)
