"""`tidegate.v1.msgpack` over a real connection, beside clients that speak JSON."""

from collections.abc import Callable
from typing import Any

import ormsgpack
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.integration.conftest import Device, browser
from tests.real import GatewayProcess, Mosquitto, configuration

Start = Callable[..., GatewayProcess]
ROUTES = [{"topic": "raw/{id}", "room": "raw/{id}", "payload": "bytes", "direction": "both"}]


def speak(gateway: GatewayProcess, *offered: str) -> connect:
    return connect(gateway.ws_url, subprotocols=[Subprotocol(name) for name in offered or ("tidegate.v1.msgpack",)])


async def say(client: ClientConnection, **fields: Any) -> None:
    await client.send(ormsgpack.packb(fields))


async def hear(client: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        frame = await client.recv()
        assert isinstance(frame, bytes)
        found: dict[str, Any] = ormsgpack.unpackb(frame)
        if found["type"] == kind:
            return found


async def test_a_client_is_told_and_says_the_same_as_in_json(start_either: Start) -> None:
    gateway = start_either({"broker": {"port": 0}})
    async with speak(gateway) as packed, browser(gateway) as other:
        assert packed.subprotocol == "tidegate.v1.msgpack"
        assert (await hear(packed, "welcome"))["limits"]["message_bytes"] == 65_536
        await say(packed, type="subscribe", id=1, room="chat/#")
        assert (await hear(packed, "subscribed"))["id"] == 1
        assert (await other.ask(type="publish", room="chat/a", data={"x": [1, None]}))["type"] == "ack"
        heard = await hear(packed, "message")
        assert (heard["room"], heard["data"]) == ("chat/a", {"x": [1, None]})
        await other.ask(type="subscribe", room="chat/b")
        await say(packed, type="publish", id=2, room="chat/b", data="hello")
        assert (await hear(packed, "ack"))["id"] == 2
        assert (await other.hear())["data"] == "hello"
        await say(packed, type="nothing", id=3)
        assert (await hear(packed, "error"))["code"] == "bad_message"


async def test_bytes_go_to_devices_and_come_from_them_unescaped(
    start_gateway: Start, broker: Mosquitto, device: Device
) -> None:
    gateway = start_gateway(configuration(broker.port, routes=ROUTES))
    gateway.wait_until_ready()
    device.subscribe("raw/+")
    async with speak(gateway) as client:
        await say(client, type="subscribe", id=1, room="raw/#")
        await hear(client, "subscribed")
        await say(client, type="publish", id=2, room="raw/a", data=b"\x00\xff")
        assert (await hear(client, "ack"))["id"] == 2
        assert device.received(1)[0].payload == b"\x00\xff"
        heard = await hear(client, "message")
        assert (heard["data"], "binary" in heard) == (b"\x00\xff", False)
    async with speak(gateway) as client:
        await say(client, type="subscribe", id=1, room="raw/#")
        (last,) = (await hear(client, "subscribed"))["last"]
        assert last["data"] == b"\x00\xff"


async def test_the_first_subprotocol_that_is_known_is_spoken(start_either: Start) -> None:
    gateway = start_either({"broker": {"port": 0}})
    async with speak(gateway, "mqtt", "tidegate.v1.msgpack", "tidegate.v1.json") as client:
        assert client.subprotocol == "tidegate.v1.msgpack"
        await hear(client, "welcome")


async def test_a_message_too_large_is_said_in_the_clients_own_tongue(start_gateway: Start) -> None:
    gateway = start_gateway({"broker": {"port": 0}, "limits": {"message_bytes": 1000}})
    async with speak(gateway) as client:
        await say(client, type="publish", room="a", data=b"x" * 2000)
        assert (await hear(client, "error"))["code"] == "message_too_large"
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
