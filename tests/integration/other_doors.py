"""Doors of other protocols, each as what comes of one request there: `ok`, or the code of the error."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx
import orjson
from websockets.asyncio.client import ClientConnection, connect

from bridges.mqtt_websocket_answers import publish
from tests import mqtt_speech
from tests.real import DEADLINE_SECONDS, GatewayProcess

__all__ = ["batch", "mqtt", "peerjs", "socketio"]

Door = Callable[..., str]
Ask = Callable[[ClientConnection, str, str | None], Awaitable[str]]
MQTT_SUBPROTOCOL: Any = "mqtt"
CONNACK, PUBACK, SUBACK = 0x20, 0x40, 0x90


def batch(gateway: GatewayProcess, room: str, bearer: str | None, prefix: str = "") -> str:
    """One line of a batch."""
    headers = {"content-type": "application/x-ndjson"}
    if bearer is not None:
        headers["authorization"] = f"Bearer {bearer}"
    line = orjson.dumps({"room": room, "data": 1})
    answer = httpx.post(f"{gateway.url}{prefix}/publish", content=line, headers=headers)
    said = answer.json() if answer.status_code != 200 else answer.json()["results"][0]
    return str(said.get("code", "ok"))


def _door(path: str, ask: Ask, **options: Any) -> Door:
    async def open_it(gateway: GatewayProcess, room: str, bearer: str | None) -> str:
        target = path.format(room=quote(room, safe=""), token=bearer or "made-up")
        async with connect(gateway.url.replace("http", "ws", 1) + target, **options) as connection:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await ask(connection, room, bearer)

    def run(gateway: GatewayProcess, room: str, bearer: str | None) -> str:
        return asyncio.run(open_it(gateway, room, bearer))

    return run


def socketio(event: str, *more: Any) -> Door:
    """One event of Socket.IO, with the token in CONNECT."""

    async def ask(connection: ClientConnection, room: str, bearer: str | None) -> str:
        await connection.send("40" if bearer is None else f"40{orjson.dumps({'token': bearer}).decode()}")
        await connection.send(f"420{orjson.dumps([event, room, *more]).decode()}")
        while (said := str(await connection.recv()))[:2] not in ("43", "44"):
            pass
        if said[:2] == "44":
            return str(orjson.loads(said[2:])["data"]["code"])
        (answer,) = orjson.loads(said[3:])
        return str(answer["error"]["code"]) if "error" in answer else "ok"

    return _door("/socket.io/?EIO=4&transport=websocket", ask)


def mqtt(kind: str) -> Door:
    """One packet of MQTT 5, with the token as the password; a refusal has the code that it has in MQTT."""

    async def ask(connection: ClientConnection, room: str, bearer: str | None) -> str:
        asked = (
            mqtt_speech.subscribe(1, (room, 1)) if kind == "subscribe" else publish(5, room, b"1", qos=1, packet_id=1)
        )
        password = None if bearer is None else bearer.encode()
        await connection.send(mqtt_speech.connect(password=password) + asked)
        async for frame in connection:
            assert isinstance(frame, bytes)
            for first, body in mqtt_speech.read_all(frame):
                if first == CONNACK and body[1]:
                    assert body[1] in (0x86, 0x87)
                    return "unauthenticated"
                if first in (PUBACK, SUBACK):
                    reason = body[-1] if first == SUBACK else (body[2:3] or b"\0")[0]
                    return {0: "ok", 1: "ok", 0x87: "forbidden"}.get(reason, f"0x{reason:02x}")
        return "closed"

    return _door("/mqtt", ask, subprotocols=[MQTT_SUBPROTOCOL])


async def _call(connection: ClientConnection, room: str, bearer: str | None) -> str:
    said = orjson.loads(await connection.recv())
    return "ok" if said["type"] == "OPEN" else str(said["payload"]["code"])


peerjs = _door("/peerjs/peerjs?key={room}&id=me&token={token}", _call)
"""A PeerJS client that comes into a room."""
