"""Real parts, started and always stopped: mosquitto, and the gateway as users start it."""

import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.forked import ForkedProcess

DEADLINE_SECONDS = 20.0
TIDEGATE = Path(sys.executable).parent / "tidegate"


def free_port() -> int:
    """A port of the loopback that nobody listens on, and that no client's connection gets: below the ephemeral ones.

    Each process that runs tests at the same time has ports of its own, and tries one after the other.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw9").removeprefix("gw")) % 10
    start = 12_000 + 2000 * worker
    for port in (start + random.randrange(2000) for _ in range(1000)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port is free from {start} on")


def wait_until(condition: Callable[[], Any], what: str, deadline_seconds: float = DEADLINE_SECONDS) -> Any:
    """Ask again and again until the answer is true; what it was."""
    end = time.monotonic() + deadline_seconds
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"waited {deadline_seconds:g} s in vain: {what}")


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Running:
    """A program under test, with its output in a file."""

    def __init__(self, arguments: list[str | Path], output: Path, **options: Any) -> None:
        self.output = output
        with output.open("ab") as file:
            self.process: subprocess.Popen[bytes] | ForkedProcess = subprocess.Popen(
                [str(argument) for argument in arguments], stdout=file, stderr=subprocess.STDOUT, **options
            )

    @property
    def text(self) -> str:
        """All that it has said."""
        return self.output.read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """What it and the children it has waited for have used of the processors."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """The memory it holds."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it."""
        self.process.send_signal(number)

    def wait(self, deadline_seconds: float = DEADLINE_SECONDS) -> int:
        """Its exit code, once it ended."""
        return self.process.wait(deadline_seconds)

    def stop(self) -> int:
        """End it, by force if need be; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Mosquitto:
    """A mosquitto that can be stopped and started again on the same port."""

    def __init__(self, directory: Path, extra: str = "", *, websockets: bool = False) -> None:
        self.port = free_port()
        self.websocket_port = free_port() if websockets else 0
        self._output = directory / f"mosquitto-{self.port}.log"
        self._config = directory / f"mosquitto-{self.port}.conf"
        listeners = f"listener {self.port} 127.0.0.1\n"
        if websockets:  # mosquitto 2.0.11 starts with no WebSocket listener alone
            listeners += f"listener {self.websocket_port} 127.0.0.1\nprotocol websockets\n"
        logged = "" if "log_type" in extra else "log_type all\n"
        self._config.write_text(f"allow_anonymous true\n{logged}max_queued_messages 100000\n{listeners}{extra}\n")
        self._running: Running | None = None

    def start(self) -> None:
        """Start it, and return once it listens."""
        self._running = Running(["/usr/sbin/mosquitto", "-c", self._config], self._output)
        wait_until(lambda: self._alive() and listens(self.port), "mosquitto listens")

    @property
    def running(self) -> Running:
        """Its process."""
        assert self._running is not None
        return self._running

    def _alive(self) -> bool:
        assert self._running is not None
        assert self._running.process.poll() is None, self._running.text
        return True

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._running is not None
        self._running.send_signal(signal.SIGKILL)
        self._running.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it."""
        assert self._running is not None
        self._running.send_signal(number)

    def stop(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.stop()

    @property
    def text(self) -> str:
        """Its log."""
        return self._output.read_text(errors="replace")


@contextmanager
def mosquitto(directory: Path, extra: str = "", *, websockets: bool = False) -> Iterator[Mosquitto]:
    """A running mosquitto on a port of its own; lines in `extra` are about its last listener."""
    broker = Mosquitto(directory, extra, websockets=websockets)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def fresh(address: str) -> httpx.Client:
    """A client at an address of the loopback; each has a connection of its own."""
    return httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=DEADLINE_SECONDS)


class GatewayProcess(Running):
    """`tidegate run` on a port of its own; or, if `plain`, under a stock ASGI server.

    It is forked, see `forked`; with `options` it is started as users start it.
    """

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any],
        *arguments: str,
        port: int = 0,
        plain: bool = False,
        trust: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        directory.mkdir(exist_ok=True)
        path = directory / "config.yaml"
        listen = {"port": port, **config.get("listen", {})}
        path.write_text(yaml.safe_dump({**config, "listen": listen}, sort_keys=False))
        self._tls = "s" if "tls_certificate_file" in listen else ""
        self.trust = trust or True
        command: list[str | Path] = [TIDEGATE, "run", "--config", path, *arguments]
        if plain:
            command = [sys.executable, "-m", "tests.plain_server", path]
        if options:
            super().__init__(command, directory / "gateway.log", **options)
        else:
            self.output = directory / "gateway.log"
            seen = [str(word) for word in (command[2:] if plain else command)]
            self.process = ForkedProcess(seen, self.output, plain=plain)
        try:
            self.port = port or self._find_port()
            wait_until(self._is_up, "the gateway listens")
        except BaseException:
            self.stop()
            raise

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.text
        return "Ctrl-C ends it." in self.text and listens(self.port)

    def _find_port(self) -> int:
        def announced() -> str:
            assert self.process.poll() is None, self.text
            return self.text.partition(f"dashboard  http{self._tls}://localhost:")[2].partition("\n")[0]

        return int(wait_until(announced, "the gateway says its port"))

    def wait_until_ready(self) -> None:
        """Until all upstreams are up."""
        wait_until(lambda: self.get("/readyz").status_code == 200, "the gateway is ready")

    def get(self, path: str) -> httpx.Response:
        """What it answers."""
        return httpx.get(f"{self.url}{path}", verify=self.trust)

    def connect(self, receive_buffer_bytes: int | None = None) -> socket.socket:
        """A connection, over TLS if that is what it serves."""
        client = socket.socket()
        if receive_buffer_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        client.settimeout(DEADLINE_SECONDS)
        client.connect(("127.0.0.1", self.port))
        if isinstance(self.trust, ssl.SSLContext):
            return self.trust.wrap_socket(client, server_hostname="localhost")
        return client

    @property
    def url(self) -> str:
        """Where it serves HTTP."""
        return f"http{self._tls}://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where it serves WebSocket."""
        return f"ws{self._tls}://127.0.0.1:{self.port}/ws"


ROUTES: list[dict[str, Any]] = [
    {"topic": "sensors/{site}/{device}/{metric}", "room": "sites/{site}/{device}/{metric}", "qos": 1},
    {"topic": "raw/{name}", "room": "raw/{name}", "payload": "auto"},
    {"topic": "kept/{name}", "room": "kept/{name}", "qos": 1, "history": {"messages": 5000}},
    {"topic": "text/{name}", "room": "text/{name}", "payload": "text", "last": False},
    {
        "topic": "commands/{site}/{device}",
        "room": "sites/{site}/{device}/commands",
        "direction": "to_device",
        "payload": "json",
        "qos": 1,
    },
    {"topic": "firmware/{device}", "room": "firmware/{device}", "direction": "to_device", "payload": "bytes", "qos": 2},
    {"topic": "shared/{name}", "room": "shared/{name}", "direction": "both", "payload": "json"},
]
"""One route of each kind."""


def configuration(broker_port: int, **changes: Any) -> dict[str, Any]:
    """A configuration with a real broker as its upstream, and room for a test's many connections."""
    upstream = {
        "url": f"mqtt://127.0.0.1:{broker_port}",
        "reconnect_min_seconds": 0.05,
        "reconnect_max_seconds": 0.2,
        **changes.pop("upstream", {}),
    }
    return {"upstreams": {"plant": upstream}, "routes": ROUTES, **changes}
