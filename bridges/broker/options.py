"""What the embedded broker can be told: where it listens, and how much it holds for its clients."""

from dataclasses import dataclass

__all__ = ["BrokerOptions"]


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Where the broker listens and its bounds."""

    host: str = "127.0.0.1"
    port: int = 1883
    """0 for any free port."""
    connections: int = 1_000
    """Network connections at a time; more are closed at once."""
    sessions: int = 10_000
    """Clients that are connected or may come back for a persistent session; more are refused (CONNACK 3)."""
    session_expiry_seconds: int = 86_400
    """How long a persistent session is kept for a client that is away."""
    packet_bytes: int = 1_048_576
    """The largest packet that a client may send; a larger one closes its connection."""
    in_flight_messages: int = 100
    """Messages of QoS 1 and 2 that one client may have without having acknowledged them."""
    queued_messages: int = 10_000
    """Messages of QoS 1 and 2 that wait for one client; more are dropped."""
    retained_messages: int = 10_000
    """Topics with a retained message; the message of one more topic is delivered but not retained."""
    refused_filters: tuple[str, ...] = ("$share/#",)
    """Subscriptions that are answered with a failure (0x80), as are shared ones, which MQTT 3.1.1 doesn't have."""
