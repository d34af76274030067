"""Two namespaces with rooms of the same names on one gateway and one broker: nothing crosses."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from httpx_sse import EventSource, aconnect_sse
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.integration.conftest import Browser, Device
from tests.integration.test_program import run_to_the_end
from tests.real import DEADLINE_SECONDS, TIDEGATE, GatewayProcess, Mosquitto, Running, configuration, wait_until

A = ""
B = "/n/factory-b"
ROUTES = [
    {"topic": "a/{x}", "room": "rooms/{x}"},
    {"topic": "shared/{x}", "room": "shared/{x}", "qos": 1},
    {"topic": "commands-a/{x}", "room": "devices/{x}", "direction": "to_device", "qos": 1},
]
FACTORY_B = {
    "routes": [
        {"topic": "b/{x}", "room": "rooms/{x}"},
        {"topic": "shared/{x}", "room": "shared/{x}"},
        {"topic": "commands-b/{x}", "room": "devices/{x}", "direction": "to_device", "qos": 1},
    ],
    "rooms": [{"room": "chat/#", "history": {"messages": 10}}],
    "limits": {"message_bytes": 1000},
}


def two(port: int, **changes: Any) -> dict[str, Any]:
    kept = [{"room": "chat/#", "history": {"messages": 10}}]
    both = {"routes": ROUTES, "rooms": kept, "namespaces": {"factory-b": FACTORY_B}}
    return configuration(port, **{**both, **changes})


@pytest.fixture(params=["direct", "plain"])
def gateway(tmp_path: Path, broker: Mosquitto, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    plain = request.param == "plain"
    with GatewayProcess(tmp_path / "gateway", two(broker.port), plain=plain) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def standing_gateway(plant: Mosquitto, start_shared: Callable[[dict[str, Any]], GatewayProcess]) -> GatewayProcess:
    return start_shared(two(plant.port))


@asynccontextmanager
async def browser(gateway: GatewayProcess, path: str) -> AsyncIterator[tuple[Browser, dict[str, Any]]]:
    """A client of one namespace, and how it was welcomed."""
    url = f"ws://127.0.0.1:{gateway.port}{path}/ws"
    async with connect(url, subprotocols=[Subprotocol("tidegate.v1.json")]) as connection:
        client = Browser(connection)
        yield client, await client.hear()


class Stream:
    """An SSE client: the objects of its events, but `welcome`."""

    def __init__(self, source: EventSource) -> None:
        self._events = source.aiter_sse()

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            heard: dict[str, Any] = orjson.loads((await anext(self._events)).data)
        return heard if heard["type"] != "welcome" else await self.hear()


@asynccontextmanager
async def stream(http: httpx.AsyncClient, path: str, room: str, **headers: str) -> AsyncIterator[Stream]:
    async with aconnect_sse(http, "GET", f"{path}/sse", params={"room": room}, headers=headers) as source:
        yield Stream(source)


@pytest.fixture
async def http(gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        yield client


def values(messages: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(message["room"], message["data"]) for message in messages]


def metrics(gateway: GatewayProcess) -> str:
    return httpx.get(f"{gateway.url}/metrics").text


async def test_devices_messages_reach_the_rooms_of_the_namespaces_that_route_them(
    gateway: GatewayProcess, http: httpx.AsyncClient, device: Device
) -> None:
    async with (
        browser(gateway, A) as (a, _),
        browser(gateway, B) as (b, _),
        stream(http, A, "#") as stream_a,
        stream(http, B, "#") as stream_b,
    ):
        for client in (a, b):
            await client.ask(type="subscribe", room="#")
        for events in (stream_a, stream_b):
            assert (await events.hear())["last"] == []
        for topic, value in (("a/x", 1), ("b/x", 2), ("shared/x", 3)):
            device.publish(topic, str(value), qos=1)
        expected_a, expected_b = [("rooms/x", 1), ("shared/x", 3)], [("rooms/x", 2), ("shared/x", 3)]
        assert values(await a.messages(2)) == expected_a
        assert values(await b.messages(2)) == expected_b
        assert values([await stream_a.hear() for _ in range(2)]) == expected_a
        assert values([await stream_b.hear() for _ in range(2)]) == expected_b
        for path, expected in ((A, expected_a), (B, expected_b)):
            assert values((await http.get(f"{path}/last?room=%23")).json()["last"]) == expected


async def test_what_a_client_says_stays_in_its_namespace(gateway: GatewayProcess, http: httpx.AsyncClient) -> None:
    async with browser(gateway, A) as (a, _), browser(gateway, B) as (b, _), stream(http, A, "chat/#") as stream_a:
        await stream_a.hear()
        for client in (a, b):
            await client.ask(type="subscribe", room="chat/#")
        await b.ask(type="publish", room="chat/hall", data="over WebSocket")
        assert (await http.post(f"{B}/publish?room=chat/hall", json="over HTTP")).status_code == 200
        assert (await http.post(f"{A}/publish?room=chat/hall", json="in a")).status_code == 200
        assert values(await a.messages(1)) == [("chat/hall", "in a")]
        assert (await stream_a.hear())["data"] == "in a"
        last = (await http.get(f"{A}/last?room=chat/hall")).json()["last"]
        assert values(last) == [("chat/hall", "in a")]
        last = (await http.get(f"{B}/last?room=chat/hall")).json()["last"]
        assert values(last) == [("chat/hall", "over HTTP")]


async def test_last_values_are_those_of_the_namespace(
    gateway: GatewayProcess, http: httpx.AsyncClient, device: Device
) -> None:
    device.publish("b/x", "2", qos=1)
    wait_until(lambda: httpx.get(f"{gateway.url}{B}/last?room=rooms/x").json()["last"], "it is there")
    async with browser(gateway, A) as (a, _), browser(gateway, B) as (b, _):
        assert (await a.ask(type="subscribe", room="rooms/x"))["last"] == []
        assert values((await b.ask(type="subscribe", room="rooms/x"))["last"]) == [("rooms/x", 2)]
    async with stream(http, A, "rooms/x") as stream_a, stream(http, B, "rooms/x") as stream_b:
        assert (await stream_a.hear())["last"] == []
        assert values((await stream_b.hear())["last"]) == [("rooms/x", 2)]


async def test_commands_take_the_routes_of_the_namespace(
    gateway: GatewayProcess, http: httpx.AsyncClient, device: Device
) -> None:
    device.subscribe("commands-a/#")
    device.subscribe("commands-b/#")
    async with browser(gateway, B) as (b, _):
        assert (await b.ask(type="publish", room="devices/x", data=1))["type"] == "ack"
        assert (await http.post(f"{B}/publish?room=devices/x", json=2)).status_code == 200
        assert (await http.post(f"{A}/publish?room=devices/x", json=3)).status_code == 200
    got = [(message.topic, message.payload) for message in device.received(3)]
    assert got == [("commands-b/x", b"1"), ("commands-b/x", b"2"), ("commands-a/x", b"3")]


async def test_welcome_says_the_name_and_the_limits_of_the_namespace(gateway: GatewayProcess) -> None:
    for path, name, message_bytes in ((A, "default", 65_536), (B, "factory-b", 1000)):
        async with browser(gateway, path) as (_, welcome):
            assert (welcome["namespace"], welcome["limits"]["message_bytes"]) == (name, message_bytes)


async def test_a_cursor_of_one_namespace_is_useless_in_the_other(
    gateway: GatewayProcess, http: httpx.AsyncClient
) -> None:
    for path in (A, B):
        await http.post(f"{path}/publish?room=chat/x", json=path)
    cursor = (await http.get(f"{A}/last?room=chat/x")).json()["cursor"]
    async with browser(gateway, A) as (a, _):
        assert (await a.ask(type="subscribe", room="chat/x", since=cursor))["recovered"] is True
    async with browser(gateway, B) as (b, _):
        answer = await b.ask(type="subscribe", room="chat/x", since=cursor)
        assert (answer["recovered"], values(answer["last"])) == (False, [("chat/x", B)])
        assert answer["cursor"].partition("-")[0] != cursor.partition("-")[0]
    async with stream(http, B, "chat/x", **{"Last-Event-ID": cursor}) as events:
        subscribed = await events.hear()
        assert (subscribed["recovered"], values(subscribed["last"])) == (False, [("chat/x", B)])


async def test_sessions_and_what_they_are_told_are_counted_by_namespace(
    gateway: GatewayProcess, http: httpx.AsyncClient, device: Device
) -> None:
    async with browser(gateway, A) as (a, _), browser(gateway, B) as (b, _), browser(gateway, B) as (other, _):
        for client in (a, b, other):
            await client.ask(type="subscribe", room="#")
        device.publish("shared/x", "1", qos=1)
        for client in (a, b, other):
            await client.messages(1)
        assert (await http.get(f"{B}/last?room=a%2B")).status_code == 400
        text = metrics(gateway)
        for line in [
            'tidegate_sessions{namespace="default",transport="websocket"} 1.0',
            'tidegate_sessions{namespace="factory-b",transport="websocket"} 2.0',
            'tidegate_sessions{namespace="factory-b",transport="sse"} 0.0',
            'tidegate_deliveries_total{namespace="default",transport="websocket"} 1.0',
            'tidegate_deliveries_total{namespace="factory-b",transport="websocket"} 2.0',
            'tidegate_refusals_total{code="bad_message",namespace="factory-b"} 1.0',
            'tidegate_last_values{namespace="factory-b"} 1.0',
            'tidegate_device_messages_total{upstream="plant"} 1.0',
            "tidegate_device_bytes_total 1.0",
        ]:
            assert line in text
        assert 'tidegate_refusals_total{code="bad_message",namespace="default"}' not in text
    gone = 'tidegate_sessions{namespace="factory-b",transport="websocket"} 0.0'
    wait_until(lambda: gone in metrics(gateway), "the sessions end")


@pytest.mark.parametrize("path", ["/n/factory-c", "/n/default", "/n/Factory-B", "/n/factory-b/n/factory-b", "/nope"])
async def test_an_unknown_namespace_is_told_so_at_every_door(standing_gateway: GatewayProcess, path: str) -> None:
    requests = [("GET", "last?room=a"), ("GET", "sse?room=a"), ("GET", ""), ("GET", "healthz")]
    requests += [("POST", "publish?room=a")] if path.startswith("/n/") else []
    for method, endpoint in requests:
        answer = httpx.request(method, f"{standing_gateway.url}{path}/{endpoint}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_endpoint"), endpoint
        assert answer.headers["content-type"] == "application/problem+json"
    with pytest.raises(InvalidStatus) as caught:
        async with browser(standing_gateway, path):
            pass
    response = caught.value.response
    assert response.status_code == 404
    assert response.body is not None
    assert orjson.loads(response.body)["code"] == "no_such_endpoint"


async def test_a_namespace_serves_only_its_endpoints(gateway: GatewayProcess, http: httpx.AsyncClient) -> None:
    for method, endpoint, status in [("POST", "nope", 404), ("GET", "healthz", 404), ("GET", "publish?room=a", 405)]:
        assert (await http.request(method, f"{B}/{endpoint}")).status_code == status


async def test_messages_are_limited_as_the_namespace_says(gateway: GatewayProcess, http: httpx.AsyncClient) -> None:
    long = "x" * 2000
    assert (await http.post(f"{A}/publish?room=chat/x", json=long)).status_code == 200
    assert (await http.post(f"{B}/publish?room=chat/x", json=long)).json()["code"] == "message_too_large"
    async with browser(gateway, A) as (a, _), browser(gateway, B) as (b, _):
        assert (await a.ask(type="publish", room="chat/x", data=long))["type"] == "ack"
        await b.say(type="publish", room="chat/x", data=long)
        assert (await b.hear())["code"] == "message_too_large"
        assert (await b.hear())["type"] == "bye"


async def test_a_namespace_may_take_larger_messages_than_the_default_one(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    namespaces = {"factory-b": {"limits": {"message_bytes": "200 KiB"}}}
    gateway = start_gateway(two(broker.port, namespaces=namespaces))
    async with browser(gateway, B) as (b, _):
        assert (await b.ask(type="publish", room="chat/x", data="x" * 150_000))["type"] == "ack"


@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
async def test_each_namespace_counts_its_own_connections(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess], limit: str
) -> None:
    namespaces = {"factory-b": {"limits": {limit: 1}}}
    gateway = start_gateway(two(broker.port, namespaces=namespaces, limits={limit: 2}))
    async with browser(gateway, A), browser(gateway, A), browser(gateway, B):
        for path in (A, B):
            with pytest.raises(InvalidStatus) as caught:
                async with browser(gateway, path):
                    pass
            assert caught.value.response.status_code in (429, 503)


async def test_each_namespace_has_its_own_budgets_for_an_address(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    namespaces = {"factory-b": {"limits": {"messages_per_second": 0.001, "messages_burst": 1}}}
    gateway = start_gateway(two(broker.port, namespaces=namespaces))
    answers = [httpx.post(f"{gateway.url}{path}/publish?room=chat/x", json=1).status_code for path in (B, B, A)]
    assert answers == [200, 429, 200]


async def test_pages_from_elsewhere_are_refused_in_every_namespace(
    gateway: GatewayProcess, http: httpx.AsyncClient
) -> None:
    for path in (A, B):
        answer = await http.get(f"{path}/last?room=a", headers={"Origin": "https://elsewhere.example"})
        assert answer.json()["code"] == "origin_refused"


async def test_a_refusal_is_counted_once_at_every_door(gateway: GatewayProcess, http: httpx.AsyncClient) -> None:
    elsewhere = {"Origin": "https://elsewhere.example"}
    doors = [("GET", "/last"), ("GET", "/history"), ("GET", "/presence"), ("GET", "/sse")]
    doors += [("POST", "/publish"), ("POST", "/request"), ("POST", "/ticket")]
    for method, door in doors:
        answer = await http.request(method, f"{B}{door}?room=a", headers=elsewhere, json=1)
        assert answer.json()["code"] == "origin_refused"
    with pytest.raises(InvalidStatus):
        await connect(f"{gateway.url.replace('http', 'ws')}{B}/ws", additional_headers=elsewhere)
    refused = 'tidegate_refusals_total{code="origin_refused",namespace="factory-b"}'
    assert f"{refused} {len(doors) + 1}.0" in metrics(gateway)


async def test_streams_of_every_namespace_have_heartbeats(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(two(broker.port, heartbeat={"interval_seconds": 0.05}))
    for path in (A, B):
        with httpx.stream("GET", f"{gateway.url}{path}/sse?room=a", timeout=DEADLINE_SECONDS) as events:
            assert any(line == ":" for line in events.iter_lines())


async def test_namespaces_share_one_connection_to_the_broker_and_the_fewest_filters(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    start_gateway(two(broker.port))
    lines = (line.split("\t")[-1] for line in broker.text.splitlines() if "\t" in line and "(QoS" in line)
    subscribed = sorted(line for line in lines if not line.startswith("tidegate/replies/"))
    assert subscribed == ["a/+ (QoS 0)", "b/+ (QoS 0)", "shared/+ (QoS 1)"]
    assert broker.text.count("New client connected") == 1


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_message_comes_once_though_filters_of_namespaces_overlap(
    broker: Mosquitto, device: Device, start_gateway: Callable[..., GatewayProcess], protocol: str
) -> None:
    routes = [{"topic": "plant/{a}/state", "room": "state/{a}"}]
    namespaces = {"factory-b": {"routes": [{"topic": "plant/x/{rest...}", "room": "all/{rest...}"}]}}
    changes = {"routes": routes, "namespaces": namespaces, "upstream": {"protocol": protocol}}
    gateway = start_gateway(two(broker.port, **changes))
    async with browser(gateway, A) as (a, _), browser(gateway, B) as (b, _):
        for client in (a, b):
            await client.ask(type="subscribe", room="#")
        for number in range(10):
            device.publish("plant/x/state", str(number), qos=1)
        device.publish("plant/x/other", "-1", qos=1)
        device.publish("plant/y/state", "-2", qos=1)
        assert [message["data"] for message in await a.messages(11)] == [*range(10), -2]
        assert [message["data"] for message in await b.messages(11)] == [*range(10), -1]
    assert 'tidegate_device_messages_total{upstream="plant"} 12.0' in metrics(gateway)
    assert "unrouted" not in metrics(gateway)


async def test_every_namespace_is_told_that_the_gateway_shuts_down(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(two(broker.port))
    async with browser(gateway, A) as (a, _), browser(gateway, B) as (b, _):
        gateway.process.terminate()
        for client in (a, b):
            bye = await client.hear()
            assert (bye["type"], bye["code"]) == ("bye", "shutting_down")
    assert gateway.wait() == 0


def test_sub_and_pub_talk_to_a_namespace(gateway: GatewayProcess, tmp_path: Path) -> None:
    url = f"{gateway.url}{B}"
    command: list[str | Path] = [TIDEGATE, "sub", "chat/#", "--count", "1", "--url", url]
    with Running(command, tmp_path / "sub.log") as subscriber:
        subscribed = 'tidegate_sessions{namespace="factory-b",transport="websocket"} 1.0'
        wait_until(lambda: subscribed in metrics(gateway), "sub is connected")
        for address, data in ((gateway.url, "1"), (f"{url}/", "2")):
            ended = run_to_the_end("pub", "chat/x", data, "--url", address)
            assert (ended.returncode, ended.stderr) == (0, "")
        assert subscriber.wait() == 0
        assert json.loads(subscriber.text)["data"] == 2
    ended = run_to_the_end("pub", "chat/x", "1", "--url", f"{gateway.url}/n/factory-c")
    assert (ended.returncode, "no_such_endpoint" in ended.stderr) == (1, True)


def test_explain_asks_the_routes_of_a_namespace(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(orjson.dumps({"routes": ROUTES, "namespaces": {"factory-b": FACTORY_B}}).decode())
    ended = run_to_the_end("routes", "explain", "devices/x", "--namespace", "factory-b", "-c", path)
    assert "commands-b/x\n    namespaces.factory-b.routes[2]: " in ended.stdout
    ended = run_to_the_end("routes", "explain", "devices/x", "-c", path)
    assert "commands-a/x\n    routes[2]: " in ended.stdout
    ended = run_to_the_end("routes", "explain", "a/x", "--namespace", "factory-b", "-c", path)
    assert (ended.returncode, ended.stderr) == (1, "no route takes a/x\n")
    ended = run_to_the_end("routes", "explain", "a/x", "--namespace", "factory-c", "-c", path)
    expected = "tidegate: no namespace is called 'factory-c': expected default or factory-b\n"
    assert (ended.returncode, ended.stderr) == (1, expected)


def test_check_checks_the_routes_of_all_namespaces(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("namespaces:\n  factory-b:\n    routes:\n      - {topic: a, room: '{b}'}\n")
    ended = run_to_the_end("check", path)
    assert ended.returncode == 1
    assert f"{path}:4:20: namespaces.factory-b.routes[0].room: " in ended.stderr


def test_the_start_says_where_each_namespace_is(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(two(broker.port, routes=[]))
    assert "  namespace  factory-b: /n/factory-b/\n" in gateway.text
    assert "no routes" not in gateway.text
