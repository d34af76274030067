"""Devices that speak CBOR, MessagePack, Protocol Buffers and Sparkplug B; a browser gets JSON of all of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import httpx
import ormsgpack
import pytest

from bridges.codec_protobuf import protobuf_codec
from tests.descriptors import descriptors
from tests.integration.conftest import Browser, Device, browser
from tests.real import GatewayProcess, Mosquitto, configuration, mosquitto, wait_until
from tests.sparkplug import birth, payload

NODE = "spBv1.0/hall/{type}/{node}"
ROUTES = [
    {"topic": "cbor/{d}", "room": "cbor/{d}", "payload": "cbor", "direction": "both"},
    {"topic": "msgpack/{d}", "room": "msgpack/{d}", "payload": "msgpack", "direction": "both"},
    {
        "topic": "protobuf/{d}",
        "room": "protobuf/{d}",
        "payload": {"protobuf": {"descriptor_file": "plant.desc", "message": "plant.Reading"}},
        "direction": "both",
    },
    {"topic": "picked/{d}", "room": "picked/{d}", "payload": "cbor", "transform": "{temperature: t, unit: 'C'}"},
    {"topic": "bad/{d}", "room": "bad/cbor/{d}", "payload": "cbor"},
    {"topic": "bad/{d}", "room": "bad/any/{d}"},
    {"topic": f"{NODE}/{{device}}", "room": "plants/{node}/{device}/{metric...}", "payload": "sparkplug"},
    {
        "topic": f"{NODE}/{{device}}",
        "room": "plants/{node}",
        "payload": "sparkplug",
        "presence": {"member": "{device}"},
        "last": False,
    },
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("payloads") / "gateway"
    folder.mkdir()
    (folder / "plant.desc").write_bytes(descriptors())
    config = configuration(
        broker.port,
        routes=ROUTES,
        access=[{"roles": ["*"], "subscribe": ["#"], "publish": ["#"], "presence": ["#"]}],
        namespaces={"closed": {"routes": [{"topic": "bad/{d}", "room": "bad/{d}", "payload": "msgpack"}]}},
    )
    with GatewayProcess(folder, config) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def device(broker: Mosquitto) -> Iterator[Device]:
    running = Device(broker.port)
    yield running
    running.stop()


async def heard(client: Browser, device: Device, topic: str, raw: bytes) -> Any:
    """What a browser is told of what a device publishes."""
    device.publish(topic, raw, 1)
    (message,) = await client.messages(1)
    return message["data"]


READING = protobuf_codec(descriptors(), "plant.Reading", preserving_proto_field_name=False)


async def test_a_browser_gets_json_of_every_format_and_devices_get_their_own(
    gateway: GatewayProcess, device: Device
) -> None:
    device.subscribe("cbor/b")
    device.subscribe("msgpack/b")
    device.subscribe("protobuf/b")
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="#")
        assert await heard(client, device, "cbor/a", cbor2.dumps({"t": 21.5, 1: b"\x01"})) == {"t": 21.5, "1": "AQ=="}
        assert await heard(client, device, "msgpack/a", ormsgpack.packb({"t": [1, None]})) == {"t": [1, None]}
        reading = await heard(client, device, "protobuf/a", READING.encode({"tempC": 21.5, "serial": 2**63}))
        assert (reading["tempC"], reading["serial"], reading["label"]) == (21.5, "9223372036854775808", "")
        picked = await heard(client, device, "picked/a", cbor2.dumps({"t": 21, "rssi": -70}))
        assert picked == {"temperature": 21, "unit": "C"}
        for room in ("cbor/b", "msgpack/b", "protobuf/b"):
            assert (await client.ask(type="publish", room=room, data={"label": "on"}))["type"] == "ack"
        raw = {message.topic: bytes(message.payload) for message in device.received(3)}
        assert cbor2.loads(raw["cbor/b"]) == ormsgpack.unpackb(raw["msgpack/b"]) == {"label": "on"}
        assert raw["protobuf/b"] == READING.encode({"label": "on"})
        refused = await client.ask(type="publish", room="protobuf/b", data={"nope": 1})
        assert refused["code"] == "bad_message"


async def test_what_doesnt_decode_is_seen_by_operators_and_harms_nothing(
    gateway: GatewayProcess, device: Device
) -> None:
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="bad/#")
        assert await heard(client, device, "bad/a", b"\xff\xfe") == "//4="
    (bad,) = gateway.get("/problems").json()["bad_payloads"]
    assert (bad["route"], bad["topic"], bad["payload"], bad["head"]) == (4, "bad/a", "cbor", "fffe")
    assert "dropped a payload of 'bad/a'" in gateway.text
    metrics = gateway.get("/metrics").text
    assert 'tidegate_bad_payloads_total{namespace="default",payload="cbor"} 1.0' in metrics
    assert 'tidegate_bad_payloads_total{namespace="closed",payload="msgpack"} 1.0' in metrics


def test_problems_are_for_who_may_read_all_rooms(gateway: GatewayProcess) -> None:
    assert gateway.get("/n/closed/problems").json()["code"] == "forbidden"
    foreign = httpx.get(f"{gateway.url}/problems", headers={"Origin": "https://elsewhere.example"})
    assert foreign.status_code == 403


async def test_births_data_and_deaths_of_sparkplug_are_presence_and_rooms(
    gateway: GatewayProcess, device: Device
) -> None:
    node = "spBv1.0/hall/{}/edge"
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="plants/edge")
        await client.ask(type="subscribe", room="plants/edge/pump/#")
        device.publish(node.format("NBIRTH"), birth(7), 1)
        device.publish(f"{node.format('DBIRTH')}/pump", birth(None, ("Motor/Rpm", 1, "Double", 1.0), seq=1), 1)
        device.publish(f"{node.format('DDATA')}/pump", payload((1, None, 2.0), seq=2).SerializeToString(), 1)
        told = [await client.hear() for _ in range(5)]
        assert ("joined", {"device": "pump"}) in [(each["type"], each.get("who")) for each in told]
        motor = [each["data"] for each in told if each.get("room") == "plants/edge/pump/Motor/Rpm"]
        assert motor == [{"value": 1, "datatype": "Double"}, {"value": 2, "datatype": "Double"}]
        whole = [each["data"]["type"] for each in told if each.get("room") == "plants/edge" and "data" in each]
        assert whole == ["DBIRTH", "DDATA"]
        device.publish(node.format("NDEATH"), birth(6), 1)  # of a session before
        device.publish(node.format("NDEATH"), birth(7), 1)
        left = await client.hear()
        assert (left["type"], left["room"], left["who"]) == ("left", "plants/edge", {"device": "pump"})
    (last,) = gateway.get("/last?room=plants/edge/pump/Motor/Rpm").json()["last"]
    assert (last["data"]["value"], last["topic"]) == (2, "spBv1.0/hall/DDATA/edge/pump")
    stale = 'tidegate_drops_total{cause="sparkplug_stale_death",namespace="default"} 1.0'
    wait_until(lambda: stale in gateway.get("/metrics").text, "the stale death is counted")
