"""A room's messages as PUBLISH packets in WebSocket frames: made once for all clients of one version of MQTT.

`Framings.frame` is what the hub calls. What it returns are the bytes of a PUBLISH of QoS 0, which are all that most
clients need; with it comes the message, for those who need another packet, or none.
"""

from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import orjson

from bridges.mqtt_websocket_answers import publish
from bridges.mqtt_websocket_fields import Properties, Property
from bridges.mqtt_websocket_topics import Topics
from gateway.core.codec import Codec, PayloadKind, PayloadRule
from gateway.core.errors import BadMessage
from gateway.core.wire_parts import data_of, last_values

__all__ = ["Framings", "Notice", "Outgoing", "Told"]


class Outgoing:
    """A room's message, on its way to clients of MQTT."""

    __slots__ = ("cursor", "payload", "retained", "room", "sender", "sequence", "topic")

    def __init__(self, fields: Mapping[str, Any], data: bytes, topics: Topics) -> None:
        self.room: str = fields["room"]
        self.cursor: str = fields["cursor"]
        self.sequence = int(self.cursor.rpartition("-")[2])
        self.sender: str | None = fields.get("from", {}).get("session")
        self.retained: bool = fields.get("retained", False)
        topic: str | None = fields.get("topic")
        kind = PayloadKind.AUTO if topic is None else topics.kind_of(self.room, topic)
        self.topic = None if kind is None else topic
        """What a device called it; None also in a room that isn't the first which has it."""
        self.payload = _payload(fields["data"], data, kind, binary=fields.get("binary", False))

    def name(self, *, by_room: bool) -> str | None:
        """The topic that it has for a client."""
        return self.room if by_room else self.topic

    def properties(self) -> Properties:
        """What 5 says of it besides."""
        return {Property.USER_PROPERTY: [("cursor", self.cursor)]}


def _payload(value: Any, data: bytes, kind: PayloadRule | None, *, binary: bool) -> bytes:
    """The bytes that a device sent, as far as they are known still."""
    if isinstance(value, str) and binary:
        return b64decode(value)
    if isinstance(kind, Codec):
        with suppress(BadMessage):  # not all that a codec reads can it write
            return kind.encode(value)
    elif isinstance(value, str) and kind in (None, PayloadKind.TEXT, PayloadKind.AUTO, PayloadKind.BYTES):
        return value.encode()
    return data


class Told(bytes):
    """A room's message as a frame: a PUBLISH of QoS 0 under its device's topic, if it has one, or the room's name."""

    message: Outgoing
    frame_by_room: bytes | None = None
    """The frame in which the room's name is the topic, once somebody has asked for it."""


class Notice(bytes):
    """Something else that a session is told, as the JSON text of our own protocol: how to say it is the client's."""

    kind: str


class Framings:
    """How a session's objects become frames, for one version of MQTT.

    Args:
        wrap: Makes a frame of a packet; where the server does that, nothing.
    """

    def __init__(self, version: int, topics: Topics, wrap: Callable[[bytes], bytes]) -> None:
        self.version = version
        self.wrap = wrap
        self._topics = topics
        self.frame = self._frame  # one object, by which the hub knows who share the bytes

    def _frame(self, kind: str, text: bytes, cursor: str | None) -> bytes:  # noqa: ARG002 - a `Framing`
        if kind != "message":
            notice = Notice(text)
            notice.kind = kind
            return notice
        message = self.outgoing(text)
        told = Told(self.publication(message, by_room=message.topic is None))
        told.message = message
        return told

    def publication(self, message: Outgoing, *, by_room: bool) -> bytes:
        """The frame of a PUBLISH of QoS 0."""
        name = message.name(by_room=by_room)
        assert name is not None
        return self.wrap(publish(self.version, name, message.payload, properties=message.properties()))

    def outgoing(self, text: bytes) -> Outgoing:
        """A message, from its JSON text."""
        return Outgoing(orjson.loads(text), data_of(text), self._topics)

    def last(self, said: bytes) -> Iterator[Outgoing]:
        """The last values in the text of a `subscribed`."""
        return map(self.outgoing, last_values(said))
