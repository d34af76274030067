"""Pages of others' that act with a visitor's browser, and names that lead here without being the gateway's."""

from typing import Final

from tests.security.case import Case

CATEGORY: Final = "Origin and Host"
ASKING: Final = (
    "ws handshake",
    "sse",
    "POST /publish",
    "POST /request",
    "POST /ticket",
    "GET /poll",
    "GET /last",
    "GET /history",
    "GET /presence",
    "GET /problems",
    "POST /publish (NDJSON)",
    "socket.io handshake",
    "mqtt handshake",
    "peerjs call",
    "GET /peerjs/ice",
    "GET /peerjs/…/id",
    "GET /peerjs/…/peers",
)
HANDSHAKES: Final = ("ws handshake", "socket.io handshake", "mqtt handshake", "peerjs call")
REQUESTS: Final = tuple(door for door in ASKING if door not in HANDSHAKES)
PAGES: Final = ("GET /", "GET /tidegate.js", "GET /readyz", "GET /metrics")
OWN: Final = "http://localhost:8080"
ELSEWHERE: Final = "http://elsewhere.example"


def _origin(name: str, *origins: str, outcome: str = "origin_refused", host: str = "localhost:8080") -> Case:
    headers = (("Host", host), *(("Origin", origin) for origin in origins))
    return Case(name, CATEGORY, ASKING, outcome, headers=headers)


def _twice(name: str, doors: tuple[str, ...], outcome: str, *origins: str) -> Case:
    headers = (("Host", "localhost:8080"), *(("Origin", origin) for origin in origins))
    return Case(name, CATEGORY, doors, outcome, headers=headers)


def _host(name: str, *hosts: str, outcome: str = "host_refused", plain: str | None = None) -> Case:
    headers = tuple(("Host", host) for host in hosts)
    return Case(name, CATEGORY, (*ASKING, *PAGES), outcome, headers=headers, plain=plain)


CASES: Final = (
    _origin("a page of elsewhere", ELSEWHERE),
    _origin("a page in a frame without an origin", "null"),
    _origin("an empty origin", ""),
    _origin("a page of another port", "http://localhost:8081"),
    _origin("a page of no port", "http://localhost"),
    _origin("a page whose name begins alike", "http://localhost:8080.evil.example"),
    _origin("a page whose name ends alike", "http://evil-localhost:8080"),
    _origin("a page with the gateway as its user", "http://localhost:8080@evil.example"),
    _origin("a page with another user at the gateway", "http://evil.example@localhost:8080"),
    _origin("a page of a file", "file://localhost:8080"),
    _origin("a page of a script", "javascript://localhost:8080"),
    _origin("a listed origin by another scheme", "http://listed.example"),
    _origin("a listed origin with a port", "https://listed.example:8443"),
    _origin("a listed origin with more behind", "https://listed.example.evil.example"),
    _origin("a listed origin below another", "https://evil.listed.example"),
    _origin("a listed origin with a path", "https://listed.example/"),
    _twice("two origins in two lines, the own one first", REQUESTS, "origin_refused", OWN, ELSEWHERE),
    _twice("two origins in two lines, the own one last", REQUESTS, "origin_refused", ELSEWHERE, OWN),
    _twice("two origins in two lines of a handshake", HANDSHAKES, "400", ELSEWHERE, OWN),
    _origin("two origins in one line", f"http://localhost:8080 {ELSEWHERE}"),
    _origin("two origins with a comma", f"http://localhost:8080, {ELSEWHERE}"),
    _origin("an origin that is no address", "http://["),
    _origin("the gateway's own page", "http://localhost:8080", outcome="ok"),
    _origin("a page of a listed origin", "https://listed.example", outcome="ok"),
    _origin("a page whose name leads here", "http://evil.example", host="evil.example", outcome="host_refused"),
    _host("a name that leads here, without an origin", "evil.example"),
    _host("a name that leads here, with the port", "evil.example:8080"),
    _host("a name that begins as the loopback", "localhost.evil.example"),
    _host("a name that begins as the loopback's address", "127.0.0.1.evil.example"),
    _host("the loopback's address as one number", "2130706433"),
    _host("the loopback's address in hexadecimal digits", "0x7f000001"),
    _host("a name that ends as a listed one", "evil-listed.example"),
    _host("a name with the gateway as its user", "localhost@evil.example", outcome="bad_message"),
    _host("two hosts in one line", "localhost, evil.example", outcome="bad_message"),
    _host("two hosts in two lines", "localhost", "evil.example", outcome="bad_message", plain="400"),
    _host("the same host twice", "localhost", "localhost", outcome="bad_message", plain="400"),
    _host("a host with a path", "localhost/evil.example", outcome="bad_message"),
    _host("a host with a port that is none", "localhost:80evil", outcome="bad_message"),
    _host("an empty host", "", outcome="bad_message"),
    _host("a host in broken brackets", "[::1", outcome="bad_message"),
    _host("a name of the loopback", "tidegate.localhost:8080", outcome="ok"),
    _host("an address", "192.0.2.1", outcome="ok"),
    _host("an address of IPv6", "[2001:db8::1]:8080", outcome="ok"),
    Case("a probe by whatever name", CATEGORY, ("GET /healthz",), "ok", headers=(("Host", "gateway.internal"),)),
    Case("another host told by who is no proxy", CATEGORY, (*ASKING, *PAGES), "host_refused",
         headers=(("Host", "evil.example"), ("X-Forwarded-Host", "localhost"), ("Forwarded", "host=localhost"))),
)  # fmt: skip
