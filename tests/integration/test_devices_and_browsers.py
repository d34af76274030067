"""The main job: values of real devices reach real clients, and commands the devices."""

import asyncio
import subprocess
from collections.abc import Callable

import httpx
import orjson
import pytest
from httpx_sse import aconnect_sse

from tests.integration.conftest import Browser, Device, browser
from tests.real import GatewayProcess, Mosquitto, configuration

COUNT = 500


async def test_values_arrive_once_in_order_and_in_the_right_room_over_websocket(
    gateway: GatewayProcess, device: Device
) -> None:
    async with browser(gateway) as one, browser(gateway) as other:
        await one.ask(type="subscribe", room="sites/oslo/fan-4/power")
        await one.ask(type="subscribe", room="sites/oslo/#")
        await other.ask(type="subscribe", room="sites/+/+/heat")
        for number in range(COUNT):
            device.publish("sensors/oslo/fan-4/power", str(number), qos=number % 3)
            device.publish("sensors/lyon/oven-1/heat", str(number), qos=1)
        got = await one.messages(COUNT)
        assert sorted(message["data"] for message in got) == list(range(COUNT))
        assert {(message["room"], message["topic"]) for message in got} == {
            ("sites/oslo/fan-4/power", "sensors/oslo/fan-4/power")
        }
        heat = await other.messages(COUNT)
        assert [message["data"] for message in heat] == list(range(COUNT))
        assert {message["room"] for message in heat} == {"sites/lyon/oven-1/heat"}


async def test_values_arrive_once_and_in_order_over_sse(gateway: GatewayProcess, device: Device) -> None:
    url = f"{gateway.url}/sse?room=sites/oslo/fan-4/power&room=sites/%2B/oven-1/heat"
    async with httpx.AsyncClient(timeout=20) as client, aconnect_sse(client, "GET", url) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-store"
        assert stream.response.headers["x-accel-buffering"] == "no"
        events = stream.aiter_sse()
        named = [await anext(events) for _ in range(3)]
        assert [event.event for event in named] == ["welcome", "subscribed", "subscribed"]
        for number in range(COUNT):
            device.publish("sensors/oslo/fan-4/power", str(number), qos=1)
            device.publish("sensors/lyon/oven-1/heat", str(number), qos=1)
        got = [await anext(events) for _ in range(2 * COUNT)]
        assert {event.event for event in got} == {"message"}
        for room in ("sites/oslo/fan-4/power", "sites/lyon/oven-1/heat"):
            values = [orjson.loads(event.data) for event in got]
            assert [value["data"] for value in values if value["room"] == room] == list(range(COUNT))
        assert [event.id for event in got] == [orjson.loads(event.data)["cursor"] for event in got]


async def test_mosquitto_pub_is_a_device_too(gateway: GatewayProcess, broker: Mosquitto) -> None:
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="raw/x")
        command = ["mosquitto_pub", "-p", str(broker.port), "-t", "raw/x", "-m", "21.5 °C"]
        await asyncio.to_thread(subprocess.run, command, check=True)
        (message,) = await client.messages(1)
        assert message["data"] == "21.5 °C"


@pytest.mark.parametrize(
    ("room", "data", "topic", "payload", "qos"),
    [
        ("sites/oslo/fan-4/commands", {"switch": True}, "commands/oslo/fan-4", b'{"switch":true}', 1),
        ("firmware/fan-4", "AP8=", "firmware/fan-4", b"\x00\xff", 2),
        ("shared/x", [1, "ü"], "shared/x", '[1,"ü"]'.encode(), 0),
    ],
)
async def test_a_command_reaches_the_device_with_the_routes_quality_of_service(
    gateway: GatewayProcess, device: Device, room: str, data: object, topic: str, payload: bytes, qos: int
) -> None:
    device.subscribe("#", qos=2)
    async with browser(gateway) as client:
        assert (await client.ask(type="publish", room=room, data=data))["type"] == "ack"
    commands = [message for message in device.received(2) if message.topic == topic]
    assert [(message.payload, message.qos) for message in commands] == [(payload, qos)]


