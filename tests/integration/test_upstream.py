"""Real brokers of every kind, and what happens when they go away."""

import asyncio
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.integration.conftest import Device, browser
from tests.real import GatewayProcess, Mosquitto, configuration, free_port, mosquitto, wait_until


def readiness(gateway: GatewayProcess) -> tuple[int, dict[str, Any]]:
    answer = httpx.get(f"{gateway.url}/readyz")
    return answer.status_code, answer.json()["upstreams"]["plant"]


async def test_the_broker_may_die_under_traffic_and_come_back(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port))
    device = Device(broker.port)
    stop = threading.Event()

    def keep_publishing() -> None:
        number = 0
        while not stop.wait(0.005):
            device.publish("raw/x", str(number))
            number += 1

    publishing = threading.Thread(target=keep_publishing)
    publishing.start()
    try:
        async with browser(gateway) as client:
            await client.ask(type="subscribe", room="raw/x")
            await client.messages(10)
            for _ in range(2):
                broker.kill()
                await asyncio.to_thread(wait_until, lambda: readiness(gateway)[0] == 503, "the gateway says so")
                assert readiness(gateway)[1]["state"] == "down"
                assert str(broker.port) in readiness(gateway)[1]["problem"]
                error = await client.ask(type="publish", room="sites/a/b/commands", data=1)
                assert error["code"] == "upstream_unavailable"
                assert httpx.get(f"{gateway.url}/healthz").status_code == 200
                broker.start()
                await asyncio.to_thread(wait_until, lambda: readiness(gateway)[0] == 200, "the gateway is back")
                (first,) = await client.messages(1)
                following = await client.messages(20)
                values = [first["data"], *(message["data"] for message in following)]
                assert values == sorted(set(values))
    finally:
        stop.set()
        publishing.join()
        device.stop()
    assert gateway.text.count("upstream plant is down") == 2
    assert gateway.text.count("upstream plant is up") == 3
    assert "Traceback" not in gateway.text


async def test_the_gateway_starts_without_its_broker_and_finds_it_later(
    tmp_path: Path, start_gateway: Callable[..., GatewayProcess]
) -> None:
    broker = Mosquitto(tmp_path)
    gateway = start_gateway(configuration(broker.port), ready=False)
    assert readiness(gateway)[0] == 503
    broker.start()
    try:
        await asyncio.to_thread(wait_until, lambda: readiness(gateway)[0] == 200, "the gateway finds the broker")
    finally:
        broker.stop()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_the_status_topic_says_online_then_by_last_will_offline(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess], protocol: str
) -> None:
    gateway = start_gateway(configuration(broker.port, upstream={"protocol": protocol}))
    watcher = Device(broker.port)
    try:
        watcher.subscribe("tidegate/status")
        (first,) = watcher.received(1)
        assert (first.payload, first.retain) == (b"online", True)
        gateway.process.kill()
        assert watcher.received(2)[1].payload == b"offline"
        start_gateway(configuration(broker.port, upstream={"protocol": protocol})).stop()
        assert [message.payload for message in watcher.received(4)[2:]] == [b"online", b"offline"]
    finally:
        watcher.stop()


