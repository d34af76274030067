"""What an upstream hands over: a device's message, and by what the broker knows it until it is acknowledged."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Protocol, Self

__all__ = ["MAXIMUM_PACKET_ID", "Delivery", "Receipt", "Receive", "Settle"]

MAXIMUM_PACKET_ID: Final = 65_535
"""Packet identifiers are two bytes, and never 0 (MQTT 5 §2.2.1)."""

DIGEST_BYTES: Final = 16


@dataclass(slots=True)
class Receipt:
    """By what a redelivery of a QoS 1 or 2 message is known."""

    packet_id: int
    duplicate: bool
    """The DUP flag: the broker may have sent it before."""
    digest: bytes
    """Of topic and payload."""

    @classmethod
    def of(cls, packet_id: int, duplicate: bool, topic: str, payload: bytes) -> Self:
        """The receipt of a message."""
        digest = blake2b(topic.encode(), digest_size=DIGEST_BYTES)
        digest.update(b"\0")  # no topic has one (MQTT 5 §1.5.4), so none can run into a payload
        digest.update(payload)
        return cls(packet_id, duplicate, digest.digest())


@dataclass(slots=True)
class Delivery:
    """One message of a device."""

    upstream: str
    topic: str
    payload: bytes
    retained: bool = False
    """The broker had kept it: it may be old."""
    receipt: Receipt | None = None
    """None for QoS 0, which nobody acknowledges."""
    session: str = ""
    """The name of the MQTT session that brought it, of which packet identifiers are, if the upstream has several."""

    @property
    def owned_as(self) -> str:
        """By which name what it brings is owned, and its packet known again."""
        return self.session or self.upstream


Receive = Callable[[Delivery, Callable[[], None]], None]
"""Takes a delivery, and a callback to be called once as soon as it is handled: stored, or not wanted by anyone.

Only then is the broker told that the gateway has it; until then it keeps the message.
"""


class Settle(Protocol):
    """Is told what becomes of packet identifiers, so that what was stored can be known again for as long as need be."""

    def acknowledged(self, upstream: str, packet_id: int) -> object:
        """The broker knows that the gateway has this packet: it won't send it again."""
        ...

    def forget(self, upstream: str) -> object:
        """The broker has begun a new session: identifiers mean nothing any more."""
        ...
