"""What brokers do wrong: said in the log and in `/readyz`, told to clients, and survived without a restart."""

import asyncio
import json
import os
import signal
import subprocess
import threading
from functools import partial
from pathlib import Path

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.integration.conftest import Device, browser
from tests.integration.faults import (
    Start,
    allow,
    dynamic_security,
    dynamic_security_plugin,
    notice,
    open_to_mosquitto,
    plant,
    until,
)
from tests.proxy import PUBACK, SUBACK, Proxy
from tests.real import GatewayProcess, Mosquitto, configuration, mosquitto


def descriptors(gateway: GatewayProcess) -> int:
    """How many files and sockets it has open."""
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


def said_times(gateway: GatewayProcess, what: str, times: int) -> bool:
    return gateway.text.count(f"upstream plant {what}") == times


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_clients_hear_that_the_broker_is_away_and_back(
    between: Proxy, start_gateway: Start, transport: str
) -> None:
    gateway = start_gateway(configuration(between.port))
    async with browser(gateway) as client:
        between.refuse()
        assert await notice(client) == "down"
        if transport == "websocket":
            async with browser(gateway) as late:
                assert await notice(late) == "down"
        else:
            async with httpx.AsyncClient() as http, http.stream("GET", f"{gateway.url}/sse?room=x") as stream:
                lines = stream.aiter_lines()
                async for line in lines:
                    if line == "event: upstream":
                        break
                assert json.loads((await anext(lines)).removeprefix("data: "))["state"] == "down"
        between.serve()
        assert await notice(client) == "up"
    async with browser(gateway) as client:
        assert (await client.ask(type="ping"))["type"] == "pong"  # and nothing before it


async def test_a_broker_that_flaps_is_followed_without_leaks_or_a_flood_of_lines(
    between: Proxy, start_gateway: Start
) -> None:
    gateway = start_gateway(configuration(between.port))
    await until(lambda: plant(gateway)["state"] == "up", "it is up")
    httpx.get(f"{gateway.url}/readyz")
    before = descriptors(gateway)
    for number in range(1, 11):
        between.cut()
        await until(partial(said_times, gateway, "is up", number + 1), "it is up again")
    assert plant(gateway) == {"state": "up"}
    await until(lambda: descriptors(gateway) <= before, "no descriptor is left behind")
    lines = [line for line in gateway.text.splitlines() if "upstream plant" in line]
    assert len(lines) <= 10 + 11
    assert "Traceback" not in gateway.text


async def test_a_half_open_connection_is_noticed_within_the_keep_alive(between: Proxy, start_gateway: Start) -> None:
    upstream = {"keep_alive_seconds": 6, "connect_timeout_seconds": 1}
    gateway = start_gateway(configuration(between.port, upstream=upstream))
    async with browser(gateway) as client:
        between.freeze()
        error_or_ack = asyncio.create_task(client.ask(type="publish", room="sites/a/b/commands", data=1))
        await until(lambda: plant(gateway)["state"] == "down", "the silence is noticed", 10)
        assert "no sign of life within the keep-alive of 6 s" in gateway.text
        assert (await error_or_ack)["code"] == "upstream_timeout"
        await until(lambda: "timed out" in plant(gateway)["problem"].lower(), "new connections aren't answered either")
        between.thaw()
        await until(lambda: plant(gateway) == {"state": "up"}, "it recovers")
        assert (await client.ask(type="publish", room="sites/a/b/commands", data=1))["type"] == "ack"


