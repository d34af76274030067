"""Requests that two servers would read differently, or that are none (RFC 9112), and handshakes (RFC 6455 §4)."""

from typing import Final

from tests.security.case import Case

CATEGORY: Final = "HTTP"
HOST: Final = b"Host: localhost\r\n"
AUTHORIZED: Final = HOST + b"Authorization: Bearer {token}\r\n"
CLOSE: Final = b"Connection: close\r\n"
LAST: Final = b"GET /healthz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
"""A request that ends the connection. Where an attack is read as one request, there is one answer more."""
POST: Final = b"POST /publish?room=open/x HTTP/1.1\r\n" + AUTHORIZED
SMUGGLED: Final = b"POST /publish?room=users/witness/inbox HTTP/1.1\r\n" + AUTHORIZED + b"Content-Length: 1\r\n\r\n1"
"""A request that would be somebody else's, did a proxy in front and the gateway read the first one differently."""


def _raw(name: str, *parts: bytes, outcome: str = "400") -> Case:
    return Case(name, CATEGORY, ("HTTP bytes",), outcome, raw=b"".join(parts))


def _get(target: bytes, *lines: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    return b"%b %b %b\r\n" % (method, target, version) + b"".join(lines) + CLOSE + b"\r\n"


def _upgrade(*lines: bytes, start: bytes = b"GET /ws HTTP/1.1") -> bytes:
    return start + b"\r\n" + AUTHORIZED + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


UPGRADE: Final = b"Upgrade: websocket"
CONNECTION: Final = b"Connection: Upgrade"
ENDING: Final = b"Connection: Upgrade, close"
KEY: Final = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION: Final = b"Sec-WebSocket-Version: 13"

SMUGGLING: Final = (
    _raw("a length and chunks", POST, b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", SMUGGLED),
    _raw(
        "chunks and a length",
        POST,
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1\r\n1\r\n0\r\n\r\n",
        SMUGGLED,
    ),
    _raw("two lengths", POST, b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n11", LAST),
    _raw("the same length twice", POST, b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n1", LAST),
    _raw("two lengths in one line", POST, b"Content-Length: 1, 2\r\n\r\n11", LAST),
    _raw("a length below nothing", POST, b"Content-Length: -1\r\n\r\n1", LAST),
    _raw("a length with a sign", POST, b"Content-Length: +1\r\n\r\n1", LAST),
    _raw("a length in hexadecimal digits", POST, b"Content-Length: 0x1\r\n\r\n1", LAST),
    _raw("a length of 30 digits", POST, b"Content-Length: " + b"9" * 30 + b"\r\n\r\n1", LAST),
    _raw("a length with a space before its colon", POST, b"Content-Length : 1\r\n\r\n1", LAST),
    _raw(
        "chunks that aren't the last encoding",
        POST,
        b"Transfer-Encoding: chunked, identity\r\n\r\n1\r\n1\r\n0\r\n\r\n",
        SMUGGLED,
    ),
    _raw(
        "an identity before chunks",
        POST,
        b"Transfer-Encoding: identity, chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
        LAST,
        outcome="200, 200",
    ),
    _raw(
        "chunks twice",
        POST,
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
        LAST,
    ),
    _raw("an encoding that nobody knows", POST, b"Transfer-Encoding: xchunked\r\n\r\n1\r\n1\r\n0\r\n\r\n", SMUGGLED),
    _raw(
        "an encoding after a vertical tab", POST, b"Transfer-Encoding: \x0bchunked\r\n\r\n1\r\n1\r\n0\r\n\r\n", SMUGGLED
    ),
    _raw("an encoding in a folded line", POST, b"Transfer-Encoding:\r\n chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n", SMUGGLED),
    _raw("a chunk that is no number", POST, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n1\r\n0\r\n\r\n", LAST),
    _raw("a chunk of 2^64 bytes", POST, b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n1\r\n0\r\n\r\n", LAST),
    _raw("a chunk with more than it says", POST, b"Transfer-Encoding: chunked\r\n\r\n1\r\n11\r\n0\r\n\r\n", LAST),
    _raw("a chunk that ends with LF alone", POST, b"Transfer-Encoding: chunked\r\n\r\n1\n1\n0\n\n", LAST),
    _raw(
        "chunks with extensions",
        POST,
        b"Transfer-Encoding: chunked\r\n\r\n1;a=b\r\n1\r\n0\r\n\r\n",
        LAST,
        outcome="200, 200",
    ),
    _raw(
        "trailers that say who one is",
        POST,
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\nAuthorization: Bearer x\r\nHost: evil\r\n\r\n",
        LAST,
        outcome="200, 200",
    ),
    _raw(
        "a request in the body of a GET",
        b"GET /healthz HTTP/1.1\r\n",
        HOST,
        b"Content-Length: %d\r\n\r\n" % len(LAST),
        LAST,
        LAST,
        outcome="200, 200",
    ),
    _raw("two requests at once", POST, b"Content-Length: 1\r\n\r\n1", LAST, outcome="200, 200"),
)

LINES: Final = (
    _raw("lines that end with LF alone", b"GET /healthz HTTP/1.1\nHost: localhost\nConnection: close\n\n"),
    _raw("a line that ends with CR alone", b"GET /healthz HTTP/1.1\r\nA: b\rHost: localhost\r\n\r\n", LAST),
    _raw("a folded header", _get(b"/healthz", HOST, b"A: b\r\n c\r\n")),
    _raw("a fold before the first header", b"GET /healthz HTTP/1.1\r\n Host: localhost\r\n\r\n", LAST),
    _raw("a header without a colon", _get(b"/healthz", HOST, b"nonsense\r\n")),
    _raw("a header without a name", _get(b"/healthz", HOST, b": b\r\n")),
    _raw("a space in a header's name", _get(b"/healthz", HOST, b"A b: c\r\n")),
    _raw("NUL in a header", _get(b"/healthz", HOST, b"A: b\0c\r\n")),
    _raw("NUL in a header's name", _get(b"/healthz", HOST, b"A\0: b\r\n")),
    _raw("an escape sequence in a header", _get(b"/healthz", HOST, b"A: \x1b[2J\r\n")),
    _raw("a header of 70,000 bytes", _get(b"/healthz", HOST, b"A: " + b"a" * 70_000 + b"\r\n"), outcome="431"),
    _raw("20,000 headers", _get(b"/healthz", HOST, b"A: b\r\n" * 20_000), outcome="431"),
    _raw("an address of 70,000 bytes", _get(b"/" + b"a" * 70_000, HOST), outcome="431"),
    _raw("no host", _get(b"/last?room=open/x")),
    _raw("HTTP/0.9", b"GET /healthz\r\n\r\n", LAST),
    _raw("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), LAST),
    _raw("HTTP/1.2", _get(b"/healthz", HOST, version=b"HTTP/1.2")),
    _raw("HTTP/9.9", _get(b"/healthz", HOST, version=b"HTTP/9.9")),
    _raw("a protocol of no name", _get(b"/healthz", HOST, version=b"HTPP/1.1")),
    _raw("nonsense", b"nonsense\r\n\r\n", LAST),
    _raw("TLS, where there is none", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500)),
    _raw("MQTT, where HTTP is spoken", b"\x10\x0c\0\x04MQTT\x04\x02\0<\0\0" + bytes(500)),
)

TARGETS: Final = (
    _raw("an address with a scheme and another host", _get(b"http://evil.example/last?room=open/x", AUTHORIZED)),
    _raw("an address with a scheme and the same host", _get(b"http://localhost/healthz", HOST), outcome="200"),
    _raw("an address with another host and port alone", _get(b"evil.example:443", HOST, method=b"CONNECT")),
    _raw("an asterisk", _get(b"*", HOST, method=b"OPTIONS"), outcome="404"),
    _raw("NUL in an address", _get(b"/healthz\0", HOST)),
    _raw("a space in an address", _get(b"/healthz a", HOST)),
    _raw("a tab in an address", _get(b"/health\tz", HOST)),
    _raw("bytes that are no ASCII in an address", _get(b"/h\xe9althz\xff", HOST)),
    _raw("an address without a slash", _get(b"healthz", HOST)),
    _raw("a method in small letters", _get(b"/healthz", HOST, method=b"get")),
    _raw("a method of no name", _get(b"/healthz", HOST, method=b"EVIL")),
    _raw("TRACE", _get(b"/healthz", HOST, b"Cookie: secret\r\n", method=b"TRACE"), outcome="405"),
    _raw("TRACE of a page", _get(b"/", HOST, method=b"TRACE"), outcome="405"),
    _raw("DELETE of a page", _get(b"/tidegate.js", HOST, method=b"DELETE"), outcome="405"),
    _raw("PUT of a page", _get(b"/dashboard.js", HOST, b"Content-Length: 0\r\n", method=b"PUT"), outcome="405"),
    _raw(
        "another method in a header",
        _get(b"/publish?room=open/x", AUTHORIZED, b"X-HTTP-Method-Override: POST\r\n"),
        outcome="405",
    ),
    _raw(
        "an answer of a megabyte asked by a range",
        _get(b"/tidegate.js", HOST, b"Range: bytes=0-,0-,0-,0-\r\n"),
        outcome="206",
    ),
    _raw("200 ranges at once", _get(b"/tidegate.js", HOST, b"Range: bytes=" + b"0-," * 199 + b"0-\r\n"), outcome="200"),
    _raw("a range that is none", _get(b"/tidegate.js", HOST, b"Range: bytes=9-1\r\n")),
)

HANDSHAKES: Final = (
    _raw("a handshake without a key", _upgrade(UPGRADE, CONNECTION, VERSION)),
    _raw("a handshake with a short key", _upgrade(UPGRADE, CONNECTION, b"Sec-WebSocket-Key: YQ==", VERSION)),
    _raw("a handshake with two keys", _upgrade(UPGRADE, CONNECTION, KEY, KEY, VERSION)),
    _raw("a handshake of an old version", _upgrade(UPGRADE, CONNECTION, KEY, b"Sec-WebSocket-Version: 8")),
    _raw("a handshake without a version", _upgrade(UPGRADE, CONNECTION, KEY)),
    _raw("a handshake by POST", _upgrade(UPGRADE, ENDING, KEY, VERSION, start=b"POST /ws HTTP/1.1"), outcome="405"),
    _raw("a handshake of HTTP/1.0", _upgrade(UPGRADE, ENDING, KEY, VERSION, start=b"GET /ws HTTP/1.0"), outcome="404"),
    _raw("an upgrade to h2c", _get(b"/healthz", HOST, b"Upgrade: h2c\r\nHTTP2-Settings: AAAA\r\n"), outcome="200"),
    _raw(
        "a handshake with another subprotocol",
        _upgrade(UPGRADE, CONNECTION, KEY, VERSION, b"Sec-WebSocket-Protocol: mqtt"),
    ),
    _raw(
        "a handshake where nothing is",
        _upgrade(UPGRADE, CONNECTION, KEY, VERSION, start=b"GET /nowhere HTTP/1.1"),
        outcome="404",
    ),
    _raw(
        "a handshake with a body",
        _upgrade(UPGRADE, ENDING, KEY, VERSION, b"Content-Length: 5") + b"hello",
        outcome="404",
    ),
)

CASES: Final = (*SMUGGLING, *LINES, *TARGETS, *HANDSHAKES)
