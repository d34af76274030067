"""The data types of MQTT (MQTT 5 §1.5, §2.2.2), read from bytes and written: numbers, strings, properties.

What can't be read is a `MqttError`, and nothing else ever comes of a client's bytes.
"""

import struct
from collections.abc import Mapping, Set
from enum import IntEnum, unique
from typing import Any, Final, TypeAlias

__all__ = [
    "MqttError",
    "Properties",
    "Property",
    "Reader",
    "Reason",
    "malformed",
    "violation",
    "write_binary",
    "write_properties",
    "write_text",
    "write_varint",
]

MAXIMUM_USER_PROPERTIES: Final = 32
"""Of one packet that a client sends."""
MAXIMUM_TEXT_BYTES: Final = 65_535


@unique
class Reason(IntEnum):
    """Reason codes of MQTT 5 (§2.4), as far as the gateway says them."""

    SUCCESS = 0x00
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    UNSPECIFIED = 0x80
    MALFORMED = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC = 0x83
    UNSUPPORTED_VERSION = 0x84
    CLIENT_ID_INVALID = 0x85
    BAD_CREDENTIALS = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    TAKEN_OVER = 0x8E
    FILTER_INVALID = 0x8F
    TOPIC_INVALID = 0x90
    PACKET_ID_IN_USE = 0x91
    PACKET_ID_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE = 0x98
    PAYLOAD_INVALID = 0x99
    CONNECTION_RATE_EXCEEDED = 0x9F
    SHARED_NOT_SUPPORTED = 0x9E


class MqttError(Exception):
    """What a client sent that ends its connection: a reason code of MQTT 5, and what was found and expected."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def malformed(message: str) -> MqttError:
    """Bytes that can't be read (MQTT 5 §1.2)."""
    return MqttError(Reason.MALFORMED, message)


def violation(message: str) -> MqttError:
    """What can be read, and isn't allowed (MQTT 5 §1.2)."""
    return MqttError(Reason.PROTOCOL_ERROR, message)


@unique
class Property(IntEnum):
    """Properties of MQTT 5 (§2.2.2.2)."""

    PAYLOAD_FORMAT = 0x01
    MESSAGE_EXPIRY = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY = 0x11
    ASSIGNED_CLIENT_ID = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_AVAILABLE = 0x2A


Properties: TypeAlias = Mapping[Property, Any]
"""Each with its value; of `USER_PROPERTY` that is a list of pairs."""

_BYTE: Final = frozenset({0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A})
_TWO: Final = frozenset({0x13, 0x21, 0x22, 0x23})
_FOUR: Final = frozenset({0x02, 0x11, 0x18, 0x27})
_BINARY: Final = frozenset({0x09, 0x16})
_FLAGS: Final = frozenset({0x01, 0x17, 0x19})
"""Those that are 0 or 1."""
_NOT_ZERO: Final = frozenset({0x0B, 0x21, 0x23, 0x27})