async def test_a_command_over_http_reaches_the_device(gateway: GatewayProcess, device: Device) -> None:
    device.subscribe("commands/#")
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post("/publish?room=sites/oslo/fan-4/commands", json={"switch": False})
        assert (answer.status_code, answer.json()["type"]) == (200, "ack")
        (message,) = device.received(1)
        assert message.payload == b'{"switch":false}'
        answer = await client.post("/publish?room=sites/oslo/fan-4/power", json=1)
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "read_only"


async def test_what_one_browser_writes_into_a_shared_room_all_get_once(gateway: GatewayProcess) -> None:
    async with browser(gateway) as one, browser(gateway) as other:
        for client in (one, other):
            await client.ask(type="subscribe", room="shared/x")
        for number in range(3):
            await one.say(type="publish", room="shared/x", data=number)
        got = await other.messages(3)
        assert [message["data"] for message in got] == [0, 1, 2]


async def test_last_values_come_at_once_on_every_way_in(gateway: GatewayProcess, device: Device) -> None:
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="raw/#")
        for value in ("1", "2"):
            device.publish("raw/a", value, qos=1)
        await client.messages(2)
        answer = await client.ask(type="subscribe", room="raw/a")
        assert [(message["room"], message["data"]) for message in answer["last"]] == [("raw/a", 2)]
        assert answer["recovered"] is False
        assert answer["cursor"] == answer["last"][0]["cursor"]
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        last = (await http.get("/last?room=raw/%23")).json()
        assert [message["data"] for message in last["last"]] == [2]
        async with aconnect_sse(http, "GET", "/sse?room=raw/a") as stream:
            events = stream.aiter_sse()
            await anext(events)
            subscribed = orjson.loads((await anext(events)).data)
            assert [message["data"] for message in subscribed["last"]] == [2]


async def test_retained_messages_are_marked(
    broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess]
) -> None:
    device.publish("raw/kept", "5", qos=1, retain=True)
    gateway = start_gateway(configuration(broker.port))
    async with browser(gateway) as client:
        answer = await client.ask(type="subscribe", room="raw/kept")
        last = answer["last"] or await client.messages(1)
        assert [(message["data"], message["retained"]) for message in last] == [(5, True)]
        device.publish("raw/kept", "6", qos=1, retain=True)
        (message,) = await client.messages(1)
        assert (message["data"], "retained" in message) == (6, False)


async def test_a_payload_that_isnt_what_the_route_says_harms_nothing(gateway: GatewayProcess, device: Device) -> None:
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="text/x")
        device.publish("text/x", b"\xff\xfe", qos=1)
        device.publish("text/x", "fine", qos=1)
        (message,) = await client.messages(1)
        assert message["data"] == "fine"
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        assert 'tidegate_drops_total{cause="bad_payload",namespace="default"} 1.0' in (await http.get("/metrics")).text


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_message_comes_once_though_subscriptions_overlap(
    broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess], protocol: str
) -> None:
    routes = [
        {"topic": "plant/{a}/state", "room": "state/{a}", "qos": 1},
        {"topic": "plant/x/{rest...}", "room": "all/{rest...}"},
        {"topic": "plant/{a}/{b}", "room": "any/{a}/{b}"},
    ]
    gateway = start_gateway(configuration(broker.port, routes=routes, upstream={"protocol": protocol}))
    async with browser(gateway) as client:
        for room in ("state/#", "all/#", "any/#"):
            await client.ask(type="subscribe", room=room)
        for number in range(20):
            device.publish("plant/x/state", str(number), qos=1)
        got = await client.messages(60)
        for room in ("state/x", "all/state", "any/x/state"):
            assert [message["data"] for message in got if message["room"] == room] == list(range(20))
        await _nothing_more(client)


async def _nothing_more(client: Browser) -> None:
    """Whatever was under way comes before the answer to a ping."""
    await client.say(type="ping", id="last")
    assert (await client.hear())["type"] == "pong"
