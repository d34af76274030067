"""WebSocket without a protocol, by a library and by what a microcontroller has: a socket and a few lines for frames."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.core.authentication import hash_token
from tests.integration.conftest import Device, browser
from tests.integration.test_snippets import snippets
from tests.integration.test_websocket import sessions
from tests.nginx import nginx
from tests.real import DEADLINE_SECONDS, GatewayProcess, Mosquitto, configuration, wait_until

TOKEN = "tg_" + "a" * 64


@pytest.fixture(scope="module")
def served(plant: Mosquitto, start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    """One gateway for all tests here, on its own server and on one that only has ASGI."""
    return start_shared(configuration(plant.port, listen={"compress_from_bytes": 200}))


def raw(gateway: GatewayProcess, query: str, **options: Any) -> connect:
    return connect(f"{gateway.ws_url}/raw?{query}", **options)


async def hear(connection: Any) -> str | bytes:
    heard: str | bytes = await asyncio.wait_for(connection.recv(), DEADLINE_SECONDS)
    return heard


async def close_of(connection: Any) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await hear(connection)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def test_payloads_of_devices_come_as_they_are(served: GatewayProcess, device: Device) -> None:
    device.publish("raw/kept", '{"last": 1.50}')
    wait_until(lambda: httpx.get(f"{served.url}/last?room=raw/kept").json()["last"], "the value is there")
    async with raw(served, "room=raw/%2B&room=text/x") as client:
        assert '{"last": 1.50}' in [await hear(client) for _ in range(await last_values(served, "raw/%2B"))]
        device.publish("raw/x", '{"a": 1.0}')
        assert await hear(client) == '{"a": 1.0}'
        device.publish("raw/x", "plain words")
        assert await hear(client) == "plain words"
        device.publish("raw/x", b"\xff\x00")
        assert await hear(client) == b"\xff\x00"
        device.publish("text/x", "42")
        assert await hear(client) == "42"
        device.publish("raw/x", '"' + "x" * 1000 + '"')
        assert await hear(client) == "x" * 1000


async def last_values(gateway: GatewayProcess, room: str) -> int:
    return len(httpx.get(f"{gateway.url}/last?room={room}").json()["last"])


async def test_what_a_client_sends_is_published(served: GatewayProcess) -> None:
    async with browser(served) as listener, raw(served, "room=chat/raw") as client:
        await listener.ask(type="subscribe", room="chat/raw")
        for frame in ('{"on": true}', "not JSON", b"\x01\x02"):
            await client.send(frame)
        told = await listener.messages(3)
        assert [(message["data"], message.get("binary", False)) for message in told] == [
            ({"on": True}, False),
            ("not JSON", False),
            ("AQI=", True),
        ]
        assert [await hear(client) for _ in range(3)] == ['{"on":true}', "not JSON", b"\x01\x02"]
        await listener.say(type="publish", room="chat/raw", data=[1])
        assert await hear(client) == "[1]"


async def test_what_goes_to_a_device_goes_as_its_route_says(
    served: GatewayProcess, plant: Mosquitto, device: Device
) -> None:
    device.subscribe("firmware/#")
    device.subscribe("commands/#")
    async with raw(served, "room=firmware/pump") as client:
        await client.send(b"\x7fELF")
        await client.send("text")
        first, second = device.received(2)
        assert (first.topic, first.payload, second.payload) == ("firmware/pump", b"\x7fELF", b"text")
    async with raw(served, "room=sites/oslo/fan/commands") as client:
        await client.send('{"switch":true}')
        assert device.received(3)[2].payload == b'{"switch":true}'


async def test_who_comes_back_with_a_cursor_is_told_what_was_missed(served: GatewayProcess, device: Device) -> None:
    room = f"kept/raw-{served.port}"
    cursor = httpx.get(f"{served.url}/last?room={room}").json()["cursor"]
    for number in range(5):
        device.publish(room, str(number), qos=1)
    async with raw(served, f"room={room}&since={cursor}") as client:
        assert [await hear(client) for _ in range(5)] == ["0", "1", "2", "3", "4"]


async def test_payloads_that_are_refused_close_with_the_reason_and_nobody_else_notices(
    served: GatewayProcess, device: Device
) -> None:
    async with raw(served, "room=raw/other") as other:
        for query, frame, expected in (
            ("room=raw/x", "1", (1008, "read_only")),
            ("room=chat/a&room=chat/b", "1", (1008, "bad_message")),
            ("room=chat/%23", "1", (1008, "bad_message")),
        ):
            async with raw(served, query) as client:
                await client.send(frame)
                assert await close_of(client) == expected, query
        async with raw(served, "room=chat/flood") as client:
            for _ in range(200):
                await client.send("1")
            assert await close_of(client) == (4429, "rate_limited")
        async with raw(served, "room=chat/large") as client:
            await client.send("x" * 100_000)
            with pytest.raises(ConnectionClosed) as closed:
                await hear(client)  # nothing of an error: that would be taken for a payload
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        device.publish("raw/other", "1")
        assert await hear(other) == "1"
    wait_until(lambda: sessions(served, "raw") == 0, "all have left")


async def test_nginx_passes_payloads_on(served: GatewayProcess, tmp_path: Path) -> None:
    (snippet,) = snippets("nginx")
    room = f"chat/nginx-{served.port}"
    with nginx(tmp_path, snippet.text.replace("127.0.0.1:8080", f"127.0.0.1:{served.port}")) as port:
        async with connect(f"ws://127.0.0.1:{port}/ws/raw?room={room}") as client:
            await client.send("said")
            assert await hear(client) == "said"
            await client.send(b"\x00\xff")
            assert await hear(client) == b"\x00\xff"


async def test_handshakes_that_ask_for_nothing_are_refused(served: GatewayProcess) -> None:
    for query, named in (
        ("", "room"),
        ("room=a//b", "room"),
        ("room=a&since=x", "since"),
        ("room=a&sample=x", "sample"),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with raw(served, query):
                pass
        assert refused.value.response.status_code == (400 if named else 200)
        assert named.encode() in refused.value.response.body
    wait_until(lambda: sessions(served, "raw") == 0, "nothing is left")


async def test_a_subprotocol_of_the_clients_own_is_granted(served: GatewayProcess) -> None:
    async with raw(served, "room=a", subprotocols=[Subprotocol("arduino")]) as client:
        assert client.subprotocol == "arduino"


async def test_who_may_not_is_refused(plant: Mosquitto, start_either: Callable[..., GatewayProcess]) -> None:
    identity = {"tokens": [{"name": "ci", "sha256": hash_token(TOKEN), "roles": ["operator"]}]}
    access = [{"roles": ["operator"], "subscribe": ["chat/#"], "publish": ["chat/in"]}]
    gateway = start_either(configuration(plant.port, identity=identity, access=access))
    bearer = {"authorization": f"Bearer {TOKEN}"}
    for headers, room, status in (({}, "chat/in", 401), (bearer, "raw/x", 403)):
        with pytest.raises(InvalidStatus) as refused:
            async with raw(gateway, f"room={room}", additional_headers=headers):
                pass
        assert refused.value.response.status_code == status
    with pytest.raises(InvalidStatus):
        async with raw(gateway, "room=chat/in", additional_headers={**bearer, "origin": "https://evil.example"}):
            pass
    async with raw(gateway, "room=chat/in", additional_headers=bearer) as client:
        await client.send("1")
        assert await hear(client) == "1"
    async with raw(gateway, "room=chat/out", additional_headers=bearer) as client:
        await client.send("1")
        assert await close_of(client) == (1008, "forbidden")


class Microcontroller:
    """The least that speaks WebSocket: no library, no extension, frames below 126 bytes, one at a time."""

    def __init__(self, connection: socket.socket, path: str) -> None:
        self._socket = connection
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._socket.recv(size - len(data))
        return data

    def send(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._socket.sendall(bytes((0x80 | opcode, 0x80 | len(payload))) + mask + masked)

    def hear(self) -> tuple[int, bytes]:
        head, size = self._read(2)
        assert head & 0xF0 == 0x80, "whole, not compressed"
        assert size < 126, "not masked, short"
        return head & 0x0F, self._read(size)


@contextmanager
def microcontroller(gateway: GatewayProcess, path: str) -> Iterator[Microcontroller]:
    with gateway.connect() as connection:
        yield Microcontroller(connection, path)


def test_a_microcontroller_is_served(served: GatewayProcess, device: Device) -> None:
    with microcontroller(served, "/ws/raw?room=shared/lamp") as lamp:
        lamp.send(0x1, b"21")
        assert lamp.hear() == (0x1, b"21"), "by the broker, back to the room"
        device.publish("shared/lamp", '{"on":false}')
        assert lamp.hear() == (0x1, b'{"on":false}')
        lamp.send(0x9, b"ping")
        assert lamp.hear() == (0xA, b"ping")
        lamp.send(0x1, b"\xff")
        assert lamp.hear() == (0x8, struct.pack("!H", 1007))
    wait_until(lambda: sessions(served, "raw") == 0, "it has left")
