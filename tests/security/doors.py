"""All ways in, each as what becomes of a case that comes this way: `ok`, an error's code, or what the answer is."""

import json
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import quote

from tests.security.case import Case
from tests.security.raw import UPGRADE, RawWebSocket, connect, exchange, frame, statuses
from tests.security.tokens import SECRET, TOKENS

FENCE: Final = frame(1, b'{"type":"ping","id":"the fence"}')
LEAKS: Final = (b"root:x:0", SECRET.encode(), b"secret_file", b"BEGIN PRIVATE")
"""What stands in files beside those that are served."""


class Ports(Protocol):
    """Where the gateway is, and what devices and browsers do around it."""

    port: int
    broker_port: int

    def heard_of(self, topic: str, payload: bytes) -> list[dict[str, Any]]:
        """What a browser hears when a device publishes."""
        ...


OF_THE_SERVER: Final = ("ws frames", "HTTP bytes")
"""Doors behind which it is the server that answers: another one's answers aren't the gateway's to promise."""

Door = Callable[[Ports, Case], str]


def _head(ports: Ports, case: Case, method: str, path: str, more: bytes = b"") -> bytes:
    headers = case.headers
    if not any(name.lower() == "host" for name, _ in headers):
        headers = (("Host", f"127.0.0.1:{ports.port}"), *headers)
    if case.token is not None:
        headers = (*headers, ("Authorization", f"Bearer {TOKENS[case.token]()}"))
    query = f"room={quote(case.room, safe='', errors='surrogatepass')}" if case.query is None else case.query
    target = f"{case.namespace}{path}?{query}" if query else f"{case.namespace}{path}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{method} {target} HTTP/1.1\r\n{lines}".encode("latin-1") + more + b"\r\n"


def _outcome(heard: bytes) -> str:
    """`ok`, or the code of the problem; the status where there is none."""
    (status, *_) = statuses(heard) or [0]
    if 100 < status < 300:
        return "ok"
    try:
        return str(json.loads(heard.partition(b"\r\n\r\n")[2])["code"])
    except (ValueError, KeyError):
        return str(status)


def http(method: str, path: str) -> Door:
    """One endpoint. What asks a device that isn't there got as far as it may."""

    def run(ports: Ports, case: Case) -> str:
        more = b"Connection: close\r\n"
        if method == "POST":
            more += b"Content-Length: %d\r\n" % len(case.body)
        outcome = _outcome(
            exchange(ports.port, _head(ports, case, method, path, more) + case.body * (method == "POST"))
        )
        return "ok" if outcome == "not_requestable" else outcome

    return run


def sse(ports: Ports, case: Case) -> str:
    """An event stream, until it is subscribed."""
    with closing(connect(ports.port)) as client:
        client.sendall(_head(ports, case, "GET", "/sse", b"Connection: close\r\n"))
        heard = b""
        while b"event: subscribed" not in heard and (part := client.recv(65_536)):
            heard += part
        return _outcome(heard)


def _websocket(ports: Ports, case: Case, path: str = "/ws") -> RawWebSocket:
    return RawWebSocket(ports.port, _head(ports, case, "GET", path, UPGRADE))


def handshake(ports: Ports, case: Case, path: str = "/ws") -> str:
    """A WebSocket's handshake, with the token in a header."""
    with closing(_websocket(ports, case, path)) as client:
        if client.open:
            return "ok"
        return _outcome(client.head + b"\r\n\r\n" + client.rest())


def websocket(kind: str, **more: Any) -> Door:
    """One request over WebSocket, with the token in a message, as browsers send it."""

    def run(ports: Ports, case: Case) -> str:
        anonymous = Case(case.name, "", (), "", query="", token=None, namespace=case.namespace)
        with closing(_websocket(ports, anonymous)) as client:
            asked = [{"type": kind, "room": case.room, "id": "asked", **more}]
            if case.token is not None:
                asked.insert(0, {"type": "auth", "token": TOKENS[case.token](), "id": "auth"})
            for request in asked:
                client.say(json.dumps(request).encode())
            for opcode, data in client.frames():
                answer = json.loads(data) if opcode == 1 else {"type": "error", "code": f"close {_close_code(data)}"}
                if answer["type"] == "error":
                    return "ok" if answer["code"] == "not_requestable" else str(answer["code"])
                if answer.get("id") == "asked":
                    return "ok"
        return "lost"

    return run


