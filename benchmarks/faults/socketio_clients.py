"""Clients of Socket.IO, over WebSocket and over polling: they come back as the library does, and by cursor elsewhere.

A gateway that knows a client still restores its subscriptions (connection state recovery). Where none does, the client
subscribes with the last cursor that it had.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

import orjson

from benchmarks.clients import TEXT, FrameClient
from benchmarks.faults.http_client import HttpClient
from benchmarks.faults.transports import Visitor, hold

__all__ = ["over_polling", "over_websocket"]

OPEN, PING, PONG = "0", "2", "3"
"""Engine.IO's packets; those of Socket.IO within its `message` follow."""
CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR = "40", "41", "42", "43", "44"
PATH: Final = "/socket.io/?EIO=4&transport="


class Conversation:
    """What is said in the default namespace, however packets travel."""

    def __init__(self, visitor: Visitor, send: Callable[[str], None], leave: Callable[[], None]) -> None:
        self._visitor, self._send, self._leave = visitor, send, leave

    def take(self, packet: str) -> None:
        """One packet of the server."""
        if packet.startswith(OPEN):
            known = self._visitor.memory.get("pid")
            shown = {} if known is None else {"pid": known, "offset": self._visitor.cursor}
            self._send(CONNECT + orjson.dumps(shown).decode())
        elif packet == PING:
            self._send(PONG)
        elif packet.startswith(CONNECT):
            self._connected(orjson.loads(packet[2:]))
        elif packet.startswith(EVENT):
            self._event(*orjson.loads(packet[2:]))
        elif packet.startswith(ACK):
            said = orjson.loads(packet[packet.index("[") :])[0]
            self._hear(said) if "error" not in said else self._leave()
        elif packet.startswith((DISCONNECT, CONNECT_ERROR)):
            self._leave()

    def _connected(self, greeting: dict[str, Any]) -> None:
        memory, before = self._visitor.memory, self._visitor.memory.get("pid")
        memory["pid"] = greeting["pid"]
        if before == greeting["pid"]:
            memory["restored"] = memory.get("restored", 0) + 1
            self._visitor.listener.arrive()
            return
        options = {} if self._visitor.cursor is None else {"since": self._visitor.cursor}
        self._send(f"{EVENT}0" + orjson.dumps(["subscribe", self._visitor.filters, options]).decode())

    def _event(self, name: str, *arguments: Any) -> None:
        if name in ("message", "subscribed"):
            self._hear(arguments[0])

    def _hear(self, said: dict[str, Any]) -> None:
        self._visitor.listener.hear(said)


class SocketClient(FrameClient):
    """Packets as frames of a WebSocket."""

    path = PATH + "websocket"
    conversation: Conversation

    def frame(self, opcode: int, payload: bytes) -> None:  # noqa: ARG002
        self.conversation.take(payload.decode())


async def over_websocket(visitor: Visitor, port: int) -> None:
    """One connection."""

    def make(lost: Callable[[], None]) -> SocketClient:
        client = SocketClient(visitor.filters, None, lambda _: None, lost)
        client.conversation = Conversation(
            visitor, lambda packet: client.send(TEXT, packet.encode()), lambda: client.transport.close()
        )
        return client

    await hold(make, visitor, port)


async def over_polling(visitor: Visitor, port: int) -> None:
    """One connection for polls, and one for what the client says."""
    with (
        closing(await HttpClient.connect(port, visitor.source)) as polls,
        closing(await HttpClient.connect(port, visitor.source)) as posts,
    ):
        visitor.connection = polls.transport
        unsent: list[str] = []
        conversation = Conversation(visitor, unsent.append, polls.close)
        opened = (await polls.ask("GET", PATH + "polling")).decode()
        target = f"{PATH}polling&sid={orjson.loads(opened[1:])['sid']}"
        packets = [opened]
        while True:
            for packet in packets:
                conversation.take(packet)
            if unsent:
                body, unsent[:] = "\x1e".join(unsent), []
                await posts.ask("POST", target, body.encode(), "Content-Type: text/plain")
            packets = (await polls.ask("GET", target)).decode().split("\x1e")
