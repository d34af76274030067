"""What all MQTT connections of a namespace have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bridges.mqtt_websocket_frames import Framings
from bridges.mqtt_websocket_sessions import ClientSessions
from bridges.mqtt_websocket_topics import Topics
from gateway.core.admission import Admission
from gateway.core.clock import Clock
from gateway.core.counters import Counters
from gateway.core.namespace import Namespace
from gateway.core.wheel import Wheel

__all__ = ["HEAD_BYTES", "INBOUND", "MqttOptions", "Served"]

HEAD_BYTES: Final = 4096
"""How much larger than `limits.message_bytes` a packet may be: topic, properties and options."""
INBOUND: Final = 64
"""How many messages of QoS 1 and 2 a client may have under way: Receive Maximum (MQTT 5 §3.2.2.3.3)."""


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """What can be configured of MQTT over WebSocket."""

    sessions: int = 10_000
    """How many sessions of clients that are away are kept."""
    session_expiry_max_seconds: float = 3600.0
    """For how long at most."""
    keep_alive_max_seconds: int = 300
    """The longest keep-alive of an MQTT 5 client."""


@dataclass(frozen=True, slots=True)
class Served:
    """The parts that serve a connection."""

    namespace: Namespace
    admission: Admission
    counters: Counters
    clock: Clock
    options: MqttOptions
    topics: Topics
    sessions: ClientSessions
    framings: Mapping[tuple[int, bool], Framings]
    """By version, and whether they make frames of WebSocket."""
    wheel: Wheel[Any]
    """Looks at connections in their time."""
