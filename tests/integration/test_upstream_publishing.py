"""What browsers send to devices: answered once the broker has it or not, by its id, and not sent twice for one key."""

import asyncio
import contextlib
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import Device, browser
from tests.integration.faults import Start, notice, open_to_mosquitto, plant, until
from tests.proxy import PUBACK, PUBCOMP, PUBREC, Proxy, swallowing
from tests.real import Mosquitto, configuration, mosquitto


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


@pytest.mark.parametrize(("room", "binary"), [("sites/a/b/commands", False), ("firmware/x", True)])
async def test_what_the_broker_refuses_is_told_to_who_sent_it(
    tmp_path: Path, start_gateway: Start, room: str, binary: bool
) -> None:
    """With MQTT 5; 3.1.1 has no way to say so, and brokers acknowledge what they throw away."""
    rules = tmp_path / "acl"
    rules.write_text("topic read #\n")
    open_to_mosquitto(rules)
    with mosquitto(tmp_path, f"acl_file {rules}") as broker:
        gateway = start_gateway(configuration(broker.port))
        async with browser(gateway) as client:
            answer = await client.ask(type="publish", room=room, data="eA==", binary=binary)
        assert (answer["code"], "Not authorized" in answer["message"]) == ("upstream_refused", True)
        assert "is down" not in gateway.text


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_exchanges_that_a_lost_connection_broke_off_dont_use_up_the_brokers_window(
    between: Proxy, device: Device, start_gateway: Start, protocol: str
) -> None:
    """mosquitto takes 20 QoS 2 messages at a time, and remembers those whose PUBREL it waits for with the session."""
    upstream = {"session": "persistent", "client_id": "gate-1", "protocol": protocol}
    gateway = start_gateway(configuration(between.port, upstream=upstream))
    device.subscribe("firmware/#")
    send = {"type": "publish", "room": "firmware/x", "data": "eA==", "binary": True}
    async with browser(gateway) as client:
        between.alter = swallowing("down", PUBREC)
        for number in range(20):
            await client.say(**send, id=number)
        await until(lambda: between.seen.count(("down", PUBREC)) == 20, "the broker has them")
        between.cut()
        between.pass_all()
        assert {(await client.hear()).get("code", "notice") for _ in range(21)} == {"upstream_timeout", "notice"}
        await until(lambda: plant(gateway) == {"state": "up"}, "it is back")
        assert (await client.ask(**send))["type"] == "ack"
    await asyncio.to_thread(device.received, 21)