class Reader:
    """Reads one packet, or a part of one, from its first byte to its last."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return self._end - self._at

    def take(self, count: int) -> bytes:
        """So many bytes."""
        if count > self.left:
            raise malformed(f"the packet ends early: expected {count} more bytes, found {self.left}")
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    def end(self) -> None:
        """Nothing may be left."""
        if self.left:
            raise malformed(f"{self.left} bytes behind the packet's end")

    def byte(self) -> int:
        """A number of one byte."""
        return self.take(1)[0]

    def two(self) -> int:
        """A number of two bytes (§1.5.2)."""
        return int.from_bytes(self.take(2))

    def four(self) -> int:
        """A number of four bytes (§1.5.3)."""
        return int.from_bytes(self.take(4))

    def varint(self) -> int:
        """A variable byte integer (§1.5.5)."""
        value = 0
        for place in range(4):
            digit = self.byte()
            value |= (digit & 0x7F) << (7 * place)
            if digit < 0x80:
                if place and not digit:
                    raise malformed("a variable byte integer is longer than it need be")
                return value
        raise malformed("a variable byte integer has more than 4 bytes")

    def binary(self) -> bytes:
        """Binary data (§1.5.6)."""
        return self.take(self.two())

    def text(self) -> str:
        """A string (§1.5.4)."""
        return as_text(self.binary())

    def packet_id(self) -> int:
        """A packet identifier (§2.2.1)."""
        found = self.two()
        if not found:
            raise violation("packet identifier 0: expected 1 to 65535")
        return found

    def properties(self, allowed: Set[int]) -> Properties:
        """The properties of a packet that may have these (§2.2.2)."""
        part = Reader(self.take(self.varint()))
        found: dict[Property, Any] = {}
        while part.left:
            key = part.varint()
            if key not in allowed:
                raise violation(f"property {key:#04x} is none of this packet's")
            name = Property(key)
            if name is Property.USER_PROPERTY:
                pairs = found.setdefault(name, [])
                pairs.append((part.text(), part.text()))
                if len(pairs) > MAXIMUM_USER_PROPERTIES:
                    raise MqttError(Reason.QUOTA_EXCEEDED, f"more than {MAXIMUM_USER_PROPERTIES} user properties")
            elif name in found:
                raise violation(f"property {key:#04x} stands twice")
            else:
                found[name] = part._value(name)
        return found

    def _value(self, name: Property) -> Any:
        value = self._read(name)
        if name in _FLAGS and value > 1:
            raise violation(f"property {name:#04x}: expected 0 or 1, found {value}")
        if name in _NOT_ZERO and not value:
            reason = Reason.TOPIC_ALIAS_INVALID if name is Property.TOPIC_ALIAS else Reason.PROTOCOL_ERROR
            raise MqttError(reason, f"property {name:#04x} is 0")
        return value

    def _read(self, name: Property) -> Any:
        if name in _BYTE:
            return self.byte()
        if name in _TWO:
            return self.two()
        if name in _FOUR:
            return self.four()
        if name in _BINARY:
            return self.binary()
        return self.varint() if name is Property.SUBSCRIPTION_IDENTIFIER else self.text()


def as_text(data: bytes) -> str:
    """A string of MQTT: UTF-8 without NUL (§1.5.4)."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"a string isn't UTF-8 at its byte {error.start}") from None
    if "\0" in text:
        raise malformed("a string has a NUL")
    return text


def write_varint(value: int) -> bytes:
    """A variable byte integer."""
    written = bytearray()
    while True:
        value, digit = divmod(value, 128)
        written.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(written)


def write_binary(data: bytes) -> bytes:
    """Binary data."""
    return struct.pack("!H", len(data)) + data


def write_text(text: str) -> bytes:
    """A string; what is too long for one is cut off."""
    data = text.encode()
    if len(data) > MAXIMUM_TEXT_BYTES:
        data = data[:MAXIMUM_TEXT_BYTES].decode(errors="ignore").encode()
    return write_binary(data)


def write_properties(properties: Properties) -> bytes:
    """Properties with the length of all of them."""
    written = b"".join(_write_property(name, value) for name, value in properties.items())
    return write_varint(len(written)) + written


def _write_property(name: Property, value: Any) -> bytes:
    key = bytes((name,))
    if name is Property.USER_PROPERTY:
        return b"".join(key + write_text(one) + write_text(other) for one, other in value)
    if name is Property.SUBSCRIPTION_IDENTIFIER:
        each = value if isinstance(value, tuple) else (value,)
        return b"".join(key + write_varint(identifier) for identifier in each)
    if name in _BYTE:
        return key + bytes((value,))
    if name in _TWO:
        return key + struct.pack("!H", value)
    if name in _FOUR:
        return key + struct.pack("!I", value)
    return key + (write_binary(value) if name in _BINARY else write_text(value))
