"""Doors where another protocol is spoken: Socket.IO, MQTT over WebSocket, PeerJS, and batches over HTTP.

An error is taken for its code only if it comes as that protocol has it: with the reason code that MQTT has for it, in
the acknowledgement of Socket.IO, in what makes a PeerJS client give up a call. Else the outcome is what came instead.
"""

import json
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from tests.security.asking import Door, Ports, close_code, head, opened, outcome
from tests.security.case import Case
from tests.security.raw import RawWebSocket, exchange, frame
from tests.security.tokens import TOKENS

__all__ = ["batch", "mqtt", "mqtt_will", "peerjs", "peers", "socketio"]

CLOSE: Final = b"Connection: close\r\n"


def _quoted(room: str) -> str:
    return quote(room, safe="", errors="surrogatepass")


def _anonymous(case: Case) -> Case:
    """The handshake of a case whose token comes in a message."""
    return Case(case.name, "", (), "", query="", token=None, namespace=case.namespace)


def _answer(client: RawWebSocket) -> str:
    """Of a handshake that was refused."""
    return outcome(client.head + b"\r\n\r\n" + client.rest())


def batch(ports: Ports, case: Case) -> str:
    """One line of a batch."""
    line = b'{"room":%b,"data":%b}' % (json.dumps(case.room).encode(), case.body)
    more = b"Connection: close\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n" % len(line)
    heard = exchange(ports.port, head(ports, replace(case, query=case.query or ""), "POST", "/publish", more) + line)
    whole = outcome(heard)
    if whole != "ok":
        return whole
    (result,) = json.loads(heard.partition(b"\r\n\r\n")[2])["results"]
    return "ok" if result["type"] == "ack" else str(result["code"])


FORBIDDEN: Final = 4
"""Engine.IO's code for who may not come in; what else is wrong with a handshake is 3."""


def socketio(event: str | None, *, data: bool = False) -> Door:
    """One event over WebSocket, with the token in CONNECT; or only CONNECT, with the token in the handshake."""

    def run(ports: Ports, case: Case) -> str:
        namespace = case.namespace.removeprefix("/n")
        arrival = replace(_anonymous(case) if event else case, namespace="")
        query = f"EIO=4&transport=websocket&{arrival.query}" if arrival.query else "EIO=4&transport=websocket"
        with closing(opened(ports, replace(arrival, query=query), "/socket.io/")) as client:
            if not client.open:
                return _refused_by_engine(client)
            prefix = f"{namespace}," if namespace else ""
            shown = json.dumps({"token": TOKENS[case.token]()}) if event and case.token is not None else ""
            client.say(f"40{prefix}{shown}".encode())
            if event is not None:
                more = b"," + case.body if data else b""
                client.say(f'42{prefix}0["{event}",{json.dumps(case.room)}'.encode() + more + b"]")
            return _told_by_socketio(client, prefix.encode(), asked=event is not None)

    return run


def _refused_by_engine(client: RawWebSocket) -> str:
    body = client.rest()
    try:
        said = json.loads(body)
        if said["code"] in (FORBIDDEN, 3):
            return str(said["data"]["code"])
    except (ValueError, KeyError):
        pass
    return outcome(client.head + b"\r\n\r\n" + body)


def _told_by_socketio(client: RawWebSocket, prefix: bytes, *, asked: bool) -> str:
    for opcode, said in client.frames():
        if opcode == 8:
            return f"close {close_code(said)}"
        kind, rest = said[:2], said[2:].removeprefix(prefix)
        if kind == b"44":
            refusal = json.loads(rest)
            return "no_such_endpoint" if refusal == {"message": "Invalid namespace"} else str(refusal["data"]["code"])
        if kind == b"40" and not asked:
            return "ok"
        if kind == b"43":
            (answer,) = json.loads(rest.removeprefix(b"0"))
            code = answer["error"]["code"] if "error" in answer else "ok"
            return "ok" if code == "not_requestable" else str(code)
    return "lost"


MQTT: Final = b"Sec-WebSocket-Protocol: mqtt\r\n"
SUBSCRIBE, PUBLISH, DISCONNECT_WITH_WILL = b"\x82", b"\x32", b"\xe0\x01\x04"
REASONS: Final[dict[str, dict[str, tuple[int, ...]]]] = {
    "CONNACK": {"unauthenticated": (0x86, 0x87)},
    "PUBACK": {"forbidden": (0x87,), "read_only": (0x87,), "bad_message": (0x90, 0x99)},
    "SUBACK": {"forbidden": (0x87,), "bad_message": (0x8F,), "too_many_subscriptions": (0x97,)},
}
"""How MQTT 5 says what an error's code says (§2.4)."""
KINDS: Final = {2: "CONNACK", 4: "PUBACK", 9: "SUBACK", 14: "DISCONNECT"}


def mqtt(kind: str | None) -> Door:
    """One packet of MQTT 5, with the token as the password; or only CONNECT, with the token in the handshake."""

    awaited = {None: "CONNACK", "subscribe": "SUBACK", "publish": "PUBACK"}[kind]

    def run(ports: Ports, case: Case) -> str:
        arrival = _anonymous(case) if kind else case
        with closing(opened(ports, arrival, "/mqtt", MQTT)) as client:
            if not client.open:
                return _answer(client)
            shown = TOKENS[case.token]().encode() if kind and case.token is not None else None
            client.send(frame(2, _connect(shown) + _asked(kind, case)))
            for name, reason, message in _packets(client):
                if reason >= 0x80:
                    code = message.partition(":")[0]
                    return code if reason in REASONS.get(name, {}).get(code, ()) else f"{name} {_shown(reason)}"
                if name == awaited:
                    return "ok"
        return "lost"

    return run


