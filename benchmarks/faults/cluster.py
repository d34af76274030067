"""Three gateways behind nginx, with Redis and mosquitto: all real, on this machine, and each to be broken.

nginx leads clients by the files that are shipped, `docker/nginx`, but for TLS.
"""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.nginx import nginx
from tests.proxy import Relay, relay
from tests.real import GatewayProcess, Mosquitto, configuration, free_port, mosquitto, wait_until
from tests.redis import RedisServer, redis_server

__all__ = ["Cluster", "cluster"]

SHIPPED: Final = Path(__file__).parents[2] / "docker" / "nginx"
GATEWAYS: Final = 3
DRAIN_SECONDS: Final = 2
LEASE_SECONDS: Final = 2
READY_SECONDS: Final = 60
HISTORY_MESSAGES: Final = 20_000
EVERYTHING: Final = 1_000_000
ROOM: Final = "faults/{group}/{device}"


class Cluster:
    """All parts, running."""

    def __init__(self, directory: Path, redis: RedisServer, broker: Mosquitto, between: Relay, clients: int) -> None:
        self.redis = redis
        self.broker = broker
        self.between = between
        """Between the last gateway and Redis."""
        self.port = 0
        """Where nginx serves."""
        self.gateways: list[GatewayProcess] = []
        self.ports = [free_port() for _ in range(GATEWAYS)]
        self.data_is_gone: Callable[[], None] = lambda: None
        """Called after all that Redis had has gone, and before it is back."""
        self._directory = directory
        self._clients = clients

    def _configuration(self, number: int) -> dict[str, Any]:
        redis_port = self.between.port if number == GATEWAYS - 1 else self.redis.port
        return configuration(
            self.broker.port,
            engine={"url": f"redis://127.0.0.1:{redis_port}"},
            cluster={"node": _name(number), "lease_seconds": LEASE_SECONDS},
            listen={"trusted_proxies": ["127.0.0.1"]},
            drain_seconds=DRAIN_SECONDS,
            routes=[{"topic": ROOM, "room": ROOM, "qos": 1, "history": {"messages": HISTORY_MESSAGES}}],
            rooms=[{"room": "halls/+", "history": {"messages": HISTORY_MESSAGES}}],
            limits={
                "connections_per_address": self._clients + 100,
                "connections_per_user": EVERYTHING,
                "handshakes_burst": EVERYTHING,
                "messages_per_second": 1000,
                "messages_burst": EVERYTHING,
                "log_bytes": "1 GiB",
            },
        )

    def start(self, number: int) -> None:
        """Start a gateway, or start it again."""
        folder = self._directory / _name(number)
        running = GatewayProcess(folder, self._configuration(number), port=self.ports[number])
        self.gateways[number : number + 1] = [running]

    def wait_until_ready(self) -> None:
        """Until all gateways can do their work."""
        wait_until(lambda: all(self._asks(gateway)[0] == 200 for gateway in self.gateways), "ready", READY_SECONDS)

    def _asks(self, gateway: GatewayProcess) -> tuple[int, Any]:
        answer = httpx.get(f"{gateway.url}/readyz")
        return answer.status_code, answer.json()

    def kill(self, number: int) -> None:
        """End a gateway as a crash would."""
        self.gateways[number].send_signal(signal.SIGKILL)
        self.gateways[number].wait()

    def drain(self, number: int) -> None:
        """End a gateway in good order."""
        self.gateways[number].send_signal(signal.SIGTERM)
        self.gateways[number].wait()

    def owner(self) -> int:
        """Which gateway has the broker's subscription."""

        def found() -> str | None:
            owners = {self._asks(gateway)[1]["upstreams"]["plant"].get("owner") for gateway in self.gateways}
            name: str | None = owners.pop()
            return name if not owners else None

        return self._names.index(wait_until(found, "all gateways name one owner"))

    @property
    def _names(self) -> list[str]:
        return [_name(number) for number in range(GATEWAYS)]

    def stop(self) -> None:
        """End all gateways."""
        for gateway in self.gateways:
            gateway.stop()


def _name(number: int) -> str:
    return f"gateway-{number + 1}"


def _shipped(ports: list[int]) -> tuple[str, str]:
    """What is shipped of nginx's configuration: upstreams, and what stands in the server."""
    options = re.findall(r"^server \S+ (.*);", (SHIPPED / "gateways.conf").read_text(), re.MULTILINE)[0]
    servers = " ".join(f"server 127.0.0.1:{port} {options};" for port in ports)
    upstreams = (SHIPPED / "upstreams.conf").read_text().replace("include gateways.conf;", servers)
    site = (SHIPPED / "site.conf").read_text().rpartition("\nserver {")[2].rstrip().removesuffix("}")
    site = re.sub(r"^\s*(listen|ssl_\w+) .*;", "", site, flags=re.MULTILINE)
    return re.sub(r"^map \$http_upgrade .*", "", upstreams, flags=re.MULTILINE), site


@contextmanager
def cluster(directory: Path, clients: int) -> Iterator[Cluster]:
    """All parts of a cluster, which end with the context."""
    with ExitStack() as parts:
        kept = directory / "mosquitto"
        kept.mkdir()
        extra = f"log_type error\npersistence true\npersistence_location {kept}/\nuser root\n"
        broker = parts.enter_context(mosquitto(directory, extra))
        redis = parts.enter_context(redis_server(directory, "appendonly yes"))
        between = parts.enter_context(relay(redis.port))
        running = Cluster(directory, redis, broker, between, clients)
        parts.callback(running.stop)
        for number in range(GATEWAYS):
            running.start(number)
        running.wait_until_ready()
        upstreams, site = _shipped(running.ports)
        running.port = parts.enter_context(nginx(directory, site, http=upstreams))
        yield running
