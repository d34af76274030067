"""Bytes to the embedded broker that no device would send (MQTT 3.1.1), and names within packets that are none."""

import struct
from typing import Final

from tests.security.case import Case

CATEGORY: Final = "the embedded broker"
CLOSED: Final = "CONNACK 0"
"""The session was there, and the connection is closed without another word."""
DISCONNECT: Final = b"\xe0\x00"


def text(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def packet(first: int, body: bytes) -> bytes:
    size, length = len(body), b""
    while True:
        size, digit = size >> 7, size & 0x7F
        length += bytes((digit | (0x80 if size else 0),))
        if not size:
            return bytes((first,)) + length + body


def connect(
    client_id: bytes = b"attacker", flags: int = 2, more: bytes = b"", name: bytes = b"MQTT", level: int = 4
) -> bytes:
    return packet(0x10, text(name) + bytes((level, flags, 0, 0)) + text(client_id) + more)


def publish(topic: bytes, first: int = 0x30, more: bytes = b"1") -> bytes:
    return packet(first, text(topic) + more)


def subscribe(topic_filter: bytes, qos: int = 0) -> bytes:
    return packet(0x82, b"\0\x01" + text(topic_filter) + bytes((qos,)))


def _bytes(name: str, *parts: bytes, outcome: str = "closed", reaches: tuple[str, ...] = ()) -> Case:
    return Case(name, CATEGORY, ("MQTT bytes",), outcome, raw=b"".join(parts), reaches=reaches)


def _within(name: str, *parts: bytes, outcome: str = CLOSED, reaches: tuple[str, ...] = ()) -> Case:
    """Something within a session; what comes behind it shows whether the connection was closed."""
    return _bytes(name, connect(), *parts, b"\xc0\0", DISCONNECT, outcome=outcome, reaches=reaches)


GOOD: Final = "CONNACK 0, PINGRESP"
REFUSED: Final = "CONNACK 0, SUBACK 128, PINGRESP"
CASES: Final = (
    _bytes("HTTP, where MQTT is spoken", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    _bytes("TLS, where there is none", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500)),
    _bytes("zeroes", bytes(1000)),
    _bytes("0xFF without end", b"\xff" * 1000),
    _bytes("a packet of 256 MB as the first one", b"\x10\xff\xff\xff\x7f" + bytes(1000)),
    _bytes("a length of five bytes", b"\x10\xff\xff\xff\xff\x7f" + bytes(1000)),
    _bytes("a message before who one is", publish(b"raw/x"), connect()),
    _bytes("a subscription before who one is", subscribe(b"#"), connect()),
    _bytes("a protocol of another name", connect(name=b"MQIsdp\0"), DISCONNECT),
    _bytes("a protocol of level 99", connect(level=99), DISCONNECT, outcome="CONNACK 1"),
    _bytes("reserved flags of a connection", connect(flags=3), DISCONNECT),
    _bytes(
        "a will with a QoS of 3", connect(flags=0x1E, more=text(b"a") + text(b"b")), DISCONNECT, outcome="CONNACK 0"
    ),
    _bytes("a will to everything", connect(flags=6, more=text(b"#") + text(b"b")), DISCONNECT),
    _bytes("a will to NUL", connect(flags=6, more=text(b"a\0b") + text(b"b")), DISCONNECT),
    _bytes("a will that isn't there", connect(flags=6), DISCONNECT),
    _bytes("a password without a user", connect(flags=0x42, more=text(b"secret")), DISCONNECT, outcome="CONNACK 4"),
    _bytes("a line in a client's name", connect(b"a\r\nFORGED"), b"\xf0\0", outcome="CONNACK 0"),
    _bytes("an escape sequence in a client's name", connect(b"\x1b[2J"), b"\xf0\0", outcome="CONNACK 0"),
    _bytes("NUL in a client's name", connect(b"a\0b"), DISCONNECT, outcome="CONNACK 0"),
    _bytes("a client's name that is no UTF-8", connect(b"\xff"), DISCONNECT, outcome="CONNACK 0"),
    _bytes("a client's name of overlong UTF-8", connect(b"\xc0\x80"), DISCONNECT, outcome="CONNACK 0"),
    _bytes("a client's name of 65,535 bytes", connect(b"a" * 65_535), DISCONNECT, outcome="CONNACK 0"),
    _bytes("a client's name longer than its packet", packet(0x10, text(b"MQTT") + b"\x04\x02\0\0\xff\xff"), DISCONNECT),
    _bytes("a user's name with a line", connect(flags=0x82, more=text(b"a\nFORGED")), b"\xf0\0", outcome="CONNACK 0"),
    _within("nothing special", outcome=GOOD),
    _within("a second connection in the first", connect(b"other")),
    _within("a reserved packet", b"\0\0"),
    _within("another reserved packet", b"\xf0\0"),
    _within("an answer that only brokers give", b"\xd0\0"),
    _within("a message to everything", publish(b"#")),
    _within("a message to one level", publish(b"raw/+")),
    _within("a message to nobody", publish(b"")),
    _within("a message to NUL", publish(b"raw/\0")),
    _within("a message to a line", publish(b"raw/a\nFORGED"), outcome=GOOD, reaches=("raw/a\nFORGED",)),
    _within("a message in the broker's name", publish(b"$SYS/broker/uptime"), outcome=GOOD),
    _within("a message to a topic that is no UTF-8", publish(b"raw/\xff")),
    _within("a message to a surrogate", publish(b"raw/\xed\xa0\x80")),
    _within("a message to a non-character", publish(b"raw/\xef\xbf\xbe"), outcome=GOOD, reaches=("raw/\ufffe",)),
    _within("a message to 65,535 bytes", publish(b"a" * 65_535), outcome=GOOD, reaches=("a" * 65_535,)),
    _within("a message to 30,000 levels", publish(b"/" * 30_000), outcome=GOOD, reaches=("/" * 30_000,)),
    _within("a message with a QoS of 3", publish(b"raw/x", 0x36, b"\0\x01")),
    _within("a message whose identifier is nothing", publish(b"raw/x", 0x32, b"\0\0")),
    _within("a message whose topic is longer than itself", packet(0x30, b"\xff\xffraw")),
    _within("a message of nothing at all", packet(0x30, b"")),
    _within("an acknowledgement of nothing", packet(0x40, b"\0\x07"), outcome=GOOD),
    _within("an acknowledgement of one byte", packet(0x40, b"\0")),
    _within("a release with the wrong flags", packet(0x60, b"\0\x01")),
    _within("a subscription to everything in the middle", subscribe(b"a/#/b"), outcome=REFUSED),
    _within("a subscription to a part of a level", subscribe(b"a+"), outcome=REFUSED),
    _within("a subscription to nothing", subscribe(b""), outcome=REFUSED),
    _within("a subscription to NUL", subscribe(b"a\0"), outcome=REFUSED),
    _within("a subscription with a QoS of 3", subscribe(b"a", 3)),
    _within("a subscription to no filters", packet(0x82, b"\0\x01")),
    _within("a subscription with the wrong flags", packet(0x80, b"\0\x01" + text(b"a") + b"\0")),
    _within("a subscription that ends early", packet(0x82, b"\0\x01\xff\xffa")),
    _within("a subscription to 30,000 levels", subscribe(b"+/" * 30_000), outcome=REFUSED),
    _within("a packet of 256 MB", b"\x30\xff\xff\xff\x7f" + bytes(1000)),
)
