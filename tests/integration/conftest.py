import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.proxy import Proxy, proxy
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration, mosquitto, wait_until


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as running:
        yield running


@pytest.fixture(params=["direct", "plain"])
def gateway(tmp_path: Path, broker: Mosquitto, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    """The gateway on its own server, which writes to connections directly, and on one that only has ASGI."""
    plain = request.param == "plain"
    with GatewayProcess(tmp_path / "gateway", configuration(broker.port), plain=plain) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One broker for all tests of a module."""
    with mosquitto(tmp_path_factory.mktemp("plant")) as running:
        yield running


@pytest.fixture(scope="module", params=["direct", "plain"])
def start_shared(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[[dict[str, Any]], GatewayProcess]]:
    """Starts gateways for all tests of a module: on their own server, and on one that only has ASGI."""
    with ExitStack() as started:

        def start(config: dict[str, Any]) -> GatewayProcess:
            folder = tmp_path_factory.mktemp("shared") / "gateway"
            running = started.enter_context(GatewayProcess(folder, config, plain=request.param == "plain"))
            running.wait_until_ready()
            return running

        yield start


@pytest.fixture(scope="module")
def standing_gateway(plant: Mosquitto, start_shared: Callable[[dict[str, Any]], GatewayProcess]) -> GatewayProcess:
    """The gateway, for tests of a module that leave nothing behind in it."""
    return start_shared(configuration(plant.port))


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways with a configuration of the test's own."""
    started: list[GatewayProcess] = []

    def start(config: dict[str, Any], *arguments: str, ready: bool = True, **options: Any) -> GatewayProcess:
        running = GatewayProcess(tmp_path / f"gateway-{len(started)}", config, *arguments, **options)
        started.append(running)
        if ready:
            running.wait_until_ready()
        return running

    yield start
    for running in started:
        running.stop()


@pytest.fixture(params=["direct", "plain"])
def start_either(start_gateway: Callable[..., GatewayProcess], request: pytest.FixtureRequest) -> Any:
    """Starts gateways on their own server, and on one that only has ASGI."""
    return partial(start_gateway, plain=request.param == "plain")


class Device:
    """A device, as firmware would be written: a paho client with a network thread."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._take
        self._received: list[paho.MQTTMessage] = []
        self._lock = threading.Lock()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _take(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._received.append(message)

    def publish(self, topic: str, payload: str | bytes, qos: int = 0, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos, retain)

    def subscribe(self, topic: str, qos: int = 2) -> None:
        granted = threading.Event()
        self._client.on_subscribe = lambda *_: granted.set()
        self._client.subscribe(topic, qos)
        assert granted.wait(DEADLINE_SECONDS)

    def received(self, count: int) -> list[paho.MQTTMessage]:
        """The first `count` messages, once they are there."""
        wait_until(lambda: len(self._received) >= count, f"{count} messages reach the device")
        with self._lock:
            return self._received[:count]

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """A device at the broker that the test has: the module's, or its own."""
    broker: Mosquitto = request.getfixturevalue("plant" if "plant" in request.fixturenames else "broker")
    running = Device(broker.port)
    yield running
    running.stop()


@pytest.fixture
def between(broker: Mosquitto) -> Iterator[Proxy]:
    """A proxy in front of the broker."""
    with proxy(broker.port) as running:
        yield running


class Browser:
    """A WebSocket client that speaks `tidegate.v1.json`."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **fields: Any) -> None:
        await self.connection.send(orjson.dumps(fields).decode())

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            heard: dict[str, Any] = orjson.loads(await self.connection.recv())
            return heard

    async def ask(self, **fields: Any) -> dict[str, Any]:
        """Say something with an id, and hear until its answer."""
        await self.say(**fields, id="ask")
        while True:
            heard = await self.hear()
            if heard.get("id") == "ask":
                return heard

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """The next `count` messages of rooms."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            heard = await self.hear()
            if heard["type"] == "message":
                found.append(heard)
        return found


@asynccontextmanager
async def browser(gateway: GatewayProcess, **options: Any) -> AsyncIterator[Browser]:
    """A connected client that has been welcomed."""
    options.setdefault("subprotocols", [Subprotocol("tidegate.v1.json")])
    options.setdefault("compression", None)  # so that what is written has the size that a test gives it
    if isinstance(gateway.trust, ssl.SSLContext):
        options.setdefault("ssl", gateway.trust)
    async with connect(gateway.ws_url, **options) as connection:
        client = Browser(connection)
        welcome = await client.hear()
        assert welcome["type"] == "welcome"
        yield client
