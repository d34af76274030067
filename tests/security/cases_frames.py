"""Bytes within an open WebSocket that no browser would send (RFC 6455 §5), and messages in odd pieces."""

import zlib
from typing import Final

from tests.security.case import Case
from tests.security.raw import frame

CATEGORY: Final = "WebSocket frames"
PING: Final = b'{"type":"ping"}'
DEFLATE: Final = (("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),)
WINDOW: Final = (("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=0"),)
BROKEN: Final = "close 1002"


def _frames(name: str, *parts: bytes, outcome: str = BROKEN) -> Case:
    return Case(name, CATEGORY, ("ws frames",), outcome, raw=b"".join(parts))


def _reserved(bits: int, name: str) -> Case:
    return _frames(name, frame(1, PING, reserved=bits))


def _compressed(name: str, *parts: bytes, outcome: str = BROKEN) -> Case:
    """After an offer of compression, which is taken."""
    return Case(name, CATEGORY, ("ws frames",), outcome, headers=DEFLATE, raw=b"".join(parts))


def _deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-9)
    return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH).removesuffix(b"\0\0\xff\xff")


BOMB: Final = _deflated(bytes(50_000_000))
"""50 MB in 50 KB."""

CASES: Final = (
    _reserved(4, "a compressed message, though compression isn't spoken"),
    _reserved(2, "the second reserved bit"),
    _reserved(1, "the third reserved bit"),
    _frames(
        "a bomb of deflate, though compression isn't spoken", frame(1, b"\xec\xc1\x01" + b"\0" * 60_000, reserved=4)
    ),
    _compressed(
        "a compressed message after an offer of compression",
        frame(1, b"\xca\x48\xcd\xc9\xc9\x07\0", reserved=4),
        outcome="bad_message",
    ),
    _compressed("a bomb of deflate", frame(1, BOMB, reserved=4), outcome="message_too_large, close 1009"),
    _compressed(
        "a bomb of deflate in fragments",
        frame(1, BOMB[:20_000], final=False, reserved=4),
        frame(0, BOMB[20_000:]),
        outcome="message_too_large, close 1009",
    ),
    _compressed("a compressed message that can't be inflated", frame(1, b"\xff" * 100, reserved=4)),
    _compressed("a compressed message of no UTF-8", frame(1, _deflated(b"\xff"), reserved=4), outcome="close 1007"),
    _compressed("a compressed ping after an offer", frame(9, b"a", reserved=4)),
    _compressed("a continuation that says it is compressed", frame(1, b"{", final=False), frame(0, b"a", reserved=4)),
    Case("an offer of compression with a window of nothing", CATEGORY, ("ws frames",), "ok", headers=WINDOW),
    _frames("a compressed ping", frame(9, b"a", reserved=4)),
    _frames("a frame without a mask", frame(1, PING, masked=False)),
    _frames("a ping without a mask", frame(9, b"a", masked=False)),
    *(_frames(f"the reserved opcode {opcode}", frame(opcode, b"a")) for opcode in (3, 7, 11, 15)),
    _frames("a ping in fragments", frame(9, b"a", final=False), frame(0, b"b")),
    _frames("a close in fragments", frame(8, b"", final=False)),
    _frames("a ping of 126 bytes", frame(9, b"a" * 126)),
    _frames("a pong of 65,536 bytes", frame(10, b"a" * 65_536)),
    _frames("a continuation of nothing", frame(0, PING)),
    _frames("a second message within the first", frame(1, b"{", final=False), frame(1, PING)),
    _frames("a binary message within a text", frame(1, b"{", final=False), frame(2, PING)),
    _frames("a close of one byte", frame(8, b"\x03")),
    _frames("a close whose reason is no UTF-8", frame(8, b"\x03\xe8\xff"), outcome="close 1007"),
    *(
        _frames(f"a close with the code {code}", frame(8, code.to_bytes(2, "big")))
        for code in (0, 999, 1005, 1006, 5000)
    ),
    _frames("a message of 70,000 bytes", frame(1, b'"%b"' % (b"a" * 70_000)), outcome="message_too_large, close 1009"),
    _frames(
        "a room of 65,536 bytes",
        frame(1, b'{"type":"subscribe","room":"%b"}' % (b"a" * 65_536)),
        outcome="message_too_large, close 1009",
    ),
    _frames("a message of 2^63 bytes", b"\x81\xff\x80" + bytes(11), outcome="message_too_large, close 1009"),
    _frames("a message of 2^62 bytes", b"\x81\xff\x40" + bytes(11), outcome="message_too_large, close 1009"),
    _frames(
        "a message that grows by fragments beyond all",
        frame(1, b"a" * 40_000, final=False),
        frame(0, b"a" * 40_000, final=False),
        outcome="message_too_large, close 1009",
    ),
    _frames("a length that isn't the shortest", b"\x89\xfe\0\x01" + bytes(4) + b"a", outcome="ok"),
    _frames("UTF-8 that is broken off", frame(1, b'"\xe2\x82'), outcome="close 1007"),
    _frames(
        "half a sign at the end of the last fragment",
        frame(1, b'"', final=False),
        frame(0, b"\xc3"),
        outcome="close 1007",
    ),
    _frames("a byte that is no UTF-8", frame(1, b'"\xff"'), outcome="close 1007"),
    _frames("overlong UTF-8", frame(1, b'"\xc0\x80"'), outcome="close 1007"),
    _frames("a surrogate in UTF-8", frame(1, b'"\xed\xa0\x80"'), outcome="close 1007"),
    _frames("a binary message", frame(2, PING), outcome="bad_message"),
    _frames("a request of another protocol", b"GET / HTTP/1.1\r\n\r\n"),
    _frames("0xFF without end", b"\xff" * 4000),
    _frames(
        "a sign in two fragments is whole",
        frame(1, b'{"type":"ping","id":"\xc3', final=False),
        frame(0, b'\xa9"}'),
        outcome="ok",
    ),
    _frames(
        "pings within a message are answered",
        frame(1, PING[:5], final=False),
        frame(9, b"a"),
        frame(0, PING[5:]),
        outcome="ok",
    ),
    _frames(
        "a message in one byte each",
        *(frame(int(not i), bytes((sign,)), final=i + 1 == len(PING)) for i, sign in enumerate(PING)),
        outcome="ok",
    ),
    _frames("100 pings at once", frame(9, b"a") * 100, outcome="ok"),
    _frames("100 pongs that nobody asked for", frame(10, b"a") * 100, outcome="ok"),
    _frames(
        "a message behind the close is nobody's", frame(8, b"\x03\xe8"), frame(1, b"nonsense"), outcome="close 1000"
    ),
)
