"""A gateway as one writes it on Starlette and aiomqtt. `python -m benchmarks.peers.starlette_app PORT BROKER_PORT`."""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket


class Naive:
    """Sockets by topic, and one `send_text` after the other."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)

    async def serve(self, socket: WebSocket) -> None:
        """One browser, until it leaves."""
        await socket.accept()
        mine: set[str] = set()
        try:
            async for said in socket.iter_json():
                if "publish" in said:
                    await self._publish(socket, said)
                    continue
                mine.update(said["rooms"])
                for room in said["rooms"]:
                    self._rooms[room].add(socket)
                await socket.send_text('{"type":"subscribed"}')
        finally:
            for room in mine:
                self._rooms[room].discard(socket)

    async def _publish(self, socket: WebSocket, said: dict[str, Any]) -> None:
        await self._client.publish(said["publish"], json.dumps(said["data"]), qos=1)
        await socket.send_text(f'{{"type":"ack","id":"{said["id"]}"}}')

    async def _forward(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self._broker_port) as self._client:
            await self._client.subscribe("sensors/#", qos=1)
            print("ready", flush=True)
            async for message in self._client.messages:
                topic, payload = str(message.topic), message.payload
                assert isinstance(payload, bytes)
                text = f'{{"type":"message","room":"{topic}","data":{payload.decode()}}}'
                for socket in tuple(self._rooms[topic]):
                    await socket.send_text(text)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Forward while the server runs."""
        task = asyncio.create_task(self._forward())
        yield
        task.cancel()


def main() -> None:
    port, broker_port = map(int, sys.argv[1:])
    naive = Naive(broker_port)
    app = Starlette(routes=[WebSocketRoute("/ws", naive.serve)], lifespan=naive.lifespan)
    uvicorn.run(app, port=port, log_level="warning", loop="uvloop", ws_per_message_deflate=False, backlog=2048)


if __name__ == "__main__":
    main()
