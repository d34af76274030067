"""What happens when a client speaks `tidegate.v1.json`: frames in, answers into the session's sink.

Sans-I/O like `wire`: the bridge feeds it, whatever carries the frames. Each request with an `id` gets exactly one
answer; without, errors only. No frame that a client can send makes it raise.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from gateway.core import wire, wire_requests
from gateway.core.access import Action
from gateway.core.authentication import Authentication, KeyUnknown
from gateway.core.bandwidth import bytes_per_second_out
from gateway.core.counters import Counters
from gateway.core.errors import InternalError, MessageTooLarge, TidegateError, Unauthenticated
from gateway.core.identity import ANONYMOUS
from gateway.core.limit_errors import RateLimited, TooManySubscriptions
from gateway.core.namespace import Namespace
from gateway.core.payload import Payload
from gateway.core.presence import Attendees
from gateway.core.presence_wire import attendees_fields
from gateway.core.publishing import Sending
from gateway.core.session import Session

__all__ = ["Conversation", "Parse"]

Parse: TypeAlias = Callable[[str | bytes], dict[str, Any]]
"""Reads the object in a frame; raises `BadMessage` if there is none."""

logger = logging.getLogger(__name__)


class Conversation:
    """One session's talk with the gateway."""

    __slots__ = ("_authentication", "_counters", "_heartbeat_seconds", "_namespace", "_parse", "_session", "_waiting")

    def __init__(
        self,
        session: Session,
        namespace: Namespace,
        counters: Counters,
        authentication: Authentication | None = None,
        parse: Parse = wire_requests.parse,
    ) -> None:
        self._parse = parse
        self._authentication = authentication
        self._waiting: tuple[str | bytes, KeyUnknown] | None = None
        """A frame that isn't answered yet, and what it waits for."""
        self._heartbeat_seconds = 0.0
        self._session = session
        self._namespace = namespace
        self._counters = counters

    def greet(self, heartbeat_seconds: float) -> None:
        """Say `welcome`, and which upstreams are away; or nothing yet to a client that has to say first who it is."""
        self._heartbeat_seconds = heartbeat_seconds
        identity = self._session.identity
        if identity is None or self._session.ended:
            return
        welcome = wire.encode(
            "welcome",
            session=self._session.id,
            identity=None if identity == ANONYMOUS else identity.fields(),
            namespace=self._namespace.name,
            heartbeat_seconds=heartbeat_seconds,
            limits=self._limits(),
        )
        self._session.send("welcome", welcome)
        self._namespace.upstream_states.tell(self._session)

    def _limits(self) -> dict[str, float | None]:
        """Those that a client can heed."""
        limits = self._session.limits
        return {
            "message_bytes": limits.message_bytes,
            "messages_per_second": limits.messages_per_second,
            "messages_burst": limits.messages_burst,
            "bytes_per_second": limits.bytes_per_second,
            "subscriptions": limits.subscriptions_per_connection,
            "requests_in_flight": limits.requests_in_flight,
            "idle_seconds": limits.idle_seconds,
            "bytes_per_second_out": bytes_per_second_out(self._session),
        }

    def receive(self, frame: str | bytes, *, again: bool = False) -> None:
        """Answer one frame, text or bytes, as the client's subprotocol has it; `again` if it is one that `waits`."""
        if self._session.ended:
            return
        identifier: wire_requests.RequestId = None
        try:
            if not again:
                self._spend(frame)
            value = self._parse(frame)
            identifier = wire_requests.request_id(value)
            request = wire_requests.read(value)
            self._namespace.follow(self._session)
            if not self._session.ended:
                self._act(request)
        except TidegateError as error:
            if isinstance(error, KeyUnknown) and not again:
                self._waiting = (frame, error)
            else:
                self.refuse(identifier, error)
        except Exception:
            logger.exception("a request of session %s failed", self._session.id)
            self._session.end(InternalError("the gateway failed to handle a message; its log says why"))
        else:
            self._session.budget.accept()

    def _spend(self, frame: str | bytes) -> None:
        size_bytes = len(frame.encode()) if isinstance(frame, str) else len(frame)
        self._counters.received_bytes[self._session.transport] += size_bytes
        self._session.budget.spend(size_bytes)

    @property
    def waits(self) -> bool:
        """Whether the last frame isn't answered yet: who fed it is to await `settle`, and to feed no other before."""
        return self._waiting is not None

    async def settle(self) -> None:
        """Wait for the key that the last frame's token was signed with, and answer."""
        if self._waiting is not None:
            frame, unknown = self._waiting
            await unknown.renew()
            self._waiting = None
            self.receive(frame, again=True)

    def closed(self, *, offended: bool) -> None:
        """The client is gone, or broke the rules of its protocol: its session is over, and its seat free."""
        seat = self._session.seat
        if offended and seat is not None:
            seat.offend()
        self._session.end()
        if seat is not None:
            seat.free()

    def refuse(self, identifier: wire_requests.RequestId, error: TidegateError) -> None:
        """Tell the client of an error; close the connection if it keeps going over a limit."""
        self._counters.refuse(error)
        self._session.send("error", wire.encode_error(identifier, error))
        if isinstance(error, MessageTooLarge) or self._session.identity is None:
            self._session.end(error if error.close_code is not None else Unauthenticated(error.message))
        elif isinstance(error, (RateLimited, TooManySubscriptions)):
            self._session.over_limit(error)

    def _act(self, request: wire_requests.Request) -> None:
        if self._session.identity is None and not isinstance(request, wire_requests.Authenticate):
            raise Unauthenticated("expected `auth` with a token before all else")
        match request:
            case wire_requests.Authenticate():
                self._authenticate(request)
            case wire_requests.Subscribe():
                self._namespace.subscribe(self._session, request)
            case wire_requests.Unsubscribe():
                self._namespace.unsubscribe(self._session, request.room)
                self._acknowledge(request.id)
            case wire_requests.Publish():
                self._publish(request)
            case wire_requests.DeviceRequest():
                self._request(request)
            case wire_requests.PresenceRequest():
                self._presence(request)
            case wire_requests.Bandwidth():
                self._namespace.recovery.limit_bandwidth(self._session, request.bytes_per_second)
                self._acknowledge(request.id)
            case wire_requests.Ping():
                self._session.send("pong", wire.encode("pong", request.id))

    def _authenticate(self, request: wire_requests.Authenticate) -> None:
        if self._authentication is None or not self._authentication.knows_tokens:
            raise Unauthenticated("this gateway knows no tokens: expected none")
        identity = self._authentication.identify(request.token)
        first = self._session.identity is None
        self._namespace.identify(self._session, identity)
        if first:
            self.greet(self._heartbeat_seconds)
        if request.id is not None:
            self._session.send("ack", wire.encode("ack", request.id, identity=identity.fields(), limits=self._limits()))

    def _publish(self, request: wire_requests.Publish) -> None:
        def done(error: TidegateError | None) -> None:
            if self._session.ended:
                return
            if error is None:
                self._acknowledge(request.id)
            else:
                self.refuse(request.id, error)

        sending = Sending.by(
            self._session,
            request.room,
            request.data,
            binary=request.binary,
            audience=request.audience,
            volatile=request.volatile,
            key=request.key,
        )
        self._namespace.publish(sending, done, self._session.grants)
        self._counters.published[self._session.transport] += 1

    def _request(self, request: wire_requests.DeviceRequest) -> None:
        def answered(answer: Payload | TidegateError) -> None:
            answer = self._still_allowed(Action.REQUEST, request.room) or answer
            if self._session.ended:
                return
            if isinstance(answer, TidegateError):
                self.refuse(request.id, answer)
            else:
                self._session.send("reply", wire.encode_reply(request.id, answer))

        self._session.grants.check(Action.REQUEST, request.room)
        self._namespace.requests.send(
            self._session.id,
            request.room,
            request.data,
            answered,
            timeout_seconds=request.timeout_seconds,
            binary=request.binary,
            limits=self._session.limits,
        )
        self._counters.published[self._session.transport] += 1

    def _still_allowed(self, action: Action, room: str) -> TidegateError | None:
        """Why an answer isn't for the client any more, if the rules have changed since it asked."""
        self._namespace.follow(self._session)
        try:
            self._session.grants.check(action, room)
        except TidegateError as error:
            return error
        return None

    def _presence(self, request: wire_requests.PresenceRequest) -> None:
        def answer(attendees: Attendees) -> None:
            if request.id is not None and not self._session.ended:
                self._session.send("reply", wire.encode("reply", request.id, data=attendees_fields(attendees)))

        self._namespace.attendance.ask(self._session, request, answer)

    def _acknowledge(self, identifier: wire_requests.RequestId) -> None:
        if identifier is not None:
            self._session.send("ack", wire.encode("ack", identifier))
