"""What clients of several servers say: HTTP requests, WebSocket frames, MQTT packets. Just enough of each."""

import json

from benchmarks.generator import MARK, Step

__all__ = [
    "DATA",
    "binary",
    "http_post",
    "json_payload",
    "mqtt_connect",
    "mqtt_publish",
    "mqtt_subscribe",
    "text",
    "upgrade",
]

DATA = {"on": True, "level": 0.75}
"""What browsers publish."""


def upgrade(path: str, subprotocol: str | None = None) -> list[Step]:
    """A WebSocket handshake (RFC 6455 §4.1)."""
    offered = "" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    head = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offered}\r\n"
    )
    return [("send", head.encode()), ("await", b" 101 "), ("await", b"\r\n\r\n")]


def _masked(opcode: int, data: bytes) -> bytes:
    """A client's frame, masked with zeroes (RFC 6455 §5.3)."""
    size = len(data)
    length = bytes((0x80 | size,)) if size < 126 else bytes((0x80 | 126,)) + size.to_bytes(2, "big")
    return bytes((0x80 | opcode,)) + length + bytes(4) + data


def text(data: object) -> bytes:
    """A text frame: a string as it is, all else as JSON."""
    return _masked(1, (data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))).encode())


def binary(data: bytes) -> bytes:
    """A binary frame."""
    return _masked(2, data)


def _packet(kind: int, body: bytes) -> bytes:
    """An MQTT control packet with its remaining length (MQTT 3.1.1 §2.2.3), of at most 16,383 bytes."""
    size = len(body)
    return bytes((kind, size) if size < 128 else (kind, size % 128 | 128, size // 128)) + body


def _string(value: str) -> bytes:
    return len(value.encode()).to_bytes(2, "big") + value.encode()


def mqtt_connect(client_id: str) -> bytes:
    """CONNECT of MQTT 3.1.1 with a clean session, without keep-alive."""
    return _packet(0x10, _string("MQTT") + bytes((4, 2, 0, 0)) + _string(client_id))


def mqtt_subscribe(*topics: str) -> bytes:
    """SUBSCRIBE at QoS 0."""
    return _packet(0x82, b"\0\1" + b"".join(_string(topic) + b"\0" for topic in topics))


def mqtt_publish(topic: str, payload: bytes, qos: int = 0, identifier: int = 1) -> bytes:
    """PUBLISH; at QoS 1 with a packet identifier, which must have been acknowledged when it comes again."""
    return _packet(0x30 | qos << 1, _string(topic) + (identifier.to_bytes(2, "big") if qos else b"") + payload)


def http_post(path: str, body: bytes) -> bytes:
    """A POST on a connection that stays."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    return f"{head}\r\n".encode() + body


def json_payload(size: int = 100) -> bytes:
    """A payload of so many bytes with a mark in it."""
    head, tail = b'{"sent":"' + MARK + b'","pad":"', b'"}'
    return head + b"x" * (size - len(head) - len(tail)) + tail
