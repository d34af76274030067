"""What would forge a line of the log or steer the terminal that shows it. `FORGED` must begin no line."""

from typing import Final

from tests.security.case import HTTP, WRITES, Case
from tests.security.cases_http import CLOSE, HOST

CATEGORY: Final = "log injection"
SPOKEN: Final = ("ws subscribe", "socket.io subscribe", "mqtt subscribe", *WRITES)
LINE: Final = "\r\nFORGED 00:00:00 [info] all is well"


def _path(name: str, path: bytes, outcome: str = "404") -> Case:
    return Case(name, CATEGORY, ("HTTP path",), outcome, raw=b"GET " + path + b" HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")


CASES: Final = (
    Case("a line in a room", CATEGORY, (*HTTP, *SPOKEN), "bad_message", room=f"open/a{LINE}"),
    Case("a line in a key", CATEGORY, ("ws message",), "bad_message", body=b'{"type":"ping","a\\r\\nFORGED":1}'),
    Case("a line in a type", CATEGORY, ("ws message",), "bad_message", body=b'{"type":"a\\nFORGED"}'),
    Case("a line in data", CATEGORY, ("POST /publish", "POST /request"), "ok", body=b'"a\\r\\nFORGED"'),
    Case("a line in a user's name", CATEGORY, (*HTTP, *WRITES), "unauthenticated", token="with a user of two lines"),
    Case(
        "a line in a cursor", CATEGORY, ("GET /history", "sse"), "bad_message", query="room=open/x&since=a%0d%0aFORGED"
    ),
    Case(
        "an escape sequence in a key of idempotency",
        CATEGORY,
        ("POST /publish",),
        "400",
        headers=(("Idempotency-Key", "a\x1b[2J"),),
        plain="ok",
    ),
    Case(
        "a line in a member's name",
        CATEGORY,
        ("sse", "ws handshake"),
        "bad_message",
        query="room=open/x&member=a%0aFORGED",
    ),
    Case(
        "an escape sequence in an origin",
        CATEGORY,
        HTTP,
        "400",
        headers=(("Origin", "http://a\x1b[2J"),),
        plain="origin_refused",
    ),
    _path("a line in an address", b"/a%0d%0aFORGED"),
    _path("an escape sequence in an address", b"/%1b%5b2J%1b]0;FORGED%07"),
    _path("a line separator of Unicode in an address", b"/a%e2%80%a8FORGED"),
    _path("a line in the name of a namespace", b"/n/a%0aFORGED/last"),
    Case("what a format would take for its own", CATEGORY, HTTP, "ok", room="open/%s%n{0}%(x)s"),
    Case("a lookup that a logger would make", CATEGORY, HTTP, "ok", room="open/a${jndi:ldap:x}"),
    Case(
        "a line in a device's payload",
        CATEGORY,
        ("MQTT",),
        '"{\\r\\nFORGED\\n"',
        topic="sensors/oslo/fan-4/x",
        body=b"{\r\nFORGED\n",
    ),
    Case(
        "an escape sequence in a device's payload", CATEGORY, ("MQTT",), '"\\u001b[2J"', topic="text/x", body=b"\x1b[2J"
    ),
    Case("a name of many signs in a device's topic", CATEGORY, ("MQTT",), "1", topic="raw/" + "é" * 1000, body=b"1"),
)
