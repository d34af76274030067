"""What brokers do wrong: said in the log and in `/readyz`, told to clients, and survived without a restart."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.integration.conftest import Browser, Device, browser
from tests.proxy import PUBACK, PUBCOMP, SUBACK, Proxy, proxy, swallowing
from tests.real import GatewayProcess, Mosquitto, configuration, mosquitto, wait_until

Start = Callable[..., GatewayProcess]


@pytest.fixture
def between(broker: Mosquitto) -> Iterator[Proxy]:
    """A proxy in front of the broker."""
    with proxy(broker.port) as running:
        yield running


def plant(gateway: GatewayProcess) -> dict[str, Any]:
    """What `/readyz` says of the upstream."""
    found: dict[str, Any] = httpx.get(f"{gateway.url}/readyz").json()["upstreams"]["plant"]
    return found


async def until(condition: Callable[[], Any], what: str, deadline_seconds: float = 20.0) -> Any:
    return await asyncio.to_thread(wait_until, condition, what, deadline_seconds)


def descriptors(gateway: GatewayProcess) -> int:
    """How many files and sockets it has open."""
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


def said_times(gateway: GatewayProcess, what: str, times: int) -> bool:
    return gateway.text.count(f"upstream plant {what}") == times


async def notice(client: Browser) -> str:
    """The next notice's state."""
    while (heard := await client.hear())["type"] != "upstream":
        pass
    assert heard == {"type": "upstream", "name": "plant", "state": heard["state"]}
    return str(heard["state"])


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
        assert "no sign of life within the keep-alive of 6 s" in plant(gateway)["problem"]
        assert (await error_or_ack)["code"] == "upstream_timeout"
        await until(lambda: "timed out" in plant(gateway)["problem"].lower(), "new connections aren't answered either")
        between.thaw()
        await until(lambda: plant(gateway) == {"state": "up"}, "it recovers")
        assert (await client.ask(type="publish", room="sites/a/b/commands", data=1))["type"] == "ack"


def open_to_mosquitto(*paths: Path) -> None:
    """mosquitto gives up root before it reads some files."""
    for path in paths:
        path.chmod(0o644)
        for parent in path.parents:
            if parent.owner() == path.owner() and parent not in (Path("/"), Path("/tmp")):
                parent.chmod(0o755)


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


def dynamic_security(path: Path, *allowed: str) -> None:
    """Write mosquitto's rules: an administrator, and everyone else subscribes to what is allowed."""
    salt, rounds = os.urandom(12), 101
    password = hashlib.pbkdf2_hmac("sha512", b"admin", salt, rounds)
    everything = [{"acltype": kind, "topic": "#", "allow": True} for kind in ("publishClientSend", "subscribePattern")]
    some = [{"acltype": "subscribePattern", "topic": topic, "allow": True} for topic in allowed]
    rules = {
        "defaultACLAccess": {
            "publishClientSend": True,
            "publishClientReceive": True,
            "subscribe": False,
            "unsubscribe": True,
        },
        "clients": [
            {
                "username": "admin",
                "password": base64.b64encode(password).decode(),
                "salt": base64.b64encode(salt).decode(),
                "iterations": rounds,
                "roles": [{"rolename": "admin"}],
            }
        ],
        "groups": [{"groupname": "anyone", "roles": [{"rolename": "anyone"}]}],
        "roles": [
            {
                "rolename": "admin",
                "acls": [*everything, {"acltype": "publishClientSend", "topic": "$CONTROL/#", "allow": True}],
            },
            {"rolename": "anyone", "acls": some},
        ],
        "anonymousGroup": "anyone",
    }
    path.write_text(json.dumps(rules))


def allow(broker: Mosquitto, topic: str) -> None:
    """Change mosquitto's rules while it runs."""
    admin = paho.Client(CallbackAPIVersion.VERSION2)
    admin.username_pw_set("admin", "admin")
    admin.connect("127.0.0.1", broker.port)
    admin.loop_start()
    command = {
        "command": "addRoleACL",
        "rolename": "anyone",
        "acltype": "subscribePattern",
        "topic": topic,
        "allow": True,
        "priority": 0,
    }
    admin.publish("$CONTROL/dynamic-security/v1", json.dumps({"commands": [command]}), qos=1).wait_for_publish(10)
    admin.disconnect()
    admin.loop_stop()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_refused_subscription_is_named_while_the_others_work(
    tmp_path: Path, start_gateway: Start, protocol: str
) -> None:
    rules = tmp_path / "rules.json"
    dynamic_security(rules, "raw/+", "text/+", "sensors/#")
    open_to_mosquitto(rules)
    rules.chmod(0o666)
    plugin = "plugin /usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so"
    broker = Mosquitto(tmp_path, f"{plugin}\nplugin_opt_config_file {rules}")
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
        assert "taken over by another client with the same client id (gate-1)" in plant(gateway)["problem"]
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
    assert "does another client have the client id gate-1?" in plant(gateway)["problem"]
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
async def test_too_large_a_message_to_a_device_is_refused_and_the_connection_lives_on(
    tmp_path: Path, start_gateway: Start, protocol: str
) -> None:
    with mosquitto(tmp_path) as broker:
        broker.stop()
        broker._config.write_text(f"max_packet_size 2000\n{broker._config.read_text()}")
        broker.start()
        upstream = {"protocol": protocol, "maximum_packet_bytes": "16 MiB" if protocol == "5" else 2000}
        gateway = start_gateway(configuration(broker.port, upstream=upstream))
        async with browser(gateway) as client:
            answer = await client.ask(type="publish", room="sites/a/b/commands", data="x" * 3000)
            assert (answer["type"], answer["code"]) == ("error", "upstream_refused")
            assert "at most 2000" in answer["message"]
            assert (await client.ask(type="publish", room="sites/a/b/commands", data="x"))["type"] == "ack"
        assert plant(gateway) == {"state": "up"}
        assert "is down" not in gateway.text


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


