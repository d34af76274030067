"""What one session still has to get at QoS 1 and 2: a window in flight and a bounded queue behind it, no network.

Messages leave in the order in which they came and are repeated in that order after a reconnection (MQTT 3.1.1 §4.4,
§4.6). The packet identifiers are this session's own.
"""

from collections import deque
from collections.abc import Iterator

from amqtt.mqtt.packet import PUBREL

from bridges.broker.packets import Message, acknowledgement, publish

__all__ = ["Outbox"]

_PACKET_IDS = 65_535


class Outbox:
    """The sender's half of the QoS 1 and 2 exchanges of one session."""

    def __init__(self, in_flight: int, queued: int) -> None:
        self._window = in_flight
        self._limit = queued
        self._queue: deque[Message] = deque()
        self._sent: dict[int, Message] = {}
        """Neither PUBACK nor PUBREC has come, in order of sending."""
        self._released: dict[int, None] = {}
        """PUBREC has come, PUBCOMP hasn't, in order of the PUBRECs."""
        self._last_id = 0

    @property
    def is_full(self) -> bool:
        """Whether the queue has reached its bound."""
        return len(self._queue) >= self._limit

    def put(self, message: Message) -> None:
        """Take a message; it is for the caller to ask `is_full` first."""
        self._queue.append(message)

    def ready(self) -> Iterator[bytes]:
        """The packets that may be sent now. What isn't taken from the iterator stays in the queue."""
        while self._queue and len(self._sent) + len(self._released) < self._window:
            packet_id = self._next_id()
            message = self._sent[packet_id] = self._queue.popleft()
            yield publish(message, packet_id)

    def acknowledged(self, packet_id: int) -> None:
        """A PUBACK or PUBCOMP has come: that message is done. One that isn't in flight is ignored."""
        self._sent.pop(packet_id, None)
        self._released.pop(packet_id, None)

    def received(self, packet_id: int) -> bytes:
        """A PUBREC has come: the client has the message. Returns the PUBREL to send."""
        if self._sent.pop(packet_id, None) is not None:
            self._released[packet_id] = None
        return acknowledgement(PUBREL, packet_id)

    def unfinished(self) -> Iterator[bytes]:
        """The packets to send again when the session goes on over a new connection (MQTT 3.1.1 §4.4)."""
        for packet_id in self._released:
            yield acknowledgement(PUBREL, packet_id)
        for packet_id, message in self._sent.items():
            yield publish(message, packet_id, again=True)

    def _next_id(self) -> int:
        while True:
            self._last_id = self._last_id % _PACKET_IDS + 1
            if self._last_id not in self._sent and self._last_id not in self._released:
                return self._last_id
