"""Socket.IO over those connections: the library's server, which reads packets and says what each is.

Who may connect to a namespace, what a client says there and what it missed is ours.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import socketio

from bridges.carrier_requests import resolve, settled
from bridges.socketio_client import Client, ClientSink, Served
from bridges.socketio_engine import EngineServer
from bridges.socketio_framing import CONNECT, CONNECT_ERROR, Frames, packet
from bridges.socketio_memory import Away, Memory
from bridges.socketio_packets import Malformed, StrictPacket
from bridges.socketio_socket import Arrival, EngineSocket
from gateway.core.access import Action, Grants
from gateway.core.admission import Admission
from gateway.core.clock import Clock
from gateway.core.engine import Reading, Wanted
from gateway.core.errors import BadMessage, InternalError, NoSuchEndpoint, ShuttingDown, TidegateError, Unauthenticated
from gateway.core.identity import Identity
from gateway.core.limit_errors import RateLimited
from gateway.core.message import Cursor
from gateway.core.namespace import Namespace
from gateway.core.presence_wire import read_member
from gateway.core.sample import rank_of
from gateway.core.wire_requests import Subscribe, read_cursor

__all__ = ["SocketServer"]

logger = logging.getLogger(__name__)


class _Clients(socketio.AsyncManager):  # type: ignore[misc] # the library has no types
    """Tells the library which connection has a client in which namespace; its own lists aren't kept."""

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str | None:
        socket = self.server.eio.sockets.get(eio_sid)
        client = None if socket is None else socket.clients.get(namespace)
        return None if client is None else client.session.id


