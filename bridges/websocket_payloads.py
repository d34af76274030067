"""Payloads alone, sans-I/O: out of the objects of the wire protocol into frames, and from frames to data.

What is written here is cut out of the text that every other client gets, so that a payload is what its sender wrote.
"""

from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator
from typing import Any

import orjson

from bridges.carrier_frames import binary_frame, compressed, text_frame
from gateway.core.codec import PayloadKind, PayloadRule
from gateway.core.sink import Framing
from gateway.core.wire_parts import data_of, last_values

__all__ = ["compressing", "payload_frames", "payloads", "read_payload"]


def payload_frames(kind: str, text: bytes, cursor: str | None = None) -> bytes:  # noqa: ARG001 - a `Framing`
    """The payloads in an object, each in a frame of its own; none for what is no message."""
    return b"".join(_frame(data, text=is_text) for is_text, data in payloads(kind, text))


def compressing(from_bytes: int) -> Framing:
    """A framing that compresses what has so many bytes: once, for all who have it."""

    def frames(kind: str, text: bytes, cursor: str | None = None) -> bytes:  # noqa: ARG001
        return b"".join(
            compressed(data, text=is_text) if len(data) >= from_bytes else _frame(data, text=is_text)
            for is_text, data in payloads(kind, text)
        )

    return frames


def _frame(data: bytes, *, text: bool) -> bytes:
    return text_frame(data) if text else binary_frame(data)


def payloads(kind: str, text: bytes) -> Iterator[tuple[bool, bytes]]:
    """The payloads in an object of the wire protocol, last values among them; whether each is text."""
    if kind == "message":
        yield _payload(text)
    elif kind == "subscribed":
        yield from map(_payload, last_values(text))


def _payload(message: bytes) -> tuple[bool, bytes]:
    data = data_of(message)
    if message.endswith(b',"binary":true}'):
        return False, b64decode(data[1:-1])
    return True, orjson.loads(data).encode() if data.startswith(b'"') else data


def read_payload(frame: str | bytes, kinds: Collection[PayloadRule]) -> tuple[Any, bool]:
    """The data in a client's frame, for devices that take these kinds of payloads; and whether it is base64.

    JSON where it is JSON, else text; but all is bytes to a device that takes bytes, and text to one that takes text.
    """
    if isinstance(frame, bytes) or PayloadKind.BYTES in kinds:
        return b64encode(frame if isinstance(frame, bytes) else frame.encode()).decode(), True
    if PayloadKind.TEXT in kinds:
        return frame, False
    try:
        return orjson.loads(frame), False
    except orjson.JSONDecodeError:
        return frame, False
