"""One connection of a client of MQTT, sans-I/O: bytes in, packets out through its sink.

Nothing that a client sends makes it raise. What a client does wrong ends its connection, with a reason where its
version of MQTT can tell one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import orjson

from bridges.mqtt_websocket_answers import PINGRESP, connack, disconnect
from bridges.mqtt_websocket_client import Client
from bridges.mqtt_websocket_connect import Connect
from bridges.mqtt_websocket_fields import MqttError, Property, Reason, violation
from bridges.mqtt_websocket_frames import Notice
from bridges.mqtt_websocket_login import identify, shows_something
from bridges.mqtt_websocket_packets import (
    Acknowledgement,
    Disconnect,
    Packet,
    PacketReader,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
)
from bridges.mqtt_websocket_reasons import goodbye_of, reason_of, refusal_of, told
from bridges.mqtt_websocket_served import HEAD_BYTES, Served
from bridges.mqtt_websocket_sink import MqttSink
from gateway.core.admission import Caller
from gateway.core.connections import Seat
from gateway.core.errors import InternalError, TidegateError, Unauthenticated
from gateway.core.identity import Identity
from gateway.core.sink import Sink

__all__ = ["Connection"]

logger = logging.getLogger(__name__)

UNSUPPORTED_DATA: Final = 1003
"""Close code for text frames: MQTT is in binary ones (MQTT 5 §6.0.0-1)."""
PROTOCOL_ERROR: Final = 1002
POLICY: Final = 1008
OFFENCES: Final = frozenset(
    {
        Reason.MALFORMED,
        Reason.PACKET_TOO_LARGE,
        Reason.PROTOCOL_ERROR,
        Reason.RECEIVE_MAXIMUM_EXCEEDED,
        Reason.TOPIC_ALIAS_INVALID,
    }
)
"""What no client does that keeps to the protocol."""
LONGEST_DELAY_SECONDS: Final = 10.0
"""For so long a client is read no further; one that would have to wait for longer is disconnected."""
KEEP_ALIVE: Final = 1.5
"""How many times its keep-alive a client may be silent (MQTT 5 §3.1.2.10)."""


class Connection:
    """A connection, and the `Receiver` of its frames."""

    def __init__(
        self, served: Served, caller: Caller, seat: Seat, shown: Identity | None, inner: Sink, *, direct: bool
    ):
        self._served = served
        self._caller = caller
        self._seat = seat
        self._shown = shown
        """Who it is by its handshake."""
        self._direct = direct
        self.sink = MqttSink(inner, served.counters, served.framings[4, direct], self._bye)
        limits = served.namespace.role_limits
        self._reader = PacketReader(limits.largest_message_bytes + HEAD_BYTES)
        self._client: Client | None = None
        self._waiting: Callable[[], Awaitable[None]] | None = None
        self._seen = served.clock.monotonic()
        self._over = False
        served.wheel.add(self, served.namespace.limits.handshake_seconds)

    def receive(self, frame: str | bytes) -> None:
        """Take a frame: packets may be split over several, and several may be in one (MQTT 5 §6.0.0-2)."""
        if self._over:
            return
        self._seen = self._served.clock.monotonic()
        if isinstance(frame, str):
            self.fail(violation("a text frame: expected binary ones"), UNSUPPORTED_DATA)
            return
        self._served.counters.received_bytes["mqtt"] += len(frame)
        if self._reader.feed(frame):
            self.sink.aside(len(frame))
        self._guarded(self._go_on)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except MqttError as error:
            self.fail(error)
        except Exception:
            logger.exception("a packet of an MQTT client failed")
            fault = InternalError("the gateway failed to handle a packet; its log says why")
            self.fail(MqttError(Reason.UNSPECIFIED, told(fault)), InternalError.close_code)

    def _go_on(self) -> None:
        while not self.waits and not self._over:
            found = self._reader.next()
            if found is None:
                return
            self._take(*found)

    def _take(self, packet: Packet, size_bytes: int) -> None:
        client = self._client
        if isinstance(packet, Connect):
            self._connect(packet)
        elif client is None or client.session.ended:
            return
        else:
            match packet:
                case Publish():
                    client.publishing.publish(packet, size_bytes)
                case Acknowledgement():
                    client.publishing.acknowledged(packet)
                case Subscribe():
                    self._charged(client, size_bytes, partial(client.subscribe, packet), partial(client.refuse, packet))
                case Unsubscribe():
                    self._charged(client, size_bytes, partial(client.subscribing.unsubscribe, packet), None)
                case Ping():
                    client.session.aside(0)
                    self.sink.send(PINGRESP)
                case Disconnect():
                    client.leave(packet)
                    self.end()

    def _charged(
        self,
        client: Client,
        size_bytes: int,
        act: Callable[[], None],
        refuse: Callable[[TidegateError], None] | None,
    ) -> None:
        """Do what costs as much as a message; in its time, if its refusal couldn't be told."""
        session = client.session
        try:
            session.budget.spend(min(size_bytes, session.limits.message_bytes))
        except TidegateError as error:
            if refuse is None or self._reader.version == 4:
                self._served.counters.refuse(error)
                self.delay(error, partial(self._charged, client, size_bytes, act, refuse))
            else:
                refuse(error)
                if session.budget.refuse():
                    session.end(error)
            return
        self._served.namespace.follow(session)
        if not session.ended:
            act()

    def delay(self, error: TidegateError | MqttError, then: Callable[[], None]) -> None:
        """Read nothing until what was refused may be tried again, and do that; or end, if that is never or late."""
        seconds = 0.0 if isinstance(error, MqttError) else error.retry_after_seconds or 0.0
        if not 0 < seconds <= LONGEST_DELAY_SECONDS:
            self.fail(MqttError(reason_of(error), told(error)))
            return

        async def wait() -> None:
            passed = asyncio.Event()
            self._served.clock.call_later(seconds, passed.set)
            await passed.wait()
            self._waiting = None
            if not self._over:
                self._guarded(then)

        self._waiting = wait

    @property
    def waits(self) -> bool:
        """Whether the last packet isn't dealt with yet."""
        return self._waiting is not None and not self._over

    async def settle(self) -> None:
        """Deal with it, and with what came in the same frame."""
        work = self._waiting
        if work is not None:
            await work()
            self._seen = self._served.clock.monotonic()
            if self._waiting is work:
                self._waiting = None
            self._guarded(self._go_on)

    def _connect(self, connect: Connect) -> None:
        self.sink.framings = self._served.framings[connect.version, self._direct]
        if Property.AUTHENTICATION_METHOD in connect.properties:
            self._refuse(MqttError(Reason.BAD_AUTHENTICATION_METHOD, "no authentication of several steps is served"))
        elif shows_something(connect, self._served.admission.authentication):
            self._waiting = partial(self._log_in, connect)
        elif self._shown is None:
            nothing = Unauthenticated("expected a token, or a user's password, as the password")
            self._refuse(nothing, Reason.NOT_AUTHORIZED)
        else:
            self._admit(connect, self._shown)

    async def _log_in(self, connect: Connect) -> None:
        admission = self._served.admission
        try:
            with admission.charged(self._caller):
                found = await identify(connect, self._shown, self._caller, admission, self._served.counters)
                admission.authentication.check(found)
        except TidegateError as error:
            self._refuse(error)
        else:
            if not self._over:
                self._guarded(partial(self._admit, connect, found))

    def _admit(self, connect: Connect, identity: Identity) -> None:
        try:
            self._seat.identify(identity)
            client = Client(self._served, connect, identity, self._seat, self.sink, self)
        except (TidegateError, MqttError) as error:
            self._refuse(error)
            return
        self._client = client
        client.greet()
        if client.keep_alive_seconds and not self._over:
            self._served.wheel.add(self, KEEP_ALIVE * client.keep_alive_seconds)
        else:
            self._served.wheel.discard(self)

    def _refuse(self, error: TidegateError | MqttError, reason: Reason | None = None) -> None:
        """Refuse a CONNECT."""
        if self._over:
            return
        if isinstance(error, TidegateError):
            self._served.counters.refuse(error)
        packet = connack(self._reader.version or 4, reason or refusal_of(error), {Property.REASON_STRING: told(error)})
        self.sink.send(packet)
        self.end(POLICY, told(error))

    def look(self) -> None:
        """See whether the client has been silent for too long: before CONNECT, or within its keep-alive."""
        if self._over:
            return
        client, patience_seconds = self._client, self._served.namespace.limits.handshake_seconds
        if client is not None:
            patience_seconds = KEEP_ALIVE * client.keep_alive_seconds
        left_seconds = self._seen + patience_seconds - self._served.clock.monotonic()
        if client is None or (left_seconds <= 0 and not self.waits):
            self.fail(MqttError(Reason.KEEP_ALIVE_TIMEOUT, f"nothing came for {patience_seconds:g} s"))
        else:
            self._served.wheel.add(self, max(left_seconds, 1.0))

    def fail(self, error: MqttError, code: int | None = None) -> None:
        """End the connection for what its client did, or didn't do; who breaks the rules of the protocol offends."""
        if self._over:
            return
        if self._reader.version is None and error.reason is Reason.UNSUPPORTED_VERSION:
            self.sink.send(connack(4, error.reason))
        self._say_goodbye(error.reason, error.message)
        if error.reason in OFFENCES:
            self._seat.offend()
        self.end(code or (PROTOCOL_ERROR if error.reason in OFFENCES else POLICY), error.message)

    def taken_over(self) -> None:
        """Another connection of the same client has come."""
        self._say_goodbye(Reason.TAKEN_OVER, "another connection has this client identifier")
        self.end(reason="taken over")
        self._seat.free()

    def _bye(self, notice: Notice) -> None:
        """The gateway ends the session; it closes the sink itself."""
        said = orjson.loads(bytes(notice))
        self._over = True
        self._say_goodbye(goodbye_of(said["code"]), f"{said['code']}: {said['reason']}")

    def _say_goodbye(self, reason: Reason, message: str) -> None:
        if self._reader.version == 5 and self._client is not None:
            self.sink.send(disconnect(reason, message))

    def end(self, code: int = 1000, reason: str = "") -> None:
        """End the connection in good order."""
        self._over = True
        if self._client is not None:
            self._client.session.end()
        self.sink.close(code, reason.encode()[:120].decode(errors="ignore"))

    def closed(self, *, offended: bool) -> None:
        """The connection is gone."""
        self._over = True
        self._served.wheel.discard(self)
        if offended:
            self._seat.offend()
        client, self._client = self._client, None  # it leads back here, and circles wait for a search for garbage
        if client is not None:
            client.session.end()
        self.sink.forget()
        self._seat.free()