def _shown(reason: int) -> str:
    """A reason code of MQTT, or a close code of WebSocket."""
    return f"0x{reason:02X}" if reason < 0x100 else str(reason)


def _connect(password: bytes | None, will: bytes = b"") -> bytes:
    flags = 0x02 | (0 if password is None else 0x40) | (0x04 if will else 0)
    body = _text(b"MQTT") + bytes((5, flags, 0, 0, 0)) + _text(b"") + will
    return _packet(b"\x10", body + (b"" if password is None else _text(password)))


def mqtt_will(ports: Ports, case: Case) -> str:
    """A will, and an end at which it is published, about which nobody is told anything."""
    assert case.token is not None
    will = b"\0" + _text(case.room.encode()) + _text(case.body)
    with closing(opened(ports, _anonymous(case), "/mqtt", MQTT)) as client:
        client.send(frame(2, _connect(TOKENS[case.token]().encode(), will) + DISCONNECT_WITH_WILL))
        return ", ".join(f"{name} {_shown(reason)}" for name, reason, _ in _packets(client))


def _asked(kind: str | None, case: Case) -> bytes:
    room = case.room.encode(errors="surrogatepass")
    if kind == "subscribe":
        return _packet(SUBSCRIBE, b"\0\x01\0" + _text(room) + b"\x01")
    return _packet(PUBLISH, _text(room) + b"\0\x01\0" + case.body) if kind else b""


def _text(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _packet(first: bytes, body: bytes) -> bytes:
    size, length = len(body), b""
    while True:
        size, digit = size >> 7, size & 0x7F
        length += bytes((digit | (0x80 if size else 0),))
        if not size:
            return first + length + body


def _packets(client: RawWebSocket) -> Iterator[tuple[str, int, str]]:
    """The name, reason code and Reason String of each packet, until the end; the close is one, with its own code."""
    heard = b""
    for opcode, data in client.frames():
        if opcode == 8:
            yield "close", close_code(data), ""
            return
        heard += data
        while (found := _first(heard)) is not None:
            first, body, heard = found
            name = KINDS.get(first >> 4, "?")
            yield name, *_reason(name, body)


def _first(heard: bytes) -> tuple[int, bytes, bytes] | None:
    if len(heard) < 2:
        return None
    size, start = _number(heard[1:])
    start += 1
    if len(heard) < start + size:
        return None
    return heard[0], heard[start : start + size], heard[start + size :]


def _number(data: bytes) -> tuple[int, int]:
    """A variable byte integer (§1.5.5), and how long it is."""
    value = 0
    for place, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, place + 1
    return value, len(data)


def _reason(name: str, body: bytes) -> tuple[int, str]:
    if name == "CONNACK":
        return body[1], _reason_string(body[2:])
    if name == "SUBACK":
        return body[-1], _reason_string(body[2:])
    if name == "PUBACK":
        return (body[2], _reason_string(body[3:])) if len(body) > 2 else (0, "")
    return (body[0], "") if name == "DISCONNECT" else (0, "")


def _reason_string(properties: bytes) -> str:
    size, at = _number(properties)
    end = at + size
    while at < end:
        identifier, at = properties[at], at + 1
        (length,) = struct.unpack_from("!H", properties, at)
        text = properties[at + 2 : at + 2 + length]
        if identifier == 0x1F:
            return text.decode()
        if identifier != 0x26:  # a user property, which is two texts
            return ""
        at += 2 + length
        at += 2 + struct.unpack_from("!H", properties, at)[0]
    return ""


def peerjs(ports: Ports, case: Case) -> str:
    """A call to oneself, with the token in the address, as the client has it."""
    name = f"p{uuid4().hex}"
    token = "" if case.token is None else TOKENS[case.token]()
    query = f"key={_quoted(case.room)}&id={name}&token={_quoted(token or 'made-up')}"
    with closing(opened(ports, replace(case, query=query, token=None), "/peerjs/peerjs")) as client:
        if not client.open:
            return _answer(client)
        payload = b"{}" if case.body == b"1" else case.body
        let_in = False
        client.say(b'{"type":"OFFER","dst":"%b","payload":%b}' % (name.encode(), payload))
        for opcode, data in client.frames():
            if opcode == 8:
                return f"close {close_code(data)}"
            said = json.loads(data)
            if said["type"] == "OFFER":
                return "ok" if said["src"] == name else f"from {said['src']}"
            if said["type"] != "OPEN":
                return _refused_by_peerjs(said, let_in=let_in)
            let_in = True
    return "lost"


def _refused_by_peerjs(said: dict[str, Any], *, let_in: bool) -> str:
    """A call that comes to nothing has expired; an error ends the client, as what isn't understood does."""
    kind, code = said["type"], str(said["payload"]["code"])
    fit = {"forbidden": "EXPIRE"} if let_in else {"invalid_key": "INVALID-KEY"}
    return code if kind == fit.get(code, "ERROR") else f"{kind} {code}"


def peers(ports: Ports, case: Case) -> str:
    """Who can be called in a room; clients take 401 for that it isn't to be known."""
    sent = head(ports, replace(case, query=case.query or ""), "GET", f"/peerjs/{_quoted(case.room)}/peers", CLOSE)
    heard = exchange(ports.port, sent)
    found = outcome(heard)
    hidden = heard.startswith(b"HTTP/1.1 401 ")
    return found if hidden or found not in ("forbidden", "unauthenticated", "invalid_key") else f"not hidden: {found}"
