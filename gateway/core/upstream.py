"""The way to devices, as the core sees it: what a bridge to an MQTT broker must offer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.core.errors import TidegateError

__all__ = ["Done", "ReplyTo", "Upstream"]

Done = Callable[[TidegateError | None], None]
"""Called once: with None when the message was taken, else with the reason why not."""


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where a device is to answer, and by what the answer is known (MQTT 5 §4.10). Nothing of MQTT 3.1.1."""

    topic: str
    correlation: bytes
    expires_seconds: float
    """After so long nobody waits any more: the broker need not keep the request for the device."""


class Upstream(Protocol):
    """The way to devices."""

    @property
    def reply_topic(self) -> str | None:
        """Where devices may answer with correlation data; None if the protocol (MQTT 3.1.1) has nothing of the kind."""
        ...

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool, done: Done, *, reply_to: ReplyTo | None = None
    ) -> None:
        """Send to devices; `done` is called when the broker has it (at once for QoS 0), or with the reason why not."""
        ...
