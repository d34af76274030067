"""Messages that are compressed once for all WebSocket clients that have agreed to it (RFC 7692)."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate

from tests.real import GatewayProcess

Start = Callable[..., GatewayProcess]
LARGE = "the same again and again, " * 200
SHARE = 20
"""By how much that gets smaller at least."""


async def joined(client: ClientConnection) -> None:
    await client.send('{"type":"subscribe","id":1,"room":"chat/x"}')
    while orjson.loads(await client.recv())["type"] != "subscribed":
        pass


async def told(client: ClientConnection) -> Any:
    message = orjson.loads(await client.recv())
    assert message["type"] == "message"
    return message["data"]


def delivered_bytes(gateway: GatewayProcess) -> float:
    text = httpx.get(f"{gateway.url}/metrics").text
    found = re.search(r'^tidegate_delivered_bytes_total\{.*transport="websocket".*\} ([0-9.e+]+)$', text, re.MULTILINE)
    return 0 if found is None else float(found[1])


def offering(gateway: GatewayProcess, **parameters: Any) -> connect:
    return connect(gateway.ws_url, compression=None, extensions=[ClientPerMessageDeflateFactory(**parameters)])


async def test_large_messages_are_compressed_for_those_who_take_them_so(start_gateway: Start) -> None:
    gateway = start_gateway({"broker": {"port": 0}})
    async with (
        offering(gateway) as one,
        offering(gateway, client_max_window_bits=9) as other,
        connect(gateway.ws_url, compression=None) as plain,
        offering(gateway, server_max_window_bits=9) as narrow,
    ):
        for client in (one, other, plain, narrow):
            await joined(client)
        for client in (one, other):
            (extension,) = client.protocol.extensions
            assert isinstance(extension, PerMessageDeflate)
            assert (extension.remote_no_context_takeover, extension.local_no_context_takeover) == (True, True)
        before = delivered_bytes(gateway)
        for data in (LARGE, "small", LARGE):
            await one.send(orjson.dumps({"type": "publish", "room": "chat/x", "data": data}).decode())
            assert [await told(client) for client in (one, other, plain, narrow)] == [data] * 4
        inflating, others = 2 * len(LARGE) / SHARE, 2 * len(LARGE)
        sent = delivered_bytes(gateway) - before
        assert 2 * others < sent < 2 * others + 2 * inflating + 4 * 4 * 300


async def test_what_a_client_compresses_counts_as_what_it_is(start_gateway: Start) -> None:
    gateway = start_gateway({"broker": {"port": 0}, "limits": {"message_bytes": "10 KiB"}})
    async with offering(gateway) as client:
        await joined(client)
        await client.send(orjson.dumps({"type": "publish", "room": "chat/x", "data": LARGE}).decode())
        assert await told(client) == LARGE
        await client.send(orjson.dumps({"type": "publish", "room": "chat/x", "data": LARGE * 3}).decode())
        assert orjson.loads(await client.recv())["code"] == "message_too_large"
        await client.wait_closed()
        assert client.close_code == 1009


@pytest.mark.parametrize("from_bytes", [None, "1 MiB"])
async def test_it_can_be_switched_off_or_kept_for_what_is_larger(start_gateway: Start, from_bytes: str | None) -> None:
    gateway = start_gateway({"broker": {"port": 0}, "listen": {"port": 0, "compress_from_bytes": from_bytes}})
    async with connect(gateway.ws_url) as client:
        assert len(client.protocol.extensions) == (0 if from_bytes is None else 1)
        await joined(client)
        before = delivered_bytes(gateway)
        await client.send(orjson.dumps({"type": "publish", "room": "chat/x", "data": LARGE}).decode())
        assert await told(client) == LARGE
        assert delivered_bytes(gateway) - before > len(LARGE)