def certificates(directory: Path) -> tuple[str, dict[str, str]]:
    """Lines for mosquitto that demand a client's certificate, and the settings that present one."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    for name, certificate in [
        ("server", authority.issue_cert("localhost", "127.0.0.1")),
        ("client", authority.issue_cert("gateway@example.org")),
    ]:
        certificate.private_key_pem.write_to_path(str(directory / f"{name}.key"))
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(directory / f"{name}.pem"), append=True)
        (directory / f"{name}.key").chmod(0o644)
    directory.chmod(0o755)
    lines = f"cafile {directory}/ca.pem\ncertfile {directory}/server.pem\nkeyfile {directory}/server.key\n"
    settings = {
        "ca_file": f"{directory}/ca.pem",
        "certificate_file": f"{directory}/client.pem",
        "key_file": f"{directory}/client.key",
    }
    return lines + "require_certificate true", settings


async def passes_both_ways(gateway: GatewayProcess) -> None:
    """A shared room's message goes to the broker and comes back."""
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="shared/x")
        assert (await client.ask(type="publish", room="shared/x", data=1))["type"] == "ack"
        assert (await client.messages(1))[0]["data"] == 1


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
async def test_tls_with_a_clients_certificate(
    tmp_path: Path, start_gateway: Callable[..., GatewayProcess], scheme: str, protocol: str
) -> None:
    lines, settings = certificates(_readable(tmp_path))
    with mosquitto(tmp_path, lines, websockets=scheme == "wss") as broker:
        port = broker.websocket_port or broker.port
        upstream = {"url": f"{scheme}://localhost:{port}", "protocol": protocol, **settings}
        gateway = start_gateway(configuration(broker.port, upstream=upstream))
        await passes_both_ways(gateway)


