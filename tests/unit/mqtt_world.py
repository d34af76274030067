"""Clients of MQTT without a network: a namespace, and connections that are fed bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from bridges.mqtt_websocket import MqttOptions, MqttWebSocketBridge
from bridges.mqtt_websocket_answers import publish
from bridges.mqtt_websocket_connection import Connection
from bridges.mqtt_websocket_frames import Framings
from bridges.mqtt_websocket_packets import PacketReader, Publish
from gateway.core.access import Access, AccessRule, Action
from gateway.core.admission import Admission, Caller
from gateway.core.authentication import Authentication, Verifier, hash_token
from gateway.core.identity import ANONYMOUS, Identity
from gateway.core.limits import Limits
from gateway.core.logins import Logins
from gateway.core.offenders import OffenceBounds, Offenders
from gateway.core.origins import Origins
from gateway.core.room_rules import RoomRule
from gateway.core.routes import Direction, PayloadKind, RouteSpec
from gateway.core.sink import Framing
from gateway.core.tickets import Tickets
from tests import mqtt_speech as speech
from tests.unit.conftest import World, make_world

ROUTES = [
    RouteSpec("sensors/{site}/{device}/{metric}", "sites/{site}/{device}/{metric}", payload=PayloadKind.JSON),
    RouteSpec("lamps/{name}", "lamps/all"),
    RouteSpec("commands/{device}", "devices/{device}/commands", Direction.TO_DEVICE, PayloadKind.JSON, qos=1),
]
EVE = Identity("eve", frozenset({"crew"}))
BOB = Identity("bob", frozenset({"crew"}))
TOKENS = {hash_token("eves"): EVE, hash_token("bobs"): BOB}


@dataclass
class BytesSink:
    """Keeps what is written."""

    written: bytearray = field(default_factory=bytearray)
    closed: tuple[int, str] | None = None
    paused: bool = False
    joins: bool = False

    def frame(self, kind: str, text: bytes, cursor: str | None) -> bytes:
        return text

    @property
    def framing(self) -> Framing:
        return self.frame

    @property
    def fan_out(self) -> Callable[[bytes], None]:
        return self.write

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or (code, reason)


class Peer:
    """One client, and its connection."""

    def __init__(self, connection: Connection, sink: BytesSink, version: int) -> None:
        self.connection = connection
        self.sink = sink
        self.version = version

    def say(self, *packets: bytes) -> "Peer":
        """Send packets, each in a frame; it returns itself."""
        for packet in packets:
            self.connection.receive(packet)
        return self

    async def say_and_wait(self, *packets: bytes) -> list[tuple[int, bytes]]:
        """Send packets, wait for what they wait for, and take the answers."""
        self.say(*packets)
        while self.connection.waits:
            await self.connection.settle()
        return self.heard()

    def heard(self) -> list[tuple[int, bytes]]:
        """The packets that have come."""
        taken, self.sink.written = bytes(self.sink.written), bytearray()
        return speech.read_all(taken)

    def messages(self) -> list[Publish]:
        """The messages among them; nothing else may have come."""
        reader = PacketReader(1_000_000)
        reader.version = self.version
        reader.feed(bytes(self.sink.written))
        self.sink.written.clear()
        found: list[Publish] = []
        while (packet := reader.next()) is not None:
            assert isinstance(packet[0], Publish), packet
            found.append(packet[0])
        return found

    def publish(self, topic: str, payload: bytes, qos: int = 1, packet_id: int = 1, **fields: Any) -> "Peer":
        """Send a message."""
        return self.say(publish(self.version, topic, payload, qos=qos, packet_id=packet_id if qos else 0, **fields))

    def subscribe(self, *filters: tuple[str, int], **options: Any) -> "Peer":
        """Subscribe."""
        return self.say(speech.subscribe(9, *filters, version=self.version, **options))

    @property
    def session(self) -> Any:
        """Its session."""
        assert self.connection.sink.session is not None
        return self.connection.sink.session


class MqttWorld:
    """A namespace that is open to clients of MQTT."""

    def __init__(
        self,
        limits: Limits | None = None,
        options: MqttOptions | None = None,
        *,
        tokens: Mapping[str, Identity] | None = None,
        anonymous: Identity | None = ANONYMOUS,
        verifier: Verifier | None = None,
        logins: Logins | None = None,
        rules: list[RoomRule] | None = None,
    ) -> None:
        self.world: World = make_world(limits, ROUTES, rules)
        self.clock, self.namespace = self.world.clock, self.world.namespace
        self.counters = self.namespace.counters
        self.offenders = Offenders(OffenceBounds(offences=1000), self.clock)
        tickets = Tickets(30, self.clock, Random(1))
        authentication = Authentication(self.clock, tickets, tokens, verifier, anonymous, logins)
        self.admission = Admission(
            Origins(), self.namespace.role_limits, self.clock, self.counters, authentication, self.offenders
        )
        self.bridge = MqttWebSocketBridge(
            self.namespace, self.admission, self.counters, self.clock, options or MqttOptions()
        )

    def allow(self, **allowed: tuple[str, ...]) -> None:
        """Let the role `crew` do this, and nobody anything else."""
        allows = {Action(action): filters for action, filters in allowed.items()}
        self.namespace.access = Access([AccessRule(frozenset({"crew"}), allows)])

    def peer(self, version: int = 5, shown: Identity | None = ANONYMOUS) -> Peer:
        """A client that has done its handshake."""
        caller, sink = Caller(None, "localhost", "192.0.2.1"), BytesSink()
        connection = self.bridge.connection(caller, self.admission.connection(caller), shown, sink, direct=False)
        return Peer(connection, sink, version)

    def join(self, version: int = 5, shown: Identity | None = ANONYMOUS, **options: Any) -> Peer:
        """A client that is connected."""
        peer = self.peer(version, shown)
        peer.say(speech.connect(version, **options))
        assert peer.heard()[0][0] == 0x20
        return peer


__all__ = ["BOB", "EVE", "TOKENS", "BytesSink", "Framings", "MqttWorld", "Peer"]
