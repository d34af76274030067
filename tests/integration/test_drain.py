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
from tests.integration.conftest import Browser, Device, browser
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration, free_port, listens, wait_until

Start = Callable[..., GatewayProcess]
FOREVER = 3000


def draining(ops_port: int) -> bool:
    """Whether the listener of operators says that the gateway leaves."""
    answer = httpx.get(f"http://127.0.0.1:{ops_port}/readyz")
    return answer.status_code == 503 and answer.json()["status"] == "draining"


class Crowd:
    """Clients of several transports, and what each heard until it was told to leave."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self.listening = 0
        self.byes: list[dict[str, Any]] = []
        self.heard_last: list[int] = []
        """The number of the last message that each client heard before, in the order in which they were told."""
        self.polls: list[dict[str, Any]] = []
        self.refused = 0

    async def websocket(self) -> None:
        async with browser(self._gateway) as client:
            await client.ask(type="subscribe", room="kept/x")
            self.listening += 1
            self._left(await self._until_bye(client))

    async def _until_bye(self, client: Browser) -> list[dict[str, Any]]:
        heard = [await client.hear()]
        while heard[-1]["type"] != "bye":
            heard.append(await client.hear())
        with pytest.raises(ConnectionClosed):
            await client.hear()
        return heard

    def _left(self, heard: list[dict[str, Any]]) -> None:
        numbers = [said["data"] for said in heard if said["type"] == "message"]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        self.heard_last.append(numbers[-1])
        self.byes.append(heard[-1])

    async def stream(self) -> None:
        async with (
            httpx.AsyncClient(timeout=DEADLINE_SECONDS) as http,
            http.stream("GET", f"{self._gateway.url}/sse?room=kept/x") as response,
        ):
            heard = []
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    heard.append(orjson.loads(line.removeprefix("data: ")))
                    self.listening += heard[-1]["type"] == "subscribed"
            self._left(heard)

    async def poll(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self._gateway.url, timeout=DEADLINE_SECONDS, limits=limits) as http:
            start = (await http.get("/poll?room=text/quiet&wait=0")).json()["cursor"]
            self.listening += 1
            answer = await http.get(f"/poll?room=text/quiet&wait=25&since={start}")
            self.polls.append({"status": answer.status_code, **answer.json()})
            with pytest.raises(httpx.ConnectError):
                await http.get("/poll?room=text/quiet")
            self.refused += 1


async def until(condition: Callable[[], Any], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what)


async def count(device: Device, crowd: Crowd, gateway: GatewayProcess) -> None:
    """Publish numbers until the gateway has ended."""
    number = 0
    while gateway.process.poll() is None:
        number += 1
        device.publish("kept/x", str(number))
        await asyncio.sleep(0.005)
    assert number > max(crowd.heard_last)


async def test_clients_are_told_one_after_the_other_and_served_until_then(
    broker: Mosquitto, device: Device, start_gateway: Start
) -> None:
    ops_port = free_port()
    gateway = start_gateway(configuration(broker.port, ops={"port": ops_port}, drain_seconds=2), ready=False)
    await until(lambda: httpx.get(f"http://127.0.0.1:{ops_port}/readyz").status_code == 200, "it is ready")
    crowd = Crowd(gateway)
    async with asyncio.TaskGroup() as clients:
        for _ in range(18):
            clients.create_task(crowd.websocket())
            clients.create_task(crowd.stream())
        for _ in range(14):
            clients.create_task(crowd.poll())
        await until(lambda: crowd.listening == 50, "all are there")
        clients.create_task(count(device, crowd, gateway))
        gateway.send_signal(signal.SIGTERM)
        await until(lambda: not listens(gateway.port), "nobody is let in any more")
        assert draining(ops_port)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", gateway.port)
    assert {(bye["code"], bye["retry"]) for bye in crowd.byes} == {("shutting_down", True)}
    assert len(crowd.byes) == 36
    assert [(poll["status"], poll["messages"]) for poll in crowd.polls] == [(200, [])] * 14
    assert crowd.refused == 14
    print(f"after how many messages: {crowd.heard_last}")
    assert len(set(crowd.heard_last)) >= 10
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