def _readable(tmp_path: Path) -> Path:
    """mosquitto gives up root before it reads certificates, so the way there must be open."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == tmp_path.owner() and parent != Path("/") and parent != Path("/tmp"):
            parent.chmod(0o755)
    return folder


async def test_an_unknown_certificate_is_refused_unless_told_otherwise(
    tmp_path: Path, start_gateway: Callable[..., GatewayProcess]
) -> None:
    lines, settings = certificates(_readable(tmp_path))
    with mosquitto(tmp_path, lines) as broker:
        url = f"mqtts://localhost:{broker.port}"
        bare = {"url": url, **{key: value for key, value in settings.items() if key != "ca_file"}}
        gateway = start_gateway(configuration(broker.port, upstream=bare), ready=False)
        await asyncio.to_thread(wait_until, lambda: "CERTIFICATE_VERIFY_FAILED" in gateway.text, "it is refused")
        assert readiness(gateway)[0] == 503
        await passes_both_ways(start_gateway(configuration(broker.port, upstream={**bare, "insecure": True})))


async def test_websocket_transport(tmp_path: Path, start_gateway: Callable[..., GatewayProcess]) -> None:
    with mosquitto(tmp_path, websockets=True) as broker:
        upstream = {"url": f"ws://127.0.0.1:{broker.websocket_port}/mqtt"}
        await passes_both_ways(start_gateway(configuration(broker.port, upstream=upstream)))


async def test_user_and_password(tmp_path: Path, start_gateway: Callable[..., GatewayProcess]) -> None:
    folder = _readable(tmp_path)
    subprocess.run(["mosquitto_passwd", "-b", "-c", folder / "users", "gate", "s3cret"], check=True)
    (folder / "users").chmod(0o644)
    (tmp_path / "secret").write_text("s3cret\n")
    broker = Mosquitto(tmp_path, f"password_file {folder}/users")
    config = broker._config
    config.write_text(config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    broker.start()
    try:
        right = {"username": "gate", "password_file": str(tmp_path / "secret")}
        await passes_both_ways(start_gateway(configuration(broker.port, upstream=right)))
        wrong = {"username": "gate", "password": "wr0ng"}
        gateway = start_gateway(configuration(broker.port, upstream=wrong), ready=False)
        await asyncio.to_thread(wait_until, lambda: readiness(gateway)[1]["state"] == "down", "it says so")
        assert "authori" in readiness(gateway)[1]["problem"].lower()
        assert "wr0ng" not in gateway.text
    finally:
        broker.stop()


async def test_several_upstreams_each_with_routes_of_its_own(
    tmp_path: Path, start_gateway: Callable[..., GatewayProcess]
) -> None:
    with mosquitto(tmp_path) as north, mosquitto(tmp_path) as south:
        config = {
            "upstreams": {
                "north": {"url": f"mqtt://127.0.0.1:{north.port}"},
                "south": {"url": f"mqtt://127.0.0.1:{south.port}", "protocol": "3.1.1"},
            },
            "routes": [
                {"topic": "t/{x}", "room": "north/{x}", "upstream": "north"},
                {"topic": "t/{x}", "room": "south/{x}", "upstream": "south"},
                {"topic": "u/{x}", "room": "every/{x}"},
                {"topic": "c/{x}", "room": "to/{x}", "direction": "to_device", "upstream": "south", "qos": 1},
            ],
        }
        gateway = start_gateway(config)
        devices = [Device(north.port), Device(south.port)]
        try:
            async with browser(gateway) as client:
                await client.ask(type="subscribe", room="#")
                for number, device in enumerate(devices):
                    device.subscribe("c/#")
                    device.publish("t/1", str(number))
                    device.publish("u/1", str(number))
                got = await client.messages(4)
                assert sorted((message["room"], message["data"]) for message in got) == [
                    ("every/1", 0),
                    ("every/1", 1),
                    ("north/1", 0),
                    ("south/1", 1),
                ]
                assert (await client.ask(type="publish", room="to/x", data="on"))["type"] == "ack"
                assert devices[1].received(1)[0].payload == b"on"
                assert devices[0]._received == []
        finally:
            for device in devices:
                device.stop()


async def test_a_broker_that_refuses_is_named_in_the_log(start_gateway: Callable[..., GatewayProcess]) -> None:
    port = free_port()
    gateway = start_gateway(configuration(port), ready=False)
    wait_until(lambda: "upstream plant is down" in gateway.text, "the log says so")
    assert f"127.0.0.1:{port}" in gateway.text
    assert gateway.text.count("upstream plant is down") == 1


async def test_only_the_fewest_filters_are_subscribed_to(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    routes = [
        {"topic": "a/{x}/{y}", "room": "a/{x}/{y}", "qos": 0},
        {"topic": "a/b/{y}", "room": "ab/{y}", "qos": 1},
        {"topic": "a/{rest...}", "room": "rest/{rest...}", "qos": 0},
        {"topic": "c/d", "room": "cd", "qos": 2},
        {"topic": "e/{x}", "room": "e/{x}", "direction": "to_device"},
    ]
    start_gateway(configuration(broker.port, routes=routes))
    assert subscribed_filters(broker) == ["a/# (QoS 1)", "c/d (QoS 2)"]


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [("3.1.1", ["plant/+/# (QoS 1)"]), ("5", ["plant/+/state (QoS 1)", "plant/x/# (QoS 0)"])],
)
async def test_filters_that_overlap_are_widened_where_copies_cant_be_told_apart(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess], protocol: str, expected: list[str]
) -> None:
    routes = [
        {"topic": "plant/{a}/state", "room": "state/{a}", "qos": 1},
        {"topic": "plant/x/{rest...}", "room": "all/{rest...}"},
    ]
    start_gateway(configuration(broker.port, routes=routes, upstream={"protocol": protocol}))
    assert subscribed_filters(broker) == expected


def subscribed_filters(broker: Mosquitto) -> list[str]:
    """What mosquitto's log says that the gateway subscribed to for its routes."""
    lines = [line.split("\t")[-1] for line in broker.text.splitlines() if "\t" in line and "(QoS" in line]
    return sorted(line for line in lines if not line.startswith("tidegate/replies/"))


async def test_the_broker_is_told_the_protocol_and_keep_alive(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    upstream = {"protocol": "3.1.1", "client_id": "gate-7", "keep_alive_seconds": 17}
    start_gateway(configuration(broker.port, upstream=upstream))
    assert "as gate-7 (p2, c1, k17)" in broker.text
    upstream = {"protocol": "5", "client_id": "gate-8", "keep_alive_seconds": 18, "session": "persistent"}
    start_gateway(configuration(broker.port, upstream=upstream))
    assert "as gate-8 (p5, c0, k18)" in broker.text
