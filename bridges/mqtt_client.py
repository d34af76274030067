"""How an upstream's client is made: options in, an aiomqtt client out, and what its failures mean."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

__all__ = ["Client", "UpstreamOptions", "explain", "make_client", "subscription_properties"]


UNSPECIFIED_ERROR: Final = 0x80
"""What paho makes of a connection that ends without a DISCONNECT."""


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
    keep_alive_seconds: int = 30
    persistent: bool = False
    """Let the broker keep the session, and QoS 1 and 2 messages, while the gateway is away; needs a client id."""
    session_expiry_seconds: int = 3600
    status_topic: str | None = "tidegate/status"
    """Where `online` and, as the last will, `offline` are retained."""
    connect_timeout_seconds: float = 10
    acknowledge_timeout_seconds: float = 10
    reconnect_min_seconds: float = 0.5
    reconnect_max_seconds: float = 30


class Client(aiomqtt.Client):
    """aiomqtt's client, but messages and acknowledgements are handed on as they come.

    Its own queue costs two tasks for each message.
    """

    def __init__(
        self, *args: Any, take: Callable[[paho.MQTTMessage], None], published: Callable[[int, Any], None], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        # The connection may be lost while something else is awaited, which then fails with the reason.
        self._disconnected.add_done_callback(lambda lost: lost.cancelled() or lost.exception())
        self._take = take
        self._published = published

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:  # noqa: ARG002
        self._take(message)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        super()._on_publish(client, userdata, mid, reason_code, properties)
        self._published(mid, reason_code)

    @property
    def paho(self) -> paho.Client:
        """The client underneath."""
        return self._client

    async def closed(self) -> None:
        """Wait until the connection is lost; never returns.

        Raises:
            aiomqtt.MqttError: it was.
        """
        await asyncio.wait((self._disconnected,))
        self._disconnected.result()
        raise aiomqtt.MqttError("the broker closed the connection")


def make_client(
    options: UpstreamOptions,
    random: Random,
    *,
    take: Callable[[paho.MQTTMessage], None],
    published: Callable[[int, Any], None],
) -> Client:
    """A client that is not yet connected.

    Raises:
        OSError, ssl.SSLError: a certificate file can't be used.
    """
    v5 = options.protocol == "5"
    will = None if options.status_topic is None else aiomqtt.Will(options.status_topic, b"offline", 1, retain=True)
    client = Client(
        options.host,
        options.port,
        take=take,
        published=published,
        identifier=options.client_id or f"tidegate-{random.getrandbits(48):012x}",
        username=options.username,
        password=options.password,
        protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
        transport=options.transport,
        websocket_path=options.path if options.transport == "websockets" else None,
        tls_context=_tls_context(options) if options.tls else None,
        keepalive=options.keep_alive_seconds,
        timeout=options.connect_timeout_seconds,
        clean_session=None if v5 else not options.persistent,
        clean_start=not options.persistent if v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
        properties=_connection_properties(options) if v5 else None,
        will=will,
        max_inflight_messages=1000,
    )
    client.paho.connect_timeout = options.connect_timeout_seconds
    return client


def _connection_properties(options: UpstreamOptions) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = options.session_expiry_seconds if options.persistent else 0
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


def explain(error: Exception, options: UpstreamOptions) -> str:
    """Why there is no connection, in the operator's words."""
    where = f"{options.host}:{options.port}"
    code = getattr(error, "rc", None)
    if isinstance(code, ReasonCode) and code.value in (0x01, 0x84):
        return f"{where} doesn't speak MQTT {options.protocol}: set `protocol` of the upstream {options.name}"
    if isinstance(error, aiomqtt.MqttCodeError) and code == UNSPECIFIED_ERROR:
        return f"{where}: the connection was lost"
    return f"{where}: {error}"
