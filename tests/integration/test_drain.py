"""How a gateway is told to end, and its clients leave it: in which order, and what they are told."""

import asyncio
import fcntl
import signal
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests import mqtt_speech as speech
from tests.integration.conftest import Device, browser
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration, free_port, listens, wait_until

Start = Callable[..., GatewayProcess]
FOREVER = 3000
DEADLINE = 60.0
"""For what takes as long as a drain."""


def draining(ops_port: int) -> bool:
    """Whether the listener of operators says that the gateway leaves."""
    answer = httpx.get(f"http://127.0.0.1:{ops_port}/readyz")
    return answer.status_code == 503 and answer.json()["status"] == "draining"


class Crowd:
    """Clients of several transports, and what they hear until they are told to leave."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self.listening = 0
        self.heard = 0
        """How many have heard of a message."""
        self.byes: list[dict[str, Any]] = []
        self.polls: list[dict[str, Any]] = []
        self.refused = 0

    def _take(self, said: dict[str, Any]) -> None:
        if said["type"] == "bye":
            self.byes.append(said)
        self.listening += said["type"] == "subscribed"
        self.heard += said["type"] == "message"

    async def websocket(self) -> None:
        async with browser(self._gateway) as client:
            await client.say(type="subscribe", room="kept/x")
            with pytest.raises(ConnectionClosed):
                while True:
                    self._take(await client.hear())

    async def stream(self) -> None:
        async with (
            httpx.AsyncClient(timeout=DEADLINE) as http,
            http.stream("GET", f"{self._gateway.url}/sse?room=kept/x") as response,
        ):
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    self._take(orjson.loads(line.removeprefix("data: ")))

    async def poll(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self._gateway.url, timeout=DEADLINE, limits=limits) as http:
            start = (await http.get("/poll?room=text/quiet&wait=0")).json()["cursor"]
            self.listening += 1
            answer = await http.get(f"/poll?room=text/quiet&wait=55&since={start}")
            self.polls.append({"status": answer.status_code, **answer.json()})
            with pytest.raises(httpx.ConnectError):
                await http.get("/poll?room=text/quiet")
            self.refused += 1


async def until(condition: Callable[[], Any], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what)


async def test_clients_are_told_one_after_the_other_and_served_until_then(
    broker: Mosquitto, device: Device, start_gateway: Start
) -> None:
    ops_port = free_port()
    gateway = start_gateway(configuration(broker.port, ops={"port": ops_port}, drain_seconds=30), ready=False)
    await until(lambda: httpx.get(f"http://127.0.0.1:{ops_port}/readyz").status_code == 200, "it is ready")
    crowd = Crowd(gateway)
    async with asyncio.TaskGroup() as clients:
        for _ in range(18):
            clients.create_task(crowd.websocket())
            clients.create_task(crowd.stream())
        for _ in range(14):
            clients.create_task(crowd.poll())
        await until(lambda: crowd.listening == 50, "all are there")
        gateway.send_signal(signal.SIGTERM)
        await until(lambda: not listens(gateway.port), "nobody is let in any more")
        assert draining(ops_port)
        await until(lambda: len(crowd.byes) + len(crowd.polls) >= 2, "some are told")
        device.publish("kept/x", "1")
        await until(lambda: crowd.heard >= 10, "others are not, and hear of messages")
        assert len(crowd.byes) < 26
        gateway.send_signal(signal.SIGTERM)  # enough of that
    assert {(bye["code"], bye["retry"]) for bye in crowd.byes} == {("shutting_down", True)}
    assert len(crowd.byes) == 36
    assert [(poll["status"], poll["messages"]) for poll in crowd.polls] == [(200, [])] * 14
    assert crowd.refused == 14
    assert gateway.wait() == 0
    assert "Traceback" not in gateway.text


async def test_until_load_balancers_have_noticed_all_is_served_as_before(
    broker: Mosquitto, start_gateway: Start
) -> None:
    gateway = start_gateway(configuration(broker.port, drain_notice_seconds=FOREVER, drain_seconds=FOREVER))
    async with browser(gateway) as before, httpx.AsyncClient(base_url=gateway.url) as http:
        assert "connection" not in (await http.get("/readyz")).headers
        gateway.send_signal(signal.SIGTERM)
        await until(lambda: gateway.get("/readyz").status_code == 503, "it says so")
        assert gateway.get("/readyz").json()["status"] == "draining"
        async with browser(gateway) as after:
            for client in (before, after):
                await client.ask(type="subscribe", room="chat/x")
            answer = await http.post("/publish?room=chat/x", json="hello")
            assert answer.headers["connection"] == "close"  # so that a proxy keeps none of these
            for client in (before, after):
                assert (await client.messages(1))[0]["data"] == "hello"
            gateway.send_signal(signal.SIGINT)  # the second one: at once
            for client in (before, after):
                assert (await client.hear())["code"] == "shutting_down"
    assert gateway.wait() == 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
async def test_the_second_signal_ends_it_at_once(
    broker: Mosquitto, start_gateway: Start, first: signal.Signals
) -> None:
    gateway = start_gateway(configuration(broker.port, drain_seconds=FOREVER))
    async with browser(gateway) as client:
        gateway.send_signal(first)
        await until(lambda: not listens(gateway.port), "it leaves")
        gateway.send_signal(signal.SIGTERM)
        assert (await client.hear())["code"] == "shutting_down"
    assert gateway.wait() == 0


async def test_a_request_under_way_is_answered_and_then_it_ends(
    broker: Mosquitto, device: Device, start_gateway: Start
) -> None:
    ask = {"topic": "ask/{x}", "room": "ask/{x}", "direction": "to_device", "qos": 1, "reply": "told/{x}"}
    gateway = start_gateway(configuration(broker.port, routes=[ask], drain_seconds=FOREVER))
    device.subscribe("ask/x")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_SECONDS) as http:
        asking = asyncio.ensure_future(http.post("/request?room=ask/x", json=1))
        await asyncio.to_thread(device.received, 1)
        gateway.send_signal(signal.SIGTERM)
        await until(lambda: not listens(gateway.port), "it leaves")
        device.publish("told/x", "2")
        answer = await asking
        assert (answer.status_code, answer.json()["data"]) == (200, 2)
        assert answer.headers["connection"] == "close"
    assert gateway.wait() == 0


async def test_a_request_that_is_still_on_its_way_is_served(broker: Mosquitto, start_gateway: Start) -> None:
    gateway = start_gateway(configuration(broker.port, drain_seconds=FOREVER))
    with gateway.connect() as begun, gateway.connect() as fresh:
        begun.sendall(b"POST /publish?room=chat/x HTTP/1.1\r\nHost: localhost\r\n")
        wait_until(lambda: received(begun), "it is read")
        gateway.send_signal(signal.SIGTERM)
        await until(lambda: not listens(gateway.port), "it leaves")
        begun.sendall(b"Content-Length: 1\r\n\r\n1")
        assert read_all(begun).startswith(b"HTTP/1.1 200 OK\r\n")
        assert read_all(fresh) == b""
    assert gateway.wait() == 0


def received(client: socket.socket) -> bool:
    """Whether the other side's system has all that was sent."""
    (unsent,) = struct.unpack("I", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))
    return bool(unsent == 0)


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(4096), b""))


