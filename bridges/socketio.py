"""Socket.IO clients: `/socket.io/`, by python-socketio's server (Socket.IO protocol 5, Engine.IO protocol 4).

The door in front of that server: origins, limits of connections, and whose connection a request is for, before the
library sees anything. What is refused here is told in the words of Engine.IO.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from random import Random
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute, Route, WebSocketRoute

from bridges.carrier_requests import read_body
from bridges.socketio_answers import Answers
from bridges.socketio_client import Served
from bridges.socketio_engine import ARRIVAL, EngineTimes
from bridges.socketio_framing import NamespaceFraming
from bridges.socketio_server import SocketServer, connect_error
from bridges.socketio_socket import Arrival, EngineSocket
from gateway.core.admission import Admission, Caller
from gateway.core.clock import Clock
from gateway.core.errors import BadMessage, TidegateError
from gateway.core.limits import Budget
from gateway.core.namespace import DEFAULT_NAMESPACE, Namespace
from gateway.core.problem import problem

__all__ = ["SocketIoBridge"]

UNKNOWN_TRANSPORT, UNKNOWN_SID, BAD_METHOD, BAD_REQUEST, FORBIDDEN, UNSUPPORTED_VERSION = range(6)
"""The codes of Engine.IO's errors."""

WORDS: Final = (
    "Transport unknown",
    "Session ID unknown",
    "Bad handshake method",
    "Bad request",
    "Forbidden",
    "Unsupported protocol version",
)

NO_STORE: Final = (b"cache-control", b"no-store")


class _Unfit(BadMessage):
    """A request that Engine.IO has a code for."""

    def __init__(self, engine_code: int) -> None:
        super().__init__(WORDS[engine_code])
        self.engine_code = engine_code


