"""All ways in, each as what becomes of a case that comes this way: `ok`, an error's code, or what the answer is."""

import json
from contextlib import closing, suppress
from functools import partial
from typing import Any, Final

from tests.security import foreign
from tests.security.asking import Door, Ports, close_code, head, opened, outcome
from tests.security.case import Case
from tests.security.raw import RawWebSocket, connect, exchange, frame, statuses
from tests.security.tokens import SECRET, TOKENS

FENCE: Final = frame(1, b'{"type":"ping","id":"the fence"}')
LEAKS: Final = (b"root:x:0", SECRET.encode(), b"secret_file", b"BEGIN PRIVATE")
"""What stands in files beside those that are served."""
OF_THE_SERVER: Final = ("ws frames", "HTTP bytes")
"""Doors behind which it is the server that answers: another one's answers aren't the gateway's to promise."""


def http(method: str, path: str) -> Door:
    """One endpoint. What asks a device that isn't there got as far as it may."""

    def run(ports: Ports, case: Case) -> str:
        more = b"Connection: close\r\n"
        if method == "POST":
            more += b"Content-Length: %d\r\n" % len(case.body)
        sent = head(ports, case, method, path, more) + case.body * (method == "POST")
        found = outcome(exchange(ports.port, sent))
        return "ok" if found == "not_requestable" else found

    return run


def sse(ports: Ports, case: Case) -> str:
    """An event stream, until it is subscribed."""
    with closing(connect(ports.port)) as client:
        client.sendall(head(ports, case, "GET", "/sse", b"Connection: close\r\n"))
        heard = b""
        while b"event: subscribed" not in heard and (part := client.recv(65_536)):
            heard += part
        return outcome(heard)


def handshake(ports: Ports, case: Case, path: str = "/ws") -> str:
    """A WebSocket's handshake, with the token in a header."""
    with closing(opened(ports, case, path)) as client:
        if client.open:
            return "ok"
        return outcome(client.head + b"\r\n\r\n" + client.rest())


def websocket(kind: str, **more: Any) -> Door:
    """One request over WebSocket, with the token in a message, as browsers send it."""

    def run(ports: Ports, case: Case) -> str:
        anonymous = Case(case.name, "", (), "", query="", token=None, namespace=case.namespace)
        with closing(opened(ports, anonymous)) as client:
            asked = [{"type": kind, "room": case.room, "id": "asked", **more}]
            if case.token is not None:
                asked.insert(0, {"type": "auth", "token": TOKENS[case.token](), "id": "auth"})
            for request in asked:
                client.say(json.dumps(request).encode())
            for opcode, data in client.frames():
                answer = json.loads(data) if opcode == 1 else {"type": "error", "code": f"close {close_code(data)}"}
                if answer["type"] == "error":
                    return "ok" if answer["code"] == "not_requestable" else str(answer["code"])
                if answer.get("id") == "asked":
                    return "ok"
        return "lost"

    return run


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
            told.append(f"close {close_code(data)}")
            break
    else:
        told.append("lost")
    return ", ".join(dict.fromkeys(told)) or "ok"


def frames(ports: Ports, case: Case) -> str:
    """Bytes within an open WebSocket."""
    with closing(opened(ports, case)) as client:
        with suppress(ConnectionError):
            client.send(case.raw)
            client.send(FENCE)
        return _told(client)


def message(ports: Ports, case: Case) -> str:
    """One text message within an open WebSocket."""
    with closing(opened(ports, case)) as client:
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
    "GET /problems": http("GET", "/problems"),
    "POST /publish (NDJSON)": foreign.batch,
    "socket.io handshake": foreign.socketio(None),
    "socket.io subscribe": foreign.socketio("subscribe"),
    "socket.io publish": foreign.socketio("publish", data=True),
    "socket.io request": foreign.socketio("request", data=True),
    "socket.io presence": foreign.socketio("presence"),
    "mqtt handshake": foreign.mqtt(None),
    "mqtt subscribe": foreign.mqtt("subscribe"),
    "mqtt publish": foreign.mqtt("publish"),
    "mqtt will": foreign.mqtt_will,
    "peerjs call": foreign.peerjs,
    "GET /peerjs/ice": http("GET", "/peerjs/ice"),
    "GET /peerjs/…/id": http("GET", "/peerjs/peerjs/id"),
    "GET /peerjs/…/peers": foreign.peers,
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
