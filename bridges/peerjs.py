"""PeerJS clients: the PeerServer protocol under `/peerjs`, by which two browsers find one another for WebRTC.

The thin shell around `peerjs_conversation`: it lets clients in, carries frames, and makes sure that a peer's session
ends; and the endpoints over HTTP: a new id, who is there, and which STUN and TURN servers to use. Each `key` is a room.
"""

import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any, Final
from urllib.parse import parse_qs
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from bridges.carrier_frames import text_frame
from bridges.carrier_serving import deny, exchange, send_close
from bridges.peerjs_conversation import Call, Exchange
from bridges.peerjs_ice import IceServer, ice_servers
from bridges.peerjs_protocol import Handshake, Ids, check_id, read_handshake, refusal, told
from bridges.peerjs_switchboard import Switchboard, SwitchboardBounds
from gateway.core.access import Action, Grants
from gateway.core.admission import Admission, Caller
from gateway.core.authentication import PREFIX
from gateway.core.clock import Clock
from gateway.core.connections import Seat
from gateway.core.errors import Forbidden, NoPresence, TidegateError, Unauthenticated
from gateway.core.namespace import Namespace
from gateway.core.peer_errors import InvalidKey
from gateway.core.problem import problem
from gateway.core.shared_limits import SharedLimits
from gateway.core.sink import BufferSink, Sink, TransportSink, WebSocketTransport
from gateway.core.topics import InvalidName, check_name, filter_matches

__all__ = ["PeerJsBridge", "PeerJsOptions"]

_TICKET = re.compile(r"[0-9a-f]{48}")
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)

NO_STORE: Final = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class PeerJsOptions:
    """What the configuration says."""

    rooms: tuple[str, ...] = ("peerjs",)
    """The rooms, or filters over rooms, that a client's `key` may name."""
    ids: Ids = "any"
    alive_seconds: float = 90.0
    """How long a client may say nothing, not even `HEARTBEAT`."""
    bounds: SwitchboardBounds = field(default_factory=SwitchboardBounds)
    ice_servers: tuple[IceServer, ...] = ()
    turn_seconds: float = 43_200.0
    """How long TURN credentials hold."""


