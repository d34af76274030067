"""One client of Socket.IO in one namespace: a session, its conversation, and its way out.

Events become objects of the wire protocol and are answered by `Conversation`, as frames of a WebSocket are; so limits,
access and errors are the same.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

from socketio import packet as library

from bridges.socketio_answers import Answers
from bridges.socketio_events import EMIT_OPTIONS, read_event, read_options
from bridges.socketio_framing import DISCONNECT, NamespaceFraming, packet
from bridges.socketio_memory import Memory, Place, places_of
from bridges.socketio_outlet import Outlet
from bridges.socketio_packets import StrictPacket, as_payload
from gateway.core.admission import Admission
from gateway.core.connections import Seat
from gateway.core.conversation import Conversation
from gateway.core.errors import BadMessage, TidegateError, error_table
from gateway.core.namespace import Namespace
from gateway.core.session import Session
from gateway.core.sink import Framing
from gateway.core.topics import filter_matches
from gateway.core.wire_requests import RequestId, Subscribe

__all__ = ["Client", "ClientSink", "Connection", "Served"]

RETRIED: Final = frozenset(error.code for error in error_table() if error.retry)
"""The codes of errors after which a client is to connect again."""


class Connection(Protocol):
    """The Engine.IO connection that a client shares with its other namespaces."""

    @property
    def outlet(self) -> Outlet:
        """Its way out."""
        ...

    def leave(self, path: str) -> None:
        """A client has left a namespace."""
        ...

    def shut(self, reason: str, code: int = 1000) -> None:
        """End it."""
        ...


@dataclass(slots=True)
class Served:
    """A namespace as it is served to clients of Socket.IO."""

    path: str
    namespace: Namespace
    admission: Admission
    answers: Answers
    framing: NamespaceFraming

    def receiver(self, options: dict[str, Any], room: Any) -> str:
        """The one session that is to acknowledge an event.

        Raises:
            BadMessage: the options name none that could, and may be told.
        """
        to = options.get("to")
        name = to.get("session") if isinstance(to, dict) else None
        found = self.namespace.sessions.get(name) if isinstance(name, str) else None
        if (
            found is None
            or found.transport != "socketio"
            or not any(filter_matches(each, str(room)) for each in found.rooms)
        ):
            raise BadMessage("to: expected the session of a Socket.IO client that is subscribed to the room")
        return found.id


class ClientSink:
    """Writes to the connection; clients of one namespace share the bytes."""

    __slots__ = ("_outlet", "client", "fan_out", "framing", "write")
    joins = True

    def __init__(self, outlet: Outlet, framing: Framing) -> None:
        self._outlet = outlet
        self.framing = framing
        self.write = outlet.write
        self.fan_out = outlet.write
        self.client: Client | None = None
        """Who is told when the gateway ends the session."""

    def close(self, code: int, reason: str) -> None:
        """Send the client away."""
        if self.client is not None:
            self.client.ended(code, reason)

    @property
    def paused(self) -> bool:
        """Whether as much waits as may."""
        return self._outlet.paused


class Client(Conversation):
    """What a client says in one namespace, and what becomes of it."""

    __slots__ = ("_args", "_asked", "_connection", "_identifier", "_memory", "_own_seat", "_served", "places", "secret")

    def __init__(
        self,
        connection: Connection,
        served: Served,
        session: Session,
        memory: Memory,
        secret: str,
        own_seat: Seat | None,
    ) -> None:
        super().__init__(
            session, served.namespace, served.namespace.counters, served.admission.authentication, self._read
        )
        self._connection = connection
        self._served = served
        self._memory = memory
        self._own_seat = own_seat
        """The seat that it has besides that of its connection."""
        self.secret = secret
        self.places: dict[str, Place] = {}
        """Where it was at last: a session that has ended doesn't know any more."""
        session.ending = self._note_places
        self._identifier: RequestId = None
        self._args: list[Any] = []
        self._asked: int | None = None

    @property
    def session(self) -> Session:
        """Its session."""
        return self._session

    def take(self, frame: str | bytes, identifier: int | None, args: list[Any]) -> None:
        """Answer one event; `frame` is all that came of it."""
        self._identifier, self._args, self._asked = identifier, args, None
        self.receive(frame)
        if not self.waits:
            self._identifier = None

    async def settle(self) -> None:
        """Wait for the key of the token that it has shown, and answer."""
        await super().settle()
        self._identifier = None

    def resubscribe(self, requests: list[Subscribe]) -> None:
        """Let a client that has come back go on where it was."""
        try:
            if requests and not self._session.ended:
                self._namespace.subscribe(self._session, *requests)
        except TidegateError as error:
            self.refuse(None, error)

    def _read(self, frame: str | bytes) -> dict[str, Any]:  # noqa: ARG002 - a `Parse`; the arguments have been read
        name, *args = self._args
        value = read_event(self._identifier, name, args)
        options = read_options(args, 3, EMIT_OPTIONS) if name == "emit" else {}
        if options.get("answer"):
            value["data"]["answer"] = self._asked = self._expect(value, options)
            value.pop("id", None)  # the answer is the receiver's, or an error
        return value

    def _expect(self, value: dict[str, Any], options: dict[str, Any]) -> int:
        identifier = self._identifier
        if identifier is None:
            raise BadMessage("emit: expected a function at its end, which is told the answer")

        def done(answer: list[Any] | TidegateError) -> None:
            if self._session.ended:
                return
            if isinstance(answer, TidegateError):
                self.refuse(identifier, answer)
            else:
                self.acknowledge(identifier, {"type": "reply", "data": answer})

        receiver = self._served.receiver(options, value["room"])
        return self._served.answers.expect(self._session, receiver, options.get("timeout_seconds"), done)

    def refuse(self, identifier: RequestId, error: TidegateError) -> None:
        """Tell the client of an error, by its acknowledgement if what is refused has one."""
        if identifier is None and self._identifier is not None:
            identifier = self._identifier
            if self._asked is not None:
                self._served.answers.forget(self._asked)
        super().refuse(identifier, error)

    def acknowledge(self, identifier: RequestId, value: Any) -> None:
        """Answer with something that may have buffers in it, for this client alone."""
        try:
            made = StrictPacket(library.ACK, data=[value], namespace=self._served.path, id=identifier)
            self._connection.outlet.write(as_payload(made))
        except RecursionError:
            self.refuse(identifier, BadMessage("the answer is nested too deeply"))

    def acknowledged(self, frame: str | bytes, number: int, answer: list[Any]) -> None:
        """The client acknowledges an event that it was sent."""
        self._session.aside(len(frame))
        if not self._session.ended:
            self._served.answers.take(number, self._session.id, answer)

    def ended(self, code: int, reason: str) -> None:
        """The gateway has ended the session. A client comes back by itself if its connection ends, and only then."""
        if reason in RETRIED:
            self._connection.shut(reason, code)
        else:
            self._connection.outlet.write(packet(DISCONNECT, self._served.framing.prefix, None, None))
            self.leave(comes_back=False)

    def pausing(self) -> None:
        """The client takes no more for now."""
        if not self._session.ended:
            self._session.pause()

    def _note_places(self) -> None:
        self.places = places_of(self._session)

    def leave(self, *, comes_back: bool) -> None:
        """The client is gone, perhaps to come back."""
        self._connection.leave(self._served.path)
        self._memory.leave(self.secret)
        self._session.end()
        self._served.answers.left(self._session.id)
        if self._own_seat is not None:
            self._own_seat.free()
        if comes_back and self.places:
            epoch = self._namespace.engine.epoch
            self._memory.keep(self.secret, self._served.path, self._session.user, epoch, self.places)
