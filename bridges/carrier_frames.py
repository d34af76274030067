"""Frames as a WebSocket server writes them: unmasked, so that all clients who speak the same share the bytes."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

__all__ = ["WINDOW_BITS", "binary_frame", "compressed", "text_frame", "whole_frames"]

TEXT: Final = 0x81
"""The first byte of a whole text message (RFC 6455 §5.2)."""
BINARY: Final = 0x82
COMPRESSED: Final = 0x40
"""The bit RSV1 (RFC 7692 §6)."""

WINDOW_BITS: Final = 12
"""A window of 4 KiB: a larger one takes a quarter of a megabyte to be begun anew for each message."""
MEMORY_LEVEL: Final = 5
EMPTY_BLOCK: Final = b"\x00\x00\xff\xff"
"""What a flush ends with, and no message has (RFC 7692 §7.2.1)."""


def _frame(head: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((head, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", head, 126, size) + payload
    return struct.pack("!BBQ", head, 127, size) + payload


def text_frame(payload: bytes) -> bytes:
    """A whole text message."""
    return _frame(TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    """A whole binary message."""
    return _frame(BINARY, payload)


def compressed(payload: bytes, *, text: bool) -> bytes:
    """A whole message, compressed without any of those before it, if that makes it smaller (RFC 7692 §7.2.3)."""
    head = TEXT if text else BINARY
    compressor = zlib.compressobj(wbits=-WINDOW_BITS, memLevel=MEMORY_LEVEL)
    packed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH).removesuffix(EMPTY_BLOCK)
    return _frame(head | COMPRESSED, packed) if len(packed) < len(payload) else _frame(head, payload)


def whole_frames(data: bytes) -> Iterator[tuple[bool, bytes]]:
    """The messages in frames that were made here, not compressed; whether each is text."""
    at = 0
    while at < len(data):
        head, size = data[at], data[at + 1]
        at += 2
        if size >= 126:
            length = 2 if size == 126 else 8
            size = int.from_bytes(data[at : at + length], "big")
            at += length
        yield head == TEXT, data[at : at + size]
        at += size
