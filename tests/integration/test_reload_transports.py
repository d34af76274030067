"""A rule that is withdrawn while the gateway runs holds for who is connected, whatever is spoken there."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bridges.mqtt_websocket_answers import publish
from tests import mqtt_speech
from tests.integration.test_reload import ANN, BOB, Changing, bearer, post, rules
from tests.integration.test_websocket import metric
from tests.real import DEADLINE_SECONDS, wait_until

MQTT_SUBPROTOCOL: Any = "mqtt"
NOT_AUTHORIZED = 0x87
POLLS = 'tidegate_sessions{transport="polling"}'


def crew(*, chat: bool) -> dict[str, Any]:
    """Bob may do everything; Ann hears and says what is in `open`, and in `chat` as long as she may."""
    config = rules(peerjs={"rooms": ["chat/+"]})
    config["identity"]["tokens"][1]["roles"] = ["boss"]
    rooms = ["open/#", "chat/#"] if chat else ["open/#"]
    config["access"] = [
        {"roles": ["boss"], "subscribe": ["#"], "publish": ["#"]},
        {"roles": ["user"], "subscribe": rooms, "publish": [*rooms]},
    ]
    return config


@pytest.fixture(params=["direct", "plain"])
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Changing]:
    plain = request.param == "plain"
    with Changing(tmp_path / "gateway", plain=plain, config={"listen": {"port": 0}, **crew(chat=True)}) as found:
        found.wait_until_ready()
        yield found


async def hear(connection: ClientConnection) -> Any:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await connection.recv()


async def hear_text(connection: ClientConnection, beginning: str) -> str:
    """The next text that begins so."""
    while not (said := str(await hear(connection))).startswith(beginning):
        pass
    return said


async def hear_packet(connection: ClientConnection, kind: int) -> bytes:
    """The body of the next packet of MQTT, which has to be of this type."""
    ((first, body),) = mqtt_speech.read_all(await hear(connection))
    assert first >> 4 == kind, (first, body)
    return body


async def test_a_rule_that_is_withdrawn_holds_for_sessions_of_every_transport(running: Changing) -> None:
    url, ann = running.url.replace("http", "ws", 1), bearer(ANN)
    async with AsyncExitStack() as held:
        raw = await held.enter_async_context(connect(f"{url}/ws/raw?room=chat/a", additional_headers=ann))
        peer = await held.enter_async_context(connect(f"{url}/peerjs/peerjs?key=chat/a&id=ann&token={ANN}"))
        mqtt = await held.enter_async_context(
            connect(f"{url}/mqtt", subprotocols=[MQTT_SUBPROTOCOL], additional_headers=ann)
        )
        socket = await held.enter_async_context(
            connect(f"{url}/socket.io/?EIO=4&transport=websocket", additional_headers=ann)
        )
        client = await held.enter_async_context(httpx.AsyncClient(base_url=running.url, headers=ann, timeout=30))
        assert await hear(peer) == '{"type":"OPEN"}'
        await mqtt.send(mqtt_speech.connect() + mqtt_speech.subscribe(1, ("chat/a", 0), ("open/a", 0)))
        assert (await hear_packet(mqtt, 2))[1] == 0
        assert (await hear_packet(mqtt, 9))[-2:] == b"\0\0"
        await socket.send("40")
        await socket.send('420["subscribe",["chat/a","open/a"]]')
        await hear_text(socket, "430")
        assert await asyncio.to_thread(post, running, "chat/a", BOB) == 200
        assert await hear(raw) == "1"
        assert await hear_packet(mqtt, 3)
        await hear_text(socket, '42["message"')
        cursor = (await client.get("/poll?room=chat/a&wait=0")).json()["cursor"]
        polls = asyncio.create_task(client.get("/poll", params={"room": "chat/a", "since": cursor, "wait": 50}))
        await asyncio.to_thread(wait_until, partial(metric, running, POLLS), "the poll waits")

        await asyncio.to_thread(running.change, crew(chat=False))
        assert await asyncio.to_thread(post, running, "chat/a", BOB) == 200

        with pytest.raises(ConnectionClosed):
            await hear(raw)
        assert (raw.close_code, raw.close_reason) == (1008, "forbidden")
        assert orjson.loads(await hear_text(peer, '{"type":"ERROR"'))["payload"]["code"] == "forbidden"
        with pytest.raises(ConnectionClosed):
            await hear_text(peer, "nothing else")
        assert (await polls).json()["messages"] == []
        assert (await client.get("/poll", params={"room": "chat/a", "since": cursor})).json()["code"] == "forbidden"
        assert '"code":"forbidden"' in await hear_text(socket, '42["error"')
        await mqtt.send(publish(5, "chat/a", b"1", qos=1, packet_id=7))
        assert (await hear_packet(mqtt, 4))[2] == NOT_AUTHORIZED  # and nothing has come before
        await mqtt.send(mqtt_speech.subscribe(8, ("chat/a", 0)))
        assert (await hear_packet(mqtt, 9))[-1] == NOT_AUTHORIZED

        assert await asyncio.to_thread(post, running, "open/a", BOB) == 200
        assert b"open/a" in await hear_packet(mqtt, 3)
        assert '"open/a"' in await hear_text(socket, '42["message"')
        await socket.send('421["publish","chat/a",1]')
        assert '"code":"forbidden"' in await hear_text(socket, "431")