class SocketServer(socketio.AsyncServer):  # type: ignore[misc] # the library has no types
    """All clients of Socket.IO.

    Args:
        served: The namespaces, by their paths.
        admission: Who may open a connection.
        options: Those of `EngineServer`.
    """

    def __init__(
        self, served: Mapping[str, Served], admission: Admission, clock: Clock, random: Random, **options: Any
    ) -> None:
        self._served = served
        self._admission = admission
        self._memory = Memory(clock, random)
        quiet = logging.Logger("socketio", logging.CRITICAL)  # noqa: LOG001 - what it says is for its developers
        super().__init__(
            serializer=StrictPacket,
            client_manager=_Clients(),
            logger=quiet,
            clock=clock,
            frames=Frames(served["/"].framing.frame),
            refused=self._refused,
            forgotten=self._forget,
            **options,
        )

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    def _refused(self, why: str) -> None:
        self._served["/"].namespace.counters.refuse(BadMessage(why))

    def close(self) -> None:
        """End all connections."""
        for socket in tuple(self.eio.sockets.values()):
            socket.shut(ShuttingDown.code, ShuttingDown.close_code or 1012)

    def _forget(self, sid: str) -> None:
        self._binary_packet.pop(sid, None)

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        """Take one packet, or an attachment of one. Nothing that comes makes it raise."""
        socket: EngineSocket = self.eio.sockets[eio_sid]
        try:
            if (eio_sid in self._binary_packet) != isinstance(data, bytes) or data == "":
                raise Malformed("expected packets, and attachments where they were announced")  # noqa: TRY301
            if isinstance(data, bytes):
                before = socket.frame
                socket.frame = (before.encode() if isinstance(before, str) else before) + data
            else:
                socket.frame = data
            await super()._handle_eio_message(eio_sid, data)
        except (Malformed, ValueError, RecursionError) as malformed:
            socket.broken(str(malformed))
        except Exception:
            logger.exception("what a client of Socket.IO sent could not be handled")
            socket.shut(InternalError.code, InternalError.close_code or 1011)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: dict[str, Any] | None) -> None:
        socket: EngineSocket = self.eio.sockets[eio_sid]
        path = namespace or "/"
        served = self._served.get(path)
        try:
            admission = self._admission if served is None else served.admission
            with admission.counted(), self._admission.charged(socket.arrival.caller):
                socket.arrival.budget.spend(len(socket.frame))
                if served is None:
                    raise NoSuchEndpoint("Invalid namespace")
                await self._connect(socket, served, data or {})
        except TidegateError as error:
            prefix = b"" if path == "/" else path.encode() + b","
            socket.outlet.write(packet(CONNECT_ERROR, prefix, None, connect_error(error)))
            if isinstance(error, RateLimited):
                socket.shut(error.code, error.close_code or 1008)

    async def _connect(self, socket: EngineSocket, served: Served, auth: dict[str, Any]) -> None:
        if served.path in socket.clients:
            raise BadMessage("expected one connection to each namespace, and there is one")
        arrival = socket.arrival
        with ExitStack() as held:
            own = None if served.path == "/" else held.enter_context(served.admission.connection(arrival.caller))
            identity = await self._identify(served, arrival, auth)
            (own or arrival.seat).identify(identity)
            grants = served.namespace.access.of(identity)
            away = self._away(served, grants, auth)
            requests = None if away is None else await missed(served.namespace, grants, away, offset_of(auth))
            if socket.closed or served.path in socket.clients:
                return
            secret = self._memory.secret() if requests is None else str(auth["pid"])
            member = read_member(auth["member"]) if auth.get("member") is not None else None
            sink = ClientSink(socket.outlet, served.framing.frame)
            session = served.namespace.open("socketio", sink, grants, member=member, seat=own or arrival.seat)
            if session.ended:
                raise Unauthenticated("the rules have changed: connect again")
            client = sink.client = Client(socket, served, session, self._memory, secret, own)
            held.pop_all()
        self._welcome(socket, client, served, requests or [])

    def _welcome(self, socket: EngineSocket, client: Client, served: Served, requests: list[Subscribe]) -> None:
        socket.clients[served.path] = client
        self._memory.enter(client.secret, served.path, client.session.user, partial(socket.shut, "transport close"))
        greeting = {"sid": client.session.id, "pid": client.secret}
        socket.outlet.write(packet(CONNECT, served.framing.prefix, None, greeting))
        client.greet(self.eio.times.ping_interval_seconds)
        client.resubscribe(requests)

    async def _identify(self, served: Served, arrival: Arrival, auth: dict[str, Any]) -> Identity:
        """Who connects to a namespace: by the token that it shows for that, or else by its handshake."""
        token = auth.get("token")
        if token is None:
            if arrival.problem is not None:
                raise arrival.problem
            if arrival.identity is None:
                raise Unauthenticated("expected `auth: {token}`, `?ticket=` with a ticket, or a login")
            return arrival.identity
        if not isinstance(token, str):
            raise Unauthenticated("auth.token: expected a string")
        caller = replace(arrival.caller, bearer=token, ticket=None, cookie=None)
        return await served.admission.require(caller)

    def _away(self, served: Served, grants: Grants, auth: dict[str, Any]) -> Away | None:
        """What is remembered of a client that comes back; its old connection ends, if nobody has noticed that yet."""
        secret = auth.get("pid")
        if not isinstance(secret, str):
            return None
        self._memory.replace(secret, served.path, grants.user)
        return self._memory.take(secret, served.path, grants.user)

    async def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None:  # noqa: ARG002
        socket: EngineSocket = self.eio.sockets[eio_sid]
        client = socket.clients.get(namespace or "/")
        if client is None:
            self._stray(socket)
        else:
            client.leave(comes_back=False)

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: list[Any]) -> None:  # noqa: A002
        socket: EngineSocket = self.eio.sockets[eio_sid]
        client = socket.clients.get(namespace or "/")
        if client is None:
            self._stray(socket)
            return
        client.take(socket.frame, id, data)
        if client.waits:
            await client.settle()

    async def _handle_ack(self, eio_sid: str, namespace: str | None, id: int, data: list[Any]) -> None:  # noqa: A002
        socket: EngineSocket = self.eio.sockets[eio_sid]
        client = socket.clients.get(namespace or "/")
        if client is None:
            self._stray(socket)
        else:
            client.acknowledged(socket.frame, id, data)

    def _stray(self, socket: EngineSocket) -> None:
        """What comes for a namespace that the client isn't in, or has just been told to leave, goes nowhere."""
        try:
            socket.arrival.budget.spend(len(socket.frame))
        except TidegateError as error:
            socket.shut(error.code, error.close_code or 1008)


def connect_error(error: TidegateError) -> dict[str, Any]:
    """What a client is told of why it can't connect: the message and data of its `connect_error`."""
    if isinstance(error, NoSuchEndpoint):
        return {"message": error.message}  # as the reference implementation has it
    data: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.retry_after_seconds is not None:
        data["retry_after_seconds"] = error.retry_after_seconds
    return {"message": error.message, "data": data}


def offset_of(auth: dict[str, Any]) -> Cursor | None:
    """The cursor of what a client that comes back got at last."""
    offset = auth.get("offset")
    try:
        return read_cursor("offset", offset) if isinstance(offset, str) else None
    except BadMessage:
        return None


async def missed(namespace: Namespace, grants: Grants, away: Away, offset: Cursor | None) -> list[Subscribe] | None:
    """What a client that comes back is to be subscribed to; None if it can't be told all that it missed."""
    await settled(namespace.engine)
    wanted: dict[str, Wanted] = {}
    requests = away.requests(None if offset is None else namespace.engine.position(offset))
    for request in requests:
        position = None if request.since is None else namespace.engine.position(request.since)
        if position is None or not all(grants.allows(Action.SUBSCRIBE, room) for room in request.rooms):
            return None
        latest, rank = request.sample is not None, rank_of(request.sample)
        wanted |= {room: Wanted(position, position, latest, rank) for room in request.rooms}
    found: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
    namespace.engine.read(wanted, 1, partial(resolve, found))
    reading = await found
    return None if reading.incomplete else requests
