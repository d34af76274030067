"""Objects of the wire protocol as packets of Socket.IO: one encoding for all clients of a namespace.

What a framing makes is a piece of an Engine.IO payload, each packet with a separator behind it: pieces can be joined as
they are. So it is what clients that poll are sent; for a WebSocket `Frames` turns it into frames, once for all.
"""

from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from bridges.carrier_frames import binary_frame, text_frame
from bridges.socketio_packets import MAXIMUM_ATTACHMENTS, RESERVED_EVENTS, SEPARATOR, are_placeholders_within
from gateway.core.sink import Framing

__all__ = ["CONNECT", "CONNECT_ERROR", "DISCONNECT", "OWN_EVENTS", "Frames", "NamespaceFraming", "packet"]

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = range(7)
"""The types of packets."""

OWN_EVENTS: Final = frozenset(
    (
        "message",
        "welcome",
        "subscribed",
        "joined",
        "left",
        "presence",
        "upstream",
        "error",
        "bye",
        "ack",
        "reply",
        "pong",
    )
)
"""Names of what the gateway itself says: no client can make another one believe that."""

PLACEHOLDER: Final = {"_placeholder": True, "num": 0}

Expects = Callable[[int, str], bool]
"""Whether an answer with this number is waited for, asked by the session of this id."""


def packet(kind: int, prefix: bytes, identifier: int | None, data: Any, attachments: Sequence[str] = ()) -> bytes:
    """A packet of Socket.IO, with its attachments, which are given in base64."""
    head = b"4%d" % kind
    if attachments:
        head += b"%d-" % len(attachments)
    number = b"" if identifier is None else b"%d" % identifier
    text = b"" if data is None else orjson.dumps(data)
    behind = b"".join(b"b" + attachment.encode() + SEPARATOR for attachment in attachments)
    return b"".join((head, prefix, number, text, SEPARATOR, behind))


class NamespaceFraming:
    """The framing of one namespace.

    Args:
        path: Its path in Socket.IO.
        expects: Tells whether a client is to acknowledge an event.
    """

    def __init__(self, path: str, expects: Expects) -> None:
        self.prefix = b"" if path == "/" else path.encode() + b","
        self._expects = expects

    def frame(self, kind: str, text: bytes, cursor: str | None = None) -> bytes:
        """A `Framing`. Messages and clients' own events have their cursor as the last argument, for recovery."""
        if kind == "message" and cursor is not None:
            if b'"binary":true' in text or b'"data":{"event":' in text:
                return self._message(orjson.loads(text), cursor)
            return b"".join((b"42", self.prefix, b'["message",', text, b',"', cursor.encode(), b'"]', SEPARATOR))
        value = orjson.loads(text)
        identifier = value.pop("id", None)
        if identifier is None:
            return packet(EVENT, self.prefix, None, [kind, value])
        return self._answer(kind, identifier, value)

    def _answer(self, kind: str, identifier: int, value: dict[str, Any]) -> bytes:
        if kind == "error":
            del value["type"]
            return packet(ACK, self.prefix, identifier, [{"error": value}])
        if value.get("binary") is True:
            data, value["data"] = value["data"], PLACEHOLDER
            return packet(BINARY_ACK, self.prefix, identifier, [value], [data])
        return packet(ACK, self.prefix, identifier, [value])

    def _message(self, value: dict[str, Any], cursor: str) -> bytes:
        if value.get("binary") is True:
            data, value["data"] = value["data"], PLACEHOLDER
            return packet(BINARY_EVENT, self.prefix, None, ["message", value, cursor], [data])
        custom = _Custom.of(value)
        if custom is None:
            return packet(EVENT, self.prefix, None, ["message", value, cursor])
        number = custom.answer
        if number is not None and not self._expects(number, value.get("from", {}).get("session", "")):
            number = None
        kind = BINARY_EVENT if custom.attachments else EVENT
        return packet(kind, self.prefix, number, [custom.name, *custom.args, cursor], custom.attachments)


@dataclass(frozen=True, slots=True)
class _Custom:
    """An event of a client's own, as it is in a message's data."""

    name: str
    args: list[Any]
    attachments: list[str]
    answer: int | None

    @classmethod
    def of(cls, message: dict[str, Any]) -> "_Custom | None":
        """The event that a message is; None if it isn't one, whoever made it look like that."""
        data = message["data"]
        if "topic" in message or not isinstance(data, dict) or not {"event", "args"} <= data.keys():
            return None
        name, args = data["event"], data["args"]
        attachments, answer = data.get("attachments", []), data.get("answer")
        fit = (
            data.keys() <= {"event", "args", "attachments", "answer"}
            and isinstance(name, str)
            and name not in RESERVED_EVENTS | OWN_EVENTS
            and isinstance(args, list)
            and (answer is None or type(answer) is int)
            and _are_attachments(attachments)
            and (not attachments or are_placeholders_within(args, len(attachments)))
        )
        return cls(name, args, attachments, answer) if fit else None


def _are_attachments(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > MAXIMUM_ATTACHMENTS:
        return False
    try:
        return all(isinstance(text, str) and b64decode(text, validate=True) is not None for text in value)
    except ValueError:
        return False


class Frames:
    """Payloads as frames of WebSocket. The last one is remembered: the same bytes go to many.

    Args:
        framing: That of who isn't known to be in any other namespace.
    """

    __slots__ = ("_frames", "_framing", "_payload")

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._payload = self._frames = b""

    def frame(self, kind: str, text: bytes, cursor: str | None = None) -> bytes:
        """A `Framing` for what the server itself says."""
        return self.of(self._framing(kind, text, cursor))

    def of(self, payload: bytes) -> bytes:
        """The frames of a payload's packets (RFC 6455 §5.2), one behind the other."""
        if payload is not self._payload:
            self._frames = b"".join(_frame(each) for each in payload[:-1].split(SEPARATOR))
            self._payload = payload
        return self._frames


def _frame(packet: bytes) -> bytes:
    return binary_frame(b64decode(packet[1:])) if packet[:1] == b"b" else text_frame(packet)
