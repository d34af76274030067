"""How one WebSocket is served, whatever it carries: by the server itself if it can, else by a buffer and a task.

What is spoken isn't known here: a framing says how objects become frames, and `begin` gives who takes what comes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from gateway.core.access import Grants
from gateway.core.connections import Seat
from gateway.core.errors import TidegateError
from gateway.core.namespace import Namespace
from gateway.core.problem import problem
from gateway.core.session import Session, TransportName
from gateway.core.sink import (
    CLOSE_GRACE_SECONDS,
    BufferSink,
    Receiver,
    Sink,
    TransportSink,
    WebSocketTransport,
)

__all__ = ["Begin", "Client", "Serving", "deny", "exchange", "send_close"]

Begin: TypeAlias = Callable[[Session], Receiver]
"""Tells a new session what it is to be told at first; who takes what its client sends."""


SendAll: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Sends what is to be sent, until there will be no more."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who has come, as far as the handshake says."""

    grants: Grants
    member: str | None
    seat: Seat


class Serving:
    """Serves the connections of one kind."""

    def __init__(self, namespace: Namespace, name: TransportName) -> None:
        self._namespace = namespace
        self._name = name

    def hand_over(self, transport: WebSocketTransport, sink: TransportSink, client: Client, begin: Begin) -> None:
        """Let the connection go on without its application. The seat is freed by the receiver."""
        session = self._open(sink, client)
        try:
            transport.watch(self._namespace.limits.write_buffer_bytes, session)
            receiver = begin(session)
            transport.speak(sink.framing)
            transport.hand_over(receiver)
        except BaseException:
            session.end()
            raise

    async def buffered(
        self,
        sink: BufferSink,
        client: Client,
        begin: Begin,
        receive: Any,
        send_all: SendAll,
    ) -> None:
        """Serve the connection until it ends; `send_all` sends what the sink has, until that is closed."""
        session = self._open(sink, client)
        sink.watch(session)
        try:
            await exchange(begin(session), receive, send_all)
        finally:
            session.end()

    def _open(self, sink: Sink, client: Client) -> Session:
        return self._namespace.open(self._name, sink, client.grants, member=client.member, seat=client.seat)


async def exchange(receiver: Receiver, receive: Any, send_all: SendAll) -> None:
    """Give a receiver what comes, and send what is to be sent, until the client is gone or doesn't read."""
    try:
        async with asyncio.TaskGroup() as tasks:
            sender = tasks.create_task(send_all())
            while (event := await receive())["type"] != "websocket.disconnect":
                text = event.get("text")
                receiver.receive(event["bytes"] if text is None else text)
                while receiver.waits:
                    await receiver.settle()
            sender.cancel()
    except* TimeoutError:
        pass  # it doesn't read; the server ends the connection as this returns


async def send_close(send: Any, code: int, reason: str) -> None:
    """Close the connection, unless its client doesn't read.

    Raises:
        TimeoutError: it doesn't.
    """
    async with asyncio.timeout(CLOSE_GRACE_SECONDS):
        await send({"type": "websocket.close", "code": code, "reason": reason})


async def deny(scope: Any, send: Any, error: TidegateError) -> None:
    """Refuse the handshake with problem details, or with a bare 403 where the server can't say more."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    status, headers, body = problem(error)
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