def _close_code(data: bytes) -> int:
    return int(struct.unpack_from("!H", data)[0]) if len(data) >= 2 else 1005


def _told(client: RawWebSocket) -> str:
    """Which errors come, and with what it is closed, until the fence is answered."""
    told: list[str] = []
    for opcode, data in client.frames():
        if opcode == 1:
            answer = json.loads(data)
            if answer.get("id") == "the fence":
                break
            told += [answer["code"]] if answer["type"] in ("error", "bye") else []
        elif opcode == 8:
            told.append(f"close {_close_code(data)}")
            break
    else:
        told.append("lost")
    return ", ".join(dict.fromkeys(told)) or "ok"


def frames(ports: Ports, case: Case) -> str:
    """Bytes within an open WebSocket."""
    with closing(_websocket(ports, case)) as client:
        with suppress(ConnectionError):
            client.send(case.raw)
            client.send(FENCE)
        return _told(client)


def message(ports: Ports, case: Case) -> str:
    """One text message within an open WebSocket."""
    with closing(_websocket(ports, case)) as client:
        client.say(case.body)
        with suppress(ConnectionError):  # it may be closed by now, and what was said before is heard all the same
            client.send(FENCE)
        return _told(client)


def raw(ports: Ports, case: Case) -> str:
    """Bytes on a connection: the status of each answer, until it is closed."""
    data = case.raw.replace(b"{token}", TOKENS["all"]().encode()).replace(b"{port}", b"%d" % ports.port)
    heard = exchange(ports.port, data)
    if any(leak in heard for leak in LEAKS):
        return "leaked"
    return ", ".join(map(str, statuses(heard))) or "closed"


def device(ports: Ports, case: Case) -> str:
    """What a device publishes: what a browser that may hear everything is told of it."""
    heard = ports.heard_of(case.topic, case.body)
    return (
        ", ".join(json.dumps(each["data"])[:40] if not each.get("binary") else "binary" for each in heard) or "nothing"
    )


PACKETS: Final = {2: "CONNACK", 4: "PUBACK", 5: "PUBREC", 7: "PUBCOMP", 9: "SUBACK", 11: "UNSUBACK", 13: "PINGRESP"}


def packets(ports: Ports, case: Case) -> str:
    """Bytes to the embedded broker: the packets that come with the codes in them, until it closes the connection."""
    heard, found = exchange(ports.broker_port, case.raw, end=True), []
    while heard:
        name = PACKETS.get(heard[0] >> 4, "?")
        found.append(f"{name} {heard[heard[1] + 1]}" if name in ("CONNACK", "SUBACK") else name)
        heard = heard[2 + heard[1] :]
    return ", ".join(found) or "closed"


DOORS: Final[dict[str, Door]] = {
    "ws subscribe": websocket("subscribe"),
    "ws publish": websocket("publish", data=1),
    "ws request": websocket("request", data=1),
    "ws presence": websocket("presence"),
    "ws handshake": handshake,
    "ws raw": partial(handshake, path="/ws/raw"),
    "ws message": message,
    "ws frames": frames,
    "sse": sse,
    "POST /publish": http("POST", "/publish"),
    "POST /request": http("POST", "/request"),
    "POST /ticket": http("POST", "/ticket"),
    "GET /poll": http("GET", "/poll"),
    "GET /last": http("GET", "/last"),
    "GET /history": http("GET", "/history"),
    "GET /presence": http("GET", "/presence"),
    "GET /": http("GET", "/"),
    "GET /tidegate.js": http("GET", "/tidegate.js"),
    "GET /healthz": http("GET", "/healthz"),
    "GET /readyz": http("GET", "/readyz"),
    "GET /metrics": http("GET", "/metrics"),
    "HTTP path": raw,
    "HTTP bytes": raw,
    "MQTT": device,
    "MQTT bytes": packets,
}