class PeerJsBridge:
    """The endpoints of a namespace for PeerJS; called as an ASGI application, the WebSocket."""

    def __init__(
        self,
        namespace: Namespace,
        admission: Admission,
        options: PeerJsOptions,
        clock: Clock,
        random: Random,
    ) -> None:
        self._namespace = namespace
        self._admission = admission
        self._options = options
        self._clock = clock
        self._random = random
        self._switchboard = Switchboard(options.bounds, clock, namespace.counters)
        self._exchange = Exchange(namespace, self._switchboard, clock, options.alive_seconds)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection: from handshake to close, or until the server goes on by itself."""
        await receive()  # websocket.connect
        accepted = False
        try:
            with self._admission.counted(), ExitStack() as held:
                caller = Caller.of(scope)
                seat = held.enter_context(self._admission.connection(caller))
                # From here on it is told in its own terms what is wrong: of another answer it sees only that it failed.
                await send({"type": "websocket.accept"})
                accepted = True
                asked, grants = await self._let_in(caller, scope["query_string"])
                seat.identify(grants.identity)
                client = _Client(asked, grants, seat)
                transport: WebSocketTransport | None = scope.get("extensions", {}).get("tidegate")
                if transport is not None:
                    self._hand_over(transport, client)
                    held.pop_all()
                else:
                    await self._serve_buffered(client, receive, send)
        except TidegateError as error:
            await (_turn_away(send, error) if accepted else deny(scope, send, error))

    def share(self, shared: SharedLimits) -> None:
        """Limit what all nodes' peers say together."""
        self._exchange.rates.share(f"{self._namespace.name}/peers", shared)

    def _hand_over(self, transport: WebSocketTransport, client: "_Client") -> None:
        call = self._open(TransportSink(transport, _framed), client)
        try:
            transport.watch(self._namespace.limits.write_buffer_bytes, call.session)
            call.begin(client.asked.id, client.asked.token)
            transport.speak(_framed)
            transport.hand_over(call)
        except BaseException:
            call.end()
            raise

    async def _serve_buffered(self, client: "_Client", receive: Any, send: Any) -> None:
        sink = BufferSink(_plain, self._namespace.limits.write_buffer_bytes)
        call = self._open(sink, client)
        try:
            sink.watch(call.session)
            call.begin(client.asked.id, client.asked.token)
            await exchange(call, receive, partial(_send_from, sink, send))
        finally:
            call.end()

    def _open(self, sink: Sink, client: "_Client") -> Call:
        session = self._namespace.open("peerjs", sink, client.grants, member=client.asked.id, seat=client.seat)
        return Call(session, client.asked.key, self._exchange)

    async def _let_in(self, caller: Caller, query: bytes) -> tuple[Handshake, Grants]:
        asked = read_handshake(parse_qs(query.decode("latin-1"), keep_blank_values=True))
        identity = await self._admission.require(_showing(caller, asked.token))
        self._check_key(asked.key)
        grants = self._namespace.access.of(identity)
        grants.check(Action.SUBSCRIBE, asked.key)
        if not check_id(asked.id, grants.user, self._options.ids):
            raise Forbidden(f"the id {asked.id!r} is not allowed to {grants.user or 'anonymous clients'}: see GET /id")
        return asked, grants

    def _check_key(self, key: str) -> None:
        try:
            check_name(key)
        except InvalidName:
            raise InvalidKey("Invalid key provided: expected the name of a room") from None
        if not any(filter_matches(room, key) for room in self._options.rooms):
            raise InvalidKey(f"Invalid key provided: no calls are made in {key[:200]!r}")

    async def new_id(self, request: Request) -> Response:
        """An id that nobody has; whoever asks, since the client can't show who it is when it does."""

        async def answer(caller: Caller) -> Response:
            with self._admission.charged(caller):
                identity = await self._admission.identify(caller)
            self._admission.spend(caller, identity)
            user = None if identity is None or self._options.ids == "any" else identity.user
            fresh = str(UUID(int=self._random.getrandbits(128), version=4))
            return Response(
                fresh if user is None else f"{user}-{fresh[24:]}", media_type="text/plain", headers=NO_STORE
            )

        return await self._served(request, answer)

    async def peers(self, request: Request) -> Response:
        """The ids of those who can be called in a room, if it may be known who is there."""

        async def answer(caller: Caller) -> Response:
            with self._admission.charged(caller):
                grants = self._namespace.access.of(await self._admission.require(caller))
            self._admission.spend(caller, grants.identity)
            room = request.path_params["key"]
            self._check_key(room)
            grants.check(Action.PRESENCE, room)
            self._namespace.attendance.check(room)
            return _json(self._switchboard.ids(room))

        return await self._served(request, answer, unlisted=True)

    async def ice(self, request: Request) -> Response:
        """The STUN and TURN servers, as `new Peer({config})` and `new RTCPeerConnection` take them."""

        async def answer(caller: Caller) -> Response:
            with self._admission.charged(caller):
                identity = await self._admission.require(caller)
            self._admission.spend(caller, identity)
            expires_at = self._clock.time() + self._options.turn_seconds
            return _json({"iceServers": ice_servers(self._options.ice_servers, identity.user, expires_at)})

        return await self._served(request, answer)

    async def _served(
        self, request: Request, answer: Callable[[Caller], Awaitable[Response]], *, unlisted: bool = False
    ) -> Response:
        """An answer, or why there is none; `unlisted` if a client takes 401 for that who is there isn't to be known."""
        caller = Caller.of(request.scope)
        try:
            with self._admission.counted():
                with self._admission.charged(caller):
                    self._admission.check_origin(caller)
                return await answer(caller)
        except TidegateError as error:
            hidden = unlisted and isinstance(error, (Forbidden, NoPresence, InvalidKey, Unauthenticated))
            status, headers, body = problem(error, **({"status": 401} if hidden else {}))
            response = Response(body, 401 if hidden else status)
            response.raw_headers = headers
            return response


@dataclass(frozen=True, slots=True)
class _Client:
    """Who has come, as what."""

    asked: Handshake
    grants: Grants
    seat: Seat


def _showing(caller: Caller, token: str) -> Caller:
    """A caller with the client's `token`, if that is something that says who it is and there is nothing else.

    The client makes up a token if it is given none: that is no credential, and shows nothing. One that looks like a
    credential is taken for one, and refused if it isn't.
    """
    if caller.bearer is not None or caller.ticket is not None:
        return caller
    if token.startswith(PREFIX) or _JWT.fullmatch(token):
        return replace(caller, bearer=token)
    return replace(caller, ticket=token) if _TICKET.fullmatch(token) else caller


def _plain(kind: str, text: bytes, cursor: str | None = None) -> bytes:  # noqa: ARG001 - a `Framing`
    return told(kind, text)


def _framed(kind: str, text: bytes, cursor: str | None = None) -> bytes:  # noqa: ARG001 - a `Framing`
    """A text frame; what a peer isn't told makes none."""
    said = told(kind, text)
    return text_frame(said) if said else b""


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json", headers=NO_STORE)


async def _send_from(sink: BufferSink, send: Any) -> None:
    async def send_one(text: bytes) -> None:
        if text:
            await send({"type": "websocket.send", "text": text.decode()})

    await send_close(send, *await sink.pump(send_one))


async def _turn_away(send: Any, error: TidegateError) -> None:
    """Tell a client whose handshake was accepted why it can't stay."""
    await send({"type": "websocket.send", "text": refusal(error).decode()})
    await send({"type": "websocket.close", "code": error.close_code or 1000, "reason": error.code})
