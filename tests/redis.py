"""Real Redis servers: one, three as a cluster, or one with its sentinels."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.real import DEADLINE_SECONDS, Running, free_port, listens, wait_until


class RedisServer:
    """A redis-server that can be stopped and started again on the same port, with or without its data."""

    def __init__(self, directory: Path, *options: str, port: int = 0, sentinel: bool = False) -> None:
        self.port = port or free_port()
        self.directory = directory / f"redis-{self.port}"
        self.directory.mkdir()
        self._options = options
        self._sentinel = sentinel
        self._running: Running | None = None

    @property
    def url(self) -> str:
        """What a gateway's configuration says."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return once it has loaded its data."""
        config = self.directory / "redis.conf"
        if not config.exists():  # a cluster's node and a sentinel keep what they know beside, or in it
            lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.directory}", *self._options]
            if not self._sentinel:
                lines += ['save ""']
            config.write_text("\n".join(lines) + "\n")
        command: list[str | Path] = ["redis-server", config, *(["--sentinel"] if self._sentinel else [])]
        self._running = Running(command, self.directory / "redis.log")
        tls_only = any(option.startswith("port 0") for option in self._options)
        wait_until(lambda: self._alive() and (tls_only or listens(self.port)), "Redis listens")
        if not tls_only and not any(option.startswith(("requirepass", "user ")) for option in self._options):
            wait_until(self._answers, "Redis has loaded its data")

    def _alive(self) -> bool:
        assert self._running is not None
        assert self._running.process.poll() is None, self._running.text
        return True

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self, **options: Any) -> redis.Redis:
        """A client of it."""
        return redis.Redis(port=self.port, socket_timeout=DEADLINE_SECONDS, **options)

    @property
    def running(self) -> Running:
        """Its process."""
        assert self._running is not None
        return self._running

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it: SIGSTOP pauses it, SIGCONT lets it go on."""
        self.running.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.send_signal(signal.SIGKILL)
        self.running.wait()

    def forget(self) -> None:
        """Remove what it has on disk; it isn't to run."""
        for path in self.directory.iterdir():
            if path.name not in ("redis.conf", "redis.log"):
                subprocess.run(["rm", "-rf", path], check=True)

    def stop(self) -> None:
        """End it in good order; with `appendonly yes` it keeps all."""
        if self._running is not None:
            self._running.send_signal(signal.SIGCONT)
            self._running.stop()


@contextmanager
def redis_server(directory: Path, *options: str) -> Iterator[RedisServer]:
    """A running redis-server on a port of its own; `options` are lines of its configuration."""
    server = RedisServer(directory, *options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def redis_cluster(directory: Path) -> Iterator[list[RedisServer]]:
    """Three primaries that are one Redis Cluster."""
    with ExitStack() as started:
        servers = []
        for _ in range(3):
            bus = free_port()
            options = ("cluster-enabled yes", "cluster-node-timeout 2000", f"cluster-port {bus}", "appendonly yes")
            servers.append(started.enter_context(redis_server(directory, *options)))
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "0", "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        wait_until(lambda: all(_is_whole(server) for server in servers), "the cluster has all its slots")
        yield servers


def _is_whole(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.cluster("info")["cluster_state"] == "ok")
