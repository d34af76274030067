"""How an upstream's client is made: options in, an aiomqtt client out, and what its failures mean."""

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, Protocol

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridges.mqtt_pace import Pace
from bridges.mqtt_packet import Incoming
from bridges.mqtt_paho import PahoClient

__all__ = [
    "Client",
    "ClientEvents",
    "UpstreamOptions",
    "explain",
    "is_qos_refused",
    "is_taken_over",
    "make_client",
    "subscription_properties",
]

MAXIMUM_OUT_IN_FLIGHT: Final = 1000
"""So many messages are sent without waiting for an acknowledgement; fewer, if the broker says so."""

RECEIVE_MAXIMUM: Final = 1000
"""So many QoS 1 and 2 messages may the broker send without waiting for an acknowledgement (MQTT 5 §3.1.2.11.3)."""

SUSPICIOUS_LOSSES: Final = 2

UNSPECIFIED_ERROR: Final = 0x80
"""What paho makes of a connection that ends without a DISCONNECT."""

BAD_CREDENTIALS: Final = (0x86, 0x87)
KEEP_ALIVE_TIMEOUT: Final = 0x8D
SESSION_TAKEN_OVER: Final = 0x8E
QOS_NOT_SUPPORTED: Final = 0x9B


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """How to reach one broker."""

    name: str
    host: str
    port: int
    transport: Literal["tcp", "websockets"] = "tcp"
    path: str = "/mqtt"
    """For WebSocket."""
    tls: bool = False
    protocol: Literal["3.1.1", "5"] = "5"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    insecure: bool = False
    """Take any certificate."""
    client_id: str | None = None
    session: str | None = None
    """By which name packets are known, if the upstream has several sessions; else by the upstream's."""
    share: str | None = None
    """The group that shares the subscriptions, if any (MQTT 5 §4.8.2)."""
    keep_alive_seconds: int = 30
    persistent: bool = False
    """Let the broker keep the session, and QoS 1 and 2 messages, while the gateway is away; needs a client id."""
    session_expiry_seconds: int = 3600
    status_topic: str | None = "tidegate/status"
    """Where `online` and, as the last will, `offline` are retained."""
    connect_timeout_seconds: float = 10
    acknowledge_timeout_seconds: float = 8
    gather_seconds: float = 0.005
    """How long a message may wait for others, when they come fast; 0 for not at all."""
    maximum_packet_bytes: int = 16 * 1024 * 1024
    """The largest packet that is taken or sent."""
    reconnect_min_seconds: float = 0.5
    reconnect_max_seconds: float = 30


class ClientEvents(Protocol):
    """Who is told what comes, as it is read."""

    def connected(self, client: "Client", session_present: bool) -> None:
        """The broker has accepted the connection; called before any message."""
        ...

    def take(self, message: Incoming) -> None:
        """A message has come."""
        ...

    def published(self, packet_id: int, reason_code: ReasonCode | int) -> None:
        """A message that was sent is acknowledged, or refused."""
        ...

    def may_read(self) -> bool:
        """Whether what comes next is for us; else the connection is ended unread."""
        ...


class Client(aiomqtt.Client):
    """aiomqtt's client, but messages and acknowledgements are handed on as they come.

    Its own queue costs two tasks for each message.
    """

    def __init__(self, *args: Any, events: ClientEvents, gather_seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # aiomqtt makes its client itself and lets nobody choose the class; a subclass adds methods, no state.
        self._client.__class__ = PahoClient
        self.paho.take = events.take
        # The connection may be lost while something else is awaited, which then fails with the reason.
        self._disconnected.add_done_callback(lambda lost: lost.cancelled() or lost.exception())
        self._events = events
        self._pace = Pace(gather_seconds)
        self.maximum_packet_bytes: int | None = None
        """The largest packet that the broker takes, if it has said so (MQTT 5 §3.2.2.3.6)."""
        self.maximum_qos = 2
        self._abandoned = False

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if not reason_code.is_failure:
            self.maximum_packet_bytes = getattr(properties, "MaximumPacketSize", None)
            self.maximum_qos = getattr(properties, "MaximumQoS", 2)
            in_flight = getattr(properties, "ReceiveMaximum", MAXIMUM_OUT_IN_FLIGHT)
            self.paho._max_inflight_messages = min(in_flight, MAXIMUM_OUT_IN_FLIGHT)  # paho ignores the broker's
            self._events.connected(self, flags.session_present)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        super()._on_publish(client, userdata, mid, reason_code, properties)
        self._events.published(mid, reason_code)

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reason_codes: Any, properties: Any = None) -> None:
        if mid in self._pending_subscribes:  # else who asked has been told to end meanwhile
            super()._on_subscribe(client, userdata, mid, reason_codes, properties)

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        if self._abandoned:  # in the thread that connects, which nothing can interrupt; CONNECT isn't sent yet
            sock.close()
            raise OSError("the connection isn't wanted any more")
        super()._on_socket_open(client, userdata, sock)
        self._loop.call_soon_threadsafe(self._listen, sock)  # in place of aiomqtt, which has said so just before

    def _listen(self, sock: Any) -> None:
        """Read as soon as something comes."""
        if sock.fileno() > -1:
            self._loop.add_reader(sock.fileno(), self._read, sock)

    def _read(self, sock: Any, *, paused: bool = False) -> None:
        """Read what has come, and go on at once, or after a pause."""
        if sock.fileno() < 0:
            return
        if not self._events.may_read():
            self.abandon()
            return
        before = self.paho.taken
        try:
            self.paho.loop_read()
            while getattr(sock, "pending", int)() > 0 and sock.fileno() > -1:  # what TLS has read already
                self.paho.loop_read()
        except Exception as error:  # as aiomqtt does
            if not self._disconnected.done():
                self._disconnected.set_exception(error)
        pause_seconds = self._pace.pause_seconds(self.paho.taken - before, self._loop.time())
        if sock.fileno() < 0:
            return
        if pause_seconds:
            if not paused:
                self._loop.remove_reader(sock.fileno())
            self._loop.call_later(pause_seconds, partial(self._read, sock, paused=True))
        elif paused:
            self._listen(sock)

    @property
    def paho(self) -> PahoClient:
        """The client underneath."""
        assert isinstance(self._client, PahoClient)
        return self._client

    def abandon(self) -> None:
        """End the connection, however far it got, without waiting for the broker: aiomqtt leaves it half open."""
        self._abandoned = True
        self.paho.fail(MQTTErrorCode.MQTT_ERR_CONN_LOST)

    async def closed(self, timeout_seconds: float | None = None) -> None:
        """Wait until the connection is lost; returns only if it wasn't in so many seconds.

        Raises:
            aiomqtt.MqttError: it was.
        """
        done, _ = await asyncio.wait((self._disconnected,), timeout=timeout_seconds)
        if not done:
            return
        self._disconnected.result()
        raise aiomqtt.MqttError("the broker closed the connection")


