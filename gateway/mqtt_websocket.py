"""MQTT over WebSocket as the configuration wants it: with rooms, or straight to a broker."""

import asyncio
import ssl
from collections.abc import Callable

from bridges.mqtt_websocket import MqttOptions
from bridges.mqtt_websocket_tunnel import Dial
from gateway.config import Settings
from gateway.config.mqtt import MqttSettings

__all__ = ["mqtt_options", "tunnel_to"]

BROKER_SECONDS = 10.0
"""How long the embedded broker may take to accept a connection."""


def mqtt_options(settings: MqttSettings) -> MqttOptions | None:
    """The options of the bridge; None where topics aren't rooms."""
    if settings.mode != "gateway":
        return None
    return MqttOptions(settings.sessions, settings.session_expiry_max_seconds, settings.keep_alive_max_seconds)


def tunnel_to(settings: Settings, embedded_port: Callable[[], int]) -> Dial | None:
    """How to connect to the broker that clients are let through to; None where they aren't."""
    if settings.mqtt.mode != "passthrough":
        return None
    name = settings.mqtt.upstream or settings.upstream_names()[0]
    upstream = settings.upstreams.get(name)
    if upstream is None:
        return lambda: _connect(settings.broker.host, embedded_port(), None, BROKER_SECONDS)
    host, port, seconds = upstream.url.host, upstream.url.port, upstream.connect_timeout_seconds
    tls = None
    if upstream.url.encrypted:  # without the gateway's own certificate: clients are to show who they are themselves
        tls = ssl.create_default_context(cafile=upstream.ca_file)
        if upstream.insecure:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
    return lambda: _connect(host, port, tls, seconds)


async def _connect(
    host: str, port: int, tls: ssl.SSLContext | None, seconds: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(seconds):
        return await asyncio.open_connection(host, port, ssl=tls)