def say_again(broker: Mosquitto) -> None:
    """Let mosquitto read its files again."""
    assert broker._running is not None
    broker._running.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_wrong_password_is_said_and_works_once_the_broker_is_corrected(
    tmp_path: Path, start_gateway: Start, protocol: str
) -> None:
    users = tmp_path / "users"

    def set_password(password: str) -> None:
        subprocess.run(["mosquitto_passwd", "-b", "-c", users, "gate", password], check=True)
        open_to_mosquitto(users)

    set_password("old")
    broker = Mosquitto(tmp_path, f"password_file {users}")
    broker._config.write_text(broker._config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    broker.start()
    try:
        upstream = {"username": "gate", "password": "n3w-s3cret", "protocol": protocol}
        gateway = start_gateway(configuration(broker.port, upstream=upstream), ready=False)
        await until(lambda: plant(gateway)["state"] == "down", "it is refused")
        assert "refuses the user name or password" in plant(gateway)["problem"]
        assert gateway.text.count("refuses the user name or password") == 1
        assert "n3w-s3cret" not in gateway.text
        async with browser(gateway) as client:
            assert await notice(client) == "down"
            set_password("n3w-s3cret")
            say_again(broker)
            assert await notice(client) == "up"
        assert plant(gateway) == {"state": "up"}
    finally:
        broker.stop()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_refused_subscription_is_named_while_the_others_work(
    tmp_path: Path, start_gateway: Start, protocol: str
) -> None:
    rules = tmp_path / "rules.json"
    dynamic_security(rules, "raw/+", "text/+", "kept/+", "sensors/#", "tidegate/replies/#")
    open_to_mosquitto(rules)
    rules.chmod(0o666)
    broker = Mosquitto(tmp_path, f"plugin {dynamic_security_plugin()}\nplugin_opt_config_file {rules}")
    broker._config.write_text(f"per_listener_settings false\n{broker._config.read_text()}")
    broker.start()
    try:
        gateway = start_gateway(configuration(broker.port, upstream={"protocol": protocol}))
        assert plant(gateway)["state"] == "up"
        assert plant(gateway)["problem"] == "the broker refused the subscriptions shared/+"
        assert gateway.text.count("the broker refused the subscriptions shared/+") == 1
        device = Device(broker.port)
        async with browser(gateway) as client:
            await client.ask(type="subscribe", room="#")
            device.publish("raw/x", "1")
            assert (await client.messages(1))[0]["room"] == "raw/x"
            device.stop()
            await asyncio.to_thread(allow, broker, "shared/+")  # mosquitto ends the connections that this concerns
            await until(lambda: plant(gateway) == {"state": "up"}, "it is accepted")
            device = Device(broker.port)
            device.publish("shared/x", "2", qos=1)
            assert (await client.messages(1))[0]["room"] == "shared/x"
            device.stop()
    finally:
        broker.stop()


async def test_a_refused_subscription_is_asked_for_again_on_the_same_connection(
    between: Proxy, device: Device, start_gateway: Start
) -> None:
    refused = threading.Event()

    def refuse_once(direction: str, kind: int, packet: bytes) -> bytes:
        if (direction, kind) != ("down", SUBACK) or refused.is_set():
            return packet
        refused.set()
        return packet[:-1] + b"\x87"

    between.alter = refuse_once
    gateway = start_gateway(configuration(between.port, routes=[{"topic": "raw/{x}", "room": "raw/{x}"}]))
    await until(lambda: "the broker has accepted all subscriptions now" in gateway.text, "it asks again")
    assert "the broker refused the subscriptions raw/+" in gateway.text
    assert plant(gateway) == {"state": "up"}
    assert between.accepted == 1
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="#")
        device.publish("raw/x", "1")
        assert (await client.messages(1))[0]["room"] == "raw/x"