def make_client(options: UpstreamOptions, random: Random, events: ClientEvents, *, status_qos: int = 1) -> Client:
    """A client that is not yet connected.

    Raises:
        OSError, ssl.SSLError: a certificate file can't be used.
    """
    v5 = options.protocol == "5"
    topic = options.status_topic
    client = Client(
        options.host,
        options.port,
        events=events,
        gather_seconds=options.gather_seconds,
        identifier=options.client_id or f"tidegate-{random.getrandbits(48):012x}",
        username=options.username,
        password=options.password,
        protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
        transport=options.transport,
        websocket_path=options.path if options.transport == "websockets" else None,
        tls_context=_tls_context(options) if options.tls else None,
        keepalive=options.keep_alive_seconds,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # a command must not wait for the ack of another
        timeout=options.connect_timeout_seconds,
        clean_session=None if v5 else not options.persistent,
        clean_start=not options.persistent if v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
        properties=_connection_properties(options) if v5 else None,
        will=None if topic is None else aiomqtt.Will(topic, b"offline", status_qos, retain=True),
        max_inflight_messages=MAXIMUM_OUT_IN_FLIGHT,
    )
    client.paho.connect_timeout = options.connect_timeout_seconds
    return client


def _connection_properties(options: UpstreamOptions) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = options.session_expiry_seconds if options.persistent else 0
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    properties.MaximumPacketSize = options.maximum_packet_bytes
    return properties


def subscription_properties(identifier: int | None) -> Properties:
    """The properties of a SUBSCRIBE packet (MQTT 5 §3.8.2.1)."""
    properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
    if identifier is not None:
        properties.SubscriptionIdentifier = identifier
    return properties


def _tls_context(options: UpstreamOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.ca_file)
    if options.certificate_file is not None:
        context.load_cert_chain(options.certificate_file, options.key_file)
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def is_taken_over(error: Exception) -> bool:
    """Whether another client has connected with our client id (MQTT 5 §3.1.4)."""
    return _reason(error) == SESSION_TAKEN_OVER


def is_qos_refused(error: Exception) -> bool:
    """Whether the broker doesn't take the last will's quality of service (MQTT 5 §3.2.2.3.4)."""
    return _reason(error) == QOS_NOT_SUPPORTED


def _reason(error: Exception) -> int | None:
    code = getattr(error, "rc", None)
    return int(code.value) if isinstance(code, ReasonCode) else None


def explain(error: Exception, options: UpstreamOptions, quick_losses: int = 0) -> str:
    """Why there is no connection, in the operator's words."""
    where = f"{options.host}:{options.port}"
    match _reason(error):
        case 0x01 | 0x84:
            return f"{where} doesn't speak MQTT {options.protocol}: set `protocol` of the upstream {options.name}"
        case code if code in BAD_CREDENTIALS:
            return f"{where} refuses the user name or password: {error}"
        case code if code == KEEP_ALIVE_TIMEOUT:
            return f"{where}: no sign of life within the keep-alive of {options.keep_alive_seconds} s"
        case code if code == SESSION_TAKEN_OVER:
            return (
                f"{where}: the session was taken over by another client with the same client id "
                f"({options.client_id}); give each its own `client_id`"
            )
        case code if code == UNSPECIFIED_ERROR:
            hint = ""
            if quick_losses >= SUSPICIOUS_LOSSES and options.client_id is not None:
                hint = f" soon after it was made, again; does another client have the client id {options.client_id}?"
            return f"{where}: the connection was lost{hint}"
        case _:
            return f"{where}: {error}"
