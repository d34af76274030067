"""MQTT over WebSocket straight to a broker."""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from bridges.mqtt_websocket_answers import publish
from gateway.app import Gateway
from gateway.config import ConfigurationError, Settings, load_settings
from tests import mqtt_speech as speech
from tests.certificates import Authority
from tests.javascript import node_program
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration, free_port, mosquitto

MQTT = Subprotocol("mqtt")
THROUGH = {"mode": "passthrough"}
LIMITS = {"message_bytes": 65_536, "bytes_per_second": 1_000_000, "bytes_burst": 1_000_000}


@pytest.fixture(scope="module")
def gateway(plant: Mosquitto, start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    return start_shared(configuration(plant.port, mqtt=THROUGH, limits=LIMITS))


def through(gateway: GatewayProcess, **options: Any) -> connect:
    return connect(f"ws://127.0.0.1:{gateway.port}/mqtt", subprotocols=[MQTT], **options)


async def end(client: ClientConnection) -> tuple[int, str]:
    """How a connection is closed, whatever comes before."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await client.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def send_on(client: ClientConnection) -> None:
    while True:
        await client.send(b"\0" * 60_000)


def test_what_topics_mean_is_the_brokers_business(gateway: GatewayProcess) -> None:
    with node_program("mqttjs.js") as client:
        url = f"ws://127.0.0.1:{gateway.port}/mqtt"
        client.do("connect", url=url, protocolVersion=5, clientId=f"through-{gateway.port}", expiry=60, clean=False)
        assert client.do("subscribe", room="no/route's/topic", qos=2) == [2]
        for qos in (0, 1, 2):
            client.do("publish", room="no/route's/topic", data=qos, qos=qos)
        heard = client.wait_for(lambda event: event["event"] == "message", 3)
        assert sorted((message["data"], message["qos"]) for message in heard) == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("frames", "close"),
    [
        ([speech.connect(4), "text"], (1003, "a text frame: expected binary ones")),
        ([speech.connect(4), speech.connect(4)], (1000, "the broker has closed the connection")),
        ([speech.connect(4), publish(4, "a", b"x" * 70_000)], (1009, None)),
        ([speech.connect(4), speech.DISCONNECT], (1000, "the broker has closed the connection")),
    ],
    ids=range(4),
)
async def test_what_ends_a_connection_is_told(
    gateway: GatewayProcess, frames: list[bytes | str], close: tuple[int, str | None]
) -> None:
    async with through(gateway) as client:
        for frame in frames:
            await client.send(frame)
        code, reason = await end(client)
    assert code == close[0]
    assert close[1] in (reason, None)


async def test_a_flood_is_read_no_faster_than_allowed(gateway: GatewayProcess) -> None:
    async with through(gateway, close_timeout=0.1, compression=None) as client, asyncio.timeout(DEADLINE_SECONDS):
        await client.send(speech.connect(4, f"flood-{gateway.port}"))
        begun = time.monotonic()
        for number in range(1, 31):
            await client.send(publish(4, "flood", b"x" * 60_000, qos=1, packet_id=number))
        acknowledged = 0
        while acknowledged < 30:
            heard = await client.recv()
            assert isinstance(heard, bytes)
            acknowledged += len([first for first, _ in speech.read_all(heard) if first == 0x40])
    assert time.monotonic() - begun > 0.7  # 1.8 MB, of which 1 MB is free


async def test_a_page_from_elsewhere_is_refused(gateway: GatewayProcess) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with through(gateway, origin="https://evil.example"):
            pass
    assert caught.value.response.status_code == 403


async def test_a_broker_that_is_away_is_told(start_gateway: Callable[..., GatewayProcess]) -> None:
    gateway = start_gateway(configuration(free_port(), mqtt=THROUGH), ready=False)
    async with through(gateway) as client:
        assert await end(client) == (1013, "upstream_unavailable: the broker can't be reached")


async def test_a_broker_that_says_nothing_and_reads_nothing_holds_nobody_up(
    start_gateway: Callable[..., GatewayProcess],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        limits = {"lag_seconds": 0.5, "bytes_burst": 100_000_000}
        config = configuration(deaf.getsockname()[1], mqtt=THROUGH, limits=limits)
        gateway = start_gateway(config, ready=False)
        async with through(gateway, close_timeout=0.1, compression=None) as client:
            flood = asyncio.create_task(send_on(client))
            assert await end(client) == (1013, "upstream_unavailable: the broker takes nothing any more")
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)


async def test_it_leads_to_the_embedded_broker(start_gateway: Callable[..., GatewayProcess]) -> None:
    gateway = start_gateway({"broker": {"port": 0}, "mqtt": THROUGH})
    async with through(gateway) as client, asyncio.timeout(DEADLINE_SECONDS):
        await client.send(speech.connect(4))
        assert await client.recv() == b"\x20\x02\0\0"


async def test_it_leads_over_tls(tmp_path: Path, start_gateway: Callable[..., GatewayProcess]) -> None:
    authority = Authority()
    issued = authority.issue(tmp_path)
    files = {name.removeprefix("tls_"): path for name, path in issued.items()}
    extra = f"user root\ncertfile {files['certificate_file']}\nkeyfile {files['key_file']}"
    with mosquitto(tmp_path, extra) as broker:
        upstream = {"url": f"mqtts://localhost:{broker.port}", "insecure": True}
        gateway = start_gateway(configuration(broker.port, mqtt=THROUGH, upstream=upstream))
        async with through(gateway) as client, asyncio.timeout(DEADLINE_SECONDS):
            await client.send(speech.connect(4))
            assert await client.recv() == b"\x20\x02\0\0"


@pytest.mark.parametrize(("mode", "served"), [("gateway", 2), ("passthrough", 1), ("off", 0)])
def test_it_is_served_as_configured(mode: str, served: int) -> None:
    settings = Settings.model_validate({"mqtt": {"mode": mode}, "namespaces": {"other": {}}})
    gateway = Gateway(settings)
    paths = [getattr(route, "path", "") for each in gateway.endpoints.values() for route in each.routes()]
    assert paths.count("/mqtt") == served


@pytest.mark.parametrize(
    ("mqtt", "upstreams", "found"),
    [
        ("{mode: passthrough, upstream: b}", "{a: {url: 'mqtt://a'}}", "expected one of a, found 'b'"),
        ("{mode: passthrough}", "{a: {url: 'mqtt://a'}, b: {url: 'mqtt://b'}}", "expected one of a, b, found none"),
        ("{mode: passthrough}", "{a: {url: 'ws://a'}}", "expected an upstream with mqtt://"),
        ("{mode: passthrough, upstream: a}", "{}", "expected one of embedded, found 'a'"),
    ],
)
def test_a_broker_that_nobody_can_be_led_to_is_refused(mqtt: str, upstreams: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"mqtt: {mqtt}\nupstreams: {upstreams}\n")
    with pytest.raises(ConfigurationError, match=r"mqtt\.upstream") as caught:
        load_settings(tmp_path / "config.yaml", environment={})
    assert found in str(caught.value)
