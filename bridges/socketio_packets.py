"""Packets of Engine.IO 4 and Socket.IO 5, sans-I/O: what clients send in, read more strictly than the library does.

The library takes what its own client can't have sent: events without a name, text in the place of an attachment, as
many attachments as somebody likes. Its packets are read by `StrictPacket`, as the reference implementation reads them.
"""

from base64 import b64decode, b64encode
from typing import Any, Final, cast

import orjson
from socketio import packet as library

__all__ = [
    "CLOSE",
    "MAXIMUM_ATTACHMENTS",
    "MESSAGE",
    "NOOP",
    "PING",
    "PONG",
    "RESERVED_EVENTS",
    "SEPARATOR",
    "UPGRADE",
    "Malformed",
    "StrictPacket",
    "are_placeholders_within",
    "as_payload",
    "read_engine_packet",
]

CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = 1, 2, 3, 4, 5, 6
"""Types of engine packets that may come, or have to be sent."""

SEPARATOR: Final = b"\x1e"
"""What stands between the packets of a payload; no JSON text has one, nor has base64."""

MAXIMUM_ATTACHMENTS: Final = 10
"""As many as the reference implementation takes in one packet."""

MAXIMUM_ID: Final = 2**53
"""Beyond, JavaScript's numbers aren't whole any more."""

RESERVED_EVENTS: Final = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
"""Names of events that no packet may bear: a client would give up its connection."""


class Malformed(Exception):
    """What came is no packet: the connection is to be closed (`parse error`)."""


def read_engine_packet(data: str | bytes) -> tuple[int, str | bytes]:
    """The type of an engine packet and what it carries; what is binary is a message, in base64 where it has to be.

    Raises:
        Malformed: it is none.
    """
    if isinstance(data, bytes):
        return MESSAGE, data
    kind, rest = data[:1], data[1:]
    if kind == "b":
        try:
            return MESSAGE, b64decode(rest, validate=True)
        except ValueError:
            raise Malformed("expected base64 behind `b`") from None
    if kind not in ("1", "2", "3", "4", "5", "6"):
        raise Malformed("expected a packet of Engine.IO, which begins with its type")
    return int(kind), rest


class _Json:
    """What the library reads and writes JSON with: bounded in depth, and no NaN."""

    @staticmethod
    def loads(text: str) -> Any:
        return orjson.loads(text)

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        try:
            return orjson.dumps(value).decode()
        except orjson.JSONEncodeError as error:  # with what has been read, there is no other reason
            raise RecursionError(str(error)) from None


class StrictPacket(library.Packet):  # type: ignore[misc] # the library has no types
    """A packet of Socket.IO, refused unless it is one that a client may send."""

    json = _Json

    def decode(self, encoded_packet: Any) -> int:
        """Read it; how many attachments are to follow.

        Raises:
            Malformed: it is none.
        """
        if not isinstance(encoded_packet, str) or encoded_packet[:1] not in ("0", "1", "2", "3", "5", "6"):
            raise Malformed("expected a packet of Socket.IO")
        try:
            count = cast(int, super().decode(encoded_packet))
        except (ValueError, IndexError):
            raise Malformed("expected a packet of Socket.IO whose data is JSON") from None
        self._check(count)
        return count

    def _check(self, count: int) -> None:
        kind, data = self.packet_type, self.data
        if kind in (library.BINARY_EVENT, library.BINARY_ACK):
            fit = 1 <= count <= MAXIMUM_ATTACHMENTS and are_placeholders_within(data, count)
        else:
            fit = count == 0
        if kind in (library.EVENT, library.BINARY_EVENT):
            fit = fit and isinstance(data, list) and _is_event_name(data[:1])
        elif kind in (library.ACK, library.BINARY_ACK):
            fit = fit and isinstance(data, list) and self.id is not None
        elif kind == library.CONNECT:
            fit = fit and (data is None or isinstance(data, dict))
        else:
            fit = fit and data is None
        if not fit or (self.id is not None and self.id > MAXIMUM_ID):
            raise Malformed("expected a packet of Socket.IO that has what its type says")


def _is_event_name(first: list[Any]) -> bool:
    return bool(first) and isinstance(first[0], str) and first[0] not in RESERVED_EVENTS


def are_placeholders_within(data: Any, count: int) -> bool:
    """Whether each place for an attachment is that of one of so many."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            number = value.get("num")
            if value.get("_placeholder") and not (type(number) is int and 0 <= number < count):
                return False
            waiting += value.values()
    return True


def as_payload(packet: library.Packet) -> bytes:
    """A packet of Socket.IO as a piece of an Engine.IO payload, its attachments behind it.

    Raises:
        RecursionError: its data is nested too deeply.
    """
    made = packet.encode()
    pieces = made if isinstance(made, list) else [made]
    return b"".join(
        (b"b" + b64encode(piece) if isinstance(piece, bytes) else b"4" + piece.encode()) + SEPARATOR for piece in pieces
    )