class SocketIoBridge:
    """The ASGI application behind `/socket.io/`.

    Args:
        namespaces: All that are served, each with who may come in. "/" is the default one, "/NAME" any other.
    """

    def __init__(
        self,
        namespaces: Mapping[str, tuple[Namespace, Admission]],
        clock: Clock,
        random: Random,
        ping_interval_seconds: float,
        ping_timeout_seconds: float,
    ) -> None:
        namespace, self._admission = namespaces[DEFAULT_NAMESPACE]
        self._role_limits, self._clock = namespace.role_limits, clock
        served = {}
        for name, (each, admission) in namespaces.items():
            path, answers = "/" if name == DEFAULT_NAMESPACE else f"/{name}", Answers(clock)
            served[path] = Served(path, each, admission, answers, NamespaceFraming(path, answers.expects))
        self._largest_message_bytes = max(each.role_limits.largest_message_bytes for each, _ in namespaces.values())
        self._server = SocketServer(
            served,
            self._admission,
            clock,
            random,
            times=EngineTimes(ping_interval_seconds, ping_timeout_seconds, namespace.limits.handshake_seconds),
            write_buffer_bytes=namespace.limits.write_buffer_bytes,
            largest_message_bytes=self._largest_message_bytes,
        )

    def close(self) -> None:
        """End all connections, those too that have no session."""
        self._server.close()

    def routes(self) -> list[BaseRoute]:
        """What is served."""
        return [Route("/socket.io/", self), WebSocketRoute("/socket.io/", self)]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, or one connection over WebSocket."""
        try:
            with self._admission.counted():
                await self._admit(scope, receive, send)
        except TidegateError as error:
            await _refuse(scope, receive, send, error)
        except ClientDisconnect:
            pass  # amid what it sent: nothing of that counts

    async def _admit(self, scope: Any, receive: Any, send: Any) -> None:
        caller = Caller.of(scope)
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        sid = query.get("sid")
        if sid is None:
            await self._open(scope, receive, send, caller, query)
            return
        with self._admission.charged(caller):
            self._admission.check_origin(caller)
            socket = await self._find(sid, caller)
            _check_request(scope, query, socket)
            if scope["type"] == "http" and scope["method"] == "POST":
                request = Request(scope, receive)
                receive = _received(await read_body(request, self._largest_message_bytes, self._admission, caller))
        if socket.closed:
            words = self._server.eio.last_words(socket) if scope["method"] == "GET" else b"ok"
            await _answer(send, 200, [NO_STORE, (b"content-type", b"text/plain; charset=UTF-8")], words)
            return
        await self._server.handle_request(scope, receive, send)

    async def _open(self, scope: Any, receive: Any, send: Any, caller: Caller, query: dict[str, list[str]]) -> None:
        with ExitStack() as held:
            seat = held.enter_context(self._admission.connection(caller))
            _check_handshake(scope, query)
            arrival = Arrival(caller, seat, Budget(self._role_limits.of(None), self._clock))
            try:
                arrival.identity = await self._admission.identify(caller)
            except TidegateError as error:
                arrival.problem = error
            scope = {**scope, ARRIVAL: arrival}
            await self._server.handle_request(scope, receive, send)
            if arrival.taken:
                held.pop_all()

    async def _find(self, sids: list[str], caller: Caller) -> EngineSocket:
        """The connection that a request is for: to know its id isn't enough.

        Raises:
            _Unfit: there is none, or it is somebody else's. Both are the same to who asks.
        """
        sid, engine = sids[0] if len(sids) == 1 else "", self._server.eio
        socket: EngineSocket | None = engine.sockets.get(sid) or engine.leaving.get(sid)
        if socket is None or not await self._owns(socket.arrival, caller):
            raise _Unfit(UNKNOWN_SID)
        return socket

    async def _owns(self, arrival: Arrival, caller: Caller) -> bool:
        first = arrival.caller
        if caller.network != first.network:
            return False
        if (caller.bearer, caller.cookie) == (first.bearer, first.cookie):
            return True
        try:  # a cookie may have been renewed
            identity = await self._admission.identify(replace(caller, ticket=None, method="GET"))
        except TidegateError:
            return False
        return identity is not None and arrival.identity is not None and identity.user == arrival.identity.user


def _received(body: bytes) -> Any:
    """A body as what the library receives."""

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _transport_of(query: dict[str, list[str]]) -> str:
    (transport,) = query.get("transport", [""])[-1:]
    if transport not in ("polling", "websocket"):
        raise _Unfit(UNKNOWN_TRANSPORT)
    return transport


def _check_handshake(scope: Any, query: dict[str, list[str]]) -> None:
    transport = _transport_of(query)
    if scope["type"] == "http" and scope["method"] != "GET":
        raise _Unfit(BAD_METHOD)
    if (transport == "websocket") != (scope["type"] == "websocket") or "j" in query:
        raise _Unfit(BAD_REQUEST)
    if query.get("EIO") != ["4"]:
        raise _Unfit(UNSUPPORTED_VERSION)


def _check_request(scope: Any, query: dict[str, list[str]], socket: EngineSocket) -> None:
    transport = _transport_of(query)
    fit = (transport == "websocket") == (scope["type"] == "websocket") and "j" not in query
    if not fit or socket.upgraded or not socket.connected:
        raise _Unfit(BAD_REQUEST)
    if scope["type"] == "websocket" and socket.upgrading:
        raise _Unfit(BAD_REQUEST)
    if scope["type"] == "http" and scope["method"] not in ("GET", "POST"):
        raise _Unfit(BAD_REQUEST)


async def _refuse(scope: Any, receive: Any, send: Any, error: TidegateError) -> None:
    """Answer as Engine.IO does: its own code, and what Tidegate says in `data`."""
    status, headers, _ = problem(error)
    if isinstance(error, _Unfit):
        content: dict[str, Any] = {"code": error.engine_code, "message": error.message}
    else:
        code = FORBIDDEN if status in (401, 403, 429, 503) else BAD_REQUEST
        content = {"code": code, **connect_error(error)}
    body = orjson.dumps(content)
    kept = [(name, value) for name, value in headers if name not in (b"content-type", b"content-length")]
    headers = [*kept, (b"content-type", b"application/json")]
    prefix = "http"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008, "reason": error.code})
            return
        prefix = "websocket.http"
    await _answer(send, status, headers, body, prefix)


async def _answer(
    send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes, prefix: str = "http"
) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": f"{prefix}.response.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": body})