@pytest.mark.parametrize("mode", ["gateway", "passthrough"])
async def test_clients_of_mqtt_are_told_and_come_back_by_themselves(
    broker: Mosquitto, start_gateway: Start, mode: str
) -> None:
    gateway = start_gateway(configuration(broker.port, mqtt={"mode": mode}, drain_seconds=0.2))
    async with connect(f"ws://127.0.0.1:{gateway.port}/mqtt", subprotocols=[Subprotocol("mqtt")]) as client:
        await client.send(speech.connect())
        heard = [await asyncio.wait_for(client.recv(), DEADLINE_SECONDS)]
        gateway.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                heard.append(await asyncio.wait_for(client.recv(), DEADLINE_SECONDS))
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert "shutting_down" in closed.value.rcvd.reason
    packets = [kind for data in heard if isinstance(data, bytes) for kind, _ in speech.read_all(data)]
    assert packets == [0x20, 0xE0] if mode == "gateway" else [0x20]
    assert gateway.wait() == 0


def test_the_listener_of_operators_answers_instead_of_the_public_one(broker: Mosquitto, start_gateway: Start) -> None:
    gateway = start_gateway(configuration(broker.port, ops={"port": 0}), ready=False)
    operators = gateway.text.partition("operations ")[2].partition("/metrics")[0]
    wait_until(lambda: httpx.get(f"{operators}/readyz").status_code == 200, "it is ready")
    assert httpx.get(f"{operators}/healthz").json() == {"status": "ok"}
    metrics = httpx.get(f"{operators}/metrics")
    assert 'tidegate_upstream_up{upstream="plant"} 1.0' in metrics.text
    for path in ("/healthz", "/readyz", "/metrics"):
        assert gateway.get(path).json()["code"] == "no_such_endpoint"
    for path in ("/", "/ws", "/last?room=a", "/publish?room=a"):
        assert httpx.get(f"{operators}{path}").json()["code"] == "no_such_endpoint"
    rebound = httpx.get(f"{operators}/metrics", headers={"host": "evil.example"})
    assert rebound.json()["code"] == "host_refused"
