"""Requests to real devices, by real brokers, over WebSocket and HTTP."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.integration.conftest import browser
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration, free_port, mosquitto, wait_until

ROUTES: list[dict[str, Any]] = [
    {"topic": "modern/{device}", "room": "modern/{device}", "direction": "to_device", "payload": "json", "qos": 1},
    {
        "topic": "old/{device}",
        "room": "old/{device}",
        "direction": "to_device",
        "payload": "json",
        "qos": 1,
        "reply": "old/{device}/reply",
    },
    {"topic": "raw/{device}", "room": "raw/{device}", "direction": "to_device", "payload": "bytes"},
    {"topic": "sensors/{device}", "room": "sensors/{device}"},
    {"topic": "{all...}", "room": "everything/{all...}"},
]


class Responder:
    """A device that keeps what it is asked, and answers when the test says so."""

    def __init__(self, port: int, topic: str, *, v5: bool) -> None:
        self.asked: list[Any] = []
        protocol = paho.MQTTv5 if v5 else paho.MQTTv311
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self._client.on_message = lambda _client, _data, message: self.asked.append(message)
        granted = threading.Event()
        self._client.on_subscribe = lambda *_: granted.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(topic, 1)
        assert granted.wait(DEADLINE_SECONDS)

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.asked) >= count, f"{count} requests reach the device")

    def answer(self, number: int, payload: bytes) -> None:
        """Answer one request as its protocol says."""
        asked = self.asked[number]
        given = asked.properties
        if given is None or not hasattr(given, "ResponseTopic"):
            self.publish(f"{asked.topic}/reply", payload)
            return
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = given.CorrelationData
        self._client.publish(given.ResponseTopic, payload, 1, properties=properties).wait_for_publish(DEADLINE_SECONDS)

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, 1).wait_for_publish(DEADLINE_SECONDS)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


Responders = Callable[..., Responder]


@pytest.fixture
def responder(broker: Mosquitto) -> Iterator[Responders]:
    started: list[Responder] = []

    def start(topic: str, *, v5: bool, port: int | None = None) -> Responder:
        started.append(Responder(port or broker.port, topic, v5=v5))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture(params=["direct", "plain"])
def gateway(tmp_path: Path, broker: Mosquitto, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    config = configuration(broker.port, routes=ROUTES, limits={"messages_burst": 500, "requests_in_flight": 50})
    with GatewayProcess(tmp_path / "gateway", config, plain=request.param == "plain") as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def standing_gateway(plant: Mosquitto, start_shared: Callable[[dict[str, Any]], GatewayProcess]) -> GatewayProcess:
    return start_shared(configuration(plant.port, routes=ROUTES))


@pytest.fixture
async def http(gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_SECONDS) as client:
        yield client


def waiting(gateway: GatewayProcess) -> float:
    return metric(gateway, "tidegate_requests{")


def metric(gateway: GatewayProcess, start: str) -> float:
    lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


async def answered(device: Responder, count: int, order: Callable[[list[int]], list[int]] = list) -> None:
    """Answer the first `count` requests, each with what it asked."""
    await asyncio.to_thread(device.wait_for, count)
    for number in order(list(range(count))):
        await asyncio.to_thread(device.answer, number, bytes(device.asked[number].payload))


@pytest.mark.parametrize(("room", "v5"), [("modern/x", True), ("old/x", False), ("old/x", True)])
async def test_a_device_answers_over_websocket_and_http(
    gateway: GatewayProcess, http: httpx.AsyncClient, responder: Responders, room: str, v5: bool
) -> None:
    device = responder(room, v5=v5)
    async with browser(gateway) as client:
        asking = asyncio.create_task(client.ask(type="request", room=room, data={"n": 1}))
        await answered(device, 1)
        assert await asking == {"type": "reply", "id": "ask", "data": {"n": 1}}
    posting = asyncio.create_task(http.post(f"/request?room={room}&timeout_seconds=15", json=[2]))
    await asyncio.to_thread(device.wait_for, 2)
    await asyncio.to_thread(device.answer, 1, b'"done"')
    answer = await posting
    assert (answer.status_code, answer.json()) == (200, {"type": "reply", "room": room, "data": "done"})
    assert waiting(gateway) == 0


async def test_a_request_bears_response_topic_correlation_data_and_when_it_expires(
    gateway: GatewayProcess, responder: Responders
) -> None:
    devices = [responder("modern/x", v5=True), responder("old/x", v5=True)]
    async with browser(gateway) as client:
        await client.say(type="request", id=1, room="modern/x", data=1, timeout_seconds=7.5)
        await client.say(type="request", id=2, room="old/x", data=1)
        for device in devices:
            await asyncio.to_thread(device.wait_for, 1)
    properties = [device.asked[0].properties for device in devices]
    assert properties[0].ResponseTopic.startswith("tidegate/replies/")
    assert properties[1].ResponseTopic == "old/x/reply"
    assert [p.MessageExpiryInterval for p in properties] == [8, 10]
    assert len({p.CorrelationData for p in properties}) == 2


async def test_bytes_come_back_as_base64(
    gateway: GatewayProcess, http: httpx.AsyncClient, responder: Responders
) -> None:
    device = responder("raw/x", v5=True)
    headers = {"content-type": "application/octet-stream"}
    posting = asyncio.create_task(http.post("/request?room=raw/x", content=b"\x00\xff", headers=headers))
    await answered(device, 1)
    assert (await posting).json() == {"type": "reply", "room": "raw/x", "data": "AP8=", "binary": True}


@pytest.mark.parametrize("room", ["modern/x", "old/x"])
async def test_answers_with_correlation_data_come_in_any_order(
    gateway: GatewayProcess, responder: Responders, room: str
) -> None:
    device = responder(room, v5=True)
    async with browser(gateway) as client:
        for number in range(20):
            await client.say(type="request", id=number, room=room, data=number)
        await answered(device, 20, lambda numbers: numbers[::-1])
        heard = [await client.hear() for _ in range(20)]
    assert [(reply["type"], reply["id"], reply["data"]) for reply in heard] == [
        ("reply", number, number) for number in reversed(range(20))
    ]


async def test_answers_without_correlation_data_belong_to_requests_in_the_order_of_sending(
    gateway: GatewayProcess, responder: Responders
) -> None:
    devices = [responder("old/x", v5=False), responder("old/y", v5=False)]
    async with browser(gateway) as client, browser(gateway) as other:
        for number in range(10):
            await client.say(type="request", id=number, room="old/x", data=number)
            await client.ask(type="ping")
            await other.say(type="request", id=number, room="old/y", data=-number)
        for device in reversed(devices):
            await answered(device, 10)
        assert [(await client.hear())["data"] for _ in range(10)] == list(range(10))
        assert [(await other.hear())["data"] for _ in range(10)] == [-number for number in range(10)]


async def test_a_device_that_doesnt_answer_is_a_timeout_and_its_late_answer_is_nobodys(
    gateway: GatewayProcess, http: httpx.AsyncClient, responder: Responders
) -> None:
    device = responder("old/x", v5=False)
    async with browser(gateway) as client:
        error = await client.ask(type="request", room="modern/x", data=1, timeout_seconds=0.1)
        assert (error["type"], error["code"]) == ("error", "request_timeout")
    answer = await http.post("/request?room=old/x&timeout_seconds=2", json=1)  # it keeps its place for 2 s more
    assert (answer.status_code, answer.json()["code"]) == (504, "request_timeout")
    await answered(device, 1)
    dropped = 'tidegate_drops_total{cause="unmatched_reply",'
    await asyncio.to_thread(wait_until, lambda: metric(gateway, dropped) == 1, "the late answer is counted")
    posting = asyncio.create_task(http.post("/request?room=old/x", json=2))
    await asyncio.to_thread(device.wait_for, 2)
    await asyncio.to_thread(device.answer, 1, b"3")
    assert (await posting).json()["data"] == 3
    assert waiting(gateway) == 0


async def test_while_a_late_answer_may_come_the_next_request_is_told_when_to_try_again(
    gateway: GatewayProcess, http: httpx.AsyncClient
) -> None:
    assert (await http.post("/request?room=old/x&timeout_seconds=3", json=1)).status_code == 504
    answer = await http.post("/request?room=old/x", json=1)
    assert (answer.status_code, answer.json()["code"]) == (503, "reply_ambiguous")
    assert 0 < answer.json()["retry_after_seconds"] <= 3
    await asyncio.to_thread(wait_until, lambda: waiting(gateway) == 0, "it is forgotten")


async def test_who_leaves_has_cancelled_what_was_asked(
    gateway: GatewayProcess, http: httpx.AsyncClient, responder: Responders
) -> None:
    device = responder("modern/x", v5=True)
    async with browser(gateway) as client:
        await client.say(type="request", id=1, room="modern/x", data=1, timeout_seconds=60)
        posting = asyncio.create_task(http.post("/request?room=modern/x&timeout_seconds=60", json=1))
        await asyncio.to_thread(device.wait_for, 2)
        assert waiting(gateway) == 2
        posting.cancel()
        await asyncio.to_thread(wait_until, lambda: waiting(gateway) == 1, "the HTTP client's is cancelled")
    await asyncio.to_thread(wait_until, lambda: waiting(gateway) == 0, "the session's is cancelled")
    assert "Traceback" not in gateway.text


async def test_too_many_requests_under_way_are_refused_by_name(
    gateway: GatewayProcess, http: httpx.AsyncClient
) -> None:
    async with browser(gateway) as client:
        for number in range(51):
            await client.say(type="request", id=number, room="modern/x", data=1, timeout_seconds=60)
        error = await client.hear()
        assert (error["id"], error["code"]) == (50, "too_many_requests")
        assert waiting(gateway) == 50


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("room=sensors/x", 422, "not_requestable"),
        ("room=chat/x", 422, "not_requestable"),
        ("room=modern/x&timeout_seconds=soon", 400, "bad_message"),
        ("room=modern/x&timeout_seconds=nan", 400, "bad_message"),
        ("room=modern/x&timeout_seconds=61", 400, "bad_message"),
        ("room=modern/%23", 400, "bad_message"),
        ("", 400, "bad_message"),
    ],
)
async def test_what_cant_be_asked_is_problem_details(
    standing_gateway: GatewayProcess, query: str, status: int, code: str
) -> None:
    answer = httpx.post(f"{standing_gateway.url}/request?{query}", json=1)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert httpx.get(f"{standing_gateway.url}/request?room=modern/x").status_code == 405


async def test_response_topics_are_out_of_the_reach_of_browsers(
    gateway: GatewayProcess, http: httpx.AsyncClient, responder: Responders
) -> None:
    device = responder("modern/x", v5=True)
    async with browser(gateway) as client:
        await client.ask(type="subscribe", room="#")
        asking = asyncio.create_task(http.post("/request?room=modern/x", json=1))
        await asyncio.to_thread(device.wait_for, 1)
        device.publish("tidegate/replies/of-another-gateway", b"1")
        device.publish(device.asked[0].properties.ResponseTopic, b'"without correlation data"')
        await answered(device, 1)
        assert (await asking).json()["data"] == 1
        device.publish("sensors/x", b"1")
        rooms = {message["room"] for message in await client.messages(3)}
    assert rooms == {"everything/modern/x", "sensors/x", "everything/sensors/x"}


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_broker_that_dies_fails_what_was_asked_at_once(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess], responder: Responders, protocol: str
) -> None:
    gateway = start_gateway(configuration(broker.port, routes=ROUTES, upstream={"protocol": protocol}))
    device = responder("old/x", v5=False)
    async with browser(gateway) as client, httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_SECONDS) as http:
        await client.say(type="request", id=1, room="old/x", data=1, timeout_seconds=2)
        posting = asyncio.create_task(http.post("/request?room=old/x&timeout_seconds=2", json=1))
        await asyncio.to_thread(device.wait_for, 2)
        broker.kill()
        error = await client.hear()
        assert (error["id"], error["code"]) == (1, "upstream_unavailable")
        assert (await posting).json()["code"] == "upstream_unavailable"
        assert (await client.ask(type="request", room="old/y", data=1))["code"] == "upstream_unavailable"
        assert (await client.ask(type="request", room="old/x", data=1))["code"] == "reply_ambiguous"
        broker.start()
        await asyncio.to_thread(gateway.wait_until_ready)
        await asyncio.to_thread(wait_until, lambda: waiting(gateway) == 0, "late answers are no longer waited for")
        device = responder("old/x", v5=False)
        asking = asyncio.create_task(client.ask(type="request", room="old/x", data=5))
        await answered(device, 1)
        assert (await asking)["data"] == 5


async def test_over_311_a_room_without_a_reply_topic_cant_be_asked(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port, routes=ROUTES, upstream={"protocol": "3.1.1"}))
    async with browser(gateway) as client:
        error = await client.ask(type="request", room="modern/x", data=1)
        assert error["code"] == "not_requestable"
        assert "`reply:`" in error["message"]
        assert "`protocol: 5`" in error["message"]


async def test_the_embedded_brokers_devices_answer_on_the_reply_topic(
    start_gateway: Callable[..., GatewayProcess], responder: Responders
) -> None:
    port = free_port()
    gateway = start_gateway({"broker": {"port": port}, "routes": ROUTES[:2]})
    device = responder("old/x", v5=False, port=port)
    async with browser(gateway) as client:
        for number in range(10):
            await client.say(type="request", id=number, room="old/x", data=number)
        await answered(device, 10)
        assert [(await client.hear())["data"] for _ in range(10)] == list(range(10))
        assert (await client.ask(type="request", room="modern/x", data=1))["code"] == "not_requestable"


@pytest.mark.parametrize("session", ["clean", "persistent"])
async def test_only_a_persistent_session_keeps_its_response_topic(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess], responder: Responders, session: str
) -> None:
    device = responder("modern/x", v5=True)
    upstream = {"session": session, "client_id": "gate-1"}
    for count in (1, 2):
        gateway = start_gateway(configuration(broker.port, routes=ROUTES[:1], upstream=upstream))
        async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_SECONDS) as http:
            posting = asyncio.create_task(http.post("/request?room=modern/x", json=1))
            await asyncio.to_thread(device.wait_for, count)
            await asyncio.to_thread(device.answer, count - 1, b"7")
            assert (await posting).json()["data"] == 7
        gateway.stop()
    topics = {message.properties.ResponseTopic for message in device.asked}
    assert len(topics) == (1 if session == "persistent" else 2)


async def test_what_waits_is_answered_when_the_gateway_ends(
    tmp_path: Path, start_gateway: Callable[..., GatewayProcess], responder: Responders
) -> None:
    with mosquitto(tmp_path) as broker:
        gateway = start_gateway(configuration(broker.port, routes=ROUTES))
        device = responder("modern/x", v5=True, port=broker.port)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_SECONDS) as http:
            posting = asyncio.create_task(http.post("/request?room=modern/x&timeout_seconds=60", json=1))
            await asyncio.to_thread(device.wait_for, 1)
            gateway.process.terminate()
            answer = await posting
        assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
        assert await asyncio.to_thread(gateway.wait) == 0