@pytest.mark.parametrize("swallowed", ["PUBACK", "PUBCOMP"])
async def test_what_the_broker_never_acknowledges_times_out_and_the_rest_is_answered_by_its_id(
    between: Proxy, device: Device, start_gateway: Start, swallowed: str
) -> None:
    kind, room, data = {
        "PUBACK": (PUBACK, "sites/a/b/commands", {"n": 1}),
        "PUBCOMP": (PUBCOMP, "firmware/x", "eA=="),
    }[swallowed]
    gateway = start_gateway(configuration(between.port, upstream={"acknowledge_timeout_seconds": 1}))
    async with browser(gateway) as client:
        between.alter = swallowing("down", kind)
        for number in range(3):
            await client.say(type="publish", room=room, data=data, binary=swallowed == "PUBCOMP", id=number)
        await client.say(type="publish", room="shared/x", data=1, id="qos 0")
        answers = {answer["id"]: answer for answer in [await client.hear() for _ in range(4)]}
        assert answers["qos 0"]["type"] == "ack"
        assert [answers[number]["code"] for number in range(3)] == ["upstream_timeout"] * 3
        between.pass_all()
        assert (await client.ask(type="publish", room=room, data=data, binary=swallowed == "PUBCOMP"))["type"] == "ack"


@pytest.mark.parametrize(("room", "binary"), [("sites/a/b/commands", False), ("firmware/x", True)])
async def test_many_in_flight_are_each_answered_by_their_own_id(
    broker: Mosquitto, device: Device, start_gateway: Start, room: str, binary: bool
) -> None:
    gateway = start_gateway(configuration(broker.port, limits={"messages_burst": 1000, "messages_per_second": 1000}))
    device.subscribe("#")
    async with browser(gateway) as client:
        for number in range(200):
            await client.say(type="publish", room=room, data="eA==", binary=binary, id=number)
        answers = [await client.hear() for _ in range(200)]
    assert [answer["type"] for answer in answers] == ["ack"] * 200
    assert sorted(answer["id"] for answer in answers) == list(range(200))
    wanted = [m for m in await asyncio.to_thread(device.received, 201) if m.topic != "tidegate/status"]
    assert len(wanted) == 200
    assert "is down" not in gateway.text


async def test_a_key_that_comes_again_reaches_the_device_once(
    between: Proxy, device: Device, start_gateway: Start
) -> None:
    gateway = start_gateway(configuration(between.port, upstream={"acknowledge_timeout_seconds": 1}))
    device.subscribe("commands/#", 1)
    command = {"type": "publish", "room": "sites/a/b/commands", "data": {"switch": True}, "key": "k-1"}
    async with browser(gateway) as client:
        await client.say(**command, id=1)
    async with browser(gateway) as client:  # its connection was lost, so it asks again
        assert (await client.ask(**command))["type"] == "ack"
        other = await client.ask(**{**command, "data": 2})
        assert (other["code"], "key" in other["message"]) == ("bad_message", True)
        url = f"{gateway.url}/publish?room=sites/a/b/commands"
        again = httpx.post(url, json={"switch": True}, headers={"Idempotency-Key": "k-1"})
        assert again.status_code == 200
        between.alter = swallowing("down", PUBACK)
        for _ in range(2):
            assert (await client.ask(**{**command, "key": "k-2"}))["code"] == "upstream_timeout"
        between.refuse()
        assert await notice(client) == "down"
        assert (await client.ask(**{**command, "key": "k-3"}))["code"] == "upstream_unavailable"
        between.pass_all()
        between.serve()
        assert await notice(client) == "up"
        assert (await client.ask(**{**command, "key": "k-3"}))["type"] == "ack"
    assert httpx.post(url, json=1, headers={"Idempotency-Key": "x" * 65}).status_code == 400
    device.publish("commands/end/end", "end", qos=1)
    got = await asyncio.to_thread(device.received, 4)
    assert [message.payload for message in got] == [b'{"switch":true}'] * 3 + [b"end"]
    with contextlib.suppress(IndexError):
        raise AssertionError(device._received[4])