async def test_a_session_that_is_taken_over_is_named_and_left_alone_for_longer(
    between: Proxy, start_gateway: Start
) -> None:
    """As MQTT 5 has it (§3.1.4); mosquitto 2.0.11 only closes the connection, so the proxy says it."""
    upstream = {"client_id": "gate-1", "reconnect_min_seconds": 0.05, "reconnect_max_seconds": 1}
    gateway = start_gateway(configuration(between.port, upstream=upstream))
    taken_over = bytes((0xE0, 1, 0x8E))
    between.alter = lambda way, kind, packet: taken_over if (way, kind) == ("down", PUBACK) else packet
    async with browser(gateway) as client:
        await client.say(type="publish", room="sites/a/b/commands", data=1)
        assert await notice(client) == "down"
        between.pass_all()
        assert await notice(client) == "up"
    assert gateway.text.count("taken over by another client with the same client id (gate-1)") == 1


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_broker_that_closes_the_session_without_a_word_makes_the_client_id_suspect(
    broker: Mosquitto, start_gateway: Start, protocol: str
) -> None:
    upstream = {"client_id": "gate-1", "protocol": protocol, "reconnect_max_seconds": 5}
    gateway = start_gateway(configuration(broker.port, upstream=upstream))
    for number in range(2):
        await until(partial(said_times, gateway, "is up", number + 1), "it is up")
        other = paho.Client(CallbackAPIVersion.VERSION2, "gate-1", reconnect_on_failure=False)
        other.connect("127.0.0.1", broker.port)
        other.loop_start()
        await until(partial(said_times, gateway, "is down", number + 1), "it loses the session")
        other.loop_stop()
    assert "does another client have the client id gate-1?" in gateway.text
    await until(lambda: plant(gateway) == {"state": "up"}, "it comes back by itself")


async def test_two_gateways_with_one_client_id_dont_fight_at_full_speed(
    broker: Mosquitto, start_gateway: Start
) -> None:
    upstream = {"client_id": "gate-1", "reconnect_min_seconds": 0.01, "reconnect_max_seconds": 10}
    started = [start_gateway(configuration(broker.port, upstream=upstream), ready=False) for _ in range(2)]
    suspect = "does another client have the client id gate-1?"
    await until(lambda: all(suspect in gateway.text for gateway in started), "both suspect the other", 60)
    assert sum(gateway.text.count("upstream plant is up") for gateway in started) < 40


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_too_large_a_message_of_a_device_is_dropped_and_the_connection_lives_on(
    broker: Mosquitto, device: Device, start_gateway: Start, protocol: str
) -> None:
    upstream = {"protocol": protocol, "maximum_packet_bytes": "2 KiB"}
    gateway = start_gateway(configuration(broker.port, upstream=upstream))
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="#")
        device.publish("sensors/a/b/c", '"' + "x" * 5000 + '"', qos=1)
        device.publish("sensors/a/b/c", "2", qos=1)
        assert (await client.messages(1))[0]["data"] == 2
    assert "is down" not in gateway.text
    dropped = "dropped a message of 'sensors/a/b/c': 5002 bytes, expected at most 2048" in gateway.text
    assert dropped is (protocol == "3.1.1")  # a broker of MQTT 5 knows, and doesn't send it
    count = "1.0" if dropped else "0.0"
    assert f'tidegate_oversized_messages_total{{upstream="plant"}} {count}' in httpx.get(f"{gateway.url}/metrics").text


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_less_quality_of_service_than_asked_is_said_and_works(
    tmp_path: Path, start_gateway: Start, protocol: str
) -> None:
    lowest = 0 if protocol == "5" else 1
    with mosquitto(tmp_path, f"max_qos {lowest}") as broker:
        routes = [
            {"topic": "a/{x}", "room": "a/{x}", "qos": 2},
            {"topic": "b/{x}", "room": "b/{x}", "direction": "to_device", "qos": 1},
        ]
        gateway = start_gateway(configuration(broker.port, routes=routes, upstream={"protocol": protocol}))
        assert plant(gateway)["state"] == "up"
        assert f"a/+ (QoS {lowest} of 2)" in plant(gateway)["problem"]
        assert f"a/+ (QoS {lowest} of 2)" in gateway.text
        device = Device(broker.port)
        device.subscribe("b/#")
        async with browser(gateway) as client:
            await client.ask(type="subscribe", room="#")
            device.publish("a/x", "1")
            assert (await client.messages(1))[0]["data"] == 1
            assert (await client.ask(type="publish", room="b/x", data=1))["type"] == "ack"
            assert (await asyncio.to_thread(device.received, 1))[0].payload == b"1"
        device.stop()
        assert "is down" not in gateway.text.partition("upstream plant is up")[2]
